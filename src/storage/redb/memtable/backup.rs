//! Reads the rows of a store for a backup, in steps.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerId;
use crate::storage::merge::lost_package;
use crate::storage::record::{
    RecordKind, SessionRow, client_of, container_of, package_key, verify,
};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::own_tables::OwnRows;
use bytes::Bytes;
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
}

impl<const N: usize> BackupStep<N> {
    fn start(&self, after: Option<[u8; N]>) -> Bound<[u8; N]> {
        after.map_or(Bound::Included([0; N]), Bound::Excluded)
    }
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
        self.readers.tables.session_count()
    }

    /// Some sessions of known containers after a key, each with its packages.
    pub(crate) fn backup_sessions(
        &self,
        after: Option<[u8; 20]>,
        known: &BTreeSet<ContainerId>,
    ) -> Result<BackupStep<20>> {
        let mut step = BackupStep::default();
        let mut bytes = 0;
        guarded(|| {
            let rows = self.session_rows(step.start(after))?;
            for (n, row) in rows.enumerate() {
                if n == ROWS || bytes >= BYTES {
                    return Ok(());
                }
                let (key, record) = row?;
                step.last = Some(key);
                let record = record.ok_or_else(unreadable)?;
                if known.contains(&container_of(&key)) {
                    bytes += self.backup_session(&key, record, &mut step.rows)?;
                }
            }
            step.last = None;
            Ok(())
        })?;
        Ok(step)
    }

    /// Adds a session and its packages. Returns how many bytes they have.
    fn backup_session(
        &self,
        key: &[u8; 20],
        record: Bytes,
        rows: &mut Vec<RowWrite>,
    ) -> Result<usize> {
        let session = SessionRow::decode(key, &record, self.cipher())?;
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
        self.backup_tree(RowTree::Owners, after, is_known)
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
        guarded(|| {
            let from = step.start(after);
            let below = self.readers.tables.rows(tree, from, [u8::MAX; N])?;
            for (n, row) in self.range(tree, from, [u8::MAX; N], below).enumerate() {
                if n == ROWS {
                    return Ok(());
                }
                let (key, record) = row?;
                step.last = Some(key);
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
