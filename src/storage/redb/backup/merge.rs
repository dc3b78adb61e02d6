//! The rows of several backups of a chain: of each key, the newest row.

use super::disk_io::DiskReader;
use super::row_order::{CONTAINERS, compare, is_always_whole};
use super::verify::FileRows;
use crate::error::Result;
use crate::storage::record::{ContainerRecord, container_of};
use crate::storage::redb::backend::folder::NewFile;
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::{BackupRow, ContainerId};
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

type Containers = BTreeSet<ContainerId>;

/// A backup of a chain, or several in a row that were merged into one file.
pub(super) struct Source {
    rows: FileRows<DiskReader>,
    merged: Option<MergedFile>,
}

/// What is known of a file that several backups were merged into.
struct MergedFile {
    /// The containers that all of them have.
    lasting: Containers,
    /// The file has no name, and lasts as long as this.
    _file: Box<dyn NewFile>,
}

impl Source {
    pub(super) fn of(rows: FileRows<DiskReader>) -> Self {
        Self { rows, merged: None }
    }

    pub(super) fn of_merged(
        rows: FileRows<DiskReader>,
        file: Box<dyn NewFile>,
        lasting: Containers,
    ) -> Self {
        let merged = MergedFile {
            lasting,
            _file: file,
        };
        Self {
            rows,
            merged: Some(merged),
        }
    }
}

/// What becomes of rows that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemovedRows {
    LeftOut,
    /// They hide the rows of earlier backups.
    Kept,
}

/// The next row of a source.
struct Head {
    row: BackupRow,
    source: usize,
}

/// The least key first; of one key, the newest source first.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = compare(&other.row.key, &self.row.key);
        by_key.then(self.source.cmp(&other.source))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}

/// Of each source, the containers that it and all later ones have. The rows of a container end with the first backup that
/// lacks it, also if its number comes back: backups do not remove them.
struct LastingContainers {
    /// Of a merged file, those of the last backup in it.
    of_sources: Vec<Containers>,
    /// Of merged files, those that all backups in it have.
    of_merged: Vec<Option<Containers>>,
    /// The containers that all sources have, once these are joined.
    of_all: Option<Containers>,
}

impl LastingContainers {
    fn of(sources: &[Source]) -> Self {
        let merged = sources.iter().map(|source| source.merged.as_ref());
        Self {
            of_sources: vec![Containers::new(); sources.len()],
            of_merged: merged.map(|it| Some(it?.lasting.clone())).collect(),
            of_all: None,
        }
    }

    fn note(&mut self, Head { row, source }: &Head) -> Result<()> {
        if let (Some((&CONTAINERS, name)), Some(record), Some(own)) = (
            row.key.split_first(),
            &row.value,
            self.of_sources.get_mut(*source),
        ) {
            let name = std::str::from_utf8(name).unwrap_or_default();
            own.insert(ContainerId(ContainerRecord::decode(name, record)?.id));
        }
        Ok(())
    }

    /// Leaves out of each set what a later source lacks. The rows of containers come before those of sessions and
    /// owners, so the sets are complete then.
    fn join(&mut self) -> &Containers {
        let (of_sources, of_merged) = (&mut self.of_sources, &self.of_merged);
        self.of_all.get_or_insert_with(|| {
            let mut later: Option<Containers> = None;
            for (own, merged) in of_sources.iter_mut().zip(of_merged).rev() {
                let mut passed = merged.as_ref().unwrap_or(own).clone();
                if let Some(later) = later {
                    own.retain(|id| later.contains(id));
                    passed.retain(|id| later.contains(id));
                }
                later = Some(passed);
            }
            later.unwrap_or_default()
        })
    }

    /// Whether a source's row of a session, a package or an owner still counts.
    fn has(&mut self, source: usize, key: &[u8]) -> bool {
        self.join();
        self.of_sources
            .get(source)
            .is_some_and(|own| is_of(own, key))
    }
}

/// Whether a row of a session, a package or an owner is of one of these containers.
pub(super) fn is_of(known: &Containers, key: &[u8]) -> bool {
    match key.split_first() {
        Some((table, key)) if *table == RowTree::Owners as u8 => key.last_chunk(),
        Some((_, key)) => key.first_chunk(),
        None => None,
    }
    .is_some_and(|session: &[u8; 20]| known.contains(&container_of(session)))
}

pub(super) struct MergedChain {
    sources: Vec<Source>,
    heads: BinaryHeap<Head>,
    last: usize,
    lasting: LastingContainers,
    removed: RemovedRows,
}

impl MergedChain {
    /// Of these sources, the oldest first.
    pub(super) fn new(sources: Vec<Source>, removed: RemovedRows) -> Result<Self> {
        let mut rows = Self {
            heads: BinaryHeap::new(),
            last: sources.len().saturating_sub(1),
            lasting: LastingContainers::of(&sources),
            sources,
            removed,
        };
        for source in 0..rows.sources.len() {
            rows.advance(source)?;
        }
        Ok(rows)
    }

    /// Bytes of backups that were read so far, without those of merged files.
    pub(super) fn read(&self) -> u64 {
        let sources = self.sources.iter();
        let backups = sources.filter(|source| source.merged.is_none());
        backups.map(|source| source.rows.reader().read()).sum()
    }

    /// The containers that all sources have. To be called after the last row.
    pub(super) fn into_lasting(mut self) -> Containers {
        self.lasting.join().clone()
    }

    fn advance(&mut self, source: usize) -> Result<()> {
        let from = self.sources.get_mut(source);
        if let Some(row) = from.and_then(|source| source.rows.next()) {
            self.heads.push(Head { row: row?, source });
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Option<Head>> {
        let Some(head) = self.heads.pop() else {
            return Ok(None);
        };
        self.lasting.note(&head)?;
        self.advance(head.source)?;
        Ok(Some(head))
    }

    pub(super) fn next_row(&mut self) -> Result<Option<BackupRow>> {
        while let Some(newest) = self.pop()? {
            while let Some(older) = self.heads.peek()
                && older.row.key == newest.row.key
            {
                self.pop()?;
            }
            let is_shown = match newest.row.key.first().copied() {
                Some(table) if is_always_whole(table) => newest.source == self.last,
                _ => self.lasting.has(newest.source, &newest.row.key),
            };
            let is_left = newest.row.value.is_some() || self.removed == RemovedRows::Kept;
            if is_shown && is_left {
                return Ok(Some(newest.row));
            }
        }
        Ok(None)
    }
}
