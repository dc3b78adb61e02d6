//! Merges a chain of very many backups in levels, so that few files are open at once: as many as one level has are merged
//! into one file without a name, and as many of those into another one.

use super::block::BlockWriter;
use super::disk_io::{DiskReader, DiskWriter};
use super::merge::{MergedChain, RemovedRows, Source};
use super::verify::{FileRows, count};
use crate::error::Result;
use crate::storage::ToldFn;
use crate::storage::record::{BackupCounts, BackupHeader};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::{self, io_error};
use std::io;

/// So many are merged into one.
const MERGED: usize = 64;
/// Progress is told after so many rows.
const TOLD: u64 = 256;

/// The backups of a chain after the whole one.
pub(super) struct Levels<'a> {
    /// The merged files are in its folder.
    target: &'a Location,
    /// Of the last backup. Merged files need one of an incremental backup.
    header: &'a BackupHeader,
    /// The oldest first, each with how often it was merged.
    waiting: Vec<(u32, Source)>,
    /// Bytes of backups that were merged.
    read: u64,
}

impl<'a> Levels<'a> {
    pub(super) fn new(target: &'a Location, header: &'a BackupHeader) -> Self {
        Self {
            target,
            header,
            waiting: Vec::new(),
            read: 0,
        }
    }

    /// Adds the next backup. Tells how many bytes of backups it has read.
    pub(super) fn push(
        &mut self,
        backup: FileRows<DiskReader>,
        told: &mut ToldFn<'_>,
    ) -> Result<()> {
        self.waiting.push((0, Source::of(backup)));
        while let Some(level) = self.full_level() {
            let from = self.waiting.len().saturating_sub(MERGED);
            let sources = self.waiting.split_off(from).into_iter();
            let merged = self.merge(sources.map(|(_, source)| source).collect(), told)?;
            self.waiting.push((level + 1, merged));
        }
        Ok(())
    }

    fn full_level(&self) -> Option<u32> {
        let (level, _) = self.waiting.last()?;
        let last = self.waiting.iter().rev();
        let same = last.take_while(|(other, _)| other == level).count();
        (same >= MERGED).then_some(*level)
    }

    fn merge(&mut self, sources: Vec<Source>, told: &mut ToldFn<'_>) -> Result<Source> {
        let Location { folder, path, .. } = self.target;
        let failed = |e: io::Error| io_error(path, "the backups cannot be merged in its folder", e);
        let file = folder.make().map_err(failed)?;
        let disk = file.disk().map_err(failed)?;
        let out = DiskWriter::of_temporary(disk.clone());
        let mut writer = BlockWriter::new(out, failure::random()?, self.header)?;
        let mut rows = MergedChain::new(sources, RemovedRows::Kept)?;
        let (mut counts, mut passed) = (BackupCounts::default(), 0_u64);
        while let Some(row) = rows.next_row()? {
            count(&mut counts, &row.key, row.value.as_deref());
            writer.put(row).map_err(|e| failure::at(path, e))?;
            passed += 1;
            if passed.is_multiple_of(TOLD) {
                told(self.read + rows.read())?;
            }
        }
        writer.finish(counts).map_err(|e| failure::at(path, e))?;
        self.read += rows.read();
        told(self.read)?;
        let reader = DiskReader::new(disk).map_err(failed)?;
        let merged = FileRows::new(reader).map_err(|e| failure::at(path, e))?;
        Ok(Source::of_merged(merged, file, rows.into_lasting()))
    }

    /// All of the chain, which begins with this whole backup.
    pub(super) fn after(self, whole: FileRows<DiskReader>) -> Result<ChainRows> {
        let waiting = self.waiting.into_iter().map(|(_, source)| source);
        let sources = [Source::of(whole)].into_iter().chain(waiting).collect();
        Ok(ChainRows {
            rows: MergedChain::new(sources, RemovedRows::LeftOut)?,
            before: self.read,
        })
    }
}

/// The rows of the state that a chain shows.
pub(super) struct ChainRows {
    rows: MergedChain,
    /// Bytes of backups that were merged before.
    before: u64,
}

impl ChainRows {
    /// Bytes of backups that were read so far.
    pub(super) fn read(&self) -> u64 {
        self.before + self.rows.read()
    }
}

impl Iterator for ChainRows {
    type Item = Result<crate::storage::BackupRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next_row().transpose()
    }
}
