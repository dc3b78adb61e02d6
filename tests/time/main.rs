//! Time (C3): when a session ends, what an access writes, and what a sweep takes. All time comes from a
//! clock that is moved by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod clocks;
mod expiry;
mod lifetimes;
#[path = "../support/mod.rs"]
mod support;
mod sweeps;
mod touches;
mod waiting;

use chrono::{DateTime, Utc};
use cloakroom::{ClientId, Clock, ContainerSettings, Store, StoreBuilder, Transaction};
use std::time::Duration;
use support::clock::secs;
use support::store::{self, place};
use tempfile::TempDir;

/// No sweeps but those that a test asks for, and snapshots that outlive its leaps in time.
fn builder(clock: &Clock) -> StoreBuilder {
    store::builder(clock).snapshot_max_age(secs(1 << 30))
}

fn in_memory(clock: &Clock) -> Store {
    builder(clock).in_memory().unwrap()
}

fn in_file(clock: &Clock) -> (TempDir, Store) {
    let (folder, path) = place();
    (folder, builder(clock).open(path).unwrap())
}

fn settings(timeout: u64, resolution: u64) -> ContainerSettings {
    ContainerSettings::new()
        .timeout(secs(timeout))
        .resolution(secs(resolution))
}

fn put(store: &Store, id: &ClientId, pkg: &str, key: &str, value: i64) {
    let txn = store.begin().unwrap();
    txn.session(id)
        .unwrap()
        .pkg(pkg)
        .insert(key, value)
        .unwrap();
    txn.commit().unwrap();
}

fn get(txn: &Transaction, id: &ClientId, pkg: &str, key: &str) -> Option<i64> {
    txn.session(id).unwrap().pkg(pkg).get(key).unwrap()
}

/// Reads in a transaction of its own, as a request would: an access.
fn click(store: &Store, id: &ClientId) -> Option<i64> {
    let txn = store.begin().unwrap();
    let value = get(&txn, id, "app", "n");
    txn.commit().unwrap();
    value
}

/// Looks without leaving an access time.
fn peek(store: &Store, id: &ClientId, pkg: &str, key: &str) -> Option<i64> {
    get(&store.begin().unwrap(), id, pkg, key)
}

fn last_access(store: &Store, id: &ClientId) -> Option<DateTime<Utc>> {
    store
        .begin()
        .unwrap()
        .session(id)
        .unwrap()
        .last_access()
        .unwrap()
}

/// Everything that reaches the disk, and the access times among it.
fn written(store: &Store) -> (u64, u64, u64) {
    let statistics = store.statistics().unwrap();
    (
        statistics.bytes_written(),
        statistics.syncs(),
        statistics.touches(),
    )
}

fn touches(store: &Store) -> u64 {
    store.statistics().unwrap().touches()
}

fn set_timeout(store: &Store, id: &ClientId, timeout: Duration) {
    let txn = store.begin().unwrap();
    let session = txn.session(id).unwrap();
    session.set_timeout(Some(timeout)).unwrap();
    txn.commit().unwrap();
}
