//! Group commit for engines that have none: one thread takes whatever waits, commits it at once and
//! answers all. It never waits for more to come.

use crate::engine::Writer;
use crate::payload::{Change, PACKAGES, key, row, rows};
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// The part that an engine adds: to write rows and return when they are on the disk.
pub(crate) trait Commit: Send + 'static {
    fn commit(&mut self, changes: &[Change]) -> Result<()>;
}

/// All sessions, 1,000 a commit.
pub(crate) fn fill(engine: &mut impl Commit, sessions: usize) -> Result<()> {
    for first in (0..sessions).step_by(1000) {
        let last = sessions.min(first + 1000);
        let changes: Vec<_> = (first..last).flat_map(rows).collect();
        engine.commit(&changes)?;
    }
    Ok(())
}

/// The thread that commits, and the line before it.
pub(crate) struct Committer<C> {
    line: Arc<Line>,
    thread: JoinHandle<C>,
}

#[derive(Default)]
struct Line {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    changes: Vec<Change>,
    answers: Vec<Arc<Answer>>,
    closed: bool,
}

/// Where a writer waits.
struct Answer {
    state: AtomicU8,
    thread: Thread,
    error: Mutex<Option<String>>,
}

const PENDING: u8 = 0;
const WRITTEN: u8 = 1;
const FAILED: u8 = 2;

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, change: Change) -> Result<()> {
        let answer = Arc::new(Answer {
            state: AtomicU8::new(PENDING),
            thread: thread::current(),
            error: Mutex::default(),
        });
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(anyhow!("the engine is closed"));
            }
            waiting.changes.push(change);
            waiting.answers.push(answer.clone());
            if waiting.changes.len() == 1 {
                self.more.notify_one();
            }
        }
        loop {
            match answer.state.load(Ordering::Acquire) {
                PENDING => thread::park(),
                WRITTEN => return Ok(()),
                _ => {
                    let error = answer.error.lock().unwrap_or_else(PoisonError::into_inner);
                    return Err(anyhow!(error.clone().unwrap_or_default()));
                }
            }
        }
    }

    /// All that wait; `None` once there is nothing and there will be nothing.
    fn take(&self) -> Option<(Vec<Change>, Vec<Arc<Answer>>)> {
        let mut waiting = self.lock();
        while waiting.changes.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self
                .more
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let changes = std::mem::take(&mut waiting.changes);
        Some((changes, std::mem::take(&mut waiting.answers)))
    }
}

impl<C: Commit> Committer<C> {
    pub(crate) fn start(mut engine: C) -> Self {
        let line = Arc::new(Line::default());
        let thread = thread::spawn({
            let line = line.clone();
            move || {
                while let Some((changes, answers)) = line.take() {
                    let outcome = engine.commit(&changes).map_err(|e| format!("{e:#}"));
                    for answer in answers {
                        let state = match &outcome {
                            Ok(()) => WRITTEN,
                            Err(error) => {
                                let mut told =
                                    answer.error.lock().unwrap_or_else(PoisonError::into_inner);
                                *told = Some(error.clone());
                                FAILED
                            }
                        };
                        answer.state.store(state, Ordering::Release);
                        answer.thread.unpark();
                    }
                }
                engine
            }
        });
        Self { line, thread }
    }

    pub(crate) fn writer(&self) -> Writer<'_> {
        let [package, _] = PACKAGES;
        Box::new(move |session, value| {
            self.line.put(Change {
                key: key(session, package),
                row: row(value),
            })
        })
    }

    /// Gives the engine back, to be closed.
    pub(crate) fn stop(self) -> Result<C> {
        self.line.lock().closed = true;
        self.line.more.notify_one();
        self.thread
            .join()
            .map_err(|_| anyhow!("the committer panicked"))
    }
}
