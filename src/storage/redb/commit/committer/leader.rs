//! The threads that the committer works on: its own or, while that sleeps, one of those that wait for a commit. Such a
//! thread becomes the leader and commits the batch itself; the others are its followers. This saves two wake-ups.

use crate::error::Result;
use crate::storage::redb::commit::committer::core::{CommitAnswers, Committer};
use crate::storage::redb::commit::errors::gone;
use crate::storage::redb::commit::job::{CommitJob, QueueJob};
use crate::storage::redb::commit::taker::OtherLeaders;
use crate::storage::redb::{EngineShared, failure};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Answers all jobs when the committer's thread ends, however it ends.
struct AnswerOnExit(Arc<EngineShared>);

impl Drop for AnswerOnExit {
    fn drop(&mut self) {
        let jobs = self.0.queue.end();
        self.0.io.end_backpressure();
        if let Some(last) = self.0.published.swap(None) {
            last.expire();
        }
        QueueJob::refuse_all(jobs, &gone());
    }
}

/// The committer, and the right to work with it: one thread at a time has it.
pub(crate) struct CommitLeader {
    shared: Arc<EngineShared>,
    /// None when the store is closed. Poisoned by a panic of the committer, after which it does nothing more.
    committer: Mutex<Option<Committer>>,
}

impl CommitLeader {
    pub(crate) fn new(shared: Arc<EngineShared>, committer: Committer) -> Self {
        Self {
            shared,
            committer: Mutex::new(Some(committer)),
        }
    }

    /// Serves until the store is closed.
    pub(crate) fn run(&self) -> Result<()> {
        let _last_word = AnswerOnExit(self.shared.clone());
        let ended = catch_unwind(AssertUnwindSafe(|| self.serve()));
        if let Err(poisoned) = self.committer.lock() {
            failure::discard(poisoned.into_inner().take());
        }
        ended.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn serve(&self) -> Result<()> {
        loop {
            let deadline = self.with(|committer| Ok(committer.deadline()))?;
            let mut taken = self.shared.queue.take(deadline, OtherLeaders::Allowed);
            let (goes_on, answers) = self.with(|committer| {
                committer.collect();
                let is_lost = taken.suspect || !committer.state.is_open();
                let goes_on = !is_lost || committer.reopen(&mut taken.jobs);
                committer.serve(std::mem::take(&mut taken.jobs));
                Ok((goes_on, committer.take_answers()))
            })?;
            CommitJob::answer_all(answers);
            if goes_on {
                self.with(|committer| {
                    committer.upkeep();
                    Ok(())
                })?;
            }
            if taken.finish || !goes_on {
                let committer = self.lock()?.take();
                return committer.map_or_else(|| Err(gone()), Committer::finish);
            }
        }
    }

    /// Leads a batch of the jobs that wait on this thread, if the committer's own sleeps. Returns whether it did.
    pub(crate) fn lead(&self) -> bool {
        let Some(jobs) = self.shared.queue.become_leader() else {
            return false;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.with(|committer| lead(committer, jobs))
        }));
        // After a panic, the committer's own thread finds the poisoned lock.
        let outcome = outcome.unwrap_or_else(|_| Err(gone()));
        let (answers, wake_at) =
            outcome.unwrap_or_else(|_| (CommitAnswers::new(), Some(Instant::now())));
        self.shared.queue.resign(wake_at);
        CommitJob::answer_all(answers);
        true
    }

    /// An error only after a panic of the committer.
    fn lock(&self) -> Result<MutexGuard<'_, Option<Committer>>> {
        self.committer.lock().map_err(|_| gone())
    }

    /// Has the effect of a panic of the committer.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let _committer = self.committer.lock();
            std::panic::resume_unwind(Box::new("killed"));
        }));
        assert!(killed.is_err() && self.committer.is_poisoned());
    }

    fn with<T>(&self, work: impl FnOnce(&mut Committer) -> Result<T>) -> Result<T> {
        work(self.lock()?.as_mut().ok_or_else(gone)?)
    }
}

/// Commits one batch on the leader's thread. The rest is for the committer's own thread, which wakes at the returned
/// time.
fn lead(
    committer: &mut Committer,
    jobs: Vec<QueueJob>,
) -> Result<(CommitAnswers, Option<Instant>)> {
    committer.collect();
    if !committer.state.is_open() {
        committer.shared.queue.give_back(jobs);
        return Ok((CommitAnswers::new(), Some(Instant::now())));
    }
    committer.serve(jobs);
    committer.update_backpressure();
    let wake_at = if committer.needs_upkeep() {
        Some(Instant::now())
    } else {
        committer.deadline()
    };
    Ok((committer.take_answers(), wake_at))
}
