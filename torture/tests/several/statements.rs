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
