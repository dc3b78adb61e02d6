//! A chain of backups: a whole one and the incremental ones after it. Merged, they show the state of the last one.

use super::disk_io::{DiskReader, READ};
use super::row_order::{CONTAINERS, compare, is_always_whole};
use super::verify::{FileRows, open};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{ContainerRecord, container_of};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure;
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::{BackupRow, BackupRows, ContainerId, PreviousBackup};
use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

/// So many files are open at once. Short ones are not held open.
const MOST_OPEN: usize = 400;

/// The files of a chain, their links checked.
pub(super) struct Chain(Vec<FileRows<DiskReader>>);

fn refused(location: &Location, why: &str) -> Error {
    failure::refused(ErrorKind::InvalidInput, &location.path, why)
}

impl Chain {
    pub(super) fn open(locations: &[Location]) -> Result<Self> {
        let mut files: Vec<FileRows<DiskReader>> = Vec::new();
        let mut long = 0;
        for location in locations {
            let file = open(location)?;
            long += usize::from(file.len() > READ);
            if long > MOST_OPEN {
                let why = format!("a chain has at most {MOST_OPEN} backups of more than 64 KiB");
                return Err(refused(location, &why));
            }
            let (id, header) = (file.reader().id, &file.reader().header);
            match (files.last().map(FileRows::reader), header.previous) {
                (None, None) => {}
                (None, Some(_)) => {
                    let why = "it is an incremental backup: name the whole one before it first, and all between them";
                    return Err(refused(location, why));
                }
                (Some(_), None) => {
                    let why = "it is a whole backup, which can only be the first one of a chain";
                    return Err(refused(location, why));
                }
                (Some(last), Some(_)) if last.header.store != header.store => {
                    let why = "it is a backup of another store than the one before it";
                    return Err(refused(location, why));
                }
                (Some(last), Some((previous, _))) if previous != last.id => {
                    let is_later = files.iter().any(|file| file.reader().id == id);
                    let why = match is_later {
                        true => "it is named twice",
                        false => {
                            "it does not continue the backup named before it: one between them is missing, or the \
                             order is another"
                        }
                    };
                    return Err(refused(location, why));
                }
                (Some(_), Some(_)) => {}
            }
            files.push(file);
        }
        if files.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "no backup is named"));
        }
        Ok(Self(files))
    }

    pub(super) fn last(&self) -> Option<&FileRows<DiskReader>> {
        self.0.last()
    }

    /// Bytes of all files.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(FileRows::len).sum()
    }

    /// The rows of the state that the chain shows.
    pub(super) fn rows(self) -> Result<ChainRows> {
        let mut rows = ChainRows {
            heads: BinaryHeap::new(),
            last: self.0.len() - 1,
            lasting: LastingContainers::of(self.0.len()),
            files: self.0,
        };
        for file in 0..rows.files.len() {
            rows.advance(file)?;
        }
        Ok(rows)
    }
}

/// The next row of a file.
struct Head {
    row: BackupRow,
    file: usize,
}

/// The least key first; of one key, the newest file first.
impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_key = compare(&other.row.key, &self.row.key);
        by_key.then(self.file.cmp(&other.file))
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

/// Of each file, the containers that it and all later ones have. The rows of a container end with the first backup that
/// lacks it, also if its number comes back: backups do not remove them.
struct LastingContainers {
    of_files: Vec<BTreeSet<ContainerId>>,
    /// Whether the sets are of the later files, too. They are once the first row of a session or an owner comes: the
    /// rows of containers come before.
    is_joined: bool,
}

impl LastingContainers {
    fn of(files: usize) -> Self {
        Self {
            of_files: vec![BTreeSet::new(); files],
            is_joined: false,
        }
    }

    fn note(&mut self, Head { row, file }: &Head) -> Result<()> {
        if let (Some((&CONTAINERS, name)), Some(record), Some(own)) = (
            row.key.split_first(),
            &row.value,
            self.of_files.get_mut(*file),
        ) {
            let name = std::str::from_utf8(name).unwrap_or_default();
            own.insert(ContainerId(ContainerRecord::decode(name, record)?.id));
        }
        Ok(())
    }

    /// Whether a file's row of a session, a package or an owner still counts.
    fn has(&mut self, file: usize, key: &[u8]) -> bool {
        if !self.is_joined {
            self.is_joined = true;
            let mut later: Option<BTreeSet<ContainerId>> = None;
            for own in self.of_files.iter_mut().rev() {
                if let Some(later) = later {
                    own.retain(|id| later.contains(id));
                }
                later = Some(own.clone());
            }
        }
        self.of_files.get(file).is_some_and(|own| is_of(own, key))
    }
}

/// Whether a row of a session, a package or an owner is of one of these containers.
pub(super) fn is_of(known: &BTreeSet<ContainerId>, key: &[u8]) -> bool {
    match key.split_first() {
        Some((table, key)) if *table == RowTree::Owners as u8 => key.last_chunk(),
        Some((_, key)) => key.first_chunk(),
        None => None,
    }
    .is_some_and(|session: &[u8; 20]| known.contains(&container_of(session)))
}

pub(super) struct ChainRows {
    files: Vec<FileRows<DiskReader>>,
    heads: BinaryHeap<Head>,
    last: usize,
    lasting: LastingContainers,
}

impl ChainRows {
    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.files.iter().map(|file| file.reader().read()).sum()
    }

    fn advance(&mut self, file: usize) -> Result<()> {
        if let Some(row) = self.files.get_mut(file).and_then(Iterator::next) {
            self.heads.push(Head { row: row?, file });
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<Option<Head>> {
        let Some(head) = self.heads.pop() else {
            return Ok(None);
        };
        self.lasting.note(&head)?;
        self.advance(head.file)?;
        Ok(Some(head))
    }

    fn next_row(&mut self) -> Result<Option<BackupRow>> {
        while let Some(newest) = self.pop()? {
            while let Some(older) = self.heads.peek()
                && older.row.key == newest.row.key
            {
                self.pop()?;
            }
            let is_shown = match newest.row.key.first().copied() {
                Some(table) if is_always_whole(table) => newest.file == self.last,
                _ => self.lasting.has(newest.file, &newest.row.key),
            };
            if newest.row.value.is_some() && is_shown {
                return Ok(Some(newest.row));
            }
        }
        Ok(None)
    }
}

impl Iterator for ChainRows {
    type Item = Result<BackupRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

/// The chain of backups that an incremental one is to continue. Only the last one is read, unless the engine needs the
/// state that they show.
pub(crate) fn previous(locations: &[Location]) -> Result<PreviousBackup<'_>> {
    let none = || Error::new(ErrorKind::InvalidInput, "no previous backup is named");
    let last = open(locations.last().ok_or_else(none)?)?;
    let reader = last.reader();
    let id = reader.id;
    Ok(PreviousBackup {
        id,
        header: reader.header.clone(),
        state: Box::new(move || {
            let chain = Chain::open(locations).map_err(|error| match error.kind() {
                ErrorKind::InvalidInput => error.and_says(
                    "the store does not remember what changed since, and compares it with the whole chain",
                ),
                _ => error,
            })?;
            Ok(Box::new(chain.rows()?) as BackupRows<'_>)
        }),
    })
}
