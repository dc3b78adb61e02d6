//! Fair lines, one for each session in this process (C2.10). While a transaction holds a session's turn, other commits
//! to the session wait. While no transaction holds it, commits pass concurrently. Turns serve progress, not
//! correctness: each wait ends, and the commit after it is still validated. Knows no storage. A waiter is a future and
//! needs no thread.

use crate::client_id::ClientKey;
use crate::contain::contain;
use crate::process::Process;
use crate::throttle::Throttle;
use crate::transaction::turns::lines::{ArrivalNumber, Called, TurnLines, TurnMode, TurnWaiter};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

#[derive(Default)]
pub(crate) struct Turns {
    lines: Mutex<TurnLines>,
    /// Notifies the timer of a new deadline.
    alarm: Condvar,
    /// The process that opened the store. In any other process, no thread leaves a line or watches deadlines, and the
    /// lock may stay held for ever (C7.5).
    process: Process,
}

/// A place at the head of a session's line. Dropping it leaves the line.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    session: ClientKey,
    mode: TurnMode,
}

impl Turn {
    pub(crate) fn session(&self) -> ClientKey {
        self.session
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.turns.process.is_this() {
            return std::mem::forget(self.turns.clone());
        }
        self.turns
            .change(|lines, wakers| lines.leave(self.session, self.mode, wakers));
    }
}

impl Turns {
    /// Waits for the turn of a session, for at most `wait`.
    pub(crate) fn hold(self: &Arc<Self>, session: ClientKey, wait: Duration) -> TurnWait {
        self.wait(session, TurnMode::Hold, wait)
    }

    /// Waits, for at most `wait`, until no transaction holds the turn of a session. Then registers a commit.
    pub(crate) fn pass(self: &Arc<Self>, session: ClientKey, wait: Duration) -> TurnWait {
        self.wait(session, TurnMode::Pass, wait)
    }

    fn wait(self: &Arc<Self>, session: ClientKey, mode: TurnMode, wait: Duration) -> TurnWait {
        TurnWait {
            turns: self.clone(),
            session,
            mode,
            wait,
            since: None,
            place: WaitState::Outside,
        }
    }

    fn lock(&self) -> MutexGuard<'_, TurnLines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the lines under the lock. Wakers are the application's code, so they are called outside the lock.
    /// `change` must neither clone nor drop a waker.
    fn change<T>(&self, change: impl FnOnce(&mut TurnLines, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let result = change(&mut self.lock(), &mut wakers);
        wake(wakers);
        result
    }

    /// Ends waits when their deadlines pass, until the store closes.
    pub(crate) fn keep_deadlines(&self) {
        let mut lines = self.lock();
        while !lines.closed {
            let now = Instant::now();
            let wakers = lines.call_late(now);
            if !wakers.is_empty() {
                drop(lines);
                wake(wakers);
                lines = self.lock();
                continue;
            }
            lines = match lines.next_deadline() {
                Some(next) => {
                    let left = next.saturating_duration_since(now);
                    let waited = self.alarm.wait_timeout(lines, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self
                    .alarm
                    .wait(lines)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Ends `keep_deadlines` and every wait.
    pub(crate) fn close(&self) {
        let mut lines = self.lock();
        lines.closed = true;
        let wakers = lines.call_all();
        drop(lines);
        self.alarm.notify_all();
        wake(wakers);
    }
}

/// Calls all wakers. Wakers are the application's code: if one panics, the others are still called.
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        if contain(|| waker.wake()).is_none() {
            static PANICS: Throttle = Throttle::new(1);
            if let Some(left_out) = PANICS.pass() {
                tracing::error!(left_out, "a waker of the application panicked");
            }
        }
    }
}

/// Drops a waker without calling it. Must be called outside the lock: `Drop` is also the application's code (C6.3).
fn let_go<T>(unused: T) {
    contain(|| drop(unused));
}

/// The remaining time for waits for turns. Each wait is deducted from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new(wait: Duration) -> Self {
        Self(wait)
    }

    /// Waits for a turn, if time is left. The waiting time is deducted even if this future is dropped.
    pub(crate) async fn wait_for(
        &mut self,
        line: impl FnOnce(Duration) -> TurnWait,
    ) -> Option<Turn> {
        let wait = line(self.0);
        let mut account = WaitAccount {
            patience: self,
            wait,
        };
        (&mut account.wait).await
    }
}

struct WaitAccount<'a> {
    patience: &'a mut Patience,
    wait: TurnWait,
}

impl Drop for WaitAccount<'_> {
    fn drop(&mut self) {
        let waited = self.wait.since.map(|since| since.elapsed());
        let left = &mut self.patience.0;
        *left = left.saturating_sub(waited.unwrap_or_default());
    }
}

/// The wait for a turn. Returns `Some` once the turn is granted. Returns `None` if the time passes first, or in a
/// process that was forked from the store's. Dropping it leaves the line.
pub(crate) struct TurnWait {
    turns: Arc<Turns>,
    session: ClientKey,
    mode: TurnMode,
    wait: Duration,
    /// The start of the wait. `None` as long as it has not had to wait.
    since: Option<Instant>,
    place: WaitState,
}

enum WaitState {
    Outside,
    InLine(ArrivalNumber),
    Done,
}

impl TurnWait {
    fn join(&mut self, waker: &Waker) -> Poll<Option<Turn>> {
        let turns = self.turns.clone();
        let waker = waker.clone();
        let mut lines = turns.lock();
        if lines.enter(self.session, self.mode) {
            drop(lines);
            // From here on, `Drop` gives the turn back.
            let turn = self.granted();
            let_go(waker);
            return Poll::Ready(turn);
        }
        if lines.closed || self.wait.is_zero() {
            drop(lines);
            let_go(waker);
            self.place = WaitState::Done;
            return Poll::Ready(None);
        }
        let now = Instant::now();
        self.since = Some(now);
        let waiter = TurnWaiter {
            mode: self.mode,
            deadline: now.checked_add(self.wait),
            waker: Some(waker),
        };
        let (number, is_next) = lines.join(self.session, waiter);
        self.place = WaitState::InLine(number);
        drop(lines);
        if is_next {
            turns.alarm.notify_all();
        }
        Poll::Pending
    }

    fn granted(&mut self) -> Option<Turn> {
        self.place = WaitState::Done;
        Some(Turn {
            turns: self.turns.clone(),
            session: self.session,
            mode: self.mode,
        })
    }

    fn check(&mut self, number: ArrivalNumber, waker: &Waker) -> Poll<Option<Turn>> {
        let mut spare = Some(waker.clone());
        let session = self.session;
        let called = self
            .turns
            .change(|lines, _| lines.check(session, number, &mut spare));
        let_go(spare);
        match called {
            None => Poll::Pending,
            Some(Called::Granted) => Poll::Ready(self.granted()),
            Some(Called::TooLate) => {
                self.place = WaitState::Done;
                Poll::Ready(None)
            }
        }
    }
}

impl Future for TurnWait {
    type Output = Option<Turn>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.turns.process.is_this() {
            return Poll::Ready(None);
        }
        match self.place {
            WaitState::Outside => self.join(cx.waker()),
            WaitState::InLine(number) => self.check(number, cx.waker()),
            WaitState::Done => Poll::Ready(None),
        }
    }
}

impl Drop for TurnWait {
    fn drop(&mut self) {
        let WaitState::InLine(number) = self.place else {
            return;
        };
        if !self.turns.process.is_this() {
            return std::mem::forget(self.turns.clone());
        }
        let waiter = self
            .turns
            .change(|lines, wakers| lines.give_up(self.session, number, self.mode, wakers));
        let_go(waiter);
    }
}

#[cfg(test)]
mod tests;
