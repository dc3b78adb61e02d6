//! Every statement of the engine on PostgreSQL is one that the server takes, and what commits and loads spare.

use crate::place::connect;
use crate::support::visitors::{get, put};
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

// C5.4: rows that the process has decoded before are not decoded again, if the server still has the same.
#[test]
fn damage_of_a_row_that_was_read_before_is_seen() {
    let Some(database) = database() else {
        return;
    };
    let store = connect(Store::builder().implicit_sweeps(false), &database.url());
    let id = store.client_ids().issue();
    put(&store, &id, 7);
    assert_eq!(get(&store, &id), Some(7));
    assert_eq!(get(&store, &id), Some(7));
    let last = "length(body) - 1";
    let flip = format!(
        "UPDATE cloakroom_client SET body = set_byte(body, {last}, get_byte(body, {last}) # 1)"
    );
    database.sql(&flip);
    let txn = store.begin().unwrap();
    let read = txn.session(&id).and_then(|it| it.pkg("p").len());
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
    // And it is read again once it is right.
    database.sql(&flip);
    assert_eq!(get(&store, &id), Some(7));
}
