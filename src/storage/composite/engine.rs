//! The engine that passes each call to the durable engine, to the containers in memory, or to both.

use super::driver::Driver;
use super::gate::{CommitGate, Inside};
use super::memory::{MemoryEngine, MemoryHold, MemoryRules, clients_of};
use super::snapshot::{CompositeSnapshot, MemorySnapshot};
use super::times::ask_each;
use crate::client_id::ClientKey;
use crate::clock::{Clock, ClockOffset, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::merge::MergeRefusal;
use crate::storage::{
    Answer, ChangeSet, Checked, CommitCallback, ContainerId, Counters, Finding, ForeignCommit,
    LocalEngine, Mark, NewestTimes, Outcome, Resubmit, SessionRef, SettingsChange, Snapshot,
    StalePage, Storage, StoreSettings, Submission, TombstonePolicy, Touch, TouchOutcome,
    WaiterKind,
};
use futures_channel::oneshot;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};

/// A durable engine, and the containers in memory beside it. Until there is such a container, every call goes to the
/// durable engine.
pub(crate) struct Composite {
    pub(super) shared: Arc<CompositeShared>,
    /// Takes the snapshots of a durable engine that does not answer at once.
    pub(super) driver: Option<Driver>,
}

pub(super) struct CompositeShared {
    pub(super) durable: Arc<dyn Storage>,
    pub(super) memory: Arc<MemoryEngine>,
    pub(super) gate: Arc<CommitGate>,
    /// The number of registrations, as far as this process knows. Commits in memory are compared with it: no other
    /// process has their rows.
    registry: AtomicU64,
    /// Whether there has been a container in memory. It is set before a transaction can know the first one.
    has_memory: AtomicBool,
}

impl Composite {
    /// Combines a durable engine with containers in memory.
    pub(crate) fn new(durable: Arc<dyn Storage>, clock: Clock, rules: MemoryRules) -> Result<Self> {
        let is_late = !durable.answers_at_once();
        Ok(Self {
            shared: Arc::new(CompositeShared {
                durable,
                memory: Arc::new(MemoryEngine::new(clock, rules)),
                gate: Arc::default(),
                registry: AtomicU64::new(0),
                has_memory: AtomicBool::new(false),
            }),
            driver: is_late.then(Driver::start).transpose()?,
        })
    }

    /// Learns the settings that the durable engine answers with.
    fn known<'a>(
        &'a self,
        answer: Answer<'a, Result<Arc<StoreSettings>>>,
    ) -> Answer<'a, Result<Arc<StoreSettings>>> {
        answer.map(|settings| settings.inspect(|settings| self.shared.learn(settings)))
    }
}

/// Which engines a change set concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concerns {
    Durable,
    Memory,
    Both,
}

impl Concerns {
    fn of(set: &ChangeSet) -> Self {
        let seen = set.clients.iter().flat_map(|client| &client.seen);
        let mut is_in_memory = seen.map(|seen| seen.place.id.is_in_memory());
        let Some(first) = is_in_memory.next() else {
            return Self::Durable;
        };
        match (is_in_memory.all(|other| other == first), first) {
            (false, _) => Self::Both,
            (true, true) => Self::Memory,
            (true, false) => Self::Durable,
        }
    }
}

/// How a change set is submitted to the durable engine.
enum DurableSubmit {
    Bounded(WaiterKind),
    Unbounded,
    /// In the place that the durable engine has kept for it.
    Again(Box<dyn Resubmit>),
}

impl DurableSubmit {
    /// The same on this thread. Only the thread that submitted the change set will lead a commit next.
    fn here(self, submitter: ThreadId) -> Self {
        match self {
            Self::Bounded(_) if thread::current().id() != submitter => {
                Self::Bounded(WaiterKind::Task)
            }
            how => how,
        }
    }
}

/// A commit of both engines that may be submitted to the durable engine later. Dropping its handle withdraws it, unless
/// the durable engine has admitted it.
#[derive(Default)]
struct LateSubmission(Mutex<LateState>);

#[derive(Default)]
enum LateState {
    #[default]
    Waits,
    Submitted(#[allow(dead_code, reason = "dropping it withdraws")] Submission),
    Withdrawn,
}

struct LateWithdrawal(Arc<LateSubmission>, Process);

impl Drop for LateWithdrawal {
    fn drop(&mut self) {
        // In a process that was forked, a thread that is not there may hold the lock (C7.5).
        if !self.1.is_this() {
            return std::mem::forget(self.0.clone());
        }
        let submitted = self.0.replace(LateState::Withdrawn);
        drop(submitted);
    }
}

impl LateSubmission {
    fn replace(&self, state: LateState) -> LateState {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, state)
    }

    fn is_withdrawn(&self) -> bool {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*slot, LateState::Withdrawn)
    }

    /// The durable engine has it. Withdraws it there if it was withdrawn meanwhile.
    fn submitted(&self, submission: Submission) {
        if let LateState::Withdrawn = self.replace(LateState::Submitted(submission)) {
            drop(self.replace(LateState::Withdrawn));
        }
    }
}

impl CompositeShared {
    fn has_memory(&self) -> bool {
        self.has_memory.load(Ordering::Acquire)
    }

    fn learn(&self, settings: &StoreSettings) {
        self.registry.fetch_max(settings.registry, Ordering::AcqRel);
        let mut containers = settings.containers.values();
        if containers.any(|record| ContainerId(record.id).is_in_memory()) {
            self.has_memory.store(true, Ordering::Release);
        }
    }

    /// The state of both engines at one moment, if the durable engine answers at once. It shows commits of both engines
    /// only while the tables are locked.
    fn snapshot_at_once(&self) -> Result<Arc<dyn Snapshot>> {
        let mut tables = self.memory.tables();
        let durable = self.durable.snapshot().wait()?;
        let memory = MemorySnapshot::of(&self.memory, &mut tables);
        Ok(Arc::new(CompositeSnapshot { durable, memory }))
    }

    /// The state of both engines at one moment. The first attempt does not keep commits out. If a commit has entered the
    /// gate meanwhile, the second attempt keeps them out.
    async fn snapshot_late(self: &Arc<Self>, driver: &Driver) -> Result<Arc<dyn Snapshot>> {
        if let Some(before) = self.gate.quiet() {
            let memory = MemorySnapshot::of(&self.memory, &mut self.memory.tables());
            let durable = self.durable.snapshot().await?;
            if self.gate.quiet() == Some(before) {
                return Ok(Arc::new(CompositeSnapshot { durable, memory }));
            }
        }
        let (reply, answer) = oneshot::channel();
        let shared = self.clone();
        let (enter, entered) = oneshot::channel();
        // The caller may never poll again, but commits wait until this has left the gate. So the driver runs it.
        driver.run(async move {
            let Ok(inside): Result<Inside, _> = entered.await else {
                return;
            };
            let memory = MemorySnapshot::of(&shared.memory, &mut shared.memory.tables());
            let durable = shared.durable.snapshot().await;
            drop(inside);
            let _ = reply.send(durable.map(|durable| CompositeSnapshot { durable, memory }));
        });
        self.gate
            .enter_snapshot(Box::new(move |inside| drop(enter.send(inside))));
        let snapshot = answer.await.map_err(|_| closed())??;
        Ok(Arc::new(snapshot))
    }

    fn concerns(&self, set: &ChangeSet) -> Concerns {
        match self.has_memory() {
            true => Concerns::of(set),
            false => Concerns::Durable,
        }
    }

    fn submit(
        self: &Arc<Self>,
        set: Box<ChangeSet>,
        waiter: WaiterKind,
        done: CommitCallback,
    ) -> Submission {
        match self.concerns(&set) {
            Concerns::Durable => self.durable.submit(set, waiter, done),
            Concerns::Memory => {
                self.commit_in_memory(set, done);
                Submission::admitted()
            }
            Concerns::Both => self.commit_in_both(set, done, DurableSubmit::Bounded(waiter)),
        }
    }

    fn submit_unbounded(self: &Arc<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        match self.concerns(&set) {
            Concerns::Durable => self.durable.submit_unbounded(set, done),
            Concerns::Memory => self.commit_in_memory(set, done),
            Concerns::Both => {
                let _ = self.commit_in_both(set, done, DurableSubmit::Unbounded);
            }
        }
    }

    fn commit_in_memory(self: &Arc<Self>, mut set: Box<ChangeSet>, done: CommitCallback) {
        let shared = self.clone();
        self.gate.enter_commit(
            clients_of(&set),
            Box::new(move |inside| {
                let registry = shared.registry.load(Ordering::Acquire);
                let ready = shared.durable.ready().map_err(MergeRefusal::from);
                let committed = ready.and_then(|()| shared.memory.commit(&mut set, registry));
                drop(inside);
                done(match committed {
                    Ok(()) => Outcome::Committed(set),
                    Err(MergeRefusal::Failed(error, client)) => Outcome::Failed(error, client),
                    Err(MergeRefusal::Stale(commutes)) => Outcome::Stale(set, commutes, None),
                });
            }),
        );
    }

    /// Holds the clients in memory, and lends their rows to the durable engine. It validates everything and makes its own
    /// part durable. Then memory is changed, which cannot fail.
    fn commit_in_both(
        self: &Arc<Self>,
        set: Box<ChangeSet>,
        done: CommitCallback,
        how: DurableSubmit,
    ) -> Submission {
        let is_bounded = matches!(how, DurableSubmit::Bounded(_));
        let late = Arc::<LateSubmission>::default();
        let (shared, submitted) = (self.clone(), late.clone());
        let submitter = thread::current().id();
        self.gate.enter_commit(
            clients_of(&set),
            Box::new(move |inside| {
                if !submitted.is_withdrawn() {
                    let how = how.here(submitter);
                    let submission = shared.submit_to_durable(set, done, how, inside);
                    submitted.submitted(submission);
                }
            }),
        );
        if is_bounded {
            Submission::pending(LateWithdrawal(late, self.memory.process.clone()))
        } else {
            Submission::admitted()
        }
    }

    fn submit_to_durable(
        self: &Arc<Self>,
        mut set: Box<ChangeSet>,
        done: CommitCallback,
        how: DurableSubmit,
        inside: Inside,
    ) -> Submission {
        let hold = match self.memory.lend(&mut set) {
            Ok(hold) => hold,
            Err(error) => {
                drop(inside);
                done(Outcome::Failed(error, None));
                return Submission::admitted();
            }
        };
        let shared = self.clone();
        let done: CommitCallback = Box::new(move |outcome| {
            let outcome = shared.complete(outcome, &hold);
            drop((hold, inside));
            done(outcome);
        });
        match how {
            DurableSubmit::Bounded(waiter) => self.durable.submit(set, waiter, done),
            DurableSubmit::Unbounded => {
                self.durable.submit_unbounded(set, done);
                Submission::admitted()
            }
            DurableSubmit::Again(place) => {
                place.resubmit(set, done);
                Submission::admitted()
            }
        }
    }

    /// The durable engine has answered.
    fn complete(self: &Arc<Self>, outcome: Outcome, hold: &MemoryHold) -> Outcome {
        let outcome = match outcome {
            Outcome::Committed(mut set) => {
                // If the durable engine has shown the part in memory, it has taken it out.
                if let Some(rows) = set.foreign.take() {
                    ForeignCommit::show_all(vec![rows.commit], || ());
                }
                Outcome::Committed(set)
            }
            Outcome::Stale(mut set, commutes, place) => {
                set.foreign = None;
                let place = place.map(|place| {
                    let shared = Arc::downgrade(self);
                    Box::new(CompositePlace { shared, place }) as Box<dyn Resubmit>
                });
                Outcome::Stale(set, commutes, place)
            }
            // The durable engine keeps the part in memory until it knows the outcome.
            unknown @ Outcome::Failed(..) if is_unknown(&unknown) => return unknown,
            failed @ Outcome::Failed(..) => failed,
        };
        hold.end();
        outcome
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            memory: self.memory.revision(),
            ..self.durable.mark()
        }
    }
}

/// The place that the durable engine keeps for a commit while it is computed again.
struct CompositePlace {
    shared: Weak<CompositeShared>,
    place: Box<dyn Resubmit>,
}

impl Resubmit for CompositePlace {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        match self.shared.upgrade() {
            Some(shared) => {
                let _ = shared.commit_in_both(set, done, DurableSubmit::Again(self.place));
            }
            None => done(Outcome::Failed(closed(), None)),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(error, _) if error.kind() == ErrorKind::OutcomeUnknown)
}

impl Storage for Composite {
    fn mark(&self) -> Mark {
        self.shared.mark()
    }

    fn ready(&self) -> Result<()> {
        self.shared.durable.ready()
    }

    fn answers_at_once(&self) -> bool {
        self.shared.durable.answers_at_once()
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        if !self.shared.has_memory() {
            return self.shared.durable.snapshot();
        }
        match &self.driver {
            None => Answer::now(self.shared.snapshot_at_once()),
            Some(driver) => Answer::later(self.shared.snapshot_late(driver)),
        }
    }

    fn submit(&self, set: Box<ChangeSet>, waiter: WaiterKind, done: CommitCallback) -> Submission {
        self.shared.submit(set, waiter, done)
    }

    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        self.shared.submit_unbounded(set, done);
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        if !touch.session.container.is_in_memory() {
            return self.shared.durable.touch(touch);
        }
        let memory = &self.shared.memory;
        let is_alive = memory.tables().touch(touch, memory.clock.timestamp());
        Answer::now(match is_alive {
            true => TouchOutcome::Alive,
            false => TouchOutcome::Ended,
        })
    }

    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>> {
        let all = sessions.iter().copied();
        let (in_memory, durable): (Vec<_>, Vec<_>) =
            all.partition(|it| it.container.is_in_memory());
        let is_alive = |it: &SessionRef| self.shared.memory.tables().is_live(*it, since);
        if in_memory.iter().any(is_alive) {
            return Answer::now(Ok(true));
        }
        match durable.is_empty() {
            true => Answer::now(Ok(false)),
            false => self.shared.durable.is_any_alive(&durable, since),
        }
    }

    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let CompositeShared {
            memory, durable, ..
        } = &*self.shared;
        let in_memory = |sessions: &[SessionRef]| memory.recorded_times(sessions);
        ask_each(sessions, in_memory, |it| durable.recorded_times(it))
    }

    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let CompositeShared {
            memory, durable, ..
        } = &*self.shared;
        let in_memory = |sessions: &[SessionRef]| memory.found_expired(sessions);
        ask_each(sessions, in_memory, |it| durable.found_expired(it))
    }

    fn stale(
        &self,
        container: ContainerId,
        now: Timestamp,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<StalePage>> {
        if !container.is_in_memory() {
            return self.shared.durable.stale(container, now, after, limit);
        }
        let mark = self.mark();
        let mut tables = self.shared.memory.tables();
        let newest = tables.snapshot();
        let rows = tables.sessions(&newest, container, after, limit);
        tables.give_back(newest);
        let sessions = rows.into_iter().map(|(client, row)| (client, Ok(row)));
        Answer::now(Ok(StalePage {
            mark,
            sessions: sessions.collect(),
        }))
    }

    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.known(self.shared.durable.settings())
    }

    fn settings_version(&self) -> u64 {
        self.shared.durable.settings_version()
    }

    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.known(self.shared.durable.configure(change))
    }

    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>> {
        Answer::later(async move {
            let reclaimed = self.shared.durable.reclaim(refusals).await?;
            if !self.shared.has_memory() {
                return Ok(reclaimed);
            }
            let settings = self.shared.durable.settings().await?;
            let records = settings.containers.values();
            let registered = records.map(|record| ContainerId(record.id)).collect();
            let memory = &self.shared.memory;
            let mut tables = memory.tables();
            let in_memory = tables.reclaim(refusals, &registered);
            memory.note_change(&mut tables);
            Ok(reclaimed + in_memory)
        })
    }

    fn check<'a>(
        &'a self,
        found: &'a mut (dyn FnMut(Finding) + Send),
    ) -> Answer<'a, Result<Checked>> {
        Answer::later(async move {
            let durable = self.shared.durable.check(found).await?;
            let memory = self.shared.memory.tables().count();
            Ok(Checked {
                sessions: durable.sessions + memory.sessions,
                packages: durable.packages + memory.packages,
            })
        })
    }

    fn counters(&self) -> Counters {
        let mut counters = self.shared.durable.counters();
        self.shared.memory.add_to(&mut counters);
        counters
    }

    fn clock_offset(&self) -> Option<Arc<ClockOffset>> {
        self.shared.durable.clock_offset()
    }

    fn close(&self) -> Result<()> {
        let closed = self.shared.durable.close();
        if let Some(driver) = &self.driver {
            driver.close();
        }
        closed
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        self.shared.durable.local()
    }
}
