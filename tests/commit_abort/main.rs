//! C2.1 to C2.6, C2.12 and C2.14: all or nothing, and what a transaction sees until then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod aborting;
mod ages;
mod hooks;
mod refusals;
mod savepoints;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, PkgData, Store, Transaction};
use serde::{Serialize, Serializer};
use support::clock::clock;
use support::store::{builder, place};
use support::visitors::visitor_with;
use tempfile::TempDir;

/// A store in a file, on a clock that stands still: no sweep and no touch writes behind the tests.
fn in_file() -> (TempDir, Store) {
    let (folder, path) = place();
    let store = builder(&clock()).open(path).unwrap();
    (folder, store)
}

fn client(store: &Store) -> ClientId {
    visitor_with(store, "shop", "key", 1)
}

/// Another transaction's write.
fn put(store: &Store, id: &ClientId, key: &str, value: u32) {
    store
        .transact(|txn| txn.session(id)?.pkg("shop").insert(key, value))
        .unwrap();
}

fn stored(store: &Store, id: &ClientId, key: &str) -> Option<u32> {
    let txn = store.begin().unwrap();
    shop(&txn, id).get(key).unwrap()
}

fn shop(txn: &Transaction, id: &ClientId) -> PkgData {
    txn.session(id).unwrap().pkg("shop")
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("the coat is on fire"))
    }
}
