//! The tables: sessions, packages, the index of owners, tombstones, and what ended lately.

use super::history::RowHistory;
use super::revision::{Revision, TablesRole};
use super::times::RecordedAccesses;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::record::{PackageRow, SessionRow, package_key};
use crate::storage::{Checked, ContainerId, TombstonePolicy};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

/// How many rows one call of [`MemoryTables::reclaim`] removes at most.
const RECLAIMED: usize = 1000;

/// All that is stored of sessions.
#[derive(Debug)]
pub(crate) struct MemoryTables {
    pub(super) role: TablesRole,
    newest: u64,
    pub(super) sessions: BTreeMap<(ContainerId, ClientKey), RowHistory<SessionRow>>,
    pub(super) packages: BTreeMap<Vec<u8>, RowHistory<PackageRow>>,
    pub(super) owners: BTreeMap<(Arc<str>, ContainerId, ClientKey), RowHistory<()>>,
    pub(super) tombstones: BTreeMap<ClientKey, Timestamp>,
    /// By which event a session was ended.
    pub(super) ended: HashMap<ClientKey, u64>,
    /// From when on a session was over that was swept.
    pub(super) swept: HashMap<ClientKey, Timestamp>,
    pub(super) times: RecordedAccesses,
    /// How many accesses were recorded.
    pub(super) recorded: u64,
    /// How many snapshots are held as of each revision.
    held: BTreeMap<u64, usize>,
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
            tombstones: BTreeMap::new(),
            ended: HashMap::new(),
            swept: HashMap::new(),
            times: RecordedAccesses::default(),
            recorded: 0,
            held: BTreeMap::new(),
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
        self.newest
    }

    pub(crate) fn snapshot(&mut self) -> TableSnapshot {
        *self.held.entry(self.newest).or_default() += 1;
        TableSnapshot(self.newest)
    }

    pub(crate) fn give_back(&mut self, snapshot: TableSnapshot) {
        if let Some(count) = self.held.get_mut(&snapshot.0) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&snapshot.0);
            }
        }
    }

    pub(super) fn oldest(&self) -> u64 {
        self.held.keys().next().copied().unwrap_or(self.newest)
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
        let over = self.tombstones.iter();
        let over = over.filter(|(_, until)| refusals.is_over(**until));
        let over: Vec<_> = over.map(|(client, _)| *client).take(RECLAIMED).collect();
        let mut reclaimed = over.len() as u64;
        for client in over {
            self.tombstones.remove(&client);
        }
        for until in self.tombstones.values_mut() {
            if let Some(lowered) = refusals.lowered(*until) {
                *until = lowered;
                reclaimed += 1;
            }
        }
        reclaimed + self.remove_unregistered(registered)
    }

    fn remove_unregistered(&mut self, registered: &HashSet<ContainerId>) -> u64 {
        let oldest = self.oldest();
        self.sessions.retain(|_, row| row.forget(oldest));
        self.packages.retain(|_, row| row.forget(oldest));
        self.owners.retain(|_, entry| entry.forget(oldest));
        let sessions = self.sessions.iter();
        let left = sessions.filter(|((container, _), row)| {
            row.newest().is_some() && !registered.contains(container)
        });
        let left: Vec<_> = left.map(|(key, _)| *key).take(RECLAIMED).collect();
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
        let history = self.sessions.entry((container, client)).or_default();
        let old = history.newest().and_then(|row| row.owner.clone());
        let new = row.as_ref().and_then(|row| row.owner.clone());
        history.put(event, row, oldest);
        if old == new {
            return;
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
        let history = self.packages.entry(key).or_default();
        history.put(event, row, oldest);
    }

    /// How many sessions and packages there are.
    pub(crate) fn count(&self) -> Checked {
        let sessions = self.sessions.values();
        let packages = self.packages.values();
        Checked {
            sessions: sessions.filter(|row| row.newest().is_some()).count() as u64,
            packages: packages.filter(|row| row.newest().is_some()).count() as u64,
        }
    }
}
