//! The journal: a group of commits becomes durable by one append and one sync. Two files take turns: while one is
//! written, a checkpoint writes the rows of the other to redb. The journal knows frames of rows, not their meaning.

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
