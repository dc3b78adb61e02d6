//! Reads the rows of a backup, and verifies all of it on the way.

use super::block::{Block, BlockReader, damaged};
use super::disk_io::DiskReader;
use super::row_order::{CONTAINERS, META, compare, is_valid};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{BackupCounts, ContainerRecord, RecordKind, verify as verify_record};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::{self, io_error};
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::open::migrate;
use crate::storage::{BackupPhase, BackupProgress, BackupRow, BackupSummary, ProgressFn, report};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;

/// The rows of one backup, in order.
pub(super) struct FileRows<R> {
    reader: BlockReader<R>,
    ready: VecDeque<BackupRow>,
    last: Box<[u8]>,
    counts: BackupCounts,
    is_over: bool,
    /// For the errors.
    path: Option<PathBuf>,
}

impl<R: Read> FileRows<R> {
    pub(super) fn new(input: R) -> Result<Self> {
        let reader = BlockReader::new(input)?;
        let format = reader.header.format;
        if format > migrate::CURRENT {
            let why = format!(
                "the backup is of a store of format {format}; this version reads up to {}",
                migrate::CURRENT
            );
            return Err(Error::new(ErrorKind::TooNew, why));
        }
        Ok(Self {
            reader,
            ready: VecDeque::new(),
            last: Box::default(),
            counts: BackupCounts::default(),
            is_over: false,
            path: None,
        })
    }

    pub(super) fn reader(&self) -> &BlockReader<R> {
        &self.reader
    }

    fn read_on(&mut self) -> Result<()> {
        let may_remove = self.reader.header.previous.is_some();
        match self.reader.next()? {
            Block::Rows(rows) => {
                for (key, value) in rows {
                    let is_first = self.last.is_empty();
                    if !is_first && compare(&self.last, key) != Ordering::Less {
                        return Err(damaged("its rows are not in order"));
                    }
                    match value {
                        Some(record) => check_row(key, record)?,
                        None if may_remove && is_valid(key) => {}
                        None => return Err(damaged("it removes a row that it cannot remove")),
                    }
                    count(&mut self.counts, key, value);
                    self.last = key.into();
                    self.ready.push_back(BackupRow {
                        key: key.into(),
                        value: value.map(Bytes::copy_from_slice),
                    });
                }
            }
            Block::End(counts) => {
                if counts != self.counts {
                    return Err(damaged("it has another number of rows than its end says"));
                }
                self.is_over = true;
            }
        }
        Ok(())
    }
}

impl<R: Read> Iterator for FileRows<R> {
    type Item = Result<BackupRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !self.is_over {
            if let Err(error) = self.read_on() {
                self.is_over = true;
                return Some(Err(match &self.path {
                    Some(path) => failure::at(path, error),
                    None => error,
                }));
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl FileRows<DiskReader> {
    /// How many bytes the file has.
    pub(super) fn len(&self) -> u64 {
        self.reader.input().len()
    }
}

/// Counts a row as a backup counts it.
pub(super) fn count(counts: &mut BackupCounts, key: &[u8], value: Option<&[u8]>) {
    let table = key.first().copied();
    let count = match value {
        None => &mut counts.removed,
        Some(_) if table == Some(RowTree::Sessions as u8) => &mut counts.sessions,
        Some(_) if table == Some(RowTree::Packages as u8) => &mut counts.packages,
        Some(_) => &mut counts.others,
    };
    *count += 1;
}

/// Checks a row by itself.
fn check_row(key: &[u8], record: &[u8]) -> Result<()> {
    let (Some((table, own)), true) = (key.split_first(), is_valid(key)) else {
        return Err(damaged("a row's key is none"));
    };
    match *table {
        META => verify_record(RecordKind::Meta, own, record),
        CONTAINERS => {
            let name = std::str::from_utf8(own).unwrap_or_default();
            ContainerRecord::decode(name, record).map(drop)
        }
        table if table == RowTree::Sessions as u8 => {
            verify_record(RecordKind::Session, own, record)
        }
        table if table == RowTree::Packages as u8 => {
            verify_record(RecordKind::Package, own, record)
        }
        table if table == RowTree::Tombstones as u8 => {
            verify_record(RecordKind::Tombstone, own, record)
        }
        _ if record.is_empty() => Ok(()),
        _ => Err(damaged("an entry of an owner has a value")),
    }
}

/// Reads all of a backup.
pub(crate) fn verify_stream(
    input: impl Read,
    of_bytes: u64,
    progress: &mut ProgressFn<'_>,
) -> Result<BackupSummary> {
    let mut rows = FileRows::new(input)?;
    let mut so_far = BackupProgress {
        phase: BackupPhase::Verifying,
        of_bytes,
        ..BackupProgress::default()
    };
    while let Some(row) = rows.next() {
        row?;
        let read = rows.reader.read();
        if read != so_far.bytes {
            so_far.bytes = read;
            so_far.sessions = rows.counts.sessions;
            report(progress, so_far)?;
        }
    }
    Ok(BackupSummary {
        id: rows.reader.id,
        header: rows.reader.header.clone(),
        counts: rows.counts,
        bytes: rows.reader.read(),
    })
}

/// Opens the backup at a location.
pub(super) fn open(location: &Location) -> Result<FileRows<DiskReader>> {
    let Location {
        folder, name, path, ..
    } = location;
    let opened = folder.open_to_read(name).and_then(DiskReader::new);
    let reader = opened.map_err(|e| io_error(path, "the backup cannot be read", e))?;
    let rows = FileRows::new(reader).map_err(|e| failure::at(path, e))?;
    Ok(FileRows {
        path: Some(path.clone()),
        ..rows
    })
}

/// Reads all of the backup at a location.
pub(crate) fn verify(location: &Location, progress: &mut ProgressFn<'_>) -> Result<BackupSummary> {
    let Location {
        folder, name, path, ..
    } = location;
    let opened = folder.open_to_read(name).and_then(DiskReader::new);
    let reader = opened.map_err(|e| io_error(path, "the backup cannot be read", e))?;
    let len = reader.len();
    verify_stream(reader, len, progress).map_err(|e| failure::at(path, e))
}
