//! The journal of an open store: two files that take turns.

use super::file::{self, AppendFailure, JournalFile};
use super::held::HeldJournals;
use super::names::names;
use super::state::{ExpectedJournal, JournalRef, Recovered};
use crate::error::Result;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::random;
use crate::storage::redb::memtable::row_key::RowWrite;
use std::sync::Arc;

/// The journal of an open store.
pub(crate) struct Journal {
    active: JournalFile,
    /// `None` while a checkpoint writes its rows to redb.
    spare: Option<JournalFile>,
    /// The size of the spare file meanwhile.
    away: u64,
    /// The number of the next frame.
    next: u64,
}

impl Journal {
    /// Creates the two files of an opening under a free pair of names. The first holds all recovered frames. The
    /// files count once redb names them.
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
        let owner = file::Owner {
            store: expected.store,
            opening,
        };
        let mut making = file::FileBuilder::new(&first, owner, largest, io)?;
        making.copy(recovered)?;
        let active = making.publish(store, holdings)?;
        let spare =
            file::FileBuilder::new(&second, owner, largest, io)?.publish(store, holdings)?;
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

    /// Appends the rows of a group and syncs them.
    pub(crate) fn append(&mut self, rows: &[RowWrite]) -> Result<(), AppendFailure> {
        self.active.append(self.next, rows)?;
        self.next += 1;
        Ok(())
    }

    /// The number of the last frame.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// The used fraction of the active file's bound.
    pub(crate) fn filled(&self) -> f64 {
        self.active.filled()
    }

    /// The number of bytes until the active file reaches its bound.
    pub(crate) fn remaining(&self) -> u64 {
        self.active.remaining()
    }

    /// The size of both files on the disk.
    pub(crate) fn len(&self) -> u64 {
        self.active.len() + self.spare.as_ref().map_or(self.away, JournalFile::len)
    }

    /// Switches to the other file, if it is free, and returns the full one. After a failure, neither may be written
    /// again.
    ///
    /// The other file begins with an empty frame. So the journal always has one frame more than redb records of the
    /// full file. A journal without that frame is an older copy.
    pub(crate) fn turn(&mut self) -> Result<Option<JournalFile>, AppendFailure> {
        let Some(mut spare) = self.spare.take() else {
            return Ok(None);
        };
        spare.append(self.next, &[])?;
        self.next += 1;
        self.away = self.active.len();
        Ok(Some(std::mem::replace(&mut self.active, spare)))
    }

    /// Takes back a file whose rows are in redb.
    pub(crate) fn give_back(&mut self, file: JournalFile) {
        self.spare = Some(file);
    }
}
