//! The journal: commits become durable by one append and one sync a group. Two files take turns; while one
//! is written, what the other holds is brought into redb. It knows frames of rows, not what they mean.

mod file;
mod frame;
mod held;
mod leftover;
mod names;
mod recovery;
mod salvage;
mod state;
#[cfg(feature = "torture")]
pub(crate) mod torture;
mod writer;

pub(crate) use file::{AppendFailure, JournalFile};
pub(crate) use held::HeldJournals;
pub(crate) use leftover::{lies_beside, make_room, next_free, none_in_use};
pub(crate) use names::is_name_of_a_journal;
pub(crate) use recovery::read;
pub(crate) use salvage::{KnownJournal, salvage};
pub(crate) use state::{ExpectedJournal, JournalExtent, JournalRef, RawFrameRows, Recovered};
pub(crate) use writer::Journal;
