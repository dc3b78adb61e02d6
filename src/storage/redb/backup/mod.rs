//! Backups: one commit's rows as a stream of blocks, and stores that are made of such streams. It knows rows only as
//! bytes.

mod block;
mod chain;
mod changes;
mod current;
mod difference;
mod disk_io;
mod file;
mod levels;
#[cfg(test)]
mod levels_tests;
mod merge;
mod restore;
mod row_order;
mod start;
#[cfg(test)]
#[cfg(feature = "torture")]
mod tests;
mod verify;

pub(crate) use chain::{NamedBackup, previous};
pub(crate) use changes::write_backup;
pub(crate) use difference::write_difference;
pub(crate) use file::to_file;
pub(crate) use restore::restore;
pub(crate) use start::{LONGEST_START, read_start};
pub(crate) use verify::{verify, verify_stream};
