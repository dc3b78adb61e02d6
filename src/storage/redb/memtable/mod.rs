//! The rows that are not in redb yet, and the snapshots that read them over redb.

pub(crate) mod backup;
pub(crate) mod detached;
pub(crate) mod held;
pub(crate) mod read_view;
#[cfg(feature = "encryption")]
pub(crate) mod reseal;
pub(crate) mod row_key;
pub(crate) mod snapshot;
pub(crate) mod table;
pub(crate) mod tracker;
pub(crate) mod write_batch;
