//! The engine: every answer but the cheap ones comes from the server.

use super::server::{Server, ServerState};
use super::snapshot::RemoteSnapshot;
use super::wire::Wire;
use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::process::Process;
use crate::storage::admission::AdmissionBounds;
use crate::storage::admission_line::{AdmissionLine, AdmissionPermit, QueuedCommit};
use crate::storage::merge::MergeRefusal;
use crate::storage::quota::SharedQuota;
use crate::storage::{
    Answer, ChangeSet, Checked, CommitCallback, Counters, Finding, Mark, NewestTimes, Outcome,
    Resubmit, RowProgressFn, SessionRef, SettingsChange, Snapshot, Storage, StoreSettings,
    Submission, TombstonePolicy, Touch, TouchOutcome, WaiterKind,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An engine whose every call waits for a network.
pub(crate) struct FakeRemote {
    wire: Arc<Wire>,
    line: Arc<AdmissionLine>,
    counters: Arc<RemoteCounters>,
    process: Process,
}

/// Of this engine alone: another one of the same server counts its own.
#[derive(Default)]
struct RemoteCounters {
    commits: AtomicU64,
    conflicts: AtomicU64,
    refused: AtomicU64,
}

/// The settings of an engine.
pub(crate) struct RemoteRules {
    /// Draws the order in which calls and answers arrive.
    pub(crate) seed: u64,
    pub(crate) admission: AdmissionBounds,
    /// How many sessions may be founded by this engine, where that is limited.
    pub(crate) new_sessions: Option<SharedQuota>,
    /// The settings that a new server begins with, where its store is to be the copy of another one.
    pub(crate) initial: Option<Arc<StoreSettings>>,
}

impl FakeRemote {
    /// Connects to the server of this name, or to a new one without a name.
    pub(crate) fn connect(name: Option<&Path>, rules: RemoteRules, clock: Clock) -> Result<Self> {
        let server = match name {
            Some(name) => Server::named(name, rules.initial)?,
            None => Arc::new(Server::new(rules.initial)?),
        };
        let wire = Wire::connect(server, rules.seed, clock)?;
        let counters = Arc::<RemoteCounters>::default();
        let sender = CommitSender {
            wire: wire.clone(),
            counters: counters.clone(),
            quota: rules.new_sessions,
        };
        let line = AdmissionLine::new(rules.admission, Box::new(move |commit| sender.send(commit)));
        Ok(Self {
            wire,
            line,
            counters,
            process: Process::this(),
        })
    }
}

impl FakeRemote {
    /// Asks for the newest times of sessions, after `note` has noted each.
    fn ask_times(
        &self,
        sessions: &[SessionRef],
        note: impl Fn(&mut ServerState, SessionRef) + Send + 'static,
    ) -> Answer<'_, NewestTimes> {
        let now = self.wire.clock.timestamp();
        let (asked_for, count) = (sessions.to_vec(), sessions.len());
        let asked = self.wire.ask(move |server| {
            let times = asked_for.into_iter().map(|session| {
                note(server, session);
                Ok(server.tables.recorded_times(session, now))
            });
            Ok(times.collect())
        });
        asked.map(move |times| times.unwrap_or_else(|error| vec![Err(error); count]))
    }
}

/// Sends commits to the server.
struct CommitSender {
    wire: Arc<Wire>,
    counters: Arc<RemoteCounters>,
    quota: Option<SharedQuota>,
}

impl CommitSender {
    fn send(&self, commit: QueuedCommit) {
        let QueuedCommit {
            mut set,
            done,
            permit,
        } = commit;
        let (clock, quota) = (self.wire.clock.clone(), self.quota.clone());
        let at_server = move |server: &mut ServerState| {
            let now = clock.timestamp();
            let may_found = |founded| match &quota {
                Some(quota) => quota.take_or_refuse(founded, clock.moment()),
                None => Ok(()),
            };
            let committed = server.commit(&mut set, now, may_found);
            (set, committed)
        };
        let counters = self.counters.clone();
        self.wire.call(at_server, move |answer| {
            let outcome = match answer {
                Ok((set, Ok(()))) => Outcome::Committed(set),
                Ok((set, Err(MergeRefusal::Stale(commutes)))) => {
                    let permit = permit.map(|permit| Box::new(permit) as Box<dyn Resubmit>);
                    return done(Outcome::Stale(set, commutes, permit));
                }
                Ok((_, Err(MergeRefusal::Failed(error, client)))) => Outcome::Failed(error, client),
                Err(error) => Outcome::Failed(error, None),
            };
            counters.note(&outcome);
            drop(permit);
            done(outcome);
        });
    }
}

impl RemoteCounters {
    fn note(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Committed(_) => &self.commits,
            Outcome::Failed(error, _) if error.kind() == ErrorKind::Conflict => &self.conflicts,
            Outcome::Failed(error, _) if error.kind() == ErrorKind::Unavailable => &self.refused,
            Outcome::Failed(..) | Outcome::Stale(..) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Resubmit for AdmissionPermit {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        self.resend(set, done);
    }
}

impl Storage for FakeRemote {
    fn mark(&self) -> Mark {
        self.wire.mark()
    }

    fn ready(&self) -> Result<()> {
        self.wire.network.ready()
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        let asked = self.wire.ask(|server| Ok(server.tables.snapshot()));
        let wire = self.wire.clone();
        Answer::later(async move {
            let held = asked.await?;
            Ok(Arc::new(RemoteSnapshot::new(wire, held)) as Arc<dyn Snapshot>)
        })
    }

    fn submit(&self, set: Box<ChangeSet>, _: WaiterKind, done: CommitCallback) -> Submission {
        match self.line.enter(set, done) {
            Some(withdrawal) => Submission::pending(withdrawal),
            None => Submission::admitted(),
        }
    }

    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        self.line.pass(set, done);
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        let asked = self.wire.touch(touch);
        Answer::later(async move {
            match asked.await {
                Ok(true) => TouchOutcome::Alive,
                Ok(false) => TouchOutcome::Ended,
                Err(_) => TouchOutcome::Unknown,
            }
        })
    }

    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>> {
        let sessions = sessions.to_vec();
        self.wire.ask(move |server| {
            let mut sessions = sessions.into_iter();
            Ok(sessions.any(|it| server.tables.is_live(it, since)))
        })
    }

    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        self.ask_times(sessions, |_, _| {})
    }

    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        self.ask_times(sessions, |server, it| server.tables.note_expired(it))
    }

    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.wire.ask(|server| Ok(server.settings.clone()))
    }

    fn settings_version(&self) -> u64 {
        self.wire.settings_version()
    }

    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.wire.ask(move |server| server.configure(&change))
    }

    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>> {
        self.wire.ask(move |server| {
            let registered = server.registered();
            Ok(server.tables.reclaim(refusals, &registered))
        })
    }

    /// Nothing in memory is damaged.
    fn check<'a>(
        &'a self,
        _found: &'a mut (dyn FnMut(Finding) + Send),
        _progress: &'a mut RowProgressFn<'a>,
    ) -> Answer<'a, Result<Checked>> {
        self.wire.ask(|server| Ok(server.tables.count()))
    }

    fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let load = self.line.load();
        Counters {
            commits: get(&self.counters.commits),
            groups: get(&self.counters.commits),
            conflicts: get(&self.counters.conflicts),
            touches: get(&self.wire.recorded),
            refused: get(&self.counters.refused),
            waiting: load.commits,
            waiting_bytes: load.bytes,
            pending_admission: load.waiting,
            ..Counters::default()
        }
    }

    fn close(&self) -> Result<()> {
        self.process.check()?;
        self.wire.network.close();
        Ok(())
    }
}

impl Drop for FakeRemote {
    fn drop(&mut self) {
        let _ = self.close();
    }
}
