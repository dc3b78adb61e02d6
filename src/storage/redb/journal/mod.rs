//! The journal: commits become durable by one append and one sync a group. Two files take turns; while one
//! is written, what the other holds is brought into redb. It knows frames of rows, not what they mean.

mod file;
mod frame;
mod held;
mod leftover;
mod recovery;
mod salvage;
#[cfg(feature = "torture")]
pub(crate) mod torture;

pub(crate) use file::{AppendFailure, JournalFile};
pub(crate) use held::HeldJournals;
pub(crate) use leftover::{lies_beside, make_room, next_free, none_in_use};
pub(crate) use recovery::{ExpectedJournal, RawFrameRows, Recovered, read};
pub(crate) use salvage::{KnownJournal, salvage};

use super::failure::random;
use crate::error::Result;
use crate::storage::redb::backend::disk::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::memtable::table::{DatabaseKind, RowWrite};
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;
use std::sync::Arc;
use twox_hash::XxHash3_64;

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

/// A name longer than this gets no suffix: a file system takes 255 bytes at most.
const LONGEST_NAME: usize = 200;

/// So many pairs of names there are for the journal of one store, should those of others bear the first ones.
const MOST_PAIRS: u16 = 2000;
/// What every name of a journal has before its number.
const INFIX: &str = ".journal-";
/// What the name of one that was set aside has behind that, before a number of its own.
const ASIDE: &str = ".aside-";

/// Whether a file of this name may be taken for a journal of another store.
pub(crate) fn is_name_of_a_journal(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        // A lossy one has the same end.
        return is_name_of_a_journal(OsStr::new(&*name.to_string_lossy()));
    };
    let is_up_to = |most: usize, text: &str| {
        let number = text.parse().unwrap_or(0);
        (1..=most).contains(&number) && number.to_string() == text
    };
    name.rsplit_once(INFIX).is_some_and(|(_, rest)| {
        let (number, aside) = rest.split_once(ASIDE).unwrap_or((rest, "1"));
        is_up_to(2 * usize::from(MOST_PAIRS), number) && is_up_to(leftover::EVER_ASIDE, aside)
    })
}

/// The names of a pair of journal files. The next opening uses another pair, so that the one before is
/// whole until redb names the new one.
fn names(store: &Location, pair: u16) -> [Location; 2] {
    [1, 2].map(|n| {
        let number = 2 * u32::from(pair) + n;
        let name = if store.name.len() <= LONGEST_NAME {
            let mut name = store.name.clone();
            name.push(format!("{INFIX}{number}"));
            name
        } else {
            let mut hasher = XxHash3_64::with_seed(0);
            hasher.write(store.name.as_encoded_bytes());
            OsString::from(format!(
                ".cloakroom-{:016x}{INFIX}{number}",
                hasher.finish()
            ))
        };
        store.beside(name)
    })
}

/// The journal of an open store.
pub(crate) struct Journal {
    active: JournalFile,
    /// There is none while a checkpoint brings what it holds into redb.
    spare: Option<JournalFile>,
    /// How large that is meanwhile.
    away: u64,
    /// The number of the next frame.
    next: u64,
}

impl Journal {
    /// Makes the two files of an opening, the first with all that was recovered, and gives them a pair of names
    /// that are free. They count once redb names them.
    pub(crate) fn make(
        store: &Location,
        expected: &ExpectedJournal,
        recovered: &Recovered,
        largest: u64,
        io: &Arc<FileIo>,
        pair: u16,
        holdings: &mut HeldJournals,
    ) -> Result<(Self, JournalRef)> {
        let opening = random()?;
        let [first, second] = names(store, pair);
        let whose = file::Owner {
            store: expected.store,
            opening,
        };
        let mut making = file::FileBuilder::new(&first, whose, largest, io)?;
        making.copy(recovered)?;
        let active = making.publish(holdings)?;
        let spare = file::FileBuilder::new(&second, whose, largest, io)?.publish(holdings)?;
        first.sync_folder()?;
        let journal = Self {
            active,
            spare: Some(spare),
            away: 0,
            next: recovered.last + 1,
        };
        io.note_frame(recovered.last);
        let named = JournalRef {
            opening,
            previous: expected.named.opening,
            pair,
            is_open: true,
        };
        Ok((journal, named))
    }

    /// Appends a group's rows, and syncs them: they are durable, or it failed.
    pub(crate) fn append(&mut self, rows: &[RowWrite]) -> Result<(), AppendFailure> {
        debug_assert!(rows.iter().all(|row| row.key.home() == DatabaseKind::File));
        self.active.append(self.next, rows)?;
        self.next += 1;
        Ok(())
    }

    /// The number of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// How much of the file that is written is used, of its bound.
    pub(crate) fn filled(&self) -> f64 {
        self.active.filled()
    }

    /// How many bytes fit into the file that is written, of its bound.
    pub(crate) fn room(&self) -> u64 {
        self.active.room()
    }

    /// Bytes of the files on the disk.
    pub(crate) fn len(&self) -> u64 {
        self.active.len() + self.spare.as_ref().map_or(self.away, JournalFile::len)
    }

    /// Goes on in the other file, if that is free; gives the one that was written. After a failure, neither is
    /// to be written again.
    ///
    /// The other file begins with a frame without rows. So whatever redb is told of the file that was written,
    /// there is one frame more than that, without which a journal is of an earlier moment.
    pub(crate) fn turn(&mut self) -> Result<Option<JournalFile>, AppendFailure> {
        let Some(mut spare) = self.spare.take() else {
            return Ok(None);
        };
        spare.append(self.next, &[])?;
        self.next += 1;
        self.away = self.active.len();
        Ok(Some(std::mem::replace(&mut self.active, spare)))
    }

    /// Takes back a file whose frames are in redb.
    pub(crate) fn give_back(&mut self, file: JournalFile) {
        self.spare = Some(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C7.4
    #[test]
    fn the_names_of_journals_are_known() {
        let is = |name: &str| is_name_of_a_journal(OsStr::new(name));
        for name in [
            "x.journal-1",
            "x.journal-3999",
            ".journal-1",
            "x.journal-1.journal-2",
            "x.journal-1.aside-16",
            "x.journal-4000",
            "x.journal-1.aside-1000",
        ] {
            assert!(is(name), "{name}");
        }
        for name in [
            "x",
            "x.journal",
            "x.journal-",
            "x.journal-1x",
            "x.journal-one",
            "journal-1",
            "x.journal-1.redb",
            "x.journal-1.aside-",
            "x.journal-1.aside-y",
            "audit.journal-20240101",
            "x.journal-0",
            "x.journal-4001",
            "x.journal-01",
            "x.journal-1.aside-1001",
        ] {
            assert!(!is(name), "{name}");
        }
    }
}
