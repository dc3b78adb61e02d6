//! Reads the rows of a database as of one commit without redb, for the time after redb has stopped because of a
//! failure. The caller ensures that no later write has reused the pages.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::format::{BitRepair, TableRoot};
use crate::storage::redb::integrity::pages::{Pages, Part};
use crate::storage::redb::memtable::held::Held;
use crate::storage::redb::memtable::row_key::RowTree;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

/// The number of rows that are read at once.
const ROWS: usize = 64;

/// Whether an open database has failed or ended.
#[derive(Debug, Default)]
pub(crate) struct DatabaseLife {
    has_failed: AtomicBool,
    is_over: AtomicBool,
}

impl DatabaseLife {
    /// Records that redb has stopped.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Records that the database is dropped. Snapshots of its commits then read without redb.
    pub(crate) fn end(&self) {
        self.fail();
        self.is_over.store(true, Ordering::Release);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

pub(crate) struct DetachedReader {
    pages: Pages,
    tables: BTreeMap<String, TableRoot>,
}

impl DetachedReader {
    /// Reads as of the current commit. No thread may write to the database meanwhile.
    pub(crate) fn new(disk: &Disk) -> Result<Self> {
        let mut pages = Pages::new(disk.clone(), BitRepair::Nothing)?;
        let mut is_damaged = false;
        let tables = pages.tables(|_, _| is_damaged = true)?;
        if is_damaged {
            let why = "the list of tables is damaged";
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        Ok(Self { pages, tables })
    }

    fn table(&self, tree: RowTree) -> Result<&TableRoot> {
        let lost = || Error::new(ErrorKind::Corrupt, "the file lacks a table of a store");
        self.tables.get(tree.name()).ok_or_else(lost)
    }

    pub(crate) fn get(&self, tree: RowTree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.pages.second_reader().get(self.table(tree)?, key)
    }

    /// The rows of a range of keys, and the unreadable gaps between them.
    pub(crate) fn range<const N: usize>(
        &self,
        tree: RowTree,
        from: Bound<[u8; N]>,
        to: [u8; N],
    ) -> Result<impl Iterator<Item = Result<([u8; N], Held)>> + use<N>> {
        let table = *self.table(tree)?;
        let mut pages = self.pages.second_reader();
        let mut from = from;
        let mut ready = VecDeque::new();
        let mut is_last = false;
        Ok(std::iter::from_fn(move || {
            if ready.is_empty() && !is_last {
                let start = from.as_ref().map(|key| key.as_slice());
                match pages.range(&table, (start, &to), ROWS) {
                    Ok(rows) => {
                        is_last = rows.len() < ROWS;
                        ready.extend(rows);
                    }
                    Err(error) => {
                        is_last = true;
                        return Some(Err(error));
                    }
                }
            }
            let (key, held) = match ready.pop_front()? {
                Part::Row(key, value) => (*key.first_chunk()?, Held::Row(Bytes::from(value))),
                Part::Gap(up_to) => {
                    let end = up_to.and_then(|key| key.first_chunk().copied());
                    let end = end.filter(|end| *end < to);
                    is_last |= end.is_none();
                    (end.unwrap_or(to), Held::Unreadable)
                }
            };
            from = Bound::Excluded(key);
            Some(Ok((key, held)))
        }))
    }

    pub(crate) fn is_empty(&self, tree: RowTree) -> Result<bool> {
        Ok(self.table(tree)?.root.is_none())
    }
}
