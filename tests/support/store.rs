//! Stores to test on: no sweep and no touch writes behind a test.

use super::clock::clock;
use cloakroom::{ClientKey, Clock, Store, StoreBuilder};
use std::path::PathBuf;
use tempfile::TempDir;

/// A store on this clock, which sweeps only when it is told to.
pub(crate) fn builder(clock: &Clock) -> StoreBuilder {
    Store::builder().clock(clock.clone()).implicit_sweeps(false)
}

/// A store in a file, on a clock that stands still, with a secret that does not change: an id of one store is one of
/// its copies.
pub(crate) fn file_builder() -> StoreBuilder {
    builder(&clock()).secret([7; 32]).cache_size(1 << 20)
}

/// A store in memory, and its clock.
pub(crate) fn timed() -> (Clock, Store) {
    let clock = clock();
    let store = builder(&clock).in_memory().unwrap();
    (clock, store)
}

/// A folder, and the path of a store in it.
pub(crate) fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

/// The keys of an owner's sessions, the newest access first.
pub(crate) fn keys_of(store: &Store, owner: &str) -> Vec<ClientKey> {
    let owned = store.sessions_of(owner).unwrap();
    owned.into_iter().map(|info| info.client).collect()
}
