//! C1.3, C9.1: a server that goes back to an earlier state while stores are open, as when a backup is restored.

use crate::place::connect;
use crate::support::visitors::{get, put};
use crate::support::wait::until;
use cloakroom::{ContainerSettings, Error, ErrorKind, Store};
use cloakroom_postgres_server::database;

fn read(store: &Store) -> Result<(), Error> {
    let id = store.client_ids().issue();
    let _: Option<u64> = store.begin()?.session(&id)?.pkg("p").get("n")?;
    Ok(())
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
    database.sql(
        "UPDATE cloakroom_meta m SET epoch = s.epoch, settings = s.settings FROM saved s;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let mut told = None;
    until("it is found out", || {
        told = read(&store).err();
        told.as_ref()
            .is_some_and(|error| error.to_string().contains("has lost changes"))
    });
    assert_eq!(told.unwrap().kind(), ErrorKind::Closed);
    let written = store.transact(|txn| txn.session(&id)?.pkg("p").insert("n", 2));
    assert_eq!(written.unwrap_err().kind(), ErrorKind::Closed);
    // What is opened then goes on from there.
    let other = open();
    other.register("logins", ContainerSettings::new()).unwrap();
    assert_eq!(get(&other, &id), Some(1));
    put(&other, &id, 3);
    assert_eq!(get(&other, &id), Some(3));
}
