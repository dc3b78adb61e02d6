//! The way of a commit: through the lines of the sessions it writes to, into the storage's queue,
//! and back with an outcome. Once queued it ends by itself, whoever still waits for it (C2.4).

use crate::client_id::{ClientId, ClientKey};
use crate::contain::contain;
use crate::error::{Error, ErrorKind};
use crate::process::Process;
use crate::storage::{
    Answer, ChangeSet, MergeFindings, Outcome, Resubmit, SessionRef, Submission, Touch,
    TouchOutcome, WaiterKind,
};
use crate::transaction::carrier::CarriedCommit;
use crate::transaction::commit::access::{CookieAction, LoadedSession};
use crate::transaction::commit::pack::PackedCommit;
use crate::transaction::commit::recompute::{self, Recompute, StaleCommit};
use crate::transaction::env::{Env, KeepOpen};
use crate::transaction::events::SessionEvent;
use crate::transaction::state::changes::Closure;
use crate::transaction::turns::turn::{Patience, Turn};
use crate::transaction::worker::WorkerTask;
use futures_channel::oneshot;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tracing::field::{Empty, debug};

/// Why a commit failed, and whose session was at fault where one was.
#[derive(Debug)]
pub(crate) struct CommitFailure {
    pub(crate) error: Error,
    pub(crate) client: Option<ClientKey>,
}

impl From<Error> for CommitFailure {
    fn from(error: Error) -> Self {
        Self {
            error,
            client: None,
        }
    }
}

/// What happens when the outcome is certain. Dropped before, the transaction was aborted.
///
/// All that the application gave is here, and leaves by the thread for hooks: its `Drop` is the
/// application's code and must not run on a thread of the storage's (C2.6, C6.3).
pub(crate) struct Completion {
    pub(crate) env: Arc<Env>,
    pub(crate) after_commit: Vec<WorkerTask>,
    pub(crate) after_abort: Vec<WorkerTask>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) founders: Vec<ClientId>,
    pub(crate) events: Vec<SessionEvent>,
    /// What the merge found out that concerns the events.
    pub(crate) findings: Option<MergeFindings>,
    /// What becomes of the rows that the request brought along.
    pub(crate) carried: Option<CarriedCommit>,
    /// To the request, if that goes on after the commit. Its caller may not wait for the outcome.
    pub(crate) early: Option<EarlyReport>,
    /// Keeps the store open until the outcome is certain, whoever waits for it.
    pub(crate) store: Option<Arc<dyn KeepOpen>>,
}

/// Tells a request what its response must do with the cookie after a commit, once that is certain. Dropped, the commit has
/// failed.
pub(crate) struct EarlyReport {
    to: oneshot::Sender<CookieAction>,
    action: CookieAction,
}

impl EarlyReport {
    #[cfg(feature = "http")]
    pub(crate) fn new(to: oneshot::Sender<CookieAction>) -> Self {
        let action = CookieAction::Keep;
        Self { to, action }
    }
}

impl Completion {
    fn committed(mut self) {
        if let Some(events) = &self.env.events {
            let found = self.findings.take().map(|found| found.take());
            let found = found.unwrap_or_default();
            for event in std::mem::take(&mut self.events) {
                event
                    .merged(&found)
                    .into_iter()
                    .for_each(|it| events.tell(it));
            }
        }
        self.founders.iter().for_each(ClientId::mark_used);
        if let Some(carried) = self.carried.take() {
            carried.committed();
        }
        if let Some(EarlyReport { to, action }) = self.early.take() {
            let _ = to.send(action);
        }
        let unused = std::mem::take(&mut self.after_abort);
        self.discard(unused);
        for hook in std::mem::take(&mut self.after_commit) {
            self.env.hooks.run(hook);
        }
    }

    /// A commit whose outcome nobody knows runs no hook: neither would tell the truth. It may have founded
    /// sessions, so no other is founded under their ids (C4.8).
    pub(crate) fn failed(mut self, error: &Error) {
        if error.kind() == ErrorKind::OutcomeUnknown {
            self.founders.iter().for_each(ClientId::mark_used);
            let unused = std::mem::take(&mut self.after_abort);
            self.discard(unused);
        }
    }

    /// Ends a transaction that could not be packed.
    pub(crate) fn refused(self, error: Error) -> Error {
        // So that it is not the ending that closes the store.
        let _store = self.store.clone();
        self.failed(&error);
        error
    }

    /// What the request learns once the commit is certain.
    fn will_tell(&mut self, action: &CookieAction, carried: Option<CarriedCommit>) {
        self.carried = carried;
        if let Some(early) = &mut self.early {
            early.action = action.clone();
        }
    }

    /// Whether it gives the thread for hooks something to do.
    fn leaves_tasks(&self) -> bool {
        let hooks = [&self.after_commit, &self.after_abort];
        hooks.iter().any(|hooks| !hooks.is_empty()) || !self.closures.is_empty()
    }

    /// In a process that was forked from the store's: the outcome is the other one's, as is whatever runs hooks, and a
    /// lock may be held by a thread that is not here (C7.5).
    fn leak(&mut self) {
        let hooks = [&mut self.after_commit, &mut self.after_abort].map(std::mem::take);
        let closures = std::mem::take(&mut self.closures);
        let turns = std::mem::take(&mut self.turns);
        std::mem::forget((hooks, closures, turns, self.store.take(), self.env.clone()));
    }

    /// Where the hooks of earlier commits do not run fast enough, their number stays bounded. Still on
    /// the thread of the application, so what it gave is dropped here.
    fn turned_away(&mut self) -> Error {
        for unused in std::mem::take(&mut self.after_commit) {
            contain(|| drop(unused));
        }
        for unused in std::mem::take(&mut self.closures) {
            contain(|| drop(unused));
        }
        Error::new(
            ErrorKind::Unavailable,
            "too many hooks and closures of earlier commits still wait to be run",
        )
    }

    /// Drops each by itself, so that one which panics takes no other along.
    fn discard(&self, unused: Vec<impl Send + 'static>) {
        for one in unused {
            self.env.hooks.run(Box::new(move || drop(one)));
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.env.process.is_this() {
            return self.leak();
        }
        for hook in std::mem::take(&mut self.after_abort) {
            self.env.hooks.run(hook);
        }
        let unused = std::mem::take(&mut self.after_commit);
        self.discard(unused);
        let closures = std::mem::take(&mut self.closures);
        self.discard(closures);
        // Closing a store waits for its threads, of which this may be one.
        if let Some(store) = self.store.take()
            && Arc::strong_count(&store) == 1
        {
            self.discard(vec![store]);
        }
    }
}

/// A transaction packed and on its way; dropping it before it is queued aborts. What the application gave is in the
/// ending alone.
pub(crate) struct PendingCommit {
    pub(crate) completion: Completion,
    pub(crate) packed: PackedCommit,
}

impl PendingCommit {
    /// Waits behind those that hold the turn of a session which this writes to. To be done before
    /// [`commit`](Self::commit).
    pub(crate) async fn wait_in_line(&mut self, patience: &mut Patience) {
        if self.packed.set.is_none() {
            return;
        }
        let completion = &mut self.completion;
        let env = completion.env.clone();
        let held = completion.turns.first().map(Turn::session);
        // Who holds a turn waits for no other one, so that crossed writers cannot block each other.
        let mut none = Patience::new(Duration::ZERO);
        let patience = if held.is_some() { &mut none } else { patience };
        // All wait in one order, so that those who pass through several lines cannot either.
        let mut contended = std::mem::take(&mut self.packed.contended);
        contended.sort_unstable();
        for session in contended {
            if held != Some(session) {
                let pass = |left| env.turns.pass(session, left);
                completion.turns.extend(patience.wait_for(pass).await);
            }
        }
    }

    /// The future is a part of every request's; what it carries lies in a box, so that it is small.
    pub(crate) async fn commit(
        self: Box<Self>,
        waiter: WaiterKind,
    ) -> Result<CookieAction, CommitFailure> {
        let Self {
            mut completion,
            packed,
        } = *self;
        let env = completion.env.clone();
        // A future may come into another process, at each of its waits.
        env.process.check()?;
        // Until the answer is here, so that the last of the store's handles goes with this future.
        let _store = completion.store.clone();
        if completion.leaves_tasks() && env.hooks.is_behind() {
            return Err(completion.turned_away().into());
        }
        let (cookie_action, renews, carried) =
            (packed.cookie_action, packed.renews, packed.carried);
        let Some(set) = packed.set else {
            if let Some(carried) = &carried
                && carried.is_too_late(&env).await?
            {
                completion.committed();
                return Ok(CookieAction::Keep);
            }
            completion.will_tell(&cookie_action, carried);
            let touched = record_touches(&env, &packed.touches).collect();
            completion.committed();
            return Ok(valid(&env, cookie_action, &renews, touched).await);
        };
        completion.will_tell(&cookie_action, carried);
        (completion.founders, completion.events) = (packed.founders, packed.events);
        completion.findings.clone_from(&set.findings);
        let span = commit_span(&set);
        let (reply, answer) = oneshot::channel();
        let in_flight = InFlight {
            completion,
            reply,
            again: None,
            is_inside: recompute::is_running(),
        };
        // Dropped with this future: what has not been queued by then is taken back (C2.4).
        let _submission = in_flight.submit(set, waiter);
        let answered = in_process(&env.process, answer).await?;
        match &answered {
            Ok(Ok(_)) => span.record("outcome", "Committed"),
            Ok(Err(failure)) => span.record("outcome", debug(failure.error.kind())),
            Err(oneshot::Canceled) => span.record("outcome", "Stopped"),
        };
        match answered {
            Ok(Ok(_)) => Ok(valid(&env, cookie_action, &renews, Vec::new()).await),
            Ok(Err(failure)) => Err(failure),
            Err(oneshot::Canceled) => Err(Error::stopped().into()),
        }
    }
}

/// From the queue to the answer. Nothing is logged in it, so it is not entered.
fn commit_span(set: &ChangeSet) -> tracing::Span {
    tracing::debug_span!(
        "cloakroom.commit",
        sessions = set.clients.len(),
        outcome = Empty
    )
}

/// Waits for an answer, which comes in the process of the store alone. What it has become elsewhere is not even looked
/// at: the thread that gave it may have been halfway.
pub(crate) async fn in_process<T>(
    process: &Process,
    answer: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut answer = pin!(answer);
    poll_fn(|context| match process.check() {
        Ok(()) => answer.as_mut().poll(context).map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// A touch on its way, and the session that it is of.
type TouchAnswer = (SessionRef, Answer<'static, TouchOutcome>);

/// Records access times. The engine does so even if nobody waits for its answers.
fn record_touches(env: &Env, touches: &[Touch]) -> impl Iterator<Item = TouchAnswer> {
    let touches = touches.iter();
    touches.map(|touch| (touch.session, env.storage.touch(*touch)))
}

/// The cookie action, unless it is for a session that was there before and has ended meanwhile: its id must not
/// overwrite another one (C4.8). A touch tells of its own session.
async fn valid(
    env: &Env,
    cookie_action: CookieAction,
    renews: &[LoadedSession],
    mut touched: Vec<TouchAnswer>,
) -> CookieAction {
    // All were loaded by one transaction.
    let Some(LoadedSession { since, .. }) = renews.first() else {
        return cookie_action;
    };
    let mut others = Vec::with_capacity(renews.len());
    for LoadedSession { session, .. } in renews {
        let touch = touched.iter().position(|(of, _)| of == session);
        match touch.map(|at| touched.swap_remove(at)) {
            Some((_, outcome)) => {
                if outcome.await == TouchOutcome::Alive {
                    return cookie_action;
                }
            }
            None => others.push(*session),
        }
    }
    if others.is_empty() {
        return CookieAction::Keep;
    }
    let is_alive = env.storage.is_any_alive(&others, *since).await;
    match is_alive {
        Ok(true) => cookie_action,
        Ok(false) | Err(_) => CookieAction::Keep,
    }
}

/// A queued commit.
pub(crate) struct InFlight {
    completion: Completion,
    reply: oneshot::Sender<Result<Option<Box<ChangeSet>>, CommitFailure>>,
    /// By which it is submitted again, while it is computed again.
    again: Option<Box<dyn Resubmit>>,
    /// Whether a closure that runs again makes this commit, and waits for it.
    is_inside: bool,
}

impl InFlight {
    fn submit(self, mut set: Box<ChangeSet>, waiter: WaiterKind) -> Submission {
        self.refuse_ended(&mut set);
        let storage = self.completion.env.storage.clone();
        if self.is_inside {
            // Those that have all the room may wait for the closure that this is called from.
            storage.submit_unbounded(set, Box::new(move |outcome| self.complete(outcome)));
            return Submission::admitted();
        }
        let done = Box::new(move |outcome| self.complete(outcome));
        storage.submit(set, waiter, done)
    }

    fn submit_again(mut self, mut set: Box<ChangeSet>) {
        self.refuse_ended(&mut set);
        let (again, storage) = (self.again.take(), self.completion.env.storage.clone());
        let done = Box::new(move |outcome| self.complete(outcome));
        match again {
            Some(again) => again.resubmit(set, done),
            None => storage.submit_unbounded(set, done),
        }
    }

    /// However long the transaction took, an id that it ends is refused for the whole time.
    fn refuse_ended(&self, set: &mut ChangeSet) {
        let env = &self.completion.env;
        set.refusals = env.refusals();
    }

    /// Runs on the storage's thread: only hands on.
    fn complete(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Committed(set) => {
                self.completion.committed();
                let _ = self.reply.send(Ok(Some(set)));
            }
            Outcome::Failed(error, client) => self.fail(CommitFailure { error, client }),
            // A thread that runs closures again waits for this one.
            Outcome::Stale(..) if self.is_inside => self.fail(inside().into()),
            Outcome::Stale(set, commutes, again) => {
                self.again = again;
                let env = self.completion.env.clone();
                env.recomputer.push(Recompute {
                    set,
                    commutes,
                    commit: Box::new(self),
                });
            }
        }
    }

    fn fail(self, failure: CommitFailure) {
        drop(self.again);
        self.completion.failed(&failure.error);
        let _ = self.reply.send(Err(failure));
    }
}

impl StaleCommit for InFlight {
    fn closure(&self, index: usize) -> Option<&Closure> {
        self.completion.closures.get(index)
    }

    fn submit_again(self: Box<Self>, set: Box<ChangeSet>) {
        (*self).submit_again(set);
    }

    fn fail(self: Box<Self>, error: Error) {
        (*self).fail(error.into());
    }
}

fn inside() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the closure of a commute committed another commute, which would have to run again before it ends",
    )
}
