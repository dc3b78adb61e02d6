//! The queue before the writer thread: which jobs it admits, and who takes them.

use crate::block_on::WakeGroup;
use crate::error::Error;
use crate::process::Process;
use crate::storage::admission::{Admission, AdmissionBounds};
use crate::storage::redb::commit::errors::closed;
use crate::storage::redb::commit::job::{Admits, CommitJob, QueueJob, QueuePermit};
use crate::storage::redb::commit::taker::{Call, OtherLeaders, Phase, Taker};
use crate::storage::{ChangeSet, CommitCallback, Outcome, WaiterKind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most jobs in one batch, so that a flood of commits does not make one batch endless.
const MAX_GROUP: usize = 1024;
/// The most bytes in one batch, unless it is a single change set.
pub(crate) const MAX_GROUP_BYTES: usize = 16 << 20;

pub(crate) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
    /// How many batches were taken.
    groups: AtomicUsize,
    wake_groups: [Arc<WakeGroup>; WAKE_GROUPS],
    process: Process,
}

/// How many batches have a wake group of their own: one is committed, one is queued. The others are for waiters whose
/// job went into a later batch than they assumed.
const WAKE_GROUPS: usize = 4;

struct QueueState {
    jobs: VecDeque<QueueJob>,
    /// Counts the commits that are in `jobs`, in a batch, or being recomputed.
    admission: Admission,
    /// The commits that wait for admission, by ascending number.
    pending_admission: VecDeque<(u64, CommitJob)>,
    next: u64,
    phase: Phase,
    call: Call,
    taker: Taker,
    /// A leader has taken jobs while the taker slept, and is not done with them.
    has_leader: bool,
}

impl QueueState {
    /// Whether there is nothing to do for the taker.
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.call == Call::None && !self.is_over()
    }

    /// Whether no job will come any more. A leader must be done first.
    fn is_over(&self) -> bool {
        self.phase.is_closing() && self.jobs.is_empty() && !self.has_leader
    }

    fn can_have_leader(&self) -> bool {
        self.taker.allows_leaders() && !self.has_leader
    }

    fn take_group(&mut self) -> Vec<QueueJob> {
        let many = group(self.jobs.iter().map(QueueJob::bytes));
        self.jobs.drain(..many).collect()
    }
}

/// Withdraws a commit that still waits for admission.
pub(crate) struct Withdrawal {
    queue: Arc<Queue>,
    number: u64,
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        if self.queue.is_elsewhere() {
            return;
        }
        let mut state = self.queue.lock();
        let found = state
            .pending_admission
            .binary_search_by_key(&self.number, |(number, _)| *number);
        let Ok(at) = found else { return };
        let withdrawn = state.pending_admission.remove(at);
        // The next in line may be smaller.
        self.queue.admit(state);
        drop(withdrawn);
    }
}

/// What waits in the queue, for the statistics.
pub(crate) struct QueueLoad {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
    pub(crate) pending_admission: usize,
}

impl Admits for Queue {
    fn release(self: Arc<Self>, commits: usize, bytes: usize) {
        if !self.is_elsewhere() {
            let mut state = self.lock();
            state.admission.release(commits, bytes);
            self.admit(state);
        }
    }

    fn admitted(&self, job: CommitJob) {
        self.push(QueueJob::Commit(job));
    }
}

impl Queue {
    pub(crate) fn new(bounds: AdmissionBounds) -> Self {
        Self {
            state: Mutex::new(QueueState {
                jobs: VecDeque::new(),
                admission: Admission::new(bounds),
                pending_admission: VecDeque::new(),
                next: 0,
                phase: Phase::Open,
                call: Call::None,
                taker: Taker::Awake,
                has_leader: false,
            }),
            wake: Condvar::new(),
            groups: AtomicUsize::default(),
            wake_groups: std::array::from_fn(|_| Arc::default()),
            process: Process::this(),
        }
    }

    /// The wake group of the next batch. It wakes all that wait on it, whichever batch their job is in.
    pub(crate) fn wake_group(&self) -> &Arc<WakeGroup> {
        let [first, ..] = &self.wake_groups;
        let next = self.groups.load(Ordering::Relaxed) % WAKE_GROUPS;
        self.wake_groups.get(next).unwrap_or(first)
    }

    fn take_group(&self, state: &mut QueueState) -> Vec<QueueJob> {
        self.groups.fetch_add(1, Ordering::Relaxed);
        state.take_group()
    }

    /// Whether this process was forked from the store's. The jobs belong to the parent, and a thread that does not exist
    /// here may hold the lock (C7.5).
    fn is_elsewhere(self: &Arc<Self>) -> bool {
        let is_elsewhere = !self.process.is_this();
        if is_elsewhere {
            std::mem::forget(self.clone());
        }
        is_elsewhere
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock, and wakes the taker if it is asleep: only then is there a system call.
    fn release_and_wake(&self, mut state: MutexGuard<'_, QueueState>) {
        let taker = std::mem::replace(&mut state.taker, Taker::Awake);
        drop(state);
        if taker.is_asleep() {
            self.wake.notify_one();
        }
    }

    /// Queues a job that needs no admission: a change of settings, or a commit that kept its permit.
    pub(crate) fn push(&self, job: QueueJob) {
        let mut state = self.lock();
        if let Some(error) = state.phase.refusal() {
            drop(state);
            job.refuse(error);
        } else {
            state.jobs.push_back(job);
            self.release_and_wake(state);
        }
    }

    /// Queues a commit that takes no room.
    pub(crate) fn commit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        self.push(QueueJob::Commit(CommitJob::new(set, done)));
    }

    /// Queues a commit, or lets it wait for admission behind others. A thread that waits for the commit calls
    /// [`become_leader`](Self::become_leader) next, so the taker may sleep on.
    pub(crate) fn commit(
        self: &Arc<Self>,
        set: Box<ChangeSet>,
        done: CommitCallback,
        waiter: WaiterKind,
    ) -> Option<Withdrawal> {
        let mut job = CommitJob::new(set, done);
        let mut state = self.lock();
        if let Some(error) = state.phase.refusal() {
            drop(state);
            job.answer(Outcome::Failed(error, None));
            return None;
        }
        if state.pending_admission.is_empty() && state.admission.admit(job.bytes()) {
            job.permit = Some(QueuePermit::new(self.clone(), job.bytes()));
            state.jobs.push_back(QueueJob::Commit(job));
            // A leader looks for more jobs when it is done.
            let helps = waiter == WaiterKind::Thread && state.can_have_leader();
            let others_see_to_it = state.has_leader || helps;
            if !others_see_to_it {
                self.release_and_wake(state);
            }
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.pending_admission.push_back((number, job));
        drop(state);
        Some(Withdrawal {
            queue: self.clone(),
            number,
        })
    }

    /// Admits the commits that wait, in order, as long as they fit.
    fn admit(self: &Arc<Self>, mut state: MutexGuard<'_, QueueState>) {
        let mut any = false;
        while let Some(bytes) = state.pending_admission.front().map(|(_, job)| job.bytes())
            && state.admission.admit(bytes)
            && let Some((_, mut job)) = state.pending_admission.pop_front()
        {
            job.permit = Some(QueuePermit::new(self.clone(), bytes));
            state.jobs.push_back(QueueJob::Commit(job));
            any = true;
        }
        if any {
            self.release_and_wake(state);
        }
    }

    /// The error for new jobs, if the queue takes none.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.lock().phase.refusal()
    }

    pub(crate) fn load(&self) -> QueueLoad {
        let state = self.lock();
        QueueLoad {
            commits: state.admission.commits,
            bytes: state.admission.bytes,
            pending_admission: state.pending_admission.len(),
        }
    }

    pub(crate) fn wake(&self) {
        self.call(Call::Upkeep);
    }

    pub(crate) fn suspect(&self) {
        self.call(Call::Suspect);
    }

    fn call(&self, call: Call) {
        let mut state = self.lock();
        state.call = state.call.max(call);
        self.release_and_wake(state);
    }

    /// Ends the queue. Returns the jobs that are left.
    pub(crate) fn end(&self) -> VecDeque<QueueJob> {
        let mut state = self.lock();
        state.phase = state.phase.ended();
        let outside = std::mem::take(&mut state.pending_admission);
        let mut left = std::mem::take(&mut state.jobs);
        left.extend(outside.into_iter().map(|(_, job)| QueueJob::Commit(job)));
        left
    }

    /// Closes the queue. Commits that wait for admission are refused; queued ones are still committed.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.phase = state.phase.closed();
        let outside = std::mem::take(&mut state.pending_admission);
        self.release_and_wake(state);
        QueueJob::refuse_all(
            outside.into_iter().map(|(_, job)| QueueJob::Commit(job)),
            &closed(),
        );
    }

    /// Makes the calling thread the leader: takes a batch in the taker's place, if the taker sleeps and need not be
    /// woken. Then [`resign`](Self::resign) must be called.
    pub(crate) fn become_leader(&self) -> Option<Vec<QueueJob>> {
        let mut state = self.lock();
        let has_more = state.call != Call::None || state.phase.is_closing();
        if !state.can_have_leader() || has_more || state.jobs.is_empty() {
            return None;
        }
        state.has_leader = true;
        Some(self.take_group(&mut state))
    }

    /// The leader is done with its batch. Wakes the taker if there are more jobs, or if it would sleep beyond `wake_at`.
    pub(crate) fn resign(&self, wake_at: Option<Instant>) {
        let mut state = self.lock();
        state.has_leader = false;
        if wake_at.is_some_and(|at| state.taker.sleeps_beyond(at)) {
            state.call = state.call.max(Call::Upkeep);
        }
        if !state.is_idle() {
            self.release_and_wake(state);
        }
    }

    /// Puts jobs back that a leader has taken but not served.
    pub(crate) fn give_back(&self, jobs: Vec<QueueJob>) {
        let mut state = self.lock();
        for job in jobs.into_iter().rev() {
            state.jobs.push_front(job);
        }
    }

    /// Waits until there is something to do, or until `deadline`; takes at most one batch. `help` says whether other
    /// threads may lead meanwhile.
    pub(crate) fn take(&self, deadline: Option<Instant>, leaders: OtherLeaders) -> TakenJobs {
        let mut state = self.lock();
        while state.is_idle() {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            state.taker = Taker::Asleep {
                until: deadline,
                leaders,
            };
            state = match left {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.wake.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        state.taker = Taker::Awake;
        TakenJobs {
            jobs: self.take_group(&mut state),
            suspect: std::mem::take(&mut state.call) == Call::Suspect,
            finish: state.is_over(),
        }
    }
}

/// How many of the waiting jobs make a batch: the first, and more while the bounds are kept.
fn group(bytes: impl Iterator<Item = usize>) -> usize {
    let sums = bytes.scan(0_usize, |sum, bytes| {
        *sum = sum.saturating_add(bytes);
        Some(*sum)
    });
    let mut first = true;
    sums.take(MAX_GROUP)
        .take_while(|sum| std::mem::take(&mut first) || *sum <= MAX_GROUP_BYTES)
        .count()
}

pub(crate) struct TakenJobs {
    pub(crate) jobs: Vec<QueueJob>,
    pub(crate) suspect: bool,
    pub(crate) finish: bool,
}

#[cfg(test)]
pub(crate) mod tests;
