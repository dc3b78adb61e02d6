//! The tables: sessions, packages, the index of owners, tombstones, and what ended lately.

use super::held_revisions::HeldRevisions;
use super::history::RowHistory;
use super::holds::ClientHolds;
use super::recent_changes::RecentChanges;
use super::revision::{Revision, TablesRole};
use super::times::RecordedAccesses;
use super::tombstones::Tombstones;
use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::storage::recent_ends::RecentEnds;
use crate::storage::record::{PackageRow, SessionRow, client_of, package_key};
use crate::storage::{Checked, ContainerId, TombstonePolicy};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;
use std::time::Duration;

/// How many rows one call of [`MemoryTables::reclaim`] removes at most.
const RECLAIMED: usize = 1000;
/// How many removed rows one event forgets at most. A commit removes fewer.
const FORGOTTEN: usize = 4096;

/// All that is stored of sessions.
#[derive(Debug)]
pub(crate) struct MemoryTables {
    pub(super) role: TablesRole,
    newest: u64,
    pub(super) sessions: BTreeMap<(ContainerId, ClientKey), RowHistory<SessionRow>>,
    pub(super) packages: BTreeMap<Vec<u8>, RowHistory<PackageRow>>,
    pub(super) owners: BTreeMap<(Arc<str>, ContainerId, ClientKey), RowHistory<()>>,
    pub(super) tombstones: Tombstones,
    /// By which event a session was ended.
    pub(super) ended: RecentEnds<ClientKey, u64>,
    /// From when on a session was over that was swept.
    pub(super) swept: RecentEnds<ClientKey, Timestamp>,
    pub(super) times: RecordedAccesses,
    pub(super) holds: ClientHolds,
    /// How many accesses were recorded.
    pub(super) recorded: u64,
    held: HeldRevisions,
    changes: RecentChanges,
    /// The rows that were removed, each with the event that did so. They are forgotten when no snapshot reads them.
    removed: VecDeque<(u64, RemovedRow)>,
}

#[derive(Debug)]
enum RemovedRow {
    Session(ContainerId, ClientKey),
    Package(Vec<u8>),
    Owner(Arc<str>, ContainerId, ClientKey),
}

/// A revision whose contents are kept until this is given back.
#[derive(Debug)]
pub(crate) struct TableSnapshot(u64);

impl MemoryTables {
    pub(crate) fn new(role: TablesRole) -> Self {
        Self {
            role,
            newest: 0,
            sessions: BTreeMap::new(),
            packages: BTreeMap::new(),
            owners: BTreeMap::new(),
            tombstones: Tombstones::default(),
            ended: RecentEnds::default(),
            swept: RecentEnds::default(),
            times: RecordedAccesses::default(),
            holds: ClientHolds::default(),
            recorded: 0,
            held: HeldRevisions::default(),
            changes: RecentChanges::default(),
            removed: VecDeque::new(),
        }
    }

    pub(crate) fn newest(&self) -> Revision {
        Revision(self.newest)
    }

    pub(crate) fn recorded(&self) -> u64 {
        self.recorded
    }

    /// The number of the next event.
    pub(super) fn next_event(&mut self) -> u64 {
        self.newest += 1;
        self.forget_removed();
        self.newest
    }

    pub(crate) fn snapshot(&mut self) -> TableSnapshot {
        self.held.hold(self.newest);
        TableSnapshot(self.newest)
    }

    pub(crate) fn give_back(&mut self, snapshot: TableSnapshot) {
        self.held.give_back(snapshot.0);
    }

    /// Whether a snapshot was given up because it was held too long.
    pub(crate) fn is_expired(&self, snapshot: &TableSnapshot) -> bool {
        self.held.is_expired(snapshot.0)
    }

    /// One of these clients whose rows changed between two snapshots, or may have.
    pub(crate) fn changed_between(
        &self,
        before: &TableSnapshot,
        after: &TableSnapshot,
        clients: &HashSet<ClientKey>,
    ) -> Option<ClientKey> {
        match before.0 < after.0 {
            true => self.changes.since(before.0, clients),
            false => None,
        }
    }

    /// Gives up the snapshots that have not been of the newest revision for longer than `max_age` (C2.14).
    pub(crate) fn expire_snapshots(&mut self, now: Moment, max_age: Duration) {
        self.held.supersede(self.newest, now, max_age);
    }

    /// How many snapshots are held that are not of the newest revision, and since when the oldest is not.
    pub(crate) fn superseded(&self, now: Moment) -> (usize, Option<Duration>) {
        self.held.superseded(now)
    }

    pub(super) fn oldest(&self) -> u64 {
        self.held.oldest().unwrap_or(self.newest)
    }

    /// Forgets removed rows that no snapshot reads.
    fn forget_removed(&mut self) {
        let oldest = self.oldest();
        for _ in 0..FORGOTTEN {
            let is_over = self.removed.front().is_some_and(|(by, _)| *by <= oldest);
            let Some((_, row)) = is_over.then(|| self.removed.pop_front()).flatten() else {
                return;
            };
            match row {
                RemovedRow::Session(container, client) => {
                    forget(&mut self.sessions, (container, client), oldest);
                }
                RemovedRow::Package(key) => forget(&mut self.packages, key, oldest),
                RemovedRow::Owner(owner, container, client) => {
                    forget(&mut self.owners, (owner, container, client), oldest);
                }
            }
        }
    }

    /// A session row as of a snapshot, but for the access times, which are the newest: they are no observations.
    pub(crate) fn session(
        &self,
        snapshot: &TableSnapshot,
        container: ContainerId,
        client: ClientKey,
    ) -> Option<SessionRow> {
        let row = self.sessions.get(&(container, client))?.at(snapshot.0)?;
        Some(self.times.shown(container, client, row))
    }

    /// A session row as it was written last.
    pub(super) fn newest_row(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Option<&SessionRow> {
        self.sessions.get(&(container, client))?.newest()
    }

    pub(crate) fn newest_session(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Option<SessionRow> {
        let row = self.newest_row(container, client)?;
        Some(self.times.shown(container, client, row))
    }

    pub(crate) fn package(
        &self,
        snapshot: &TableSnapshot,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Option<&PackageRow> {
        let key = package_key(container, client, package);
        self.packages.get(&key)?.at(snapshot.0)
    }

    pub(crate) fn newest_package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Option<&PackageRow> {
        let key = package_key(container, client, package);
        self.packages.get(&key)?.newest()
    }

    /// At most `limit` sessions of a container, in the order of their keys, beginning after `after`.
    pub(crate) fn sessions(
        &self,
        snapshot: &TableSnapshot,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Vec<(ClientKey, SessionRow)> {
        let start = match after {
            Some(client) => Excluded((container, client)),
            None => Included((container, ClientKey::from_bytes([0; 16]))),
        };
        let rows = self.sessions.range((start, Unbounded));
        let rows = rows.take_while(|((of, _), _)| *of == container);
        let rows = rows.filter_map(|((_, client), row)| Some((*client, row.at(snapshot.0)?)));
        let rows = rows.take(limit);
        rows.map(|(client, row)| (client, self.times.shown(container, client, row)))
            .collect()
    }

    /// The sessions whose owner is `owner`.
    pub(crate) fn owned(
        &self,
        snapshot: &TableSnapshot,
        owner: &str,
    ) -> Vec<(ContainerId, ClientKey)> {
        let lowest = (
            Arc::from(owner),
            ContainerId::UNNAMED,
            ClientKey::from_bytes([0; 16]),
        );
        let entries = self.owners.range(lowest..);
        let entries = entries.take_while(|((of, ..), _)| **of == *owner);
        let there = entries.filter(|(_, entry)| entry.at(snapshot.0).is_some());
        there
            .map(|((_, container, client), _)| (*container, *client))
            .collect()
    }

    /// Removes a bounded number of rows: those of containers that are not `registered`, and tombstones that are over.
    /// Lowers the tombstones that lie too far ahead. Returns how many rows that were.
    pub(crate) fn reclaim(
        &mut self,
        refusals: TombstonePolicy,
        registered: &HashSet<ContainerId>,
    ) -> u64 {
        self.forget_removed();
        self.tombstones.settle(refusals, RECLAIMED) + self.remove_unregistered(registered)
    }

    /// Some sessions of containers that are not registered.
    fn unregistered(&self, registered: &HashSet<ContainerId>) -> Vec<(ContainerId, ClientKey)> {
        let lowest = ClientKey::from_bytes([0; 16]);
        let mut next = Some(ContainerId::UNNAMED);
        while let Some(from) = next {
            let rows = self.sessions.range((from, lowest)..);
            let Some(((container, _), _)) = rows.clone().next() else {
                break;
            };
            if !registered.contains(container) {
                let rows = rows.take_while(|((of, _), _)| of == container);
                let there = rows.filter(|(_, row)| row.newest().is_some());
                let left: Vec<_> = there.map(|(key, _)| *key).take(RECLAIMED).collect();
                if !left.is_empty() {
                    return left;
                }
            }
            next = container.0.checked_add(1).map(ContainerId);
        }
        Vec::new()
    }

    fn remove_unregistered(&mut self, registered: &HashSet<ContainerId>) -> u64 {
        let left = self.unregistered(registered);
        if left.is_empty() {
            return 0;
        }
        let event = self.next_event();
        for (container, client) in &left {
            let row = self.sessions.get(&(*container, *client));
            let packages = row.and_then(RowHistory::newest);
            let packages = packages.map(|row| row.packages.clone()).unwrap_or_default();
            for package in packages.iter() {
                self.put_package(package_key(*container, *client, package), None, event);
            }
            self.put_session(*container, *client, None, event);
        }
        left.len() as u64
    }

    /// Puts a session row and its owner's entry in.
    pub(super) fn put_session(
        &mut self,
        container: ContainerId,
        client: ClientKey,
        row: Option<SessionRow>,
        event: u64,
    ) {
        let oldest = self.oldest();
        self.changes.note(event, client);
        let history = self.sessions.entry((container, client)).or_default();
        let old = history.newest().and_then(|row| row.owner.clone());
        let new = row.as_ref().and_then(|row| row.owner.clone());
        if row.is_none() {
            let removed = RemovedRow::Session(container, client);
            self.removed.push_back((event, removed));
        }
        history.put(event, row, oldest);
        if old == new {
            return;
        }
        if let Some(old) = &old {
            let removed = RemovedRow::Owner(old.clone(), container, client);
            self.removed.push_back((event, removed));
        }
        for (owner, entry) in [(old, None), (new, Some(()))] {
            if let Some(owner) = owner {
                let history = self.owners.entry((owner, container, client)).or_default();
                history.put(event, entry, oldest);
            }
        }
    }

    pub(super) fn put_package(&mut self, key: Vec<u8>, row: Option<PackageRow>, event: u64) {
        let oldest = self.oldest();
        if let Some(session) = key.first_chunk() {
            self.changes.note(event, client_of(session));
        }
        if row.is_none() {
            let removed = RemovedRow::Package(key.clone());
            self.removed.push_back((event, removed));
        }
        let history = self.packages.entry(key).or_default();
        history.put(event, row, oldest);
    }

    /// How many sessions and packages there are.
    pub(crate) fn count(&self) -> Checked {
        let sessions = self.sessions.values();
        let packages = self.packages.values();
        Checked {
            sessions: sessions.filter(|row| is_session(row.newest())).count() as u64,
            packages: packages.filter(|row| row.newest().is_some()).count() as u64,
            bytes_in_use: 0,
            is_complete: true,
        }
    }
}

/// Whether a row is that of a session, and does not only lead on from a renewed id (C8.4).
fn is_session(row: Option<&SessionRow>) -> bool {
    row.is_some_and(|row| row.optional.moved.is_none())
}

/// Forgets a row if no snapshot from `oldest` on can read any content of it.
fn forget<K: Ord, T>(rows: &mut BTreeMap<K, RowHistory<T>>, key: K, oldest: u64) {
    if let Entry::Occupied(mut row) = rows.entry(key)
        && !row.get_mut().forget(oldest)
    {
        row.remove();
    }
}
