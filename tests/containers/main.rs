//! C1: containers, sessions, packages and values, and which of them sees what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod aliases;
mod ending;
mod naming;
mod packages;
mod sessions;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod unnamed;

use cloakroom::{ClientId, ContainerSettings, Store};
use std::path::Path;
use support::visitors::with;
use tempfile::TempDir;

fn in_folder() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path().join("store.redb")).unwrap();
    (folder, store)
}

fn reopen(folder: &Path) -> Store {
    Store::open(folder.join("store.redb")).unwrap()
}

/// A client whose session holds `value` at `key` of each of the packages.
fn client_with(store: &Store, packages: &[&str], value: u32) -> ClientId {
    let id = store.client_ids().issue();
    put(store, &id, packages, value);
    id
}

fn put(store: &Store, id: &ClientId, packages: &[&str], value: u32) {
    store
        .transact(|txn| {
            let session = txn.session(id)?;
            packages
                .iter()
                .try_for_each(|p| session.pkg(p).insert("key", value))
        })
        .unwrap();
}

fn key_of(store: &Store, id: &ClientId, package: &str) -> Option<u32> {
    with(store, id, |session| session.pkg(package).get("key"))
}

fn live_sessions(store: &Store, container: &str) -> u64 {
    let container = store.container(container).unwrap();
    container.statistics().unwrap().live
}

fn in_ram() -> ContainerSettings {
    ContainerSettings::new().in_memory()
}
