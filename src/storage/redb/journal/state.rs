//! The store's records about its journal, and the frames that were read from it.

use bytes::Bytes;

/// The journal that belongs to a store, as redb records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalRef {
    /// The opening for which its files were created.
    pub(crate) opening: [u8; 16],
    /// The previous opening. This journal has all its frames up to [`JournalExtent::copied`].
    pub(crate) previous: [u8; 16],
    /// The pair of names of the files: the lowest that was unused.
    pub(crate) pair: u16,
    /// Whether the files are needed, because the store was not closed.
    pub(crate) is_open: bool,
}

/// How [`JournalRef`] is stored.
type JournalRefWire = ([u8; 16], [u8; 16], u16, bool);

impl JournalRef {
    pub(crate) fn from_wire((opening, previous, pair, is_open): JournalRefWire) -> Self {
        Self {
            opening,
            previous,
            pair,
            is_open,
        }
    }

    pub(crate) fn to_wire(self) -> JournalRefWire {
        (self.opening, self.previous, self.pair, self.is_open)
    }
}

/// The frames of the journal, as redb records them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalExtent {
    /// The last frame whose rows redb holds.
    pub(crate) covered: u64,
    /// The last frame that was durable when this was written. A journal that ends before it is an older copy. 0 in
    /// stores of an earlier form.
    pub(crate) reached: u64,
    /// The last frame that this opening copied from the previous journal, or found in redb. This journal lacks later
    /// frames of the previous one. 0 in stores of an earlier form.
    pub(crate) copied: u64,
}

/// All that the store's file records about its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedJournal {
    /// The store's identity.
    pub(crate) store: [u8; 16],
    pub(crate) named: JournalRef,
    pub(crate) extent: JournalExtent,
    /// The path by which the store was last opened, if recorded.
    pub(crate) opened_as: Option<String>,
}

/// The encoded rows of a frame.
pub(crate) type RawFrameRows = Vec<(Bytes, Option<Bytes>)>;

/// The commits that redb does not hold.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Frames by ascending number, without a gap.
    pub(crate) frames: Vec<(u64, RawFrameRows)>,
    /// The number of the last frame.
    pub(crate) last: u64,
}
