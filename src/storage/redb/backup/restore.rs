//! Makes a store of a chain of backups.

use super::chain::{Chain, NamedBackup};
use super::levels::ChainRows;
use super::row_order::{CONTAINERS, META};
use super::verify::count;
use crate::error::Result;
use crate::storage::record::{BackupCounts, RecordKind, open_plain, seal_plain};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::backup::block::damaged;
use crate::storage::redb::failure::{self, guarded, io_error};
use crate::storage::redb::memtable::row_key::{RowKey, RowWrite};
use crate::storage::redb::meta::{self, begin_durable};
use crate::storage::redb::open::create;
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::tables::{
    CONTAINERS as CONTAINER_TABLE, META as META_TABLE, TableWriter,
};
use crate::storage::{BackupPhase, BackupProgress, BackupRow, BackupSummary, ProgressFn, report};
use redb::Database;
use std::io;

/// A transaction writes about so many bytes of rows.
const BYTES: usize = 8 << 20;

/// A restored store counts so many openings that were not. So it never gives a commit a number that the store gave to
/// one of those after the backup, which are lost.
const LOST_OPENINGS: u64 = 1000;

/// Makes a new store of the state that a chain of backups shows.
pub(crate) fn restore(
    from: &[NamedBackup],
    to: &Location,
    options: OpenOptions,
    progress: &mut ProgressFn<'_>,
) -> Result<BackupSummary> {
    let exists = || {
        let error = io::ErrorKind::AlreadyExists.into();
        io_error(&to.path, "it exists already", error)
    };
    if to.folder.identity(&to.name).is_ok() {
        return Err(exists());
    }
    let chain = Chain::open(from)?;
    let mut summary = BackupSummary {
        id: chain.last_id(),
        header: chain.last().clone(),
        counts: BackupCounts::default(),
        bytes: chain.len(),
    };
    let mut so_far = BackupProgress {
        phase: BackupPhase::Restoring,
        of_bytes: chain.len(),
        ..BackupProgress::default()
    };
    let rows = chain.rows(to, &mut |read| {
        so_far.bytes = read;
        report(progress, so_far)
    })?;
    let made = create::make(to, options, |database| {
        let mut run = RestoreRun {
            database,
            counts: BackupCounts::default(),
        };
        run.fill(rows, summary.header.store, &mut |counts, read| {
            so_far.sessions = counts.sessions;
            so_far.bytes = read;
            report(progress, so_far)
        })?;
        Ok(run.counts)
    })?;
    summary.counts = made.ok_or_else(exists)?;
    Ok(summary)
}

struct RestoreRun<'a> {
    database: &'a Database,
    counts: BackupCounts,
}

/// What the store needs to be one.
#[derive(Default)]
struct OwnRecords {
    identity: Option<[u8; 16]>,
    has_secrets: bool,
    has_next: bool,
    has_epoch: bool,
    has_containers: bool,
}

impl RestoreRun<'_> {
    fn fill(
        &mut self,
        mut rows: ChainRows,
        store: [u8; 16],
        told: &mut dyn FnMut(BackupCounts, u64) -> Result<()>,
    ) -> Result<()> {
        let mut own = OwnRecords::default();
        loop {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while bytes < BYTES
                && let Some(row) = rows.next().transpose()?
            {
                bytes += row.key.len() + row.value.as_ref().map_or(0, bytes::Bytes::len);
                batch.push(row);
            }
            if batch.is_empty() {
                break;
            }
            guarded(|| self.write(batch, &mut own))?;
            told(self.counts, rows.read())?;
        }
        let is_complete = own.has_secrets && own.has_next && own.has_epoch && own.has_containers;
        if own.identity != Some(store) || !is_complete {
            return Err(damaged("it lacks the store's own records"));
        }
        Ok(())
    }

    fn write(&mut self, batch: Vec<BackupRow>, own: &mut OwnRecords) -> Result<()> {
        let txn = begin_durable(self.database)?;
        {
            let mut meta = txn.open_table(META_TABLE).map_err(failure::table)?;
            let mut containers = txn.open_table(CONTAINER_TABLE).map_err(failure::table)?;
            let mut tables = TableWriter::open(&txn)?;
            for row in batch {
                let (Some((table, key)), Some(record)) = (row.key.split_first(), &row.value) else {
                    continue;
                };
                match *table {
                    META => {
                        let (key, record) = own.note(key, record)?;
                        meta.insert(key, &*record).map_err(failure::storage)?;
                    }
                    CONTAINERS => {
                        own.has_containers = true;
                        containers
                            .insert(text(key)?, &**record)
                            .map_err(failure::storage)?;
                    }
                    _ => self.put(row, &mut tables)?,
                }
            }
        }
        txn.commit().map_err(failure::commit)
    }

    fn put(&mut self, row: BackupRow, tables: &mut TableWriter<'_>) -> Result<()> {
        let key = RowKey::parse(&row.key).ok_or_else(|| damaged("a row's key is none"))?;
        count(&mut self.counts, &row.key, row.value.as_deref());
        let value = row.value;
        tables.put(&RowWrite { key, value })
    }
}

fn text(key: &[u8]) -> Result<&str> {
    std::str::from_utf8(key).map_err(|_| damaged("a row's key is none"))
}

impl OwnRecords {
    /// The record as the restored store has it.
    fn note<'k>(&mut self, key: &'k [u8], record: &[u8]) -> Result<(&'k str, Vec<u8>)> {
        let name = text(key)?;
        match name {
            meta::IDENTITY => self.identity = Some(open_plain(RecordKind::Meta, key, record)?),
            meta::SECRETS => self.has_secrets = true,
            meta::NEXT_CONTAINER => self.has_next = true,
            meta::EPOCH => {
                self.has_epoch = true;
                let epoch: u64 = open_plain(RecordKind::Meta, key, record)?;
                let later = epoch.saturating_add(LOST_OPENINGS);
                return Ok((name, seal_plain(RecordKind::Meta, key, later)?));
            }
            _ => {}
        }
        Ok((name, record.to_vec()))
    }
}
