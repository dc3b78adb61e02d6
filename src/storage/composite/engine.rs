//! The engine that sends everything to one of the two, or to both.

use super::driver::Driver;
use super::gate::{CommitGate, Inside};
use super::memory::MemoryEngine;
use super::snapshot::{CompositeSnapshot, MemorySnapshot};
use crate::client_id::ClientKey;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::Revision;
use crate::storage::merge::MergeRefusal;
use crate::storage::{
    Answer, ChangeSet, Checked, CommitCallback, ContainerId, Counters, Finding, Mark, Outcome,
    RecordedTimes, Resubmit, SessionRef, SettingsChange, Snapshot, Storage, StoreSettings,
    Submission, TombstonePolicy, Touch, TouchOutcome, WaiterKind,
};
use futures_channel::oneshot;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A durable engine, with containers in memory beside it.
pub(crate) struct Composite {
    pub(super) shared: Arc<CompositeShared>,
    pub(super) driver: Driver,
}

pub(super) struct CompositeShared {
    pub(super) durable: Arc<dyn Storage>,
    pub(super) memory: Arc<MemoryEngine>,
    pub(super) gate: Arc<CommitGate>,
    /// How many containers were registered and unregistered, as far as this process knows. Commits in memory go by it:
    /// their rows are of this process alone.
    registry: AtomicU64,
}

impl Composite {
    /// Puts an engine in memory beside a durable one. `seed` draws the versions of its rows.
    pub(crate) fn new(durable: Arc<dyn Storage>, clock: Clock, seed: u64) -> Result<Self> {
        Ok(Self {
            shared: Arc::new(CompositeShared {
                durable,
                memory: Arc::new(MemoryEngine::new(clock, seed)),
                gate: Arc::default(),
                registry: AtomicU64::new(0),
            }),
            driver: Driver::start()?,
        })
    }
}

impl Composite {
    /// Does something to the access times of a client in memory while no commit of that client is under way: one that has
    /// been validated brings an access with it (C3.2).
    fn in_memory_alone<T: Send + 'static>(
        &self,
        client: ClientKey,
        work: impl FnOnce(&MemoryEngine) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (reply, answer) = oneshot::channel();
        let memory = self.shared.memory.clone();
        let go = move |inside| {
            let done = work(&memory);
            drop::<Inside>(inside);
            drop(reply.send(done));
        };
        self.shared.gate.enter_commit(vec![client], Box::new(go));
        answer
    }

    /// Notes the settings that the durable engine answers with.
    fn known<'a>(
        &'a self,
        answer: Answer<'a, Result<Arc<StoreSettings>>>,
    ) -> Answer<'a, Result<Arc<StoreSettings>>> {
        Answer::later(async move {
            let settings = answer.await?;
            let known = &self.shared.registry;
            known.fetch_max(settings.registry, Ordering::AcqRel);
            Ok(settings)
        })
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

/// How a change set is handed to the durable engine.
enum DurableSubmit {
    Bounded(WaiterKind),
    Unbounded,
    /// In the place that it kept there.
    Again(Box<dyn Resubmit>),
}

/// A commit of both engines that is submitted to the durable one later. Dropping its handle withdraws it, unless that
/// one has admitted it.
#[derive(Default)]
struct LateSubmission(Mutex<LateState>);

#[derive(Default)]
enum LateState {
    #[default]
    Waits,
    Submitted(#[allow(dead_code, reason = "dropping it withdraws")] Submission),
    Withdrawn,
}

struct LateWithdrawal(Arc<LateSubmission>);

impl Drop for LateWithdrawal {
    fn drop(&mut self) {
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

    /// Keeps what withdraws it, or withdraws it at once.
    fn submitted(&self, submission: Submission) {
        if let LateState::Withdrawn = self.replace(LateState::Submitted(submission)) {
            drop(self.replace(LateState::Withdrawn));
        }
    }
}

impl CompositeShared {
    /// The state of both engines at one moment. At first without keeping commits out: only where one came in between,
    /// the next try does.
    pub(super) async fn snapshot(self: &Arc<Self>, driver: &Driver) -> Result<Arc<dyn Snapshot>> {
        if let Some(before) = self.gate.quiet() {
            let memory = MemorySnapshot::of(&self.memory);
            let durable = self.durable.snapshot().await?;
            if self.gate.quiet() == Some(before) {
                return Ok(Arc::new(CompositeSnapshot { durable, memory }));
            }
        }
        let (reply, answer) = oneshot::channel();
        let shared = self.clone();
        let (enter, entered) = oneshot::channel();
        // Not by the caller, who may never poll again: commits wait until this has left the gate.
        driver.run(async move {
            let Ok(inside): Result<Inside, _> = entered.await else {
                return;
            };
            let memory = MemorySnapshot::of(&shared.memory);
            let durable = shared.durable.snapshot().await;
            drop(inside);
            let _ = reply.send(durable.map(|durable| CompositeSnapshot { durable, memory }));
        });
        self.gate
            .enter_snapshot(Box::new(move |inside| drop(enter.send(inside))));
        let snapshot = answer.await.map_err(|_| closed())??;
        Ok(Arc::new(snapshot))
    }

    pub(super) fn submit(
        self: &Arc<Self>,
        set: ChangeSet,
        done: CommitCallback,
        waiter: WaiterKind,
    ) -> Submission {
        match Concerns::of(&set) {
            Concerns::Durable => self.durable.submit_for(waiter, set, done),
            Concerns::Memory => {
                self.commit_in_memory(set, done);
                Submission::admitted()
            }
            Concerns::Both => self.commit_in_both(set, done, DurableSubmit::Bounded(waiter)),
        }
    }

    pub(super) fn submit_unbounded(self: &Arc<Self>, set: ChangeSet, done: CommitCallback) {
        match Concerns::of(&set) {
            Concerns::Durable => self.durable.submit_unbounded(set, done),
            Concerns::Memory => self.commit_in_memory(set, done),
            Concerns::Both => {
                let _ = self.commit_in_both(set, done, DurableSubmit::Unbounded);
            }
        }
    }

    fn commit_in_memory(self: &Arc<Self>, set: ChangeSet, done: CommitCallback) {
        let shared = self.clone();
        self.gate.enter_commit(
            clients_of(&set),
            Box::new(move |inside| {
                let mut set = set;
                let committed = shared
                    .memory
                    .commit(&mut set, shared.registry.load(Ordering::Acquire));
                drop(inside);
                done(match committed {
                    Ok(()) => Outcome::Committed(set),
                    Err(MergeRefusal::Failed(error, client)) => Outcome::Failed(error, client),
                    Err(MergeRefusal::Stale(commutes)) => Outcome::Stale(set, commutes, None),
                });
            }),
        );
    }

    /// Memory is locked for the clients concerned, and its rows go along to the durable engine, which validates
    /// everything and makes its own part durable. Then memory is changed, which cannot fail.
    fn commit_in_both(
        self: &Arc<Self>,
        set: ChangeSet,
        done: CommitCallback,
        how: DurableSubmit,
    ) -> Submission {
        let is_bounded = matches!(how, DurableSubmit::Bounded(_));
        let late = Arc::<LateSubmission>::default();
        let (shared, submitted) = (self.clone(), late.clone());
        self.gate.enter_commit(
            clients_of(&set),
            Box::new(move |inside| {
                if !submitted.is_withdrawn() {
                    let submission = shared.submit_to_durable(set, done, how, inside);
                    submitted.submitted(submission);
                }
            }),
        );
        if is_bounded {
            Submission::pending(LateWithdrawal(late))
        } else {
            Submission::admitted()
        }
    }

    fn submit_to_durable(
        self: &Arc<Self>,
        mut set: ChangeSet,
        done: CommitCallback,
        how: DurableSubmit,
        inside: Inside,
    ) -> Submission {
        let (rows, accesses) = self.memory.prepare(&set);
        set.foreign = Some(Box::new(rows));
        let shared = self.clone();
        let done: CommitCallback = Box::new(move |outcome| {
            let outcome = shared.complete(outcome, accesses);
            drop(inside);
            done(outcome);
        });
        match how {
            DurableSubmit::Bounded(waiter) => self.durable.submit_for(waiter, set, done),
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
    fn complete(self: &Arc<Self>, outcome: Outcome, accesses: Vec<Touch>) -> Outcome {
        match outcome {
            Outcome::Committed(mut set) => {
                let foreign = set.foreign.take().unwrap_or_default();
                match self.memory.apply(foreign.written, accesses) {
                    Ok(()) => Outcome::Committed(set),
                    Err(error) => Outcome::Failed(half_applied(error), None),
                }
            }
            Outcome::Stale(mut set, commutes, place) => {
                set.foreign = None;
                let place = place.map(|place| {
                    let shared = Arc::downgrade(self);
                    Box::new(CompositePlace { shared, place }) as Box<dyn Resubmit>
                });
                Outcome::Stale(set, commutes, place)
            }
            failed @ Outcome::Failed(..) => failed,
        }
    }

    pub(super) fn mark(&self) -> Mark {
        let Mark([durable, _]) = self.durable.mark();
        let Revision(memory) = self.memory.tables().newest();
        Mark([durable, memory])
    }
}

/// The place of a commit in the durable engine while it is computed again.
struct CompositePlace {
    shared: Weak<CompositeShared>,
    place: Box<dyn Resubmit>,
}

impl Resubmit for CompositePlace {
    fn resubmit(self: Box<Self>, set: ChangeSet, done: CommitCallback) {
        match self.shared.upgrade() {
            Some(shared) => {
                let _ = shared.commit_in_both(set, done, DurableSubmit::Again(self.place));
            }
            None => done(Outcome::Failed(closed(), None)),
        }
    }
}

/// The clients whose rows a change set reads or writes.
fn clients_of(set: &ChangeSet) -> Vec<ClientKey> {
    let clients = set.clients.iter().flat_map(|client| client.clients());
    clients.collect()
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

/// A row that was merged cannot be decoded: a defect of this crate.
fn half_applied(error: Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "the commit is durable, but its part in memory cannot be applied",
    )
    .with_source(error)
}

impl Storage for Composite {
    fn mark(&self) -> Mark {
        self.shared.mark()
    }

    fn ready(&self) -> Result<()> {
        self.shared.durable.ready()
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        Answer::later(self.shared.snapshot(&self.driver))
    }

    fn submit(&self, set: ChangeSet, done: CommitCallback) -> Submission {
        self.shared.submit(set, done, WaiterKind::Task)
    }

    fn submit_unbounded(&self, set: ChangeSet, done: CommitCallback) {
        self.shared.submit_unbounded(set, done);
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        if !touch.session.container.is_in_memory() {
            return self.shared.durable.touch(touch);
        }
        let recorded = self.in_memory_alone(touch.session.client, move |memory| {
            let now = memory.clock.timestamp();
            memory.tables().touch(touch, now)
        });
        Answer::later(async move {
            match recorded.await {
                Ok(true) => TouchOutcome::Alive,
                Ok(false) => TouchOutcome::Ended,
                Err(_) => TouchOutcome::Unknown,
            }
        })
    }

    fn is_alive(&self, session: SessionRef, since: Mark) -> Answer<'_, Result<bool>> {
        if !session.container.is_in_memory() {
            return self.shared.durable.is_alive(session, since);
        }
        Answer::now(Ok(self.shared.memory.tables().is_live(session, since)))
    }

    fn recorded_times(&self, session: SessionRef) -> Answer<'_, Result<Option<RecordedTimes>>> {
        if !session.container.is_in_memory() {
            return self.shared.durable.recorded_times(session);
        }
        let memory = &self.shared.memory;
        Answer::now(Ok(memory.tables().recorded_times(session)))
    }

    fn found_expired(&self, session: SessionRef) -> Answer<'_, Result<Option<RecordedTimes>>> {
        if !session.container.is_in_memory() {
            return self.shared.durable.found_expired(session);
        }
        let found = self.in_memory_alone(session.client, move |memory| {
            let mut tables = memory.tables();
            tables.note_expired(session);
            tables.recorded_times(session)
        });
        Answer::later(async move { found.await.map_err(|_| closed()) })
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
            let settings = self.shared.durable.settings().await?;
            let records = settings.containers.values();
            let registered = records.map(|record| ContainerId(record.id)).collect();
            let mut tables = self.shared.memory.tables();
            Ok(reclaimed + tables.reclaim(refusals, &registered))
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
        counters.commits += self.shared.memory.commits.load(Ordering::Relaxed);
        counters.touches += self.shared.memory.tables().recorded();
        counters
    }

    fn close(&self) -> Result<()> {
        let closed = self.shared.durable.close();
        self.driver.close();
        closed
    }
}
