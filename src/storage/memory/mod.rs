//! Rows in the memory of this process, with the older contents that snapshots read, and the validation of change sets
//! against them. Knows no threads and no network.

mod commit;
mod held_revisions;
mod history;
mod holds;
mod random;
mod recent_changes;
mod revision;
mod tables;
mod times;
mod tombstones;

pub(crate) use commit::{CommitTerms, DecidedCommit};
pub(crate) use random::Random;
pub(crate) use revision::{Revision, TablesRole};
pub(crate) use tables::{MemoryTables, TableSnapshot};
