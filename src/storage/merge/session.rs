//! The session of one client in one container while it is merged.

use super::checks::{conflict, lost_package, too_large};
use super::package::MergedPackage;
use super::rows::CurrentRows;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{ClientChange, Limits, Seen, SeenState, SessionEnd};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One client in one container while it is merged.
pub(super) struct SessionMerge<'a> {
    pub(super) seen: &'a Seen,
    /// The row in the file, served or not.
    pub(super) stored: Option<SessionRow>,
    /// The row as this transaction must see it: expired ones are not there.
    pub(super) row: Option<SessionRow>,
    pub(super) changed: bool,
    /// Packages whose content was computed here.
    pub(super) packages: BTreeMap<Arc<str>, MergedPackage>,
}

impl<'a> SessionMerge<'a> {
    pub(super) fn new(seen: &'a Seen, stored: Option<SessionRow>) -> Self {
        let row = match (seen.state, &stored) {
            (
                SeenState::Expired {
                    incarnation,
                    last_access,
                    timeout,
                },
                Some(now),
            ) if now.incarnation == incarnation
                && now.access.last_access == last_access
                && now.timeout == timeout =>
            {
                None
            }
            _ => stored.clone(),
        };
        Self {
            seen,
            stored,
            row,
            changed: false,
            packages: BTreeMap::new(),
        }
    }

    /// Begins a session in this container.
    pub(super) fn found(&mut self, row: SessionRow) {
        self.row = Some(row);
        self.changed = true;
    }

    /// Enters the packages in the session's list that were computed here, or takes them out of it.
    pub(super) fn list_packages(&mut self) {
        let Some(row) = &mut self.row else { return };
        let mut computed = self.packages.iter();
        if computed.all(|(package, content)| row.has(package) == (content.len > 0)) {
            return;
        }
        let others = row.packages.iter();
        let others = others.filter(|package| !self.packages.contains_key(*package));
        let there = self.packages.iter().filter(|(_, content)| content.len > 0);
        let mut packages: Vec<_> = others.chain(there.map(|(name, _)| name)).cloned().collect();
        packages.sort_unstable();
        row.packages = packages.into();
        self.changed = true;
    }

    pub(super) fn came_or_went(&self) -> bool {
        let was = matches!(self.seen.state, SeenState::Live { .. });
        self.seen.observed && was != self.row.is_some()
    }

    /// Whether what was added is within the limit, when everything is merged (C5.3).
    pub(super) fn check_count(&self, limits: &Limits) -> Result<()> {
        let Some(row) = &self.row else { return Ok(()) };
        let stored = |package: &str| self.stored.as_ref().is_some_and(|row| row.has(package));
        let mut added = self.packages.keys().filter(|p| row.has(p) && !stored(p));
        let (count, limit) = (row.packages.len(), limits.packages);
        match added.next_back() {
            Some(package) if count > limit => {
                let error = too_large("the session has too many packages", count, limit, "");
                Err(error
                    .in_container(&*self.seen.place.name)
                    .in_package(&**package))
            }
            _ => Ok(()),
        }
    }

    /// A session that was seen live must be the one still there, and one seen expired must not have
    /// come back to life, or a write would join another session than the one it was meant for (C2.11).
    /// One that is destroyed may have come back: it ends all the same.
    pub(super) fn check_same_session(&self, end: SessionEnd) -> Result<()> {
        let now = self.stored.as_ref().map(|row| row.incarnation);
        let ended = match self.seen.state {
            SeenState::Live { incarnation } => now != Some(incarnation),
            SeenState::Expired { incarnation, .. } => {
                now == Some(incarnation) && self.row.is_some() && end != SessionEnd::Destroyed
            }
            SeenState::Absent => false,
        };
        if ended {
            return Err(conflict("the session was ended or renewed meanwhile")
                .in_container(&*self.seen.place.name));
        }
        Ok(())
    }
}

/// The row of a package that the session lists. That a listed one is missing is damage (C5.4).
pub(super) fn stored_package(
    rows: &impl CurrentRows,
    room: &SessionMerge<'_>,
    client: ClientKey,
    package: &str,
    read: Option<&PackageRow>,
) -> Result<Option<PackageRow>> {
    let listed = match (&room.row, &room.stored) {
        (Some(row), Some(stored)) if row.incarnation == stored.incarnation => stored.has(package),
        _ => false,
    };
    if !listed {
        return Ok(None);
    }
    match rows.package(room.seen.place.id, client, package, read)? {
        Some(row) => Ok(Some(row)),
        None => Err(lost_package()),
    }
}

/// Applies what concerns the session itself; tells whether the row changed. Where nothing else is written, an
/// access does not count if somebody has found the session expired since: it is recorded beside the merge.
pub(super) fn attributes(
    row: &mut SessionRow,
    change: &ClientChange,
    seen: &Seen,
    now: Timestamp,
) -> bool {
    let before = row.clone();
    if let Some(timeout) = change.timeout {
        row.timeout = timeout;
    }
    if let Some(owner) = &change.owner {
        row.owner.clone_from(owner);
    }
    if let Some(label) = &change.label {
        row.label.clone_from(label);
    }
    if let Some(at) = change.authenticated_at {
        row.authenticated_at = at;
    }
    let same =
        matches!(seen.state, SeenState::Live { incarnation } if incarnation == row.incarnation);
    if let (Some(touch), true) = (seen.touch, same)
        && change.writes_in(seen.place.id)
    {
        touch.put_on(&mut row.access, now);
    }
    *row != before
}
