//! The rows of an open store as of one commit, in the order of a backup.

use super::row_order::{CONTAINERS, META, sort};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{ContainerRecord, RecordKind, open_plain};
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::memtable::backup::{BackupStep, wrong_owners};
use crate::storage::redb::memtable::row_key::{RowTree, RowWrite};
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::meta;
use crate::storage::redb::own_tables::OwnRows;
use crate::storage::{BackupRow, ContainerId};
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

/// The records that a backup takes along. The others are of the files that the store is in.
const COPIED: [&str; 7] = [
    meta::IDENTITY,
    meta::SECRETS,
    meta::SECRET_TIMES,
    meta::SEALED_BY,
    meta::INDEX_KEY,
    meta::EPOCH,
    meta::NEXT_CONTAINER,
];

/// How long it waits while commits are about to be held up.
const HELD_UP: Duration = Duration::from_millis(10);
/// How often it does so at most after one step.
const MOST_HELD_UP: u32 = 50;
/// The longest pause after a step.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Leaves the processor and the disk to commits between two steps. Clones rest together: a pause of one is no work of
/// another.
#[derive(Clone)]
pub(super) struct Pace<'a> {
    /// `None`: it rests never.
    io: Option<&'a FileIo>,
    begun: Rc<Cell<Instant>>,
}

impl<'a> Pace<'a> {
    pub(super) fn new(io: &'a FileIo) -> Self {
        Self {
            io: Some(io),
            begun: Rc::new(Cell::new(Instant::now())),
        }
    }

    /// Where there are no commits.
    pub(super) fn unbraked() -> Self {
        Self {
            io: None,
            begun: Rc::new(Cell::new(Instant::now())),
        }
    }

    /// A step has ended: rests as long as it took. While commits are about to be held up, it rests longer, but goes on
    /// in the end: then its next read finds out if the store lost its database, and its caller can break it off.
    pub(super) fn rest(&mut self) {
        self.rest_with(&mut thread::sleep);
    }

    fn rest_with(&mut self, sleep: &mut dyn FnMut(Duration)) {
        let Some(io) = self.io else { return };
        sleep(self.begun.get().elapsed().min(LONGEST_PAUSE));
        for _ in 0..MOST_HELD_UP {
            if !io.has_backpressure() {
                break;
            }
            sleep(HELD_UP);
        }
        self.begun.set(Instant::now());
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
    /// How many rows of redb the steps of this table have passed.
    in_redb: u64,
    /// Sessions with an owner, less the entries of owners.
    owned: u64,
    /// Tombstones of ids that are no longer refused then are left out.
    now: Timestamp,
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

/// Until when the id of a tombstone is refused.
fn refused_until(row: &RowWrite) -> Result<Option<Timestamp>> {
    let (Some((_, key)), Some(record)) = (row.key.split(), &row.value) else {
        return Ok(None);
    };
    let until = open_plain(RecordKind::Tombstone, key, record)?;
    Ok(Some(Timestamp(until)))
}

impl<'a> StoreRows<'a> {
    /// The pace at which it is read.
    pub(super) fn pace(&self) -> Pace<'a> {
        self.pace.clone()
    }

    /// Reads the store's own records.
    pub(super) fn new(snapshot: &'a RedbSnapshot, io: &'a FileIo, now: Timestamp) -> Result<Self> {
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
            pace: Pace::new(io),
            in_redb: 0,
            owned: 0,
            now,
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
                self.owned += step.owned;
                self.pass(RowTree::Sessions, step)?
            }
            NextRows::Owners(after) => {
                let step = read(self.snapshot, |view| view.backup_owners(after, known))?;
                self.next = match step.last {
                    None => NextRows::Tombstones(None),
                    last => NextRows::Owners(last),
                };
                let rest = self.owned.checked_sub(step.owned);
                self.owned = rest.ok_or_else(wrong_owners)?;
                if step.last.is_none() && self.owned > 0 {
                    return Err(wrong_owners());
                }
                self.pass(RowTree::Owners, step)?
            }
            NextRows::Tombstones(after) => {
                let step = read(self.snapshot, |view| view.backup_tombstones(after))?;
                self.next = match step.last {
                    None => NextRows::None,
                    last => NextRows::Tombstones(last),
                };
                let mut rows = Vec::new();
                for row in self.pass(RowTree::Tombstones, step)? {
                    if refused_until(&row)?.is_some_and(|until| until > self.now) {
                        rows.push(row);
                    }
                }
                rows
            }
            NextRows::None => return Ok(()),
        };
        self.ready.extend(rows.into_iter().map(row));
        Ok(())
    }

    /// Counts the rows of redb. Each step finds its place anew, so a damaged branch of the tree can hide rows from it.
    fn pass<const N: usize>(
        &mut self,
        tree: RowTree,
        step: BackupStep<N>,
    ) -> Result<Vec<RowWrite>> {
        self.in_redb += step.in_redb;
        if step.last.is_none() {
            let passed = std::mem::take(&mut self.in_redb);
            let all = read(self.snapshot, |view| view.redb_rows(tree))?;
            if all.is_some_and(|all| all != passed) {
                let why = "a table has rows that cannot be reached; Store::check tells more";
                return Err(Error::new(ErrorKind::Corrupt, why));
            }
        }
        Ok(step.rows)
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

#[cfg(test)]
mod tests {
    use super::*;

    // Two that each counted the pauses of the other as work soon slept all the time: an incremental backup of 1,000,000
    // sessions took five minutes.
    #[test]
    fn a_pause_of_one_clone_is_no_work_of_another() {
        let io = FileIo::default();
        let (mut one, other) = (Pace::new(&io), Pace::new(&io));
        let clone = one.clone();
        one.rest_with(&mut |_| {});
        assert_eq!(one.begun, clone.begun);
        assert_ne!(one.begun, other.begun);
    }

    // C9.1: a store that lost its database leaves the mark as it is.
    #[test]
    fn a_rest_ends_also_while_commits_stay_held_up() {
        let io = FileIo::default();
        let naps = |io: &FileIo| {
            let mut naps = 0;
            Pace::new(io).rest_with(&mut |_| naps += 1);
            naps
        };
        assert_eq!(naps(&io), 1);
        io.begin_backpressure();
        assert_eq!(naps(&io), 1 + MOST_HELD_UP);
        io.end_backpressure();
        assert_eq!(naps(&io), 1);
    }
}
