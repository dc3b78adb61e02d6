//! C10: which servers and roles a store accepts, and how it is founded.

use crate::place::connect;
use crate::support::visitors::{get, put};
use cloakroom::{Error, ErrorKind, PostgresSettings, Store};
use cloakroom_postgres_server::{Pooler, database, is_pooler_available, shared};
use std::thread;

fn try_connect(url: &str) -> Result<Store, Error> {
    pollster::block_on(Store::builder().implicit_sweeps(false).connect(url))
}

/// Writes in one store and reads it in another.
fn works(url: &str) {
    works_with(url, PostgresSettings::new());
}

fn works_with(url: &str, settings: PostgresSettings) {
    let builder = || {
        Store::builder()
            .implicit_sweeps(false)
            .postgres(settings.clone())
    };
    let [one, other] = [(); 2].map(|()| connect(builder(), url));
    let id = one.client_ids().issue();
    put(&one, &id, 3);
    assert_eq!(get(&other, &id), Some(3));
}

// Of many processes that find an empty database, one makes the tables, and all have the same secret.
#[test]
fn many_may_begin_with_an_empty_database_at_once() {
    let Some(database) = database() else { return };
    let stores: Vec<_> = thread::scope(|scope| {
        let opening: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| try_connect(&database.url())))
            .collect();
        opening
            .into_iter()
            .map(|thread| thread.join().unwrap().unwrap())
            .collect()
    });
    let id = stores[0].client_ids().issue();
    put(&stores[0], &id, 5);
    for store in &stores {
        assert_eq!(get(store, &id), Some(5));
    }
}

#[test]
fn a_role_that_may_not_create_tables_is_enough_once_they_are_there() {
    let Some(database) = database() else { return };
    {
        let role = database.role();
        let refused = try_connect(&role.url()).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
    }
    works(&database.url());
    let role = database.role();
    works(&role.url());
}

// C7.2
#[test]
fn a_newer_schema_is_refused() {
    let Some(database) = database() else { return };
    works(&database.url());
    database.sql("UPDATE cloakroom_meta SET format = format + 1");
    let refused = try_connect(&database.url()).map(|_| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooNew, "{refused}");
    database.sql("UPDATE cloakroom_meta SET format = format - 1");
    works(&database.url());
}

#[test]
fn a_pooler_in_transaction_mode_may_stand_between() {
    if !is_pooler_available() {
        return;
    }
    let Some(server) = shared() else { return };
    let database = server.database();
    let pooler = Pooler::start(server, 2);
    let settings = PostgresSettings::new().without_prepared_statements();
    works_with(&server.url_at(pooler.address(), database.name()), settings);
}
