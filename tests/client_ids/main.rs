//! Client ids (C1.6, C4.1, C4.2, C4.7, C4.8) as a store keeps them: which ids verify, under which id a session is
//! founded, and the fate of ids that were given up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod adopting;
mod destroying;
mod founding;
mod rotating;
#[path = "../support/mod.rs"]
mod support;
mod verifying;

use cloakroom::{ClientId, Clock, Session, Store, Transaction};
use support::clock::clock;
use support::store::builder;

fn in_memory() -> (Store, Clock) {
    let clock = clock();
    (builder(&clock).in_memory().unwrap(), clock)
}

fn put(txn: &Transaction, id: &ClientId, n: i64) -> Session {
    let session = txn.session(id).unwrap();
    session.pkg("app").insert("n", n).unwrap();
    session
}

fn n(store: &Store, id: &ClientId) -> Option<i64> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("app").get("n").unwrap()
}

fn rotate(store: &Store, id: &ClientId) -> ClientId {
    let txn = store.begin().unwrap();
    let new = txn.session(id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    new
}

fn destroy(store: &Store, id: &ClientId) {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().destroy().unwrap();
    txn.commit().unwrap();
}
