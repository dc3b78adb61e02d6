//! A place on a server that several stores open, as several processes would: with `CLOAKROOM_TEST_ENGINE=remote:SEED` the
//! engine whose every call comes late. A file has one store.

use cloakroom::Store;
use tempfile::TempDir;

/// Where several stores are one.
pub(crate) struct Place(TempDir);

impl Place {
    /// `None` where the engine is that on files, which is said.
    pub(crate) fn new() -> Option<Self> {
        if std::env::var_os("CLOAKROOM_TEST_ENGINE").is_none() {
            eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
            return None;
        }
        Some(Self(tempfile::tempdir().unwrap()))
    }

    /// Opens it once more.
    pub(crate) fn store(&self) -> Store {
        let builder = Store::builder().implicit_sweeps(false);
        builder.open(self.0.path().join("store")).unwrap()
    }

    pub(crate) fn stores(&self, count: usize) -> Vec<Store> {
        (0..count).map(|_| self.store()).collect()
    }

    /// Whether reading a second session may conflict.
    pub(crate) fn conflicts_at_looks(&self) -> bool {
        false
    }
}
