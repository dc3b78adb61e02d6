//! Encrypted connections to a server, and servers that cannot be trusted.

use crate::place::connect;
use crate::support::visitors::{get, put};
use cloakroom::{Error, ErrorKind, PostgresSettings, Store, StoreBuilder};
use cloakroom_postgres_server::{Server, is_available};
use std::fs;

fn trusting(server: &Server) -> StoreBuilder {
    let authority = fs::read(server.authority().unwrap()).unwrap();
    let settings = PostgresSettings::new().root_certificates(authority);
    Store::builder().implicit_sweeps(false).postgres(settings)
}

fn refused(builder: StoreBuilder, url: &str) -> Error {
    let error = pollster::block_on(builder.connect(url)).unwrap_err();
    // Not `Unavailable`: waiting would not help.
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    error
}

#[test]
fn a_store_works_over_an_encrypted_connection() {
    if !is_available() {
        return;
    }
    let server = Server::builder().tls().start();
    for mode in ["require", "verify-full"] {
        let url = format!("{}?sslmode={mode}", server.url());
        let store = connect(trusting(&server), &url);
        let id = store.client_ids().issue();
        put(&store, &id, 7);
        assert_eq!(get(&store, &id), Some(7));
    }
    // It takes no connection that is not encrypted.
    refused(Store::builder(), &server.url());
}

#[test]
fn a_server_whose_certificate_is_not_trusted_is_refused() {
    if !is_available() {
        return;
    }
    let [server, other] = [(); 2].map(|()| Server::builder().tls().start());
    let url = format!("{}?sslmode=verify-full", server.url());
    let untrusted = |error: Error| {
        assert!(error.to_string().contains("certificate"), "{error}");
    };
    untrusted(refused(trusting(&other), &url));
    // The authority is right, and the name is not.
    let elsewhere = url.replace("127.0.0.1", "db.invalid") + "&hostaddr=127.0.0.1";
    untrusted(refused(trusting(&server), &elsewhere));
    // Nor is it among those that the system trusts. A system may trust none.
    let connected = pollster::block_on(Store::builder().connect(&url));
    let kind = connected.unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::Io | ErrorKind::InvalidInput),
        "{kind:?}"
    );
}

#[test]
fn a_server_that_does_not_encrypt_is_refused_if_that_is_asked_for() {
    let Some(server) = cloakroom_postgres_server::shared() else {
        return;
    };
    let url = format!("{}?sslmode=verify-full", server.url());
    let other = Server::builder().tls().start();
    let error = refused(trusting(&other), &url);
    assert!(error.to_string().contains("does not encrypt"), "{error}");
}

#[test]
fn root_certificates_that_are_none_are_refused() {
    let settings = PostgresSettings::new().root_certificates("no certificate");
    let builder = Store::builder().postgres(settings);
    let url = "postgres://localhost/shop?sslmode=require";
    let error = pollster::block_on(builder.connect(url)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
}
