//! Where a record belongs. The encryption binds its content to that.

use super::codec::RecordKind;

/// The place of a record.
#[cfg_attr(
    not(feature = "encryption"),
    allow(dead_code, reason = "only encryption reads it")
)]
#[derive(Clone, Copy)]
pub(crate) struct RecordContext<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) key: &'a [u8],
    /// Of a session; 0 of other records.
    pub(crate) incarnation: u64,
}

impl<'a> RecordContext<'a> {
    pub(crate) fn new(kind: RecordKind, key: &'a [u8]) -> Self {
        Self {
            kind,
            key,
            incarnation: 0,
        }
    }

    /// Where in a record of this kind the encrypted part begins. A session's format, the part for accesses and its
    /// incarnation stand before it.
    pub(super) fn start_of(kind: RecordKind) -> usize {
        match kind {
            RecordKind::Session => 1 + 25 + 8,
            _ => 1,
        }
    }
}
