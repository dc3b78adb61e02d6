//! Values (C5): a stored value comes back or gives an error that says why, limits hold after merging, and damage is
//! found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod damage;
mod limits;
#[path = "../support/mod.rs"]
mod support;
mod types;

use cloakroom::{ClientId, Error, PkgData, Store, StoreBuilder, Transaction};
use serde::Serialize;

fn in_memory() -> Store {
    Store::in_memory().unwrap()
}

fn pkg(txn: &Transaction, id: &ClientId, name: &str) -> PkgData {
    txn.session(id).unwrap().pkg(name)
}

fn put(store: &Store, id: &ClientId, name: &str, key: &str, value: impl Serialize) {
    let txn = store.begin().unwrap();
    pkg(&txn, id, name).insert(key, value).unwrap();
    txn.commit().unwrap();
}

/// A session with `app`/`n` = `value`.
fn stored(store: &Store, value: impl Serialize) -> ClientId {
    let id = store.client_ids().issue();
    put(store, &id, "app", "n", value);
    id
}

fn get<T: serde::de::DeserializeOwned>(
    store: &Store,
    id: &ClientId,
    name: &str,
    key: &str,
) -> Result<Option<T>, Error> {
    pkg(&store.begin().unwrap(), id, name).get(key)
}

/// Text that is nowhere else in the file.
fn value(session: usize, package: &str) -> String {
    format!("<<the value of session {session} in {package}>>").repeat(3)
}

fn builder() -> StoreBuilder {
    Store::builder().cache_size(1 << 20).implicit_sweeps(false)
}
