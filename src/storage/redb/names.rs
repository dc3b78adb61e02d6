//! The names in a store's file: those of its tables, and of the records that it keeps about itself.

pub(crate) const META: &str = "meta";
pub(crate) const CONTAINERS: &str = "containers";
pub(crate) const RETIRED: &str = "retired";
pub(crate) const SESSIONS: &str = "sessions";
pub(crate) const PACKAGES: &str = "packages";
pub(crate) const TOMBSTONES: &str = "tombstones";
pub(crate) const OWNERS: &str = "owners";

/// All tables of a store.
pub(crate) const TABLES: [&str; 7] = [
    META, CONTAINERS, RETIRED, SESSIONS, PACKAGES, TOMBSTONES, OWNERS,
];

/// The records of [`META`] that are written when a store is made.
pub(crate) const IDENTITY: &str = "identity";
pub(crate) const SECRETS: &str = "secrets";
pub(crate) const EPOCH: &str = "epoch";
pub(crate) const NEXT_CONTAINER: &str = "next-container";
