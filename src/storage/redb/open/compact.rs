//! Writes a store's file anew, without the free pages that it gathered, and replaces it by the result.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::{self, Contained, guarded, io_error, refused};
use crate::storage::redb::meta::begin_durable;
use crate::storage::redb::open::create::build_store;
use crate::storage::redb::open::identify::open_or_create;
use crate::storage::redb::open::identity::begin_read;
use crate::storage::redb::open::locks::waiting;
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::tables::{
    CONTAINERS, META, OWNERS, PACKAGES, RETIRED, SESSIONS, TOMBSTONES,
};
use redb::{
    Database, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value,
};
use std::io;
use std::sync::Arc;

/// A transaction writes about so many bytes of rows.
const BYTES: usize = 8 << 20;
/// A row counts for so many bytes at least.
const LEAST: usize = 32;

/// Bytes of the file before and after.
pub(crate) struct CompactedLen {
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// Is told how many rows were written, and of how many. Breaks off by an error.
pub(crate) type RowsWritten<'a> = dyn FnMut(u64, u64) -> Result<()> + 'a;

/// Compacts the store at a location, which nobody has open. All tables are copied as they are. So a journal that
/// belongs to the store goes on belonging to it.
pub(crate) fn compact(
    location: &Location,
    options: OpenOptions,
    cipher: &RecordCipher,
    written: &mut RowsWritten<'_>,
) -> Result<CompactedLen> {
    let options = OpenOptions {
        creates: false,
        // An older store stays as it is until it is opened.
        migrates: false,
        // redb verifies no checksum of what it reads. Damage would get right checksums in the new file, and what could
        // be mended or salvaged would be lost with the old one.
        verify: true,
        ..options
    };
    waiting(options.wait, || {
        compact_now(location, options, cipher, written)
    })
}

fn compact_now(
    location: &Location,
    options: OpenOptions,
    cipher: &RecordCipher,
    written: &mut RowsWritten<'_>,
) -> Result<CompactedLen> {
    let Location {
        folder, name, path, ..
    } = location;
    let failed = |e: io::Error| io_error(path, "the store cannot be compacted", e);
    folder.identity(name).map_err(failed)?;
    if folder.has_other_names(name).map_err(failed)? {
        let why = "the file has several names, of which only one would lead to the compacted store";
        return Err(refused(ErrorKind::InvalidInput, path, why));
    }
    let io = Arc::<FileIo>::default();
    // What holds the locks of the store's files until the new one is in its place.
    let (disk, database, plan) =
        open_or_create(location, options, &io, (cipher, None), &mut |_| {})?;
    let compacted = guarded(|| {
        let identity = folder.identity(name).map_err(failed)?;
        let before = disk.len().map_err(failed)?;
        let (made, ()) = build_store(location, options, |new| copy_all(&database, new, written))?;
        let after = made.disk().and_then(|disk| disk.len()).map_err(failed)?;
        if folder.identity(name).map_err(failed)? != identity {
            let why = "another file took its place meanwhile";
            return Err(refused(ErrorKind::Io, path, why));
        }
        made.share_as(name).map_err(|e| {
            let why = "the compacted file cannot have the owner and the permissions of the old one";
            io_error(path, why, e)
        })?;
        made.replace(name).map_err(failed)?;
        folder.sync().map_err(failed)?;
        Ok(CompactedLen { before, after })
    });
    failure::discard(database);
    let _ = disk.close();
    drop(plan);
    compacted.map_err(|e| failure::at(path, e))
}

/// Counts the rows that are copied.
struct CopyRun<'a, 'w> {
    from: Contained<ReadTransaction>,
    to: &'a Database,
    rows: u64,
    of: u64,
    written: &'a mut RowsWritten<'w>,
}

fn copy_all(from: &Database, to: &Database, written: &mut RowsWritten<'_>) -> Result<()> {
    let mut run = CopyRun {
        from: begin_read(from)?,
        to,
        rows: 0,
        of: 0,
        written,
    };
    run.of = run.count(SESSIONS)? + run.count(PACKAGES)? + run.count(OWNERS)?;
    (run.written)(0, run.of)?;
    run.copy(SESSIONS, |key, value| key.len() + value.len())?;
    run.copy(PACKAGES, |key, value| key.len() + value.len())?;
    run.copy(OWNERS, |key, ()| key.len())?;
    run.copy(TOMBSTONES, |key, value| key.len() + value.len())?;
    run.copy(CONTAINERS, |key, value| key.len() + value.len())?;
    run.copy(RETIRED, |_, ()| 0)?;
    run.copy(META, |key, value| key.len() + value.len())
}

impl CopyRun<'_, '_> {
    fn count<K: Key + 'static, V: Value + 'static>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<u64> {
        let table = Contained::new(self.from.open_table(table).map_err(failure::table)?);
        table.len().map_err(failure::storage)
    }

    fn copy<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
        size: impl Fn(K::SelfType<'_>, V::SelfType<'_>) -> usize,
    ) -> Result<()> {
        let from = Contained::new(self.from.open_table(table).map_err(failure::table)?);
        let mut rows = from.iter().map_err(failure::storage)?.peekable();
        while rows.peek().is_some() {
            let txn = begin_durable(self.to)?;
            {
                let mut to = txn.open_table(table).map_err(failure::table)?;
                let mut bytes = 0;
                while bytes < BYTES
                    && let Some(row) = rows.next()
                {
                    let (key, value) = row.map_err(failure::storage)?;
                    bytes += LEAST + size(key.value(), value.value());
                    let put = to.insert(key.value(), value.value()).map(drop);
                    put.map_err(failure::storage)?;
                    self.rows += 1;
                }
            }
            txn.commit().map_err(failure::commit)?;
            (self.written)(self.rows.min(self.of), self.of)?;
        }
        let to = begin_read(self.to)?;
        let to = Contained::new(to.open_table(table).map_err(failure::table)?);
        let len = to.len().map_err(failure::storage)?;
        if len != from.len().map_err(failure::storage)? {
            let why =
                "a table has rows that cannot be reached; StoreBuilder::salvage copies what can be";
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        Ok(())
    }
}
