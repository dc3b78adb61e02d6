//! Backups: one commit's rows as a stream of blocks, and stores that are made of such streams. It knows rows only as
//! bytes.

mod block;
mod chain;
mod changes;
mod current;
mod disk_io;
mod file;
mod restore;
mod row_order;
#[cfg(test)]
#[cfg(feature = "torture")]
mod tests;
mod verify;

pub(crate) use chain::previous;
pub(crate) use changes::write_backup;
pub(crate) use file::to_file;
pub(crate) use restore::restore;
pub(crate) use verify::{verify, verify_stream};
