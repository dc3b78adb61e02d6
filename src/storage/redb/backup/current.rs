//! The rows of an open store as of one commit, in the order of a backup.

use super::row_order::{CONTAINERS, META, sort};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::ContainerRecord;
use crate::storage::redb::EngineShared;
use crate::storage::redb::memtable::row_key::RowWrite;
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::meta;
use crate::storage::redb::own_tables::OwnRows;
use crate::storage::{BackupRow, ContainerId};
use std::collections::{BTreeSet, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

/// The records that a backup takes along. The others are of the files that the store is in.
const COPIED: [&str; 6] = [
    meta::IDENTITY,
    meta::SECRETS,
    meta::SEALED_BY,
    meta::INDEX_KEY,
    meta::EPOCH,
    meta::NEXT_CONTAINER,
];

/// How long it waits while commits are about to be held up.
const HELD_UP: Duration = Duration::from_millis(10);
/// The longest pause after a step.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Leaves the processor and the disk to commits between two steps.
pub(super) struct Pace<'a> {
    shared: &'a EngineShared,
    begun: Instant,
}

impl<'a> Pace<'a> {
    pub(super) fn new(shared: &'a EngineShared) -> Self {
        Self {
            shared,
            begun: Instant::now(),
        }
    }

    /// A step has ended: rests as long as it took.
    pub(super) fn rest(&mut self) {
        thread::sleep(self.begun.elapsed().min(LONGEST_PAUSE));
        while self.shared.io.has_backpressure() {
            thread::sleep(HELD_UP);
        }
        self.begun = Instant::now();
    }
}

/// Where the next step goes on.
enum NextRows {
    Sessions(Option<[u8; 20]>),
    Owners(Option<[u8; 36]>),
    Tombstones(Option<[u8; 16]>),
    None,
}

pub(super) struct StoreRows<'a> {
    snapshot: &'a RedbSnapshot,
    known: BTreeSet<ContainerId>,
    ready: VecDeque<BackupRow>,
    next: NextRows,
    pace: Pace<'a>,
}

fn row(write: RowWrite) -> BackupRow {
    BackupRow {
        key: write.key.into_bytes(),
        value: write.value,
    }
}

fn own(table: u8, rows: OwnRows) -> impl Iterator<Item = BackupRow> {
    rows.into_iter().map(move |(key, record)| BackupRow {
        key: [&[table], key.as_bytes()].concat().into(),
        value: Some(record.into()),
    })
}

impl<'a> StoreRows<'a> {
    /// Reads the store's own records.
    pub(super) fn new(snapshot: &'a RedbSnapshot, shared: &'a EngineShared) -> Result<Self> {
        let (meta, containers) = read(snapshot, |view| view.own_rows())?;
        let mut known = BTreeSet::new();
        for (name, record) in &containers {
            known.insert(ContainerId(ContainerRecord::decode(name, record)?.id));
        }
        let meta = meta.into_iter().filter(|(key, _)| COPIED.contains(&&**key));
        let meta = own(META, meta.collect());
        let mut ready: Vec<_> = meta.chain(own(CONTAINERS, containers)).collect();
        sort(&mut ready);
        Ok(Self {
            snapshot,
            known,
            ready: ready.into(),
            next: NextRows::Sessions(None),
            pace: Pace::new(shared),
        })
    }

    /// The containers that there are.
    pub(super) fn known(&self) -> &BTreeSet<ContainerId> {
        &self.known
    }

    /// Leaves sessions and owners out.
    pub(super) fn without_sessions(mut self) -> Self {
        self.next = NextRows::Tombstones(None);
        self
    }

    fn step(&mut self) -> Result<()> {
        let known = &self.known;
        let rows = match self.next {
            NextRows::Sessions(after) => {
                let step = read(self.snapshot, |view| view.backup_sessions(after, known))?;
                self.next = match step.last {
                    None => NextRows::Owners(None),
                    last => NextRows::Sessions(last),
                };
                step.rows
            }
            NextRows::Owners(after) => {
                let step = read(self.snapshot, |view| view.backup_owners(after, known))?;
                self.next = match step.last {
                    None => NextRows::Tombstones(None),
                    last => NextRows::Owners(last),
                };
                step.rows
            }
            NextRows::Tombstones(after) => {
                let step = read(self.snapshot, |view| view.backup_tombstones(after))?;
                self.next = match step.last {
                    None => NextRows::None,
                    last => NextRows::Tombstones(last),
                };
                step.rows
            }
            NextRows::None => return Ok(()),
        };
        self.ready.extend(rows.into_iter().map(row));
        Ok(())
    }
}

impl Iterator for StoreRows<'_> {
    type Item = Result<BackupRow>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && !matches!(self.next, NextRows::None) {
            if let Err(error) = self.step() {
                self.next = NextRows::None;
                return Some(Err(error));
            }
            self.pace.rest();
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Reads the snapshot. It ends early if redb was reopened.
pub(super) fn read<T>(
    snapshot: &RedbSnapshot,
    look: impl Fn(&crate::storage::redb::memtable::read_view::ReadView) -> Result<T>,
) -> Result<T> {
    snapshot.read(look).map_err(|error| match error.kind() {
        ErrorKind::SnapshotTooOld => {
            let why = "the store had to reopen its files meanwhile; take the backup again";
            Error::new(ErrorKind::Unavailable, why).with_source(error)
        }
        _ => error,
    })
}
