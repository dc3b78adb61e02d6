//! Turns the merged sessions of a client into rows to write.

use super::checks::{check_size, conflict, lost_package};
use super::package::MergedPackage;
use super::rows::CurrentRows;
use super::session::{SessionMerge, stored_package};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{MovedTo, PackageRow, SessionRow, package_key};
use crate::storage::{
    ChangeSet, ClientChange, ContainerRef, MergedWrites, PackageWrite, SeenState, SessionEnd,
    SessionWrite, Version,
};
use std::sync::Arc;
use std::time::Duration;

/// Collects the rows that a change set writes.
pub(super) struct RowWriter<'a, R> {
    pub(super) set: &'a ChangeSet,
    pub(super) rows: &'a R,
    pub(super) version: Version,
    pub(super) writes: MergedWrites,
}

impl<R: CurrentRows> RowWriter<'_, R> {
    /// Writes the merged sessions of a client.
    pub(super) fn finish(
        &mut self,
        change: &ClientChange,
        sessions: Vec<SessionMerge<'_>>,
    ) -> Result<()> {
        let ends = match change.end {
            SessionEnd::Moves(_) | SessionEnd::Destroyed => true,
            SessionEnd::Stays | SessionEnd::Swept(_) | SessionEnd::Imported(..) => false,
        };
        // A session that has ended in its last container has ended as a whole.
        let is_over = !change.ends_in.is_empty() && sessions.iter().all(|it| it.row.is_none());
        for session in sessions {
            if is_over && !ends && session.stored.is_some() {
                let until = self.set.refusals.until();
                let id = session.seen.container_ref.id;
                self.writes.tombstones.push((id, change.client, until));
            }
            let id = session.seen.container_ref.id;
            if ends {
                if session.stored.is_some() && change.leads_on.is_none() {
                    self.writes
                        .tombstones
                        .push((id, change.client, self.set.refusals.until()));
                }
                if let (SessionEnd::Moves(to), Some(_)) = (change.end, &session.row) {
                    self.carry_over(&session, change, to)?;
                }
                if let (SessionEnd::Moves(to), Some(lasts)) = (change.end, change.leads_on) {
                    self.lead_on(session, change.client, to, lasts);
                    continue;
                }
                self.remove(&session, change.client);
                continue;
            }
            // A session that replaces an expired one inherits none of its packages (C3.2), nor one that has ended here.
            let replaced = session.row.as_ref().map(|row| row.incarnation)
                != session.stored.as_ref().map(|row| row.incarnation);
            if replaced && session.changed && session.stored.is_some() {
                self.remove_packages(&session, change.client);
            }
            for (package, content) in &session.packages {
                self.put_package(&session.seen.container_ref, change.client, package, content)?;
            }
            if session.changed {
                self.writes.sessions.push(SessionWrite {
                    container: id,
                    client: change.client,
                    old_owner: session.stored.and_then(|row| row.owner),
                    row: session.row,
                });
            }
        }
        Ok(())
    }

    /// Makes a renewed id lead to the session in every container: a request with the old id may read any container
    /// first.
    fn lead_on(
        &mut self,
        session: SessionMerge<'_>,
        client: ClientKey,
        to: ClientKey,
        lasts: Duration,
    ) {
        self.remove_packages(&session, client);
        let from = session.row.as_ref().map(|row| row.incarnation);
        let moved = MovedTo { client: to, from };
        let row = SessionRow::leading(self.rows.now(), self.version, moved, lasts);
        self.writes.sessions.push(SessionWrite {
            container: session.seen.container_ref.id,
            client,
            old_owner: session.stored.and_then(|row| row.owner),
            row: Some(row),
        });
    }

    fn put_package(
        &mut self,
        place: &ContainerRef,
        client: ClientKey,
        package: &Arc<str>,
        content: &MergedPackage,
    ) -> Result<()> {
        let key = package_key(place.id, client, package);
        let row = if content.len == 0 {
            None
        } else {
            let written = (content.len, &*content.writes);
            let row = PackageRow::rebuild(content.old.as_ref(), &key, self.version, written)?;
            check_size(&self.set.limits, place, package, row.len())?;
            Some(row)
        };
        self.writes.packages.push(PackageWrite {
            container: place.id,
            key,
            row,
        });
        Ok(())
    }

    /// Writes a live session again under another id, with all its packages.
    fn carry_over(
        &mut self,
        session: &SessionMerge<'_>,
        change: &ClientChange,
        to: ClientKey,
    ) -> Result<()> {
        let Some(row) = &session.row else {
            return Ok(());
        };
        let from = change.client;
        // The application knew the new id before this commit, and may have created a session under it. That session
        // must not be lost.
        let founder = change.founder.as_ref();
        let is_used = founder.is_some_and(|founder| self.rows.is_used(to, founder));
        if is_used
            || self
                .rows
                .session(session.seen.container_ref.id, to, None)?
                .is_some()
        {
            return Err(conflict("the new id was used before it was valid"));
        }
        for package in row.packages.iter() {
            let place = &session.seen.container_ref;
            if let Some(content) = session.packages.get(package) {
                self.put_package(place, to, package, content)?;
                continue;
            }
            let named = |e: Error| e.in_container(&*place.name).in_package(&**package);
            let old = stored_package(self.rows, session, from, package, None).map_err(named)?;
            let old = old.ok_or_else(|| named(lost_package()))?;
            let key = package_key(place.id, to, package);
            let record = PackageRow::rebuild(Some(&old), &key, self.version, (old.len(), &[]))?;
            self.writes.packages.push(PackageWrite {
                container: place.id,
                key,
                row: Some(record),
            });
        }
        let mut moved = row.moved(self.set.now, self.version);
        if change.leads_on.is_some() {
            // A session under a renewed id is not a new session, whose client may never present the id (C8.5).
            moved.access.is_id_confirmed = row.access.is_id_confirmed;
        }
        self.writes.sessions.push(SessionWrite {
            container: session.seen.container_ref.id,
            client: to,
            old_owner: None,
            row: Some(moved),
        });
        Ok(())
    }

    /// Removes expired sessions, and lowers times that are too far in the future.
    pub(super) fn sweep(
        &mut self,
        client: ClientKey,
        sessions: &[SessionMerge<'_>],
        over: Timestamp,
    ) -> Result<()> {
        for session in sessions {
            let Some(row) = &session.row else {
                if session.stored.is_some() {
                    self.remove(session, client);
                    self.writes.swept.push((client, over));
                }
                continue;
            };
            let SeenState::Live { incarnation } = session.seen.state else {
                continue;
            };
            let mut lowered = row.clone();
            if let Some(touch) = session.seen.touch
                && row.incarnation == incarnation
            {
                let now = self.rows.now();
                touch.by(now).correct(&mut lowered.access, now);
            }
            if lowered != *row {
                self.writes.sessions.push(SessionWrite {
                    container: session.seen.container_ref.id,
                    client,
                    old_owner: row.owner.clone(),
                    row: Some(lowered),
                });
            }
        }
        Ok(())
    }

    /// Removes a stored session with all its packages.
    fn remove(&mut self, session: &SessionMerge<'_>, client: ClientKey) {
        let Some(stored) = &session.stored else {
            return;
        };
        self.remove_packages(session, client);
        self.writes.sessions.push(SessionWrite {
            container: session.seen.container_ref.id,
            client,
            old_owner: stored.owner.clone(),
            row: None,
        });
    }

    fn remove_packages(&mut self, session: &SessionMerge<'_>, client: ClientKey) {
        let container = session.seen.container_ref.id;
        for package in session.stored.iter().flat_map(|row| row.packages.iter()) {
            self.writes.packages.push(PackageWrite {
                container,
                key: package_key(container, client, package),
                row: None,
            });
        }
    }
}
