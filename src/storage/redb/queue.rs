//! The queue before the writer thread: what may be asked of it, and who is answered what.

use crate::clock::Timestamp;
use crate::contain::contain;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ChangeSet, Done, Outcome, Settings};
use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No group is larger than this, so that a flood does not make one commit endless.
const MAX_GROUP: usize = 1024;

pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the store's writer has stopped")
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}

pub(super) fn reopening() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the store is reopening its file after a failure",
    )
}

/// A change set and whoever waits for it; answered even when it is dropped.
pub(super) struct CommitJob {
    set: Option<ChangeSet>,
    done: Option<Done>,
}

impl CommitJob {
    pub(super) fn take_set(&mut self) -> Option<ChangeSet> {
        self.set.take()
    }

    pub(super) fn answer(mut self, outcome: Outcome) {
        self.call(outcome);
    }

    /// Whoever waits runs code of his own when he is woken; a panic in it must reach nobody else.
    fn call(&mut self, outcome: Outcome) {
        if let Some(done) = self.done.take()
            && contain(|| done(outcome)).is_none()
        {
            tracing::error!("a panic in answer to a commit");
        }
    }
}

impl Drop for CommitJob {
    fn drop(&mut self) {
        // What was taken into a group may be on the disk.
        let error = match self.set {
            Some(_) => gone(),
            None => Error::new(
                ErrorKind::OutcomeUnknown,
                "the store's writer stopped during the commit; it may or may not be kept",
            ),
        };
        self.call(Outcome::Failed(error, None));
    }
}

pub(super) enum Job {
    Commit(CommitJob),
    Configure(Settings, SyncSender<Result<()>>),
    Reclaim(Timestamp, SyncSender<Result<u64>>),
}

impl Job {
    pub(super) fn commit(set: ChangeSet, done: Done) -> Self {
        Self::Commit(CommitJob {
            set: Some(set),
            done: Some(done),
        })
    }

    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Commit(job) => job.answer(Outcome::Failed(error, None)),
            Self::Configure(_, reply) => drop(reply.send(Err(error))),
            Self::Reclaim(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    woken: bool,
    suspect: bool,
    closing: bool,
    /// Nobody takes jobs any more.
    over: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        if state.closing {
            drop(state);
            job.refuse(closed());
        } else if state.over {
            drop(state);
            job.refuse(gone());
        } else {
            state.jobs.push_back(job);
            drop(state);
            self.wake.notify_one();
        }
    }

    pub(super) fn wake(&self) {
        self.lock().woken = true;
        self.wake.notify_one();
    }

    pub(super) fn suspect(&self) {
        self.lock().suspect = true;
        self.wake.notify_one();
    }

    /// Takes no more jobs; gives those that are left.
    pub(super) fn end(&self) -> VecDeque<Job> {
        let mut state = self.lock();
        state.over = true;
        std::mem::take(&mut state.jobs)
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits until there is something to do, or until `deadline`; takes at most one group.
    pub(super) fn take(&self, deadline: Option<Instant>) -> Taken {
        let mut state = self.lock();
        while state.jobs.is_empty() && !state.woken && !state.suspect && !state.closing {
            state = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => {
                    let waited = self.wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .wake
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
        let many = state.jobs.len().min(MAX_GROUP);
        Taken {
            jobs: state.jobs.drain(..many).collect(),
            suspect: std::mem::take(&mut state.suspect),
            finish: {
                state.woken = false;
                state.closing && state.jobs.is_empty()
            },
        }
    }
}

pub(super) struct Taken {
    pub(super) jobs: Vec<Job>,
    pub(super) suspect: bool,
    pub(super) finish: bool,
}
