//! C10.1, C10.2: opening a store while a server, a table or a right is missing.

use crate::held::while_held;
use crate::place::connect;
use crate::support::visitors::{get, put};
use cloakroom::{Error, ErrorKind, PostgresSettings, Store, StoreBuilder};
use cloakroom_postgres_server::{Passage, Proxy, database, shared};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(2);
/// Opening asks a few times. The rest is for a busy machine.
const ANSWERED: Duration = Duration::from_secs(30);

fn builder() -> StoreBuilder {
    let settings = PostgresSettings::new().deadline(DEADLINE);
    Store::builder().implicit_sweeps(false).postgres(settings)
}

/// The error of a call, which comes in time.
fn in_time(call: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Error {
    let (told, answer) = mpsc::channel();
    thread::spawn(move || told.send(call()));
    answer
        .recv_timeout(ANSWERED)
        .expect("no answer")
        .unwrap_err()
}

#[test]
fn tables_that_somebody_holds_hang_nobody() {
    let Some(database) = database() else { return };
    let url = database.url();
    drop(connect(builder(), &url));
    while_held(&database, "LOCK TABLE cloakroom_meta", || {
        let place = url.clone();
        let opened = in_time(move || pollster::block_on(builder().connect(&place)).map(drop));
        assert_eq!(opened.kind(), ErrorKind::Unavailable, "{opened}");
        let place = url.clone();
        let migrated = in_time(move || pollster::block_on(builder().migrate(&place)));
        assert_eq!(migrated.kind(), ErrorKind::Unavailable, "{migrated}");
    });
    drop(connect(builder(), &url));
}

#[test]
fn tables_that_somebody_makes_for_long_hang_nobody() {
    let Some(database) = database() else { return };
    let url = database.url();
    while_held(&database, "CREATE TABLE cloakroom_meta (one int)", || {
        let place = url.clone();
        let opened = in_time(move || pollster::block_on(builder().connect(&place)).map(drop));
        assert_eq!(opened.kind(), ErrorKind::Unavailable, "{opened}");
    });
    drop(connect(builder(), &url));
}

#[test]
fn a_server_that_is_silent_does_not_keep_the_next_one_from_being_tried() {
    let Some(server) = shared() else { return };
    let database = server.database();
    let silent = Proxy::start(server.address());
    silent.requests(Passage::Held);
    let url = database.url();
    let (who, place) = url.rsplit_once('@').unwrap();
    let url = format!("{who}@{},{place}", silent.address());
    let builder = Store::builder().implicit_sweeps(false);
    let store = connect(builder, &url);
    let id = store.client_ids().issue();
    put(&store, &id, 7);
    assert_eq!(get(&store, &id), Some(7));
}

#[test]
fn a_schema_that_is_there_needs_no_right_on_the_database() {
    let Some(database) = database() else { return };
    let role = database.role();
    let url = role.url();
    let (_, name) = url.split_once("//").unwrap();
    let (name, _) = name.split_once(':').unwrap();
    database.sql(&format!("CREATE SCHEMA own AUTHORIZATION {name}"));
    let settings = |schema| PostgresSettings::new().schema(schema);
    let builder = |schema| Store::builder().postgres(settings(schema));
    let store = connect(builder("own"), &url);
    store.close().unwrap();
    let missing = pollster::block_on(builder("other").connect(&url)).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Unsupported, "{missing}");
}
