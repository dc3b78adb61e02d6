//! The names in a store's file: those of its tables, and of the records that it keeps about itself.

pub(super) const META: &str = "meta";
pub(super) const CONTAINERS: &str = "containers";
pub(super) const RETIRED: &str = "retired";
pub(super) const SESSIONS: &str = "sessions";
pub(super) const PACKAGES: &str = "packages";
pub(super) const TOMBSTONES: &str = "tombstones";
pub(super) const OWNERS: &str = "owners";

/// All tables of a store.
pub(super) const TABLES: [&str; 7] = [
    META, CONTAINERS, RETIRED, SESSIONS, PACKAGES, TOMBSTONES, OWNERS,
];

/// The records of [`META`] that are written when a store is made.
pub(super) const IDENTITY: &str = "identity";
pub(super) const SECRETS: &str = "secrets";
pub(super) const EPOCH: &str = "epoch";
pub(super) const NEXT_CONTAINER: &str = "next-container";
