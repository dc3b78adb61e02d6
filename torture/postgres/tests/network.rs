//! The network between an application and its server: held, delayed, swallowed, cut.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use cloakroom_postgres_server::{Database, Passage, Proxy, shared};
use std::future::Future;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// Longer than anything that is not held up takes.
const LONG: Duration = Duration::from_secs(20);
/// For what never comes.
const SHORT: Duration = Duration::from_millis(300);

/// A database behind a proxy, and a connection to it. `None` if the database is somewhere else than on the shared server.
async fn connected() -> Option<(Database, Proxy, Client)> {
    let server = shared()?;
    let database = server.database();
    database.sql("CREATE TABLE things (thing int)");
    let proxy = Proxy::start(server.address());
    let client = connect(&server.url_at(proxy.address(), database.name())).await;
    Some((database, proxy, client))
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

/// Waits until something is so.
async fn until(mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const INSERT: &str = "INSERT INTO things VALUES (1)";
const COUNT: &str = "SELECT count(*) FROM things";

#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_answer_leaves_the_commit_done() {
    let Some((database, proxy, client)) = connected().await else {
        return;
    };
    client.batch_execute(INSERT).await.unwrap();
    proxy.answers(Passage::Swallowed);
    let asked = tokio::spawn(async move { client.batch_execute(INSERT).await });
    until(|| proxy.swallowed_answers() > 0).await;
    assert_eq!(database.sql(COUNT), "2");
    assert!(!asked.is_finished());
    proxy.cut();
    assert!(within(LONG, asked).await.unwrap().unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swallowed_request_never_arrives() {
    let Some((database, proxy, client)) = connected().await else {
        return;
    };
    proxy.requests(Passage::Swallowed);
    assert!(within(SHORT, client.batch_execute(INSERT)).await.is_none());
    assert!(proxy.swallowed_requests() > 0);
    proxy.cut();
    assert_eq!(database.sql(COUNT), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_arrives_later() {
    let Some((database, proxy, client)) = connected().await else {
        return;
    };
    proxy.requests(Passage::Held);
    let asked = tokio::spawn(async move { client.batch_execute(INSERT).await });
    tokio::time::sleep(SHORT).await;
    assert_eq!(database.sql(COUNT), "0");
    assert!(!asked.is_finished());
    proxy.open();
    within(LONG, asked).await.unwrap().unwrap().unwrap();
    assert_eq!(database.sql(COUNT), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_felt() {
    let Some((_database, proxy, client)) = connected().await else {
        return;
    };
    proxy.answers(Passage::Delayed(SHORT));
    let since = Instant::now();
    client.batch_execute(INSERT).await.unwrap();
    assert!(since.elapsed() >= SHORT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_or_reset_connection_fails_and_new_ones_pass() {
    let Some((database, proxy, mut client)) = connected().await else {
        return;
    };
    let url = shared().unwrap().url_at(proxy.address(), database.name());
    for cut in [Proxy::cut, Proxy::reset] {
        assert_eq!(proxy.connections(), 1);
        cut(&proxy);
        assert!(
            within(LONG, client.batch_execute(INSERT))
                .await
                .unwrap()
                .is_err()
        );
        client = connect(&url).await;
        client.batch_execute(INSERT).await.unwrap();
    }
    assert_eq!(database.sql(COUNT), "2");
}

#[test]
fn a_reset_is_not_an_orderly_end() {
    use std::io::{ErrorKind, Read, Write};
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap());
    let mut client = std::net::TcpStream::connect(proxy.address()).unwrap();
    let (mut served, _) = server.accept().unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(served.read(&mut [0; 9]).unwrap(), 1);
    proxy.reset();
    for side in [&mut client, &mut served] {
        let ended = side.read(&mut [0; 9]);
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_way_takes_no_connection() {
    let Some((database, proxy, client)) = connected().await else {
        return;
    };
    let url = shared().unwrap().url_at(proxy.address(), database.name());
    proxy.close();
    assert!(
        within(LONG, client.batch_execute(INSERT))
            .await
            .unwrap()
            .is_err()
    );
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    proxy.open();
    connect(&url).await.batch_execute(INSERT).await.unwrap();
}
