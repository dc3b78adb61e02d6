//! The commits that an engine over a network has under way, and the line of those that wait for admission.

use crate::storage::admission::{Admission, AdmissionBounds};
use crate::storage::{ChangeSet, CommitCallback};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A change set on its way, and the callback for its outcome.
pub(crate) struct QueuedCommit {
    pub(crate) set: Box<ChangeSet>,
    pub(crate) done: CommitCallback,
    /// `None` if it was submitted without a bound.
    pub(crate) permit: Option<AdmissionPermit>,
}

/// Sends a commit that was admitted to the server of an engine.
type SendCommit = Box<dyn Fn(QueuedCommit) + Send + Sync>;

pub(crate) struct AdmissionLine {
    state: Mutex<LineState>,
    send: SendCommit,
}

struct LineState {
    admission: Admission,
    waiting: VecDeque<(u64, QueuedCommit, usize)>,
    next: u64,
}

/// How much is under way, and how much waits.
pub(crate) struct LineLoad {
    pub(crate) commits: usize,
    pub(crate) bytes: usize,
    pub(crate) waiting: usize,
}

/// The permit of an admitted commit. Dropping it admits those that wait.
pub(crate) struct AdmissionPermit {
    line: Arc<AdmissionLine>,
    bytes: usize,
}

/// Dropping this withdraws a commit that still waits.
pub(crate) struct AdmissionWithdrawal {
    line: Arc<AdmissionLine>,
    number: u64,
}

impl AdmissionLine {
    pub(crate) fn new(bounds: AdmissionBounds, send: SendCommit) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(LineState {
                admission: Admission::new(bounds),
                waiting: VecDeque::new(),
                next: 0,
            }),
            send,
        })
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a commit, or lets it wait.
    pub(crate) fn enter(
        self: &Arc<Self>,
        set: Box<ChangeSet>,
        done: CommitCallback,
    ) -> Option<AdmissionWithdrawal> {
        let bytes = set.memory_size();
        let mut commit = QueuedCommit {
            set,
            done,
            permit: None,
        };
        let mut state = self.lock();
        if state.waiting.is_empty() && state.admission.admit(bytes) {
            drop(state);
            commit.permit = Some(self.permit(bytes));
            (self.send)(commit);
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.waiting.push_back((number, commit, bytes));
        drop(state);
        let line = self.clone();
        Some(AdmissionWithdrawal { line, number })
    }

    /// Sends a commit that does not wait for admission.
    pub(crate) fn pass(&self, set: Box<ChangeSet>, done: CommitCallback) {
        (self.send)(QueuedCommit {
            set,
            done,
            permit: None,
        });
    }

    fn permit(self: &Arc<Self>, bytes: usize) -> AdmissionPermit {
        let line = self.clone();
        AdmissionPermit { line, bytes }
    }

    fn admit(self: &Arc<Self>, mut state: MutexGuard<'_, LineState>) {
        let mut admitted = Vec::new();
        while let Some((_, _, bytes)) = state.waiting.front()
            && let bytes = *bytes
            && state.admission.admit(bytes)
            && let Some((_, mut commit, _)) = state.waiting.pop_front()
        {
            commit.permit = Some(self.permit(bytes));
            admitted.push(commit);
        }
        drop(state);
        admitted.into_iter().for_each(|commit| (self.send)(commit));
    }

    pub(crate) fn load(&self) -> LineLoad {
        let state = self.lock();
        LineLoad {
            commits: state.admission.commits,
            bytes: state.admission.bytes,
            waiting: state.waiting.len(),
        }
    }
}

impl AdmissionPermit {
    /// Sends a commit again, in its place.
    pub(crate) fn resend(self, set: Box<ChangeSet>, done: CommitCallback) {
        let line = self.line.clone();
        (line.send)(QueuedCommit {
            set,
            done,
            permit: Some(self),
        });
    }
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        state.admission.release(1, self.bytes);
        self.line.admit(state);
    }
}

impl Drop for AdmissionWithdrawal {
    fn drop(&mut self) {
        let mut state = self.line.lock();
        let waiting = state.waiting.iter();
        let at = waiting
            .map(|(number, ..)| *number)
            .position(|number| number == self.number);
        let withdrawn = at.and_then(|at| state.waiting.remove(at));
        // Those behind it may be smaller.
        self.line.admit(state);
        drop(withdrawn);
    }
}
