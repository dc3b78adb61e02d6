//! Reads the rows of a store for a backup, in steps.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerId;
use crate::storage::merge::lost_package;
use crate::storage::record::{
    RecordKind, SessionRow, client_of, container_of, package_key, verify,
};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::memtable::held::TableRows;
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::own_tables::OwnRows;
use crate::storage::redb::tables::owner_key;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A step reads no more rows of sessions, owners or tombstones.
const ROWS: usize = 256;
/// It ends once its rows have so many bytes.
const BYTES: usize = 256 << 10;

/// The rows that a step read.
#[derive(Default)]
pub(crate) struct BackupStep<const N: usize> {
    pub(crate) rows: Vec<RowWrite>,
    /// Where the next step goes on, if there is one.
    pub(crate) last: Option<[u8; N]>,
    /// How many rows of redb it has passed.
    pub(crate) in_redb: u64,
    /// How many of its sessions have an owner, or how many entries of owners it has.
    pub(crate) owned: u64,
}

impl<const N: usize> BackupStep<N> {
    fn start(&self, after: Option<[u8; N]>) -> Bound<[u8; N]> {
        after.map_or(Bound::Included([0; N]), Bound::Excluded)
    }
}

/// Counts the rows of redb that a merge takes.
struct RedbRows<const N: usize> {
    taken: Cell<u64>,
    last: Cell<Option<[u8; N]>>,
}

impl<const N: usize> RedbRows<N> {
    fn new() -> Self {
        Self {
            taken: Cell::new(0),
            last: Cell::new(None),
        }
    }

    fn counted<'a>(&'a self, rows: TableRows<'a, N>) -> TableRows<'a, N> {
        Box::new(rows.inspect(|row| {
            if let Ok((key, _)) = row {
                self.taken.set(self.taken.get() + 1);
                self.last.set(Some(*key));
            }
        }))
    }

    /// How many there are up to the row that the merge has just returned. It has taken one more at most.
    fn up_to(&self, key: &[u8; N]) -> u64 {
        let is_ahead = self.last.get().is_some_and(|last| last > *key);
        self.taken.get() - u64::from(is_ahead)
    }
}

/// The owners' entries must be those of the sessions.
pub(crate) fn wrong_owners() -> Error {
    let why = "the list of owners is damaged; Store::check names the sessions";
    Error::new(ErrorKind::Corrupt, why)
}

fn unreadable() -> Error {
    let why = "a part of the file cannot be read; Store::check names the sessions";
    Error::new(ErrorKind::Corrupt, why)
}

impl ReadView {
    /// The records of the store about itself.
    pub(crate) fn own_rows(&self) -> Result<(OwnRows, OwnRows)> {
        let own = self.readers.tables.own();
        Ok((own.meta()?, own.containers()?))
    }

    /// How many sessions there are in redb; 0 if that is not known.
    pub(crate) fn session_count(&self) -> Result<u64> {
        Ok(self.redb_rows(RowTree::Sessions)?.unwrap_or(0))
    }

    /// How many rows of a tree redb counts, if that is known.
    pub(crate) fn redb_rows(&self, tree: RowTree) -> Result<Option<u64>> {
        self.readers.tables.row_count(tree)
    }

    /// Some sessions of known containers after a key, each with its packages.
    pub(crate) fn backup_sessions(
        &self,
        after: Option<[u8; 20]>,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BackupStep<20>> {
        let mut step = BackupStep::default();
        let mut bytes = 0;
        let in_redb = RedbRows::new();
        guarded(|| {
            let (tree, from, to) = (RowTree::Sessions, step.start(after), [u8::MAX; 20]);
            let below = in_redb.counted(self.readers.tables.sessions(from, to)?);
            let rows = self.range(tree, from, to, below);
            for (n, row) in rows.enumerate() {
                if n == ROWS || bytes >= BYTES {
                    return Ok(());
                }
                let (key, record) = row?;
                step.last = Some(key);
                step.in_redb = in_redb.up_to(&key);
                let record = record.ok_or_else(unreadable)?;
                if known.contains(&container_of(&key)) {
                    bytes += self.backup_session(&key, record, &mut step)?;
                }
            }
            step.last = None;
            step.in_redb = in_redb.taken.get();
            Ok(())
        })?;
        Ok(step)
    }

    /// Adds a session and its packages. Returns how many bytes they have.
    fn backup_session(
        &self,
        key: &[u8; 20],
        record: Bytes,
        BackupStep { rows, owned, .. }: &mut BackupStep<20>,
    ) -> Result<usize> {
        let session = SessionRow::decode(key, &record, self.cipher())?;
        *owned += u64::from(session.owner.is_some());
        let mut bytes = record.len();
        rows.push(RowWrite {
            key: RowKey::new(RowTree::Sessions, key),
            value: Some(record),
        });
        for package in session.packages.iter() {
            let key = package_key(container_of(key), client_of(key), package);
            let record = self.package_record(&key)?;
            let record = record.ok_or_else(|| lost_package().in_package(&**package))?;
            verify(RecordKind::Package, &key, &record)
                .map_err(|error| error.in_package(&**package))?;
            bytes += record.len();
            rows.push(RowWrite {
                key: RowKey::new(RowTree::Packages, &key),
                value: Some(record),
            });
        }
        Ok(bytes)
    }

    /// Some entries of the index of owners.
    pub(crate) fn backup_owners(
        &self,
        after: Option<[u8; 36]>,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BackupStep<36>> {
        let is_known = |key: &[u8; 36]| {
            let session = key.last_chunk::<20>();
            session.is_some_and(|session| known.contains(&container_of(session)))
        };
        let mut step = self.backup_tree(RowTree::Owners, after, is_known)?;
        step.owned = step.rows.len() as u64;
        for row in &step.rows {
            self.check_owner(row.key.as_bytes())?;
        }
        Ok(step)
    }

    /// Checks an entry of the index of owners, which has no checksum of its own.
    fn check_owner(&self, entry: &[u8]) -> Result<()> {
        let key = entry.last_chunk::<20>().ok_or_else(wrong_owners)?;
        let session = self.session(container_of(key), client_of(key))?;
        let owner = session.and_then(|session| session.owner);
        let owner = owner.ok_or_else(wrong_owners)?;
        let mut hashes = self.cipher().owner_hashes(&owner).all();
        let is_of_it = |hash| entry.ends_with(&owner_key(hash, *key));
        match hashes.any(is_of_it) {
            true => Ok(()),
            false => Err(wrong_owners()),
        }
    }

    /// Some tombstones.
    pub(crate) fn backup_tombstones(&self, after: Option<[u8; 16]>) -> Result<BackupStep<16>> {
        self.backup_tree(RowTree::Tombstones, after, |_| true)
    }

    fn backup_tree<const N: usize>(
        &self,
        tree: RowTree,
        after: Option<[u8; N]>,
        is_wanted: impl Fn(&[u8; N]) -> bool,
    ) -> Result<BackupStep<N>> {
        let mut step = BackupStep::default();
        let in_redb = RedbRows::new();
        guarded(|| {
            let from = step.start(after);
            let below = in_redb.counted(self.readers.tables.rows(tree, from, [u8::MAX; N])?);
            for (n, row) in self.range(tree, from, [u8::MAX; N], below).enumerate() {
                if n == ROWS {
                    return Ok(());
                }
                let (key, record) = row?;
                step.last = Some(key);
                step.in_redb = in_redb.up_to(&key);
                let record = record.ok_or_else(unreadable)?;
                if tree == RowTree::Tombstones {
                    verify(RecordKind::Tombstone, &key, &record)?;
                }
                if is_wanted(&key) {
                    step.rows.push(RowWrite {
                        key: RowKey::new(tree, &key),
                        value: Some(record),
                    });
                }
            }
            step.last = None;
            step.in_redb = in_redb.taken.get();
            Ok(())
        })?;
        Ok(step)
    }

    /// The rows that commits after `since` changed, removed ones included; `None` if the memtables do not have them all.
    pub(crate) fn changed_since(&self, since: u64) -> Option<BTreeMap<Box<[u8]>, Option<Bytes>>> {
        if since < self.base || since > self.number {
            return None;
        }
        let mut changed = BTreeMap::new();
        for memtable in self.immutable.iter().chain([&self.active]) {
            memtable.each_changed(since, self.number, |key, value| {
                changed.insert(key.into(), value.clone());
            });
        }
        Some(changed)
    }
}
