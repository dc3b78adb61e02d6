//! The names of the tables in a store's file.

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
