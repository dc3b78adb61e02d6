//! Format 2: a journal stands before the file. It is named in the file while the store is open, and the
//! number of its last frame whose rows are in the file is kept there, too.

use crate::error::Result;
use crate::storage::record::{RecordKind, seal_plain};
use crate::storage::redb::failure;
use redb::{TableDefinition, WriteTransaction};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Makes of format 1, which had no journal, the next one: none is open, and none was ever written.
pub(crate) fn migrate(txn: &WriteTransaction) -> Result<()> {
    let mut meta = txn.open_table(META).map_err(failure::table)?;
    let none: ([u8; 16], [u8; 16], u8, bool) = ([0; 16], [0; 16], 0, false);
    let journal = seal_plain(RecordKind::Meta, b"journal", none)?;
    meta.insert("journal", &*journal)
        .map_err(failure::storage)?;
    let covered = seal_plain(RecordKind::Meta, b"covered", 0_u64)?;
    meta.insert("covered", &*covered)
        .map_err(failure::storage)?;
    Ok(())
}
