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
    /// The stored row, expired or not.
    pub(super) stored: Option<SessionRow>,
    /// The row as the transaction sees it. `None` if the transaction saw the stored row expired.
    pub(super) row: Option<SessionRow>,
    /// The row, if the transaction ends the session here. What it inserts here begins another one.
    ended: Option<SessionRow>,
    pub(super) changed: bool,
    /// The packages that change. Boxed, so that the map's nodes are small blocks.
    pub(super) packages: BTreeMap<Arc<str>, Box<MergedPackage>>,
}

impl<'a> SessionMerge<'a> {
    pub(super) fn new(seen: &'a Seen, stored: Option<SessionRow>) -> Self {
        let row = match (seen.state, &stored) {
            (
                SeenState::Expired {
                    incarnation,
                    last_access,
                    timeout,
                    ends_at,
                    is_id_confirmed,
                },
                Some(now),
            ) if now.incarnation == incarnation
                && now.access.last_access == last_access
                && now.timeout == timeout
                && now.optional.ends_at == ends_at
                && now.access.is_id_confirmed == is_id_confirmed =>
            {
                None
            }
            _ => stored.clone(),
        };
        Self {
            seen,
            stored,
            row,
            ended: None,
            changed: false,
            packages: BTreeMap::new(),
        }
    }

    /// Whether it has a row in a container that lives in the visitor's cookie. A row that the transaction saw expired
    /// does not count.
    pub(super) fn is_carried(&self) -> bool {
        self.row_before().is_some() && self.seen.container_ref.id.is_in_cookie()
    }

    /// The row as the transaction sees it, ended here or not.
    pub(super) fn row_before(&self) -> Option<&SessionRow> {
        self.row.as_ref().or(self.ended.as_ref())
    }

    /// Whether the transaction ends it in this container.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends the session in this container.
    pub(super) fn end(&mut self) {
        self.ended = self.row.take();
        self.changed |= self.ended.is_some();
    }

    /// Begins a session in this container.
    pub(super) fn found(&mut self, row: SessionRow) {
        self.row = Some(row);
        self.changed = true;
    }

    /// Updates the session's list of packages: it has those that are not empty.
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

    /// Whether it has an owner that was not seen.
    pub(super) fn got_owner(&self) -> bool {
        let owner = |row: &Option<SessionRow>| row.as_ref().and_then(|row| row.owner.clone());
        let stored = owner(&self.stored);
        stored.is_some() && stored != owner(&self.seen.row)
    }

    /// Whether the list of packages was read, and is another one now.
    pub(super) fn was_listed_otherwise(&self) -> bool {
        fn packages(row: Option<&SessionRow>) -> &[Arc<str>] {
            row.map_or(&[], |row| &row.packages)
        }
        let seen = self.seen.row.as_ref().filter(|_| self.seen.is_live());
        self.seen.listed && packages(seen) != packages(self.row.as_ref())
    }

    /// Checks the number of packages, if packages were added (C5.3).
    pub(super) fn check_count(&self, limits: &Limits) -> Result<()> {
        let Some(row) = &self.row else { return Ok(()) };
        let stored = |package: &str| self.stored.as_ref().is_some_and(|row| row.has(package));
        let mut added = self.packages.keys().filter(|p| row.has(p) && !stored(p));
        let (count, limit) = (row.packages.len(), limits.packages);
        match added.next_back() {
            Some(package) if count > limit => {
                let error = too_large("the session has too many packages", count, limit, "");
                Err(error
                    .in_container(&*self.seen.container_ref.name)
                    .in_package(&**package))
            }
            _ => Ok(()),
        }
    }

    /// Checks that a write goes to the session that the transaction saw (C2.11). A session that was seen live must
    /// still be there. A session that was seen expired must not be live again, unless the transaction destroys it.
    pub(super) fn check_same_session(&self, end: SessionEnd) -> Result<()> {
        let now = self.stored.as_ref().map(|row| row.incarnation);
        let ended = match self.seen.state {
            SeenState::Live { incarnation } => now != Some(incarnation) || leads_on(&self.stored),
            SeenState::Expired { incarnation, .. } => {
                now == Some(incarnation) && self.row.is_some() && end != SessionEnd::Destroyed
            }
            // The row under a renewed id is not a session that a write may join.
            SeenState::Absent => leads_on(&self.row),
        };
        if ended {
            return Err(conflict("the session was ended or renewed meanwhile")
                .in_container(&*self.seen.container_ref.name));
        }
        Ok(())
    }
}

/// Whether a row only leads from a renewed id to its session.
fn leads_on(row: &Option<SessionRow>) -> bool {
    row.as_ref().is_some_and(|row| row.optional.moved.is_some())
}

/// The row of a package before the transaction, if the session lists it. A listed package without a row is damage (C5.4).
pub(super) fn stored_package(
    rows: &impl CurrentRows,
    session: &SessionMerge<'_>,
    client: ClientKey,
    package: &str,
    read: Option<&PackageRow>,
) -> Result<Option<PackageRow>> {
    let listed = match (session.row_before(), &session.stored) {
        (Some(row), Some(stored)) if row.incarnation == stored.incarnation => stored.has(package),
        _ => false,
    };
    if !listed {
        return Ok(None);
    }
    match rows.package(session.seen.container_ref.id, client, package, read)? {
        Some(row) => Ok(Some(row)),
        None => Err(lost_package()),
    }
}

/// Applies the attributes of the session. Returns whether the row changed. An access is applied only if the transaction
/// writes something else to the session. Otherwise the engine records the access apart from the merge, unless the
/// session was found expired since.
pub(super) fn attributes(
    row: &mut SessionRow,
    change: &ClientChange,
    seen: &Seen,
    now: Timestamp,
) -> bool {
    if !change.sets_attributes() && seen.touch.is_none() {
        return false;
    }
    let before = row.clone();
    if let Some(timeout) = change.timeout {
        row.timeout = timeout;
    }
    if let Some(owner) = &change.owner {
        row.owner.clone_from(owner);
    }
    if let Some(label) = &change.label {
        row.optional.label.clone_from(label);
    }
    if let Some(at) = change.authenticated_at {
        row.optional.authenticated_at = at;
    }
    if let Some(at) = change.ends_at {
        row.optional.ends_at = at;
    }
    let same =
        matches!(seen.state, SeenState::Live { incarnation } if incarnation == row.incarnation);
    if let (Some(touch), true) = (seen.touch, same)
        && change.writes_in(seen.container_ref.id)
    {
        touch.by(now).put_on(&mut row.access, now);
    }
    *row != before
}
