//! What a layer of a store holds under a key.

use crate::error::Result;
use bytes::Bytes;

/// What is held under a key.
#[derive(Clone, Debug)]
pub(crate) enum Held {
    Row(Bytes),
    /// Nothing, and what lies below counts no more.
    Removed,
    /// From the row before up to this key nothing can be read.
    Unreadable,
}

/// Rows by ascending key.
pub(crate) type TableRows<'a, const N: usize> =
    Box<dyn Iterator<Item = Result<([u8; N], Held)>> + 'a>;
