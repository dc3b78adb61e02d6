//! What the store's file says of its journal, and what was read from that.

use bytes::Bytes;

/// What redb says of the journal that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalRef {
    /// The opening that its files were made for.
    pub(crate) opening: [u8; 16],
    /// The opening before, whose files this one read: up to [`JournalExtent::copied`] it has all that they hold.
    pub(crate) previous: [u8; 16],
    /// Which two names they bear: the lowest that were free.
    pub(crate) pair: u16,
    /// Whether they are needed: the store was not closed.
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

/// What redb says of the frames of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalExtent {
    /// The last frame whose rows redb holds.
    pub(crate) covered: u64,
    /// The last one that was durable when that was written: a journal that ends before it is none of this
    /// moment. In stores of an earlier form it is 0.
    pub(crate) reached: u64,
    /// The last one that its opening copied from the journal before, or found in redb: what that journal holds
    /// beyond it is not in this one. In stores of an earlier form it is 0.
    pub(crate) copied: u64,
}

/// What the store's file says of the journal that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedJournal {
    /// The store's identity.
    pub(crate) store: [u8; 16],
    pub(crate) named: JournalRef,
    pub(crate) extent: JournalExtent,
    /// The path that the store was last opened by, where it says.
    pub(crate) opened_as: Option<String>,
}

/// The rows of a frame as they lie in it.
pub(crate) type RawFrameRows = Vec<(Bytes, Option<Bytes>)>;

/// What was committed beyond what redb holds.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Frames by ascending number, without a gap.
    pub(crate) frames: Vec<(u64, RawFrameRows)>,
    /// The number of the last frame there ever was.
    pub(crate) last: u64,
}
