//! Writes of rows to redb: checkpoints, which write the rows of a memtable, and the removal of old rows. None of them
//! is on the path of a commit.

use crate::error::{ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::page_copies::PageCopies;
use crate::storage::redb::backend::unreadable::UnreadableParts;
use crate::storage::redb::checkpoint::moved_pages::MovedPages;
use crate::storage::redb::failure;
use crate::storage::redb::failure::{ContainedWrite, guarded};
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::format;
use crate::storage::redb::integrity::pages::blocked::{BlockedRanges, PageKeys};
use crate::storage::redb::integrity::pages::row_paths::{RowChange, RowPaths};
use crate::storage::redb::integrity::pages::vital::copy_vital_pages;
use crate::storage::redb::journal::{JournalFile, JournalRef};
use crate::storage::redb::memtable::detached::{DatabaseLife, DetachedReader};
use crate::storage::redb::memtable::held::Held;
use crate::storage::redb::memtable::read_view::TableReaders;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::memtable::table::Memtable;
use crate::storage::redb::meta::{COVERED, begin_durable, name_journal, put_last_frame, put_plain};
use crate::storage::redb::tables::{RETIRED, Settled, TableReader, TableWriter, settle};
use crate::storage::{ContainerId, TombstonePolicy};
use redb::Database;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

/// The number of rows of ended containers, and of old tombstones, that one step removes.
const RECLAIMED: usize = 1000;
/// A row changes one page at least.
const PAGE: usize = format::PAGE as usize;

/// The database of a store.
pub(crate) struct StoreDatabase {
    pub(crate) file: Database,
    pub(crate) disk: Disk,
    pub(crate) life: Arc<DatabaseLife>,
    /// Encrypts the records.
    pub(crate) cipher: RecordCipher,
    /// Copies of the file's vital pages; none for a store in memory.
    pub(crate) copies: Option<Arc<PageCopies>>,
    /// The approximate number of bytes of pages that one transaction may change.
    pub(crate) step: usize,
}

/// The rows that a checkpoint writes to redb.
pub(crate) struct Checkpoint {
    /// An immutable memtable. Its rows up to the commit `number` are written.
    pub(crate) memtable: Arc<Memtable>,
    pub(crate) number: u64,
    /// The last commit so far. It may have written no row.
    pub(crate) up_to: u64,
    /// The number of the last frame that holds any of these rows.
    pub(crate) covered: u64,
    /// The journal file that holds the rows. It is reused after the checkpoint.
    pub(crate) file: Option<JournalFile>,
    /// Set when the store closes: the journal that is no longer needed.
    pub(crate) closes: Option<JournalRef>,
    pub(crate) left: LeftOut,
}

/// The rows that a checkpoint leaves out, because redb would need an unreadable page to write them. They stay in the
/// journal and in memory.
#[derive(Default)]
pub(crate) struct LeftOut {
    /// Rows that the later memtable and its journal file also have.
    pub(crate) keys: BTreeSet<RowKey>,
    pub(crate) trees: Trees,
}

/// How much of a tree is left out once one of its rows cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trees {
    #[default]
    NoMore,
    Whole,
}

/// The result of an attempt at a checkpoint.
pub(crate) enum Step {
    Done,
    /// Nothing was written, because some rows cannot be.
    Stuck(StuckRows),
}

/// Rows that redb cannot write.
#[derive(Default)]
pub(crate) struct StuckRows {
    pub(crate) rows: Vec<RowWrite>,
    /// The ranges of keys that they are in.
    pub(crate) ranges: BlockedRanges,
}

impl StoreDatabase {
    /// Readers as of the last commit.
    pub(crate) fn readers(&self) -> Result<TableReaders> {
        if let Some(copies) = &self.copies
            && let Err(error) = copy_vital_pages(&self.disk, copies)
        {
            tracing::warn!(%error, "pages of the store's file cannot be copied");
        }
        Ok(TableReaders {
            tables: Arc::new(TableReader::open(
                &self.file,
                &self.disk,
                &self.life,
                &self.cipher,
            )?),
            life: self.life.clone(),
        })
    }

    /// Writes the rows to redb durably. After a failure it can be repeated.
    ///
    /// redb reads and writes a page twice if a transaction changes more than fits into its cache. So the rows are
    /// written in several transactions, by ascending key. Only the last one records that the journal is no longer
    /// needed. Until then, opening the file writes all rows again.
    ///
    /// One unreadable page makes redb abandon the whole transaction. So where such pages are known, the rows that
    /// need them are found before anything is written. The checkpoint runs once all of these are left out.
    pub(crate) fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
        io: &FileIo,
        faults: FaultInjection,
    ) -> Result<Step> {
        io.begin_commit();
        let left = &checkpoint.left;
        let mut rows = checkpoint.memtable.rows(checkpoint.number);
        rows.retain(|row| !left.keys.contains(&row.key));
        let unreadable = io.unreadable();
        let was_expected = unreadable.is_expected();
        if was_expected {
            let stuck = self.stuck(&rows, left, left.trees, unreadable)?;
            if !stuck.rows.is_empty() {
                return Ok(Step::Stuck(stuck));
            }
        }
        let moved = MovedPages::of(&self.disk, io.copies())?;
        let steps = in_steps(&moved.rows, self.step).chain(in_steps(&rows, self.step));
        let mut steps = steps.peekable();
        let file = loop {
            let txn = faults.begin(&self.file)?;
            if let Err(error) = put_all(&txn, steps.next().unwrap_or_default()) {
                if error.kind() != ErrorKind::Corrupt || unreadable.count() == 0 {
                    return Err(error);
                }
                abort(txn)?;
                // Restructuring a tree may need pages that were not foreseen.
                let trees = if was_expected {
                    Trees::Whole
                } else {
                    left.trees
                };
                let stuck = self.stuck(&rows, left, trees, unreadable)?;
                return match stuck.rows.is_empty() {
                    true => Err(error),
                    false => Ok(Step::Stuck(stuck)),
                };
            }
            if steps.peek().is_none() {
                break txn;
            }
            commit(txn, io)?;
        };
        moved.put_tables(&file)?;
        put_plain(&file, COVERED, checkpoint.covered)?;
        if let Some(named) = checkpoint.closes {
            name_journal(
                &file,
                JournalRef {
                    is_open: false,
                    ..named
                },
            )?;
        }
        commit(file, io)?;
        Ok(Step::Done)
    }

    /// The rows that redb cannot write.
    fn stuck(
        &self,
        rows: &[RowWrite],
        left: &LeftOut,
        trees: Trees,
        unreadable: &UnreadableParts,
    ) -> Result<StuckRows> {
        let mut row_paths = RowPaths::new(&self.disk, unreadable)?;
        let mut stuck = StuckRows::default();
        for row in rows {
            if let Some((tree, keys)) = obstacle(row, &mut row_paths)? {
                stuck.rows.push(row.clone());
                // A removal may be blocked by a page beside a whole one, into which rows can be put.
                if row.value.is_some() {
                    stuck.ranges.add(tree, keys);
                }
            }
        }
        if trees == Trees::Whole {
            let tree = |key: &RowKey| key.split().map(|(tree, _)| tree);
            let keys = stuck.rows.iter().map(|row| &row.key).chain(&left.keys);
            let trees: Vec<RowTree> = keys.filter_map(tree).collect();
            let is_left =
                |row: &&RowWrite| tree(&row.key).is_some_and(|tree| trees.contains(&tree));
            stuck.rows = rows.iter().filter(is_left).cloned().collect();
        }
        Ok(stuck)
    }

    /// The tombstones to be removed or lowered, among those that can be read and changed.
    fn settled_around(
        &self,
        refusals: TombstonePolicy,
        unreadable: &UnreadableParts,
    ) -> Result<Vec<Settled>> {
        let mut row_paths = RowPaths::new(&self.disk, unreadable)?;
        let mut settled = Vec::new();
        let from = Bound::Included([0; 16]);
        for held in
            DetachedReader::new(&self.disk)?.range(RowTree::Tombstones, from, [u8::MAX; 16])?
        {
            let (key, Held::Row(record)) = held? else {
                continue;
            };
            let Some((key, record)) = settle(refusals, key, &record)? else {
                continue;
            };
            let change = record
                .as_ref()
                .map_or(RowChange::Remove, |_| RowChange::Put);
            if row_paths.are_whole(RowTree::Tombstones.name(), &key, change)? {
                settled.push((key, record));
            }
            if settled.len() == RECLAIMED {
                break;
            }
        }
        Ok(settled)
    }

    /// Removes some rows of an unregistered container, and some old tombstones. Returns the number of rows, and
    /// whether the container is empty now.
    pub(crate) fn reclaim(
        &self,
        refusals: TombstonePolicy,
        retired: Option<ContainerId>,
        io: &FileIo,
    ) -> Result<(u64, bool)> {
        io.begin_commit();
        let is_expected = io.unreadable().is_expected();
        let settled = is_expected.then(|| self.settled_around(refusals, io.unreadable()));
        let settled = settled.transpose()?;
        let txn = begin_durable(&self.file)?;
        let mut is_empty = false;
        let (is_dirty, removed) = {
            let mut tables = TableWriter::open(&txn)?;
            let mut removed = match settled {
                Some(settled) => tables.put_settled(&settled)?,
                None => tables.settle_tombstones(refusals, RECLAIMED)?,
            };
            if let Some(id) = retired {
                let rows = tables.reclaim(id, RECLAIMED, &self.cipher)?;
                removed += rows;
                if rows == 0 {
                    let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
                    retired.remove(id.0).map_err(failure::storage)?;
                    tables.dirty = true;
                    // Counted as a row, so that the caller continues: another container may be left.
                    removed += 1;
                    is_empty = true;
                }
            }
            (tables.dirty, removed)
        };
        match is_dirty {
            true => commit(txn, io)?,
            false => abort(txn)?,
        }
        Ok((removed, is_empty))
    }
}

/// The range of keys around a row in which redb can write none.
fn obstacle(row: &RowWrite, row_paths: &mut RowPaths<'_>) -> Result<Option<(RowTree, PageKeys)>> {
    let change = match row.value {
        Some(_) => RowChange::Put,
        None => RowChange::Remove,
    };
    let Some((tree, key)) = row.key.split() else {
        return Ok(None);
    };
    let keys = row_paths.obstacle(tree.name(), key, change)?;
    Ok(keys.map(|keys| (tree, keys)))
}

fn put_all(txn: &ContainedWrite, rows: &[RowWrite]) -> Result<()> {
    let mut writer = TableWriter::open(txn)?;
    // A panic stops here, so that the tables are closed in order and the transaction can be aborted.
    guarded(|| rows.iter().try_for_each(|row| writer.put(row)))
}

/// Splits rows into parts that change about `bytes` of pages each, but hold at least one row.
fn in_steps(rows: &[RowWrite], bytes: usize) -> impl Iterator<Item = &[RowWrite]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut changed = 0;
        let step = rest.iter().take_while(|row| {
            let fits = changed < bytes.max(1);
            changed += PAGE + row.len();
            fits
        });
        let (step, later) = rest.split_at_checked(step.count())?;
        rest = later;
        Some(step).filter(|step| !step.is_empty())
    })
}

/// Commits a change to the file of an open store. It also records the journal's last frame, so that an older copy of
/// the journal is not accepted for this file.
pub(super) fn commit(txn: ContainedWrite, io: &FileIo) -> Result<()> {
    put_last_frame(&txn, io.last_frame())?;
    txn.commit().map_err(failure::commit)
}

/// Ends a transaction that has changed nothing.
fn abort(txn: ContainedWrite) -> Result<()> {
    txn.abort().map_err(failure::storage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::memtable::row_key::{RowKey, RowTree};

    #[test]
    fn every_row_is_in_one_step_however_little_one_may_change() {
        let row = |n: u8| RowWrite {
            key: RowKey::new(RowTree::Packages, &[n]),
            value: None,
        };
        let rows: Vec<_> = (0..9).map(row).collect();
        for (bytes, largest) in [(0, 1), (1, 1), (PAGE, 1), (PAGE + 3, 2), (usize::MAX, 9)] {
            let steps: Vec<_> = in_steps(&rows, bytes).collect();
            assert_eq!(steps.iter().map(|step| step.len()).max(), Some(largest));
            let keys = steps
                .iter()
                .flat_map(|step| step.iter().map(|row| &row.key));
            assert!(keys.eq(rows.iter().map(|row| &row.key)), "{bytes}");
        }
        assert_eq!(in_steps(&[], 100).count(), 0);
    }
}
