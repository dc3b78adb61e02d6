//! A place on a server that several stores open, as several processes would: a database of PostgreSQL, or with
//! `CLOAKROOM_TEST_ENGINE=remote:SEED` the engine whose every call comes late.

use cloakroom::{Store, StoreBuilder};
use cloakroom_postgres_server::{Database, database};
use std::path::PathBuf;
use tempfile::TempDir;

/// Where several stores are one.
pub(crate) enum Place {
    Postgres(Database),
    Remote(TempDir),
}

impl Place {
    /// `None` without PostgreSQL, which is said.
    pub(crate) fn new() -> Option<Self> {
        if std::env::var_os("CLOAKROOM_TEST_ENGINE").is_some() {
            return Some(Self::Remote(tempfile::tempdir().unwrap()));
        }
        database().map(Self::Postgres)
    }

    /// Opens it once more.
    pub(crate) fn open(&self, builder: StoreBuilder) -> Store {
        match self {
            Self::Postgres(database) => connect(builder, &database.url()),
            Self::Remote(folder) => builder.open(path(folder)).unwrap(),
        }
    }

    pub(crate) fn store(&self) -> Store {
        self.open(Store::builder().implicit_sweeps(false))
    }

    /// Whether reading a second session may conflict.
    pub(crate) fn conflicts_at_looks(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(crate) fn stores(&self, count: usize) -> Vec<Store> {
        (0..count).map(|_| self.store()).collect()
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("store")
}

/// Opens a database.
pub(crate) fn connect(builder: StoreBuilder, url: &str) -> Store {
    pollster::block_on(builder.connect(url)).unwrap()
}
