//! redb's file format, as far as this crate reads it itself: version 3. Bytes in, what they say out. It reads no file,
//! and knows no rows.

mod bytes;
mod checksum;
mod header;
mod layout;
mod node;

pub(crate) use checksum::{BitRepair, mend};
pub(crate) use header::{
    DatabaseHeader, HEADER, MAGIC, PageNumbers, check_header, check_version, current,
};
pub(crate) use layout::{PAGE, TableRoot, TreeRoot};
pub(crate) use node::{FixedWidths, NO_PAGE, Node, is_whole, search};

#[cfg(test)]
mod tests;
