//! The waiters of each session's line, and their deadlines. Each operation takes steps logarithmic in the number of
//! waiters (C5.5). Knows neither locks nor futures: it returns wakers. The caller calls and drops them after it has
//! released its lock.

use crate::client_id::ClientKey;
use crate::steps::Counted;
use rapidhash::fast::RandomState;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::task::Waker;
use std::time::Instant;

#[derive(Default)]
pub(crate) struct TurnLines {
    by_session: HashMap<ClientKey, TurnLine, RandomState>,
    /// The deadlines of all waiters in order, with the session that each waits for.
    deadlines: Deadlines,
    next: u64,
    pub(crate) closed: bool,
}

/// Numbers the waiters in the order of their arrival.
pub(crate) type ArrivalNumber = Counted<u64>;

type Deadlines = BTreeMap<(Counted<Instant>, ArrivalNumber), ClientKey>;

#[derive(Default)]
struct TurnLine {
    held: bool,
    passing: usize,
    waiting: BTreeMap<ArrivalNumber, TurnWaiter>,
    /// Waiters whose wait has ended, and whose future has not been polled since.
    called: BTreeMap<ArrivalNumber, Called>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Called {
    Granted,
    TooLate,
}

pub(crate) struct TurnWaiter {
    pub(crate) mode: TurnMode,
    /// `None` if it is later than an `Instant` can represent.
    pub(crate) deadline: Option<Instant>,
    pub(crate) waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TurnMode {
    /// Exclusive: it holds the turn.
    Hold,
    /// Shared: it registers a commit, beside other commits.
    Pass,
}

impl TurnLine {
    fn admits(&self, mode: TurnMode) -> bool {
        match mode {
            TurnMode::Hold => !self.held && self.passing == 0,
            TurnMode::Pass => !self.held,
        }
    }

    fn enter(&mut self, mode: TurnMode) {
        match mode {
            TurnMode::Hold => self.held = true,
            TurnMode::Pass => self.passing += 1,
        }
    }

    fn leave(&mut self, mode: TurnMode) {
        match mode {
            TurnMode::Hold => self.held = false,
            TurnMode::Pass => self.passing = self.passing.saturating_sub(1),
        }
    }

    /// Admits waiters from the head of the line, in order, as far as possible.
    fn advance(&mut self, deadlines: &mut Deadlines, wakers: &mut Vec<Waker>) {
        while let Some((_, first)) = self.waiting.first_key_value() {
            if !self.admits(first.mode) {
                break;
            }
            if let Some((number, waiter)) = self.waiting.pop_first() {
                self.enter(waiter.mode);
                self.called.insert(number, Called::Granted);
                forget(deadlines, number, &waiter);
                wakers.extend(waiter.waker);
            }
        }
    }

    fn is_idle(&self) -> bool {
        !self.held && self.passing == 0 && self.waiting.is_empty() && self.called.is_empty()
    }
}

fn forget(deadlines: &mut Deadlines, number: ArrivalNumber, waiter: &TurnWaiter) {
    if let Some(at) = waiter.deadline {
        deadlines.remove(&(Counted(at), number));
    }
}

impl TurnLines {
    /// Enters a session's turn at once, if the turn is free and has no waiter.
    pub(crate) fn enter(&mut self, session: ClientKey, mode: TurnMode) -> bool {
        let line = self.by_session.entry(session).or_default();
        let is_free = line.waiting.is_empty() && line.admits(mode);
        if is_free {
            line.enter(mode);
        }
        is_free
    }

    /// Leaves a turn.
    pub(crate) fn leave(&mut self, session: ClientKey, mode: TurnMode, wakers: &mut Vec<Waker>) {
        self.advance(session, wakers, |line| line.leave(mode));
    }

    /// Appends a waiter to a session's line. Also returns whether its deadline is the first of all.
    pub(crate) fn join(&mut self, session: ClientKey, waiter: TurnWaiter) -> (ArrivalNumber, bool) {
        let number = Counted(self.next);
        self.next += 1;
        let deadline = waiter.deadline;
        let line = self.by_session.entry(session).or_default();
        line.waiting.insert(number, waiter);
        let Some(at) = deadline else {
            return (number, false);
        };
        self.deadlines.insert((Counted(at), number), session);
        (number, self.next_deadline() == Some(at))
    }

    /// The result of a wait, if it has ended. Otherwise exchanges `waker` for the previous one.
    pub(crate) fn check(
        &mut self,
        session: ClientKey,
        number: ArrivalNumber,
        waker: &mut Option<Waker>,
    ) -> Option<Called> {
        let line = self.by_session.get_mut(&session)?;
        let called = line.called.remove(&number);
        if called.is_none()
            && let Some(waiter) = line.waiting.get_mut(&number)
        {
            std::mem::swap(&mut waiter.waker, waker);
        }
        if line.is_idle() {
            self.by_session.remove(&session);
        }
        called
    }

    /// Gives up a wait, whether or not it was granted.
    pub(crate) fn give_up(
        &mut self,
        session: ClientKey,
        number: ArrivalNumber,
        mode: TurnMode,
        wakers: &mut Vec<Waker>,
    ) -> Option<TurnWaiter> {
        let line = self.by_session.get_mut(&session)?;
        let waiter = line.waiting.remove(&number);
        if let Some(waiter) = &waiter {
            forget(&mut self.deadlines, number, waiter);
        }
        self.advance(session, wakers, |line| {
            if line.called.remove(&number) == Some(Called::Granted) {
                line.leave(mode);
            }
        });
        waiter
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let (first, _) = self.deadlines.first_key_value()?;
        Some(first.0.0)
    }

    /// Removes all waiters whose deadline has passed.
    pub(crate) fn call_late(&mut self, now: Instant) -> Vec<Waker> {
        let (mut wakers, mut lines) = (Vec::new(), Vec::new());
        while self.next_deadline().is_some_and(|at| at <= now)
            && let Some(((_, number), session)) = self.deadlines.pop_first()
        {
            if let Some(line) = self.by_session.get_mut(&session)
                && let Some(waiter) = line.waiting.remove(&number)
            {
                line.called.insert(number, Called::TooLate);
                wakers.extend(waiter.waker);
                lines.push(session);
            }
        }
        for session in lines {
            self.advance(session, &mut wakers, |_| {});
        }
        wakers
    }

    /// Removes all waiters.
    pub(crate) fn call_all(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        self.deadlines.clear();
        for line in self.by_session.values_mut() {
            for (number, waiter) in std::mem::take(&mut line.waiting) {
                line.called.insert(number, Called::TooLate);
                wakers.extend(waiter.waker);
            }
        }
        wakers
    }

    /// Changes a line, admits all waiters that it can, and removes the line if it is idle.
    fn advance(
        &mut self,
        session: ClientKey,
        wakers: &mut Vec<Waker>,
        change: impl FnOnce(&mut TurnLine),
    ) {
        let Entry::Occupied(mut line) = self.by_session.entry(session) else {
            return;
        };
        change(line.get_mut());
        line.get_mut().advance(&mut self.deadlines, wakers);
        if line.get().is_idle() {
            line.remove();
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_session.is_empty() && self.deadlines.is_empty()
    }
}
