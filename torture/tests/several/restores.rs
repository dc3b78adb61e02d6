//! C1.3, C9.1: a server that goes back to an earlier state while stores are open, as when a backup is restored.

use crate::place::connect;
use crate::support::visitors::{get, put};
use crate::support::wait::until;
use cloakroom::{ContainerSettings, Error, ErrorKind, PostgresSettings, Store};
use cloakroom_postgres_server::{Database, database};
use std::time::Duration;

fn read(store: &Store) -> Result<(), Error> {
    let id = store.client_ids().issue();
    let _: Option<u64> = store.begin()?.session(&id)?.pkg("p").get("n")?;
    Ok(())
}

/// Sets the settings of a server back to those that were saved, and ends all connections.
fn set_back(database: &Database) {
    database.sql(
        "UPDATE cloakroom_meta m SET epoch = s.epoch, settings = s.settings FROM saved s;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

#[test]
fn a_store_whose_server_went_back_says_so_and_writes_nothing_more() {
    let Some(database) = database() else { return };
    let open = || connect(Store::builder().implicit_sweeps(false), &database.url());
    let store = open();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    database.sql("CREATE TABLE saved AS SELECT * FROM cloakroom_meta");
    store.register("carts", ContainerSettings::new()).unwrap();
    read(&store).unwrap();
    set_back(&database);
    let mut told = None;
    until("it is found out", || {
        told = read(&store).err();
        told.as_ref()
            .is_some_and(|error| error.to_string().contains("has lost changes"))
    });
    assert_eq!(told.unwrap().kind(), ErrorKind::Closed);
    let written = store.transact(|txn| txn.session(&id)?.pkg("p").insert("n", 2));
    assert_eq!(written.unwrap_err().kind(), ErrorKind::Closed);
    // What is opened then goes on from there, in the same process.
    store.close().unwrap();
    let other = open();
    read(&other).unwrap();
    other.register("logins", ContainerSettings::new()).unwrap();
    assert_eq!(get(&other, &id), Some(1));
    put(&other, &id, 3);
    assert_eq!(get(&other, &id), Some(3));
}

// A connection that is kept for longer is made by itself, and may be the first one to the server as it is now.
#[test]
fn a_kept_moment_and_an_export_find_out_that_the_server_went_back() {
    let Some(database) = database() else { return };
    let settings = || PostgresSettings::new().poll_interval(Duration::from_secs(3600));
    let kept = connect(
        Store::builder()
            .implicit_sweeps(false)
            .postgres(settings().keep_first_look()),
        &database.url(),
    );
    let exporting = connect(
        Store::builder().implicit_sweeps(false).postgres(settings()),
        &database.url(),
    );
    database.sql("CREATE TABLE saved AS SELECT * FROM cloakroom_meta");
    kept.register("carts", ContainerSettings::new()).unwrap();
    read(&kept).unwrap();
    // The first one hears of the change, the second one loads it.
    read(&exporting).unwrap();
    read(&exporting).unwrap();
    set_back(&database);
    until("all connections have ended", || {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cloakroom'
                      AND datname = current_database()";
        database.sql(others).trim() == "0"
    });
    assert_eq!(read(&kept).unwrap_err().kind(), ErrorKind::Closed);
    let exported = exporting.export(Vec::new());
    assert_eq!(exported.unwrap_err().kind(), ErrorKind::Closed);
}
