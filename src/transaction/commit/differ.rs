//! Whether a transaction would change any stored data (C2.12).

use crate::error::{ErrorKind, Result};
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::{KeyBase, PackageChanges, SubjectChanges};
use crate::transaction::state::subject::{SessionView, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use bytes::Bytes;
use std::collections::BTreeMap;

impl TxnState {
    /// A value that cannot be stored fails the whole commit (C2.3).
    pub(super) fn check_values(&self) -> Result<()> {
        let subjects = self.changes.iter().flat_map(|changes| &changes.subjects);
        for changes in subjects.flat_map(|s| s.packages.iter()) {
            for key in changes.keys.values() {
                if let KeyBase::Refused(error) = &key.base {
                    return Err(error.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether a client's changes would make its session differ from the snapshot.
    pub(super) fn differs(&mut self, id: SubjectId) -> Result<bool> {
        // Taken out, because reading packages needs `self` as mutable.
        let changes = self.changes.take();
        let subjects = changes.as_ref().map(|changes| &changes.subjects);
        let differs = match subjects.and_then(|subjects| subjects.get(id)) {
            Some(changes) => self.differs_by(id, changes),
            None => Ok(false),
        };
        self.changes = changes;
        differs
    }

    fn differs_by(&mut self, id: SubjectId, changes: &SubjectChanges) -> Result<bool> {
        let live = |view: &&SessionView| view.live;
        let rows = self.subject(id)?.sessions.iter();
        let attributes = rows.filter(live).filter_map(|v| v.row.as_ref()).any(|row| {
            changes.timeout.is_some_and(|t| t != row.timeout)
                || changes.ends_at.is_some_and(|at| at != row.optional.ends_at)
        });
        let stored = |view: &&SessionView| view.live && !self.is_carried(view);
        let rows = self.subject(id)?.sessions.iter();
        let mut rows = rows.filter(stored).filter_map(|v| v.row.as_ref());
        let attributes = attributes
            || rows.any(|row| {
                changes.owner.as_ref().is_some_and(|o| *o != row.owner)
                    || changes
                        .label
                        .as_ref()
                        .is_some_and(|l| *l != row.optional.label)
                    || changes
                        .authenticated_at
                        .is_some_and(|at| at != row.optional.authenticated_at)
            });
        let live = self.subject(id)?.sessions.iter().any(|view| view.live);
        let founds = !live && changes.attributes.is_founding();
        let ends = changes.fate != SessionFate::Stays || !changes.ends_in.is_empty();
        if ends || attributes || founds {
            return Ok(true);
        }
        for package in changes.packages.iter() {
            match self.package_differs(id, package) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                // The snapshot is too old to compare with, so the change is committed.
                Err(e) if e.kind() == ErrorKind::SnapshotTooOld => return Ok(true),
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    fn package_differs(&mut self, id: SubjectId, changes: &PackageChanges) -> Result<bool> {
        let row = self.package(id, changes.container, &changes.package)?;
        if changes.cleared {
            let old: BTreeMap<&str, Bytes> = row.into_iter().flat_map(|r| r.iter()).collect();
            let mut new = BTreeMap::new();
            for (key, change) in &changes.keys {
                match change.value(None) {
                    Ok(Some(value)) => drop(new.insert(&**key, value)),
                    Ok(None) => {}
                    Err(_) => return Ok(true),
                }
            }
            return Ok(old != new);
        }
        Ok(changes.keys.iter().any(|(key, change)| {
            let before = row.and_then(|row| row.get(key));
            // A sum that overflows here may not overflow on the value that is current at the commit.
            change.value(before.clone()).map_or(true, |v| v != before)
        }))
    }

    /// Loads each package with more inserted keys than the limit, so that packing can refuse it.
    pub(super) fn look_at_large(&mut self) -> Result<()> {
        let limit = self.env().rules.limits.keys;
        let subjects = self.changes.iter().flat_map(|it| it.subjects.iter());
        let packages = subjects.enumerate().flat_map(|(id, changes)| {
            let packages = changes.packages.iter();
            packages.map(move |it| (id, it))
        });
        let large = packages.filter(|(_, it)| it.inserted() > limit);
        let large: Vec<_> = large
            .map(|(id, it)| (id, it.container, it.package.clone()))
            .collect();
        for (id, container, package) in large {
            match self.package(id, container, &package) {
                Ok(_) => {}
                // The snapshot is too old to read the package, so the merge counts its keys.
                Err(e) if e.kind() == ErrorKind::SnapshotTooOld => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
