//! The engine of the containers in memory: its rows, and what it adds to a change set that another engine commits.

use crate::clock::{Clock, Timestamp};
use crate::error::Result;
use crate::storage::memory::{CommitTerms, DecidedCommit, MemoryTables, Random, TablesRole};
use crate::storage::merge::MergeRefusal;
use crate::storage::record::package_key;
use crate::storage::{ChangeSet, ClientChange, ForeignRows, MergedWrites, Seen, Touch, Version};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) struct MemoryEngine {
    tables: Mutex<MemoryTables>,
    pub(super) clock: Clock,
    versions: Mutex<Random>,
    pub(super) commits: AtomicU64,
}

impl MemoryEngine {
    pub(super) fn new(clock: Clock, seed: u64) -> Self {
        Self {
            tables: Mutex::new(MemoryTables::new(TablesRole::BesideAnother)),
            clock,
            versions: Mutex::new(Random::new(seed)),
            commits: AtomicU64::new(0),
        }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, MemoryTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits a change set that concerns containers in memory only.
    pub(super) fn commit(&self, set: &mut ChangeSet, registry: u64) -> Result<(), MergeRefusal> {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let terms = CommitTerms {
            version: Version(versions.version()),
            registry,
            now: self.clock.timestamp(),
        };
        drop(versions);
        let mut tables = self.tables();
        let decided = tables.decide(set, terms)?;
        set.swept = decided.swept();
        tables.apply(decided);
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The rows that a change set concerns, for the engine that commits it. They stay as they are until it is
    /// [applied](Self::apply): the caller lets no other commit of these clients in.
    pub(super) fn prepare(&self, set: &ChangeSet) -> (ForeignRows, Vec<Touch>) {
        let tables = self.tables();
        let mut rows = ForeignRows::default();
        for client in &set.clients {
            add_client(&mut rows, &tables, set, client, self.clock.timestamp());
        }
        (rows, tables.accesses_beside(set))
    }

    /// Puts in what the other engine merged, which is committed there.
    pub(super) fn apply(&self, written: MergedWrites, accesses: Vec<Touch>) -> Result<()> {
        let decided = DecidedCommit::merged(written, accesses, self.clock.timestamp())?;
        self.tables().apply(decided);
        Ok(())
    }
}

fn add_client(
    rows: &mut ForeignRows,
    tables: &MemoryTables,
    set: &ChangeSet,
    change: &ClientChange,
    now: Timestamp,
) {
    let in_memory = |seen: &&Seen| seen.place.id.is_in_memory();
    for seen in change.seen.iter().filter(in_memory) {
        let container = seen.place.id;
        if tables.was_found_expired(set, change, seen) {
            rows.expired.insert((container, change.client));
        }
        for client in change.clients() {
            let Some(row) = tables.newest_session(container, client) else {
                continue;
            };
            for package in row.packages.iter() {
                if let Some(content) = tables.newest_package(container, client, package) {
                    let key = package_key(container, client, package);
                    rows.packages.insert(key, content.clone());
                }
            }
            rows.sessions.insert((container, client), row);
        }
    }
    let client = change.client;
    for client in change.clients() {
        rows.tombstones
            .extend(tables.tombstone(client).map(|until| (client, until)));
        if tables.is_used(client) {
            rows.used.insert(client);
        }
    }
    if let Some(came) = change.replaced
        && (tables.ended_since(client, came.mark) || tables.expired_since(client, came.at, now))
    {
        rows.ended.insert(client);
    }
}
