//! Turns the merged sessions of a client into rows to write.

use super::checks::{check_size, conflict, lost_package};
use super::package::MergedPackage;
use super::rows::CurrentRows;
use super::session::{SessionMerge, stored_package};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{PackageRow, package_key};
use crate::storage::{
    ChangeSet, ClientChange, ContainerRef, MergedWrites, PackageWrite, SeenState, SessionEnd,
    SessionWrite, Version,
};
use std::sync::Arc;

/// The rows that a change set writes with this version.
pub(super) struct RowWriter<'a, R> {
    pub(super) set: &'a ChangeSet,
    pub(super) rows: &'a R,
    pub(super) version: Version,
    pub(super) writes: MergedWrites,
}

impl<R: CurrentRows> RowWriter<'_, R> {
    /// Turns the merged rooms of a client into rows to write.
    pub(super) fn finish(
        &mut self,
        change: &ClientChange,
        rooms: Vec<SessionMerge<'_>>,
    ) -> Result<()> {
        let ends = match change.end {
            SessionEnd::Moves(_) | SessionEnd::Destroyed => true,
            SessionEnd::Stays | SessionEnd::Swept(_) => false,
        };
        for room in rooms {
            let id = room.seen.place.id;
            if ends {
                if room.stored.is_some() {
                    self.writes
                        .tombstones
                        .push((id, change.client, self.set.refusals.until()));
                }
                if let (SessionEnd::Moves(to), Some(_)) = (change.end, &room.row) {
                    self.carry_over(&room, change, to)?;
                }
                self.remove(&room, change.client);
                continue;
            }
            // A session founded over an expired one takes none of its rows along (C3.2).
            let replaced = room.row.as_ref().map(|row| row.incarnation)
                != room.stored.as_ref().map(|row| row.incarnation);
            if replaced && room.row.is_some() && room.stored.is_some() {
                self.remove_packages(&room, change.client);
            }
            for (package, content) in &room.packages {
                self.put_package(&room.seen.place, change.client, package, content)?;
            }
            if room.changed {
                self.writes.sessions.push(SessionWrite {
                    container: id,
                    client: change.client,
                    old_owner: room.stored.and_then(|row| row.owner),
                    row: room.row,
                });
            }
        }
        Ok(())
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
        room: &SessionMerge<'_>,
        change: &ClientChange,
        to: ClientKey,
    ) -> Result<()> {
        let Some(row) = &room.row else {
            return Ok(());
        };
        let from = change.client;
        // The new id was told before the commit made it valid; who used it must not lose by it.
        let founder = change.founder.as_ref();
        let is_used = founder.is_some_and(|founder| self.rows.is_used(to, founder));
        if is_used || self.rows.session(room.seen.place.id, to, None)?.is_some() {
            return Err(conflict("the new id was used before it was valid"));
        }
        for package in row.packages.iter() {
            let place = &room.seen.place;
            if let Some(content) = room.packages.get(package) {
                self.put_package(place, to, package, content)?;
                continue;
            }
            let named = |e: Error| e.in_container(&*place.name).in_package(&**package);
            let old = stored_package(self.rows, room, from, package, None).map_err(named)?;
            let old = old.ok_or_else(|| named(lost_package()))?;
            let key = package_key(place.id, to, package);
            let record = PackageRow::rebuild(Some(&old), &key, self.version, (old.len(), &[]))?;
            self.writes.packages.push(PackageWrite {
                container: place.id,
                key,
                row: Some(record),
            });
        }
        self.writes.sessions.push(SessionWrite {
            container: room.seen.place.id,
            client: to,
            old_owner: None,
            row: Some(row.moved(self.set.now, self.version)),
        });
        Ok(())
    }

    /// Removes what has expired, and lowers the times that lie too far ahead.
    pub(super) fn sweep(
        &mut self,
        client: ClientKey,
        rooms: &[SessionMerge<'_>],
        over: Timestamp,
    ) -> Result<()> {
        for room in rooms {
            let Some(row) = &room.row else {
                if room.stored.is_some() {
                    self.remove(room, client);
                    self.writes.swept.push((client, over));
                }
                continue;
            };
            let SeenState::Live { incarnation } = room.seen.state else {
                continue;
            };
            let mut lowered = row.clone();
            if let Some(touch) = room.seen.touch
                && row.incarnation == incarnation
            {
                touch.correct(&mut lowered.access, self.rows.now());
            }
            if lowered != *row {
                self.writes.sessions.push(SessionWrite {
                    container: room.seen.place.id,
                    client,
                    old_owner: row.owner.clone(),
                    row: Some(lowered),
                });
            }
        }
        Ok(())
    }

    /// Removes what is stored of a session, whole.
    fn remove(&mut self, room: &SessionMerge<'_>, client: ClientKey) {
        let Some(stored) = &room.stored else { return };
        self.remove_packages(room, client);
        self.writes.sessions.push(SessionWrite {
            container: room.seen.place.id,
            client,
            old_owner: stored.owner.clone(),
            row: None,
        });
    }

    fn remove_packages(&mut self, room: &SessionMerge<'_>, client: ClientKey) {
        let container = room.seen.place.id;
        for package in room.stored.iter().flat_map(|row| row.packages.iter()) {
            self.writes.packages.push(PackageWrite {
                container,
                key: package_key(container, client, package),
                row: None,
            });
        }
    }
}
