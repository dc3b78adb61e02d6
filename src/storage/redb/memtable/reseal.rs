//! Finds the rows that are not encrypted with the current key, and computes their encrypted form.

use crate::error::{ErrorKind, Result};
use crate::storage::record::{
    PackageRow, RecordKind, SessionRow, client_of, container_of, package_key,
};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::tables::owner_key;
use crate::storage::{ContainerId, ResealStep};
use bytes::Bytes;
use std::ops::Bound;

/// A step looks at no more sessions.
const SESSIONS: usize = 256;
/// It ends once the rows that it found have so many bytes.
const BYTES: usize = 1 << 20;
/// The rows of a part of a step have so many bytes at most, or are one row.
const PART: usize = 256 << 10;

/// The rows that a step found, in parts of bounded size.
#[derive(Default)]
pub(crate) struct ResealPlan {
    pub(crate) parts: Vec<Vec<RowKey>>,
    bytes: usize,
    part: usize,
}

impl ResealPlan {
    fn add(&mut self, key: RowKey, len: usize) {
        if self.parts.is_empty() || self.part + len > PART {
            self.parts.push(Vec::new());
            self.part = 0;
        }
        self.part += len;
        self.bytes += len;
        if let Some(part) = self.parts.last_mut() {
            part.push(key);
        }
    }
}

impl ReadView {
    fn is_current(&self, kind: RecordKind, record: &[u8]) -> bool {
        let keys = self.cipher().keys();
        keys.is_none_or(|keys| keys.is_current(kind, record))
    }

    /// Looks for rows that are not encrypted with the current key, among the sessions after a key.
    pub(crate) fn plan_reseal(&self, after: Option<[u8; 20]>) -> Result<(ResealPlan, ResealStep)> {
        let mut plan = ResealPlan::default();
        let mut step = ResealStep {
            of: self.session_count()?,
            ..ResealStep::default()
        };
        let from = after.map_or(Bound::Included([0; 20]), Bound::Excluded);
        guarded(|| {
            for row in self.session_rows(from)?.take(SESSIONS) {
                let (key, record) = row?;
                crate::steps::count(1);
                step.sessions += 1;
                step.last = Some(key);
                match record {
                    Some(record) => self.plan_session(&key, &record, &mut plan, &mut step)?,
                    None => step.unreadable += 1,
                }
                if plan.bytes >= BYTES {
                    break;
                }
            }
            Ok(())
        })?;
        Ok((plan, step))
    }

    fn plan_session(
        &self,
        key: &[u8; 20],
        record: &Bytes,
        plan: &mut ResealPlan,
        step: &mut ResealStep,
    ) -> Result<()> {
        let row = match SessionRow::decode(key, record, self.cipher()) {
            Ok(row) => row,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                step.unreadable += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !self.is_current(RecordKind::Session, record) {
            plan.add(RowKey::new(RowTree::Sessions, key), record.len());
        }
        let container = container_of(key);
        for package in row.packages.iter() {
            let key = package_key(container, client_of(key), package);
            let record = match self.package_record(&key) {
                Ok(Some(record)) => record,
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                Ok(None) | Err(_) => {
                    step.unreadable += 1;
                    continue;
                }
            };
            if self.is_current(RecordKind::Package, &record) {
                continue;
            }
            let len = record.len();
            match PackageRow::decode(&key, record, self.cipher()) {
                Ok(_) => plan.add(RowKey::new(RowTree::Packages, &key), len),
                Err(_) => step.unreadable += 1,
            }
        }
        Ok(())
    }

    /// What to write so that a row is encrypted with the current key; nothing if it is, or is gone. With a session goes
    /// its entry in the index of owners.
    pub(crate) fn resealed(
        &self,
        key: &RowKey,
        is_retired: impl Fn(ContainerId) -> bool,
    ) -> Result<Vec<RowWrite>> {
        let mut rows = Vec::new();
        let Some((tree, own)) = key.split() else {
            return Ok(rows);
        };
        let Some(session) = own.first_chunk::<20>() else {
            return Ok(rows);
        };
        let container = container_of(session);
        if is_retired(container) {
            return Ok(rows);
        }
        let cipher = self.cipher();
        let (kind, record) = match tree {
            RowTree::Packages => (RecordKind::Package, self.package_record(own)?),
            _ => (
                RecordKind::Session,
                self.session_record_to_store(container, client_of(session))?,
            ),
        };
        let Some(record) = record.filter(|record| !self.is_current(kind, record)) else {
            return Ok(rows);
        };
        let value = if kind == RecordKind::Package {
            PackageRow::decode(own, record.clone(), cipher)?.again(own, &record, cipher)?
        } else {
            let row = SessionRow::decode(session, &record, cipher)?;
            if cipher.has_former_hashes()
                && let Some(owner) = &row.owner
            {
                let hashes = cipher.owner_hashes(owner);
                let entry = |hash| RowKey::new(RowTree::Owners, &owner_key(hash, *session));
                rows.extend(hashes.former.map(|hash| RowWrite {
                    key: entry(hash),
                    value: None,
                }));
                rows.push(RowWrite {
                    key: entry(hashes.current),
                    value: Some(Bytes::new()),
                });
            }
            row.encode(session, cipher)?
        };
        rows.push(RowWrite {
            key: key.clone(),
            value: Some(value.into()),
        });
        Ok(rows)
    }
}
