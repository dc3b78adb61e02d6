//! redb's file format, version 3, as far as this crate reads it itself. Pure functions over bytes: they read no file,
//! and do not know the meaning of rows.

mod bytes;
mod checksum;
mod header;
mod layout;
mod node;

pub(crate) use checksum::{BitRepair, repair_bit};
pub(crate) use header::{
    DatabaseHeader, HEADER, MAGIC, PageNumbers, check_header, check_version, current,
};
pub(crate) use layout::{PAGE, TableRoot, TreeRoot};
pub(crate) use node::{FixedWidths, NO_PAGE, Node, is_whole, search};

#[cfg(test)]
mod tests;
