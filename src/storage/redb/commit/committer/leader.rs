//! Where the committer works: on a thread of its own or, while that sleeps, on the thread of whoever waits
//! for a commit, which then need not wake another and be woken by it.

use crate::error::Result;
use crate::storage::redb::commit::committer::{AnswerOnExit, CommitAnswers, Committer};
use crate::storage::redb::commit::errors::gone;
use crate::storage::redb::commit::queue::{CommitJob, QueueJob};
use crate::storage::redb::commit::taker::Help;
use crate::storage::redb::{EngineShared, failure};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

pub(crate) struct CommitLeader {
    shared: Arc<EngineShared>,
    /// None when the store is closed. Poisoned by a panic of the committer's, after which it does no more.
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
            let mut taken = self.shared.queue.take(deadline, Help::Allowed);
            let (goes_on, answers) = self.with(|committer| {
                committer.collect();
                let is_lost = taken.suspect || committer.is_broken;
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

    /// Commits on this thread what waits, if the committer's own sleeps; tells whether it did.
    pub(crate) fn lead(&self) -> bool {
        let Some(jobs) = self.shared.queue.begin_lead() else {
            return false;
        };
        let led = catch_unwind(AssertUnwindSafe(|| {
            self.with(|committer| lead(committer, jobs))
        }));
        // After a panic, the thread finds what is left of the committer.
        let led = led.unwrap_or_else(|_| Err(gone()));
        let (answers, wake_at) =
            led.unwrap_or_else(|_| (CommitAnswers::new(), Some(Instant::now())));
        self.shared.queue.end_lead(wake_at);
        CommitJob::answer_all(answers);
        true
    }

    /// Only a panic of the committer's, or its end, keeps anybody from it.
    fn lock(&self) -> Result<MutexGuard<'_, Option<Committer>>> {
        self.committer.lock().map_err(|_| gone())
    }

    /// As a panic of the committer's does.
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

/// A turn of the committer's on another's thread: no more than a group. The rest is for its own, as soon as
/// this tells.
fn lead(
    committer: &mut Committer,
    jobs: Vec<QueueJob>,
) -> Result<(CommitAnswers, Option<Instant>)> {
    committer.collect();
    if committer.is_broken {
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
