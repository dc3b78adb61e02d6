//! The jobs of the queue, their admission, and their answers.

use crate::block_on::WakeGroup;
use crate::contain::contain;
use crate::error::Error;
use crate::storage::redb::commit::errors::{gone, stopped_during_commit};
use crate::storage::redb::integrity::inspect::InspectionSnapshot;
#[cfg(feature = "encryption")]
use crate::storage::redb::memtable::row_key::RowKey;
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::reply::Reply;
use crate::storage::{
    ChangeSet, CommitCallback, Outcome, Resubmit, SettingsChange, StoreSettings, TombstonePolicy,
};
use crate::throttle::Throttle;
use std::sync::Arc;

/// A change set, and the callback for its outcome. The callback is called even if the job is dropped.
pub(crate) struct CommitJob {
    set: Option<Box<ChangeSet>>,
    bytes: usize,
    done: Option<CommitCallback>,
    pub(super) permit: Option<QueuePermit>,
}

impl CommitJob {
    pub(crate) fn new(set: Box<ChangeSet>, done: CommitCallback) -> Self {
        Self {
            bytes: set.memory_size(),
            set: Some(set),
            done: Some(done),
            permit: None,
        }
    }

    /// About how many bytes of memory the change set takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn take_set(&mut self) -> Option<Box<ChangeSet>> {
        self.set.take()
    }

    /// Puts the change set back: it was not committed, and will be later.
    pub(crate) fn give_back(&mut self, set: Box<ChangeSet>) {
        self.set = Some(set);
    }

    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.call(outcome);
    }

    /// Answers all jobs of a batch. Their permits are returned before the first answer.
    pub(crate) fn answer_all(mut answers: Vec<(Self, Outcome)>) {
        let stays = |outcome: &Outcome| matches!(outcome, Outcome::Stale(..));
        let leaving = answers.iter_mut().filter(|(_, outcome)| !stays(outcome));
        let permits = leaving.filter_map(|(job, _)| job.permit.take());
        drop(permits.reduce(QueuePermit::with));
        WakeGroup::once(|| {
            for (job, outcome) in answers {
                job.answer(outcome);
            }
        });
    }

    /// The callback may run the application's code. A panic in it must not reach other jobs.
    fn call(&mut self, mut outcome: Outcome) {
        let permit = self.permit.take();
        match &mut outcome {
            Outcome::Stale(_, _, kept) => {
                *kept = permit.map(|permit| Box::new(permit) as Box<dyn Resubmit>)
            }
            Outcome::Committed(_) | Outcome::Failed(..) => drop(permit),
        }
        if let Some(done) = self.done.take()
            && contain(|| done(outcome)).is_none()
        {
            static PANICS: Throttle = Throttle::new(1);
            if let Some(left_out) = PANICS.pass() {
                tracing::error!(left_out, "a panic in answer to a commit");
            }
        }
    }
}

impl Drop for CommitJob {
    fn drop(&mut self) {
        if self.done.is_none() {
            return;
        }
        let error = match self.set {
            Some(_) => gone(),
            None => stopped_during_commit(),
        };
        self.call(Outcome::Failed(error, None));
    }
}

pub(crate) enum QueueJob {
    Commit(CommitJob),
    Configure(SettingsChange, Reply<Arc<StoreSettings>>),
    Reclaim(TombstonePolicy, Reply<u64>),
    Inspect(Reply<InspectionSnapshot>),
    Checkpoint(Reply<()>),
    /// Writes the accesses that wait, and keeps the state after that for a long read.
    KeepSnapshot(Reply<Arc<RedbSnapshot>>),
    /// Encrypts these rows with the current key.
    #[cfg(feature = "encryption")]
    Reseal(Vec<RowKey>, Reply<u64>),
    #[cfg(feature = "encryption")]
    FinishReseal(Reply<bool>),
}

impl QueueJob {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Commit(job) => job.bytes,
            Self::Configure(..) | Self::Reclaim(..) | Self::Inspect(_) => 0,
            Self::Checkpoint(_) | Self::KeepSnapshot(_) => 0,
            #[cfg(feature = "encryption")]
            Self::Reseal(..) | Self::FinishReseal(_) => 0,
        }
    }

    /// Refuses all for the same reason.
    pub(crate) fn refuse_all(jobs: impl IntoIterator<Item = Self>, error: &Error) {
        WakeGroup::once(|| {
            for job in jobs {
                job.refuse(error.clone());
            }
        });
    }

    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Commit(job) => job.answer(Outcome::Failed(error, None)),
            Self::Configure(_, reply) => drop(reply.send(Err(error))),
            Self::Reclaim(_, reply) => drop(reply.send(Err(error))),
            Self::Inspect(reply) => drop(reply.send(Err(error))),
            Self::Checkpoint(reply) => drop(reply.send(Err(error))),
            Self::KeepSnapshot(reply) => drop(reply.send(Err(error))),
            #[cfg(feature = "encryption")]
            Self::Reseal(_, reply) => drop(reply.send(Err(error))),
            #[cfg(feature = "encryption")]
            Self::FinishReseal(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// What admits commits, and is told when their outcome is known.
pub(super) trait Admits: Send + Sync {
    /// The admission of so many commits is over.
    fn release(self: Arc<Self>, commits: usize, bytes: usize);
    /// Queues a commit that has its permit.
    fn admitted(&self, job: CommitJob);
}

/// The admission of commits, until their outcome is known.
pub(super) struct QueuePermit {
    queue: Arc<dyn Admits>,
    commits: usize,
    bytes: usize,
}

impl QueuePermit {
    /// The admission of one commit of so many bytes.
    pub(super) fn new(queue: Arc<dyn Admits>, bytes: usize) -> Self {
        Self {
            queue,
            commits: 1,
            bytes,
        }
    }

    /// Joins two permits.
    fn with(mut self, mut other: Self) -> Self {
        self.commits += std::mem::take(&mut other.commits);
        self.bytes += std::mem::take(&mut other.bytes);
        self
    }
}

impl Resubmit for QueuePermit {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        let queue = self.queue.clone();
        let mut job = CommitJob::new(set, done);
        job.permit = Some(*self);
        queue.admitted(job);
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        if self.commits > 0 {
            self.queue.clone().release(self.commits, self.bytes);
        }
    }
}
