//! Moves pages that the disk cannot read any more, but of which there are copies in memory: rows below them are written
//! again, so that redb writes the pages elsewhere.

use crate::error::Result;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::page_copies::PageCopies;
use crate::storage::redb::failure;
use crate::storage::redb::failure::ContainedWrite;
use crate::storage::redb::integrity::pages::vital::rows_below;
use crate::storage::redb::memtable::row_key::{RowKey, RowWrite};
use crate::storage::redb::tables::{CONTAINERS, RETIRED};
use redb::ReadableTable;

/// The rows to be written again.
#[derive(Default)]
pub(crate) struct MovedPages {
    /// Of the trees of rows.
    pub(crate) rows: Vec<RowWrite>,
    /// Whether the store's own tables are written again. redb's bookkeeping and the table of the store's records are
    /// written by each checkpoint anyway.
    tables: bool,
}

impl MovedPages {
    /// No thread may write to the file meanwhile.
    pub(crate) fn of(disk: &Disk, copies: &PageCopies) -> Result<Self> {
        let used = copies.still_used(disk);
        if used.is_empty() {
            return Ok(Self::default());
        }
        let row = |(tree, key, value): (_, Vec<u8>, Vec<u8>)| RowWrite {
            key: RowKey::new(tree, &key),
            value: Some(value.into()),
        };
        Ok(Self {
            rows: rows_below(disk, copies, &used)?
                .into_iter()
                .map(row)
                .collect(),
            tables: true,
        })
    }

    /// Writes the rows of the store's own tables again.
    pub(crate) fn put_tables(&self, txn: &ContainedWrite) -> Result<()> {
        if !self.tables {
            return Ok(());
        }
        let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
        let mut records = Vec::new();
        for row in containers.iter().map_err(failure::storage)? {
            let (name, record) = row.map_err(failure::storage)?;
            records.push((name.value().to_owned(), record.value().to_vec()));
        }
        for (name, record) in records {
            containers
                .insert(name.as_str(), &*record)
                .map_err(failure::storage)?;
        }
        let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
        let mut numbers = Vec::new();
        for row in retired.iter().map_err(failure::storage)? {
            numbers.push(row.map_err(failure::storage)?.0.value());
        }
        for number in numbers {
            retired.insert(number, ()).map_err(failure::storage)?;
        }
        Ok(())
    }
}
