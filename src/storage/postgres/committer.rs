//! What all ways to commit share: the plan, the quota of new sessions, and what follows a commit.

use super::client_gates::{ClientGates, LostMark};
use super::client_queue::ClientQueue;
use super::current::RowsByClient;
use super::plan::{CommitPlan, plan};
use super::row_edit::PlanTerms;
use super::shared::{Shared, lock};
use super::touches::PendingTouches;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::merge::MergeRefusal;
use crate::storage::{ChangeSet, StaleCommute};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

/// How many commits are looked up at a time whose callers have an answer.
const LATE_OUTCOMES: usize = 2;

/// How the attempt to commit together with others ended.
pub(super) enum FirstTry {
    Ended(CommitEnd),
    /// The server's rows are others than this process knew, or a commit cannot go together with others.
    InLine,
    Lost(LostCommit),
}

/// How a commit ended.
pub(super) enum CommitEnd {
    Committed,
    Stale(Vec<StaleCommute>),
    Failed(Error, Option<ClientKey>),
}

impl From<MergeRefusal> for CommitEnd {
    fn from(refusal: MergeRefusal) -> Self {
        match refusal {
            MergeRefusal::Failed(error, client) => Self::Failed(error, client),
            MergeRefusal::Stale(commutes) => Self::Stale(commutes),
        }
    }
}

/// A commit whose answer was lost.
pub(super) struct LostCommit {
    pub(super) version: u64,
    pub(super) plan: CommitPlan,
    /// Keeps other commits from replacing the versions by which its outcome is found out.
    _mark: LostMark,
}

impl LostCommit {
    pub(super) fn new(gates: &Arc<ClientGates>, version: u64, plan: CommitPlan) -> Self {
        let clients = plan.writes.keys().copied().collect();
        Self {
            version,
            plan,
            _mark: gates.mark_lost(clients),
        }
    }

    /// The rows that it replaces, each with its version. `None`: there was no row, but for one that the same transaction
    /// put there for an absent client.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (ClientKey, Option<u64>)> {
        let writes = self.plan.writes.iter();
        writes.map(|(client, write)| {
            let base = Some(&write.base).filter(|base| !base.stands_for_absence());
            (*client, base.and_then(|base| base.version()))
        })
    }
}

/// The result of planning a commit.
pub(super) struct Planned {
    /// The number of the commit.
    pub(super) version: u64,
    pub(super) plan: Result<CommitPlan, MergeRefusal>,
    /// Clients whose rows are needed, too. If there are any, the plan is none.
    pub(super) missing: BTreeSet<ClientKey>,
    /// Tombstones that lay too far ahead.
    pub(super) lowered: Vec<(ClientKey, Timestamp)>,
}

/// Commits change sets.
pub(super) struct PgCommitter {
    pub(super) shared: Arc<Shared>,
    pub(super) touches: Arc<PendingTouches>,
    /// Change sets of one client each.
    pub(super) waiting: Mutex<ClientQueue<WaitingCommit>>,
    pub(super) arrived: Notify,
    /// Of those whose outcome is asked for later, so many ask at a time: they must not keep others from the connections.
    pub(super) late_outcomes: Semaphore,
    /// Before the commits behind the locks of rows.
    pub(super) gates: Arc<ClientGates>,
}

/// A change set that waits for a connection. It comes back with the reply.
pub(super) struct WaitingCommit {
    pub(super) set: Box<ChangeSet>,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<(Box<ChangeSet>, FirstTry)>,
}

impl WaitingCommit {
    pub(super) fn reply(self, end: FirstTry) {
        let _ = self.reply.send((self.set, end));
    }
}

impl PgCommitter {
    pub(super) fn new(shared: Arc<Shared>, touches: Arc<PendingTouches>) -> Self {
        Self {
            shared,
            touches,
            waiting: Mutex::default(),
            arrived: Notify::new(),
            late_outcomes: Semaphore::new(LATE_OUTCOMES),
            gates: Arc::default(),
        }
    }

    /// Computes what a change set writes, from these rows.
    pub(super) fn plan(&self, set: &ChangeSet, rows: &RowsByClient) -> Planned {
        let shared = &self.shared;
        let terms = PlanTerms {
            version: shared.version(),
            server_time: shared.heard.server_time(),
            sweeps: shared.sweep_times.load_full(),
        };
        let version = terms.version;
        let under_way = self
            .touches
            .under_way(rows.keys().copied(), self.shared.now());
        shared.with_loaded(rows, &under_way, set.refusals, |rows| Planned {
            version,
            plan: plan(set, rows, terms, &shared.rules.cipher),
            missing: rows.missing.take(),
            lowered: rows.lowered.take(),
        })
    }

    /// Counts the sessions that begin with a commit, if that many may begin.
    pub(super) fn admit_new(&self, plan: &CommitPlan) -> Result<()> {
        let shared = &self.shared;
        match &shared.rules.new_sessions {
            Some(quota) if plan.founded > 0 => {
                let admitted = quota.take_or_refuse(plan.founded, shared.clock.moment());
                admitted.inspect_err(|_| {
                    shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn give_back_new(&self, plan: &CommitPlan) {
        if let Some(quota) = &self.shared.rules.new_sessions {
            quota.give_back(plan.founded);
        }
    }

    /// Notes what a commit has written.
    pub(super) fn committed(&self, set: &mut ChangeSet, plan: CommitPlan) -> CommitEnd {
        let shared = &self.shared;
        shared.pool.has_written();
        for (client, write) in plan.writes {
            shared.hear(client, &write.rows);
            let mut cache = lock(&shared.cache);
            match write.rows.sessions.is_empty() {
                true => cache.remove(client),
                false => cache.put(client, write.rows),
            }
        }
        for touch in plan.accesses {
            self.touches.add(touch, None);
        }
        set.swept = plan.swept;
        if let Some(foreign) = &mut set.foreign {
            foreign.commit.written = plan.foreign;
        }
        CommitEnd::Committed
    }
}

/// The clients that a change set concerns, in the order in which their rows are locked.
pub(super) fn clients_of(set: &ChangeSet) -> BTreeSet<ClientKey> {
    set.clients.iter().flat_map(|it| it.clients()).collect()
}
