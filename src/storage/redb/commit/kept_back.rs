//! The rows that checkpoints cannot bring into the file, because a page that they need cannot be read. They stay in the
//! journal and in memory, and each checkpoint writes them to the journal again. So there is a limit to them.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::JournalRules;
use crate::storage::redb::integrity::pages::blocked::BlockedRanges;
use crate::storage::redb::memtable::row_key::RowWrite;
use crate::storage::redb::memtable::table::Memtable;

/// The share of a journal file, and of an immutable memtable, that these rows may take.
const SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct KeptBack {
    /// Where the last checkpoint could not write.
    ranges: BlockedRanges,
    /// Where the running checkpoint could not write so far.
    met: BlockedRanges,
    /// Bytes of rows in these ranges.
    bytes: usize,
    /// How many there were at the last recount.
    counted: usize,
    most: usize,
}

impl KeptBack {
    pub(crate) fn new(rules: JournalRules) -> Self {
        let file = usize::try_from(rules.largest_file()).unwrap_or(usize::MAX);
        Self {
            ranges: BlockedRanges::default(),
            met: BlockedRanges::default(),
            bytes: 0,
            counted: 0,
            most: file.min(rules.memory / 2) / SHARE,
        }
    }

    /// Records where the running checkpoint cannot write.
    pub(crate) fn check_keys(&mut self, ranges: &BlockedRanges) {
        self.ranges.extend(ranges);
        self.met.extend(ranges);
    }

    /// Counts the rows that are kept: those of the active memtable.
    pub(crate) fn recount(&mut self, active: &Memtable, number: u64) {
        self.bytes = match self.ranges.is_empty() {
            true => 0,
            false => self.ranges.bytes_of(&active.rows(number)),
        };
        self.counted = self.bytes;
    }

    /// Ends a checkpoint. Ranges that it did not meet no longer block.
    pub(crate) fn end_checkpoint(&mut self, active: &Memtable, number: u64) {
        self.ranges = std::mem::take(&mut self.met);
        self.recount(active, number);
    }

    /// Whether the rows of a commit may be kept. Removals always may: there are no more of them than rows. A row that
    /// is written several times counts each time, until a recount.
    ///
    /// # Errors
    ///
    /// Too many of the rows belong where a checkpoint cannot write.
    pub(crate) fn admit(
        &mut self,
        rows: &[RowWrite],
        active: &Memtable,
        number: u64,
    ) -> Result<()> {
        if self.ranges.is_empty() {
            return Ok(());
        }
        let put = rows.iter().filter(|row| row.value.is_some());
        let put = self.ranges.bytes_of(put);
        if put > 0 && self.bytes + put > self.most && self.bytes > self.counted + self.most / SHARE
        {
            self.recount(active, number);
        }
        if put > 0 && self.bytes + put > self.most {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "a part of the store's file cannot be read, and the journal holds all that it may for that part; \
                 what belongs elsewhere is not affected",
            ));
        }
        Ok(())
    }

    /// Counts the rows of a commit.
    pub(crate) fn add(&mut self, rows: &[RowWrite]) {
        if !self.ranges.is_empty() {
            self.bytes += self.ranges.bytes_of(rows);
        }
    }
}
