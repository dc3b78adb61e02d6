//! C8.1, C8.2: logging in and out, lists of sessions, and ending sessions without their ids.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod ending;
mod lifetimes;
mod limit;
mod lists;
mod logging_in;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, Result, Session, SessionInfo, Store, Txn};

/// What one session does in a transaction of its own.
fn with<T>(store: &Store, id: &ClientId, does: impl Fn(&Session) -> Result<T>) -> T {
    let run = |txn: &Txn| does(&txn.session(id)?);
    store.transact(run).unwrap()
}

/// A session of an owner, who has just logged in.
fn logged_in(store: &Store, owner: &str) -> ClientId {
    let id = store.client_ids().issue();
    with(store, &id, |session| {
        session.pkg("cart").insert("tea", 2)?;
        session.log_in(owner)
    })
}

fn is_there(store: &Store, id: &ClientId) -> bool {
    store
        .begin()
        .unwrap()
        .session(id)
        .unwrap()
        .exists()
        .unwrap()
}

fn info(store: &Store, id: &ClientId) -> SessionInfo {
    store.session_info(id.key()).unwrap().unwrap()
}
