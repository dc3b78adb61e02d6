//! The engine of the containers in memory. It commits change sets that concern only them, and lends their rows to
//! another engine.

use crate::client_id::ClientKey;
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::memory::{
    CommitTerms, DecidedCommit, MemoryTables, Random, Revision, TablesRole,
};
use crate::storage::merge::MergeRefusal;
use crate::storage::quota::SharedQuota;
use crate::storage::record::package_key;
use crate::storage::{
    ChangeSet, ClientChange, Counters, ForeignCommit, ForeignHold, ForeignRows, NewestTimes, Seen,
    SessionRef, Version,
};
use std::fmt::{self, Debug, Formatter};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The settings of the engine of containers in memory.
pub(crate) struct MemoryRules {
    pub(crate) snapshot_max_age: Duration,
    /// The limit of new sessions, if there is one.
    pub(crate) new_sessions: Option<SharedQuota>,
    /// The seed of the versions of rows.
    pub(crate) seed: u64,
}

pub(super) struct MemoryEngine {
    tables: Mutex<MemoryTables>,
    /// The newest revision of the tables.
    newest: AtomicU64,
    pub(super) clock: Clock,
    rules: MemoryRules,
    versions: Mutex<Random>,
    commits: AtomicU64,
    conflicts: AtomicU64,
    refused: AtomicU64,
    pub(super) process: Process,
}

impl MemoryEngine {
    pub(super) fn new(clock: Clock, rules: MemoryRules) -> Self {
        Self {
            tables: Mutex::new(MemoryTables::new(TablesRole::BesideAnother)),
            newest: AtomicU64::new(0),
            clock,
            versions: Mutex::new(Random::new(rules.seed)),
            rules,
            commits: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            process: Process::this(),
        }
    }

    pub(super) fn tables(&self) -> MutexGuard<'_, MemoryTables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest revision. Takes no lock.
    pub(super) fn revision(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Publishes the newest revision, after the tables have changed.
    pub(super) fn note_change(&self, tables: &mut MemoryTables) {
        let Revision(newest) = tables.newest();
        self.newest.store(newest, Ordering::Release);
        tables.expire_snapshots(self.clock.moment(), self.rules.snapshot_max_age);
    }

    fn next_version(&self) -> Version {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        Version(versions.version())
    }

    /// Commits a change set that concerns containers in memory only.
    pub(super) fn commit(&self, set: &mut ChangeSet, registry: u64) -> Result<(), MergeRefusal> {
        let committed = self.try_commit(set, registry);
        let counter = match &committed {
            Ok(()) => {
                metrics::counter!("cloakroom_commits_total").increment(1);
                &self.commits
            }
            Err(MergeRefusal::Failed(error, _)) if error.is_conflict() => {
                metrics::counter!("cloakroom_conflicts_total").increment(1);
                &self.conflicts
            }
            Err(_) => return committed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        committed
    }

    fn try_commit(&self, set: &mut ChangeSet, registry: u64) -> Result<(), MergeRefusal> {
        let terms = CommitTerms {
            version: self.next_version(),
            registry,
            now: self.clock.timestamp(),
        };
        let mut tables = self.tables();
        check_holds(&tables, set)?;
        let decided = tables.decide(set, terms)?;
        if let Some(quota) = &self.rules.new_sessions
            && decided.founded() > 0
            && let Err(refusal) = quota.take_or_refuse(decided.founded(), self.clock.moment())
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(refusal.into());
        }
        set.swept = decided.swept();
        tables.apply(decided);
        self.note_change(&mut tables);
        Ok(())
    }

    /// Adds the rows that a change set concerns to the change set, for the engine that commits it. They do not change
    /// until the returned hold ends: the gate admits no other commit of these clients.
    pub(super) fn lend(self: &Arc<Self>, set: &mut ChangeSet) -> Result<Arc<MemoryHold>> {
        let mut tables = self.tables();
        check_holds(&tables, set)?;
        let now = self.clock.timestamp();
        let mut rows = ForeignRows::default();
        for client in &set.clients {
            add_client(&mut rows, &tables, set, client, now);
        }
        let clients = clients_of(set);
        let claims = tables.all_accesses(set);
        tables.hold(&clients, claims);
        let hold = Arc::new(MemoryHold {
            engine: self.clone(),
            clients,
            is_over: AtomicBool::new(false),
        });
        rows.commit = ForeignCommit {
            accesses: tables.accesses_beside(set),
            hold: Some(hold.clone()),
            ..ForeignCommit::default()
        };
        set.foreign = Some(Box::new(rows));
        Ok(hold)
    }

    pub(super) fn recorded_times(&self, sessions: &[SessionRef]) -> NewestTimes {
        let now = self.clock.timestamp();
        let tables = self.tables();
        let times = sessions
            .iter()
            .map(|it| Ok(tables.recorded_times(*it, now)));
        times.collect()
    }

    /// Notes that sessions were found expired, then returns their newest times.
    pub(super) fn found_expired(&self, sessions: &[SessionRef]) -> NewestTimes {
        let mut tables = self.tables();
        for session in sessions {
            tables.note_expired(*session);
        }
        self.note_change(&mut tables);
        drop(tables);
        self.recorded_times(sessions)
    }

    pub(super) fn add_to(&self, counters: &mut Counters) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        counters.commits += get(&self.commits);
        counters.groups += get(&self.commits);
        counters.conflicts += get(&self.conflicts);
        counters.refused += get(&self.refused);
        let tables = self.tables();
        counters.touches += tables.recorded();
        let (held, oldest) = tables.superseded(self.clock.moment());
        counters.held = counters.held.max(held);
        counters.oldest_held = counters.oldest_held.max(oldest);
    }
}

impl Debug for MemoryEngine {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEngine").finish_non_exhaustive()
    }
}

/// The clients whose rows a change set reads or writes.
pub(super) fn clients_of(set: &ChangeSet) -> Vec<ClientKey> {
    let clients = set.clients.iter().flat_map(|client| client.clients());
    clients.collect()
}

/// Refuses a change set to a client for which the outcome of an earlier commit is unknown.
fn check_holds(tables: &MemoryTables, set: &ChangeSet) -> Result<()> {
    let mut clients = set.clients.iter().flat_map(|client| client.clients());
    match clients.any(|client| tables.is_held(client)) {
        true => Err(Error::new(
            ErrorKind::Unavailable,
            "the outcome of an earlier commit to the session is not known yet",
        )),
        false => Ok(()),
    }
}

/// While it lasts, the rows of some clients do not change.
#[derive(Debug)]
pub(super) struct MemoryHold {
    engine: Arc<MemoryEngine>,
    clients: Vec<ClientKey>,
    is_over: AtomicBool,
}

impl MemoryHold {
    /// Ends the hold, after the commit was applied or has failed.
    pub(super) fn end(&self) {
        if !self.is_over.swap(true, Ordering::AcqRel) {
            let now = self.engine.clock.timestamp();
            self.engine.tables().release(&self.clients, now);
        }
    }
}

impl ForeignHold for MemoryHold {
    fn publish_together(&self, commits: Vec<ForeignCommit>, show: &mut dyn FnMut()) {
        let now = self.engine.clock.timestamp();
        let mut holds = Vec::with_capacity(commits.len());
        let mut tables = self.engine.tables();
        show();
        for commit in commits {
            let ForeignCommit {
                written,
                accesses,
                hold,
            } = commit;
            tables.apply(DecidedCommit::merged(written, accesses, now));
            holds.push(hold);
        }
        self.engine.note_change(&mut tables);
        // Ending a hold locks the tables.
        drop(tables);
        drop(holds);
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        // In a forked process, a thread that does not exist there may hold the lock (C7.5).
        if self.engine.process.is_this() {
            self.end();
        }
    }
}

fn add_client(
    rows: &mut ForeignRows,
    tables: &MemoryTables,
    set: &ChangeSet,
    change: &ClientChange,
    now: Timestamp,
) {
    let in_memory = |seen: &&Seen| seen.container_ref.id.is_in_memory();
    for seen in change.seen.iter().filter(in_memory) {
        let container = seen.container_ref.id;
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

#[cfg(test)]
mod tests;
