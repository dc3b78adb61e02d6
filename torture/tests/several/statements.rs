//! Every statement of the engine on PostgreSQL is one that the server takes, and what commits and loads spare.

use crate::place::connect;
use crate::support::visitors::{again, get, put};
use cloakroom::torture::prepare_statements;
use cloakroom::{ErrorKind, Store};
use cloakroom_postgres_server::database;

// Some statements run rarely. None of them is broken unseen.
#[test]
fn the_server_prepares_every_statement() {
    let Some(database) = database() else {
        return;
    };
    let url = database.url();
    let missing = pollster::block_on(prepare_statements(&url));
    assert!(missing.is_err(), "there are no tables yet");
    pollster::block_on(Store::migrate(&url)).unwrap();
    let prepared = pollster::block_on(prepare_statements(&url)).unwrap();
    assert!(prepared > 20, "{prepared}");
}

// A commit changes these columns. An index on one of them, or with one in its condition, would get a new entry each time, and so
// would all others.
#[test]
fn no_index_depends_on_what_each_commit_changes() {
    let Some(database) = database() else {
        return;
    };
    pollster::block_on(Store::migrate(&database.url())).unwrap();
    let indexes = "SELECT string_agg(pg_get_indexdef(indexrelid), '; ') FROM pg_index \
                   WHERE indrelid = 'cloakroom_client'::regclass";
    let indexes = database.sql(indexes);
    assert!(indexes.contains("has_sessions"), "{indexes}");
    for column in ["version", "past", "seen", "body"] {
        assert!(!indexes.contains(column), "{column}: {indexes}");
    }
}

// C5.4: a process that knows a version of a row is not sent it again. Others see its damage.
#[test]
fn a_row_that_is_damaged_on_the_server_is_right_where_its_version_is_known() {
    let Some(database) = database() else {
        return;
    };
    let builder = || Store::builder().implicit_sweeps(false);
    let knowing = connect(builder(), &database.url());
    let id = knowing.client_ids().issue();
    put(&knowing, &id, 7);
    assert_eq!(get(&knowing, &id), Some(7));
    let last = "length(body) - 1";
    let flip = || {
        database.sql(&format!(
            "UPDATE cloakroom_client SET body = set_byte(body, {last}, get_byte(body, {last}) # 1)"
        ))
    };
    flip();
    let other = connect(builder(), &database.url());
    let read = |store: &Store| {
        let txn = store.begin().unwrap();
        let session = txn.session(&again(store, &id))?;
        session.pkg("p").get::<u64>("n")
    };
    assert_eq!(read(&other).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(get(&knowing, &id), Some(7));
    // A check reads what is stored.
    assert!(!knowing.check().unwrap().is_clean());
    // What was damaged is read again: the version stays if another server is right.
    flip();
    assert_eq!(read(&other).unwrap(), Some(7));
    assert!(knowing.check().unwrap().is_clean());
    flip();
    // The next commit of the process that knows the row writes it anew.
    put(&knowing, &id, 8);
    assert_eq!(read(&other).unwrap(), Some(8));
}
