//! Submits a change set to the engines that it concerns.

use super::gate::Inside;
use super::memory::{MemoryHold, clients_of};
use super::shared::{CompositeShared, closed};
use crate::error::ErrorKind;
use crate::process::Process;
use crate::storage::merge::MergeRefusal;
use crate::storage::{
    ChangeSet, ClientChange, CommitCallback, ContainerHome, ForeignCommit, Outcome, Resubmit,
    Submission, WaiterKind,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, ThreadId};

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
        let mut is_in_memory = seen.map(|seen| seen.container_ref.id.is_in_memory());
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
    /// The same, as seen from this thread. Only the thread that submitted the change set waits, and can lead a group
    /// commit. On any other thread, the waiter counts as a task.
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
        // In a forked process, a thread that does not exist there may hold the lock (C7.5).
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

    /// Notes that the durable engine has the commit. Withdraws it there if it was withdrawn meanwhile.
    fn submitted(&self, submission: Submission) {
        if let LateState::Withdrawn = self.replace(LateState::Submitted(submission)) {
            drop(self.replace(LateState::Withdrawn));
        }
    }
}

impl CompositeShared {
    fn concerns(&self, set: &ChangeSet) -> Concerns {
        match self.has_memory() {
            true => Concerns::of(set),
            false => Concerns::Durable,
        }
    }

    pub(super) fn submit(
        self: &Arc<Self>,
        set: Box<ChangeSet>,
        waiter: WaiterKind,
        done: CommitCallback,
    ) -> Submission {
        let (set, done) = self.access_after(set, done);
        match self.concerns(&set) {
            Concerns::Durable => self.durable.submit(set, waiter, done),
            Concerns::Memory => {
                self.commit_in_memory(set, done);
                Submission::admitted()
            }
            Concerns::Both => self.commit_in_both(set, done, DurableSubmit::Bounded(waiter)),
        }
    }

    pub(super) fn submit_unbounded(self: &Arc<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        let (set, done) = self.access_after(set, done);
        match self.concerns(&set) {
            Concerns::Durable => self.durable.submit_unbounded(set, done),
            Concerns::Memory => self.commit_in_memory(set, done),
            Concerns::Both => {
                let _ = self.commit_in_both(set, done, DurableSubmit::Unbounded);
            }
        }
    }

    /// Takes the accesses to durable containers out of a commit that does not change these containers otherwise.
    /// Records them after the commit, so that no request waits for a disk or a network because of a touch (C3.4).
    fn access_after(
        self: &Arc<Self>,
        mut set: Box<ChangeSet>,
        done: CommitCallback,
    ) -> (Box<ChangeSet>, CommitCallback) {
        if set.clients.iter().any(ClientChange::writes_durably) {
            return (set, done);
        }
        let accesses =
            set.take_accesses(|seen| seen.container_ref.id.home() == ContainerHome::Durable);
        if accesses.is_empty() {
            return (set, done);
        }
        let durable = self.durable.clone();
        let recording = move |outcome| {
            done(match outcome {
                Outcome::Committed(set) => {
                    for access in accesses {
                        drop(durable.touch(access));
                    }
                    Outcome::Committed(set)
                }
                Outcome::Stale(mut set, commutes, place) => {
                    set.put_back(&accesses);
                    Outcome::Stale(set, commutes, place)
                }
                failed @ Outcome::Failed(..) => failed,
            });
        };
        (set, Box::new(recording))
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

    /// Holds the clients in memory, and lends their rows to the durable engine. The durable engine validates everything
    /// and makes its own part durable. Then memory is changed, which cannot fail.
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

    /// Completes the part in memory, after the durable engine has answered.
    fn complete(self: &Arc<Self>, outcome: Outcome, hold: &MemoryHold) -> Outcome {
        let outcome = match outcome {
            Outcome::Committed(mut set) => {
                // If the durable engine has published the part in memory already, it has taken the part out.
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
}

/// The place that the durable engine keeps for a commit while the commit is computed again.
struct CompositePlace {
    shared: Weak<CompositeShared>,
    place: Box<dyn Resubmit>,
}

impl Resubmit for CompositePlace {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        match self.shared.upgrade() {
            Some(shared) => {
                let (set, done) = shared.access_after(set, done);
                let _ = shared.commit_in_both(set, done, DurableSubmit::Again(self.place));
            }
            None => done(Outcome::Failed(closed(), None)),
        }
    }
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(error, _) if error.kind() == ErrorKind::OutcomeUnknown)
}
