//! The tables of a store file's own records, as of one commit of redb.

use crate::error::Result;
use crate::storage::redb::failure::{self, Contained, guarded};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition};

pub(crate) struct OwnTables {
    meta: Contained<ReadOnlyTable<&'static str, &'static [u8]>>,
    containers: Contained<ReadOnlyTable<&'static str, &'static [u8]>>,
}

/// Such a table.
type OwnTable = TableDefinition<'static, &'static str, &'static [u8]>;

/// Rows of such a table: key and record.
pub(crate) type OwnRows = Vec<(String, Vec<u8>)>;

impl OwnTables {
    pub(crate) fn open(
        txn: &ReadTransaction,
        meta: OwnTable,
        containers: OwnTable,
    ) -> Result<Self> {
        Ok(Self {
            meta: Contained::new(txn.open_table(meta).map_err(failure::table)?),
            containers: Contained::new(txn.open_table(containers).map_err(failure::table)?),
        })
    }

    pub(crate) fn meta(&self) -> Result<OwnRows> {
        rows(&self.meta)
    }

    pub(crate) fn containers(&self) -> Result<OwnRows> {
        rows(&self.containers)
    }
}

fn rows(table: &ReadOnlyTable<&'static str, &'static [u8]>) -> Result<OwnRows> {
    guarded(|| {
        let rows = table.iter().map_err(failure::storage)?;
        let own = rows.map(|row| {
            let (key, record) = row.map_err(failure::storage)?;
            Ok((key.value().to_owned(), record.value().to_vec()))
        });
        own.collect()
    })
}
