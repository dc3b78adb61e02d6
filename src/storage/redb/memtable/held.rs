//! The value that one layer of a store has for a key.

use crate::error::Result;
use bytes::Bytes;

/// The value for a key.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Row(Bytes),
    /// The row was removed; rows of lower layers do not count.
    Removed,
    /// No row between the previous key and this one can be read.
    Unreadable,
}

/// Rows by ascending key.
pub(crate) type TableRows<'a, const N: usize> =
    Box<dyn Iterator<Item = Result<([u8; N], Held)>> + 'a>;
