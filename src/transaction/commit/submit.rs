//! The path of a commit. It waits in the lines of the sessions that it writes to, enters the storage's queue, and
//! returns with an outcome. A queued commit completes even if no caller waits for it (C2.4).

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
use std::time::{Duration, Instant};
use tracing::field::{Empty, debug};

/// Why a commit failed, and the client whose session caused that, if one did.
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

/// The work to do when the outcome is known. Dropping it earlier aborts the transaction.
///
/// It owns the hooks and closures of the application. The thread for hooks drops them: their `Drop` is the
/// application's code, and must not run on a thread of the storage (C2.6, C6.3).
pub(crate) struct Completion {
    pub(crate) env: Arc<Env>,
    pub(crate) after_commit: Vec<WorkerTask>,
    pub(crate) after_abort: Vec<WorkerTask>,
    pub(crate) closures: Vec<Closure>,
    pub(crate) turns: Vec<Turn>,
    pub(crate) founders: Vec<ClientId>,
    pub(crate) events: Vec<SessionEvent>,
    /// The findings of the merge that the events depend on.
    pub(crate) findings: Option<MergeFindings>,
    /// The changes to the rows that came with the request.
    pub(crate) carried: Option<CarriedCommit>,
    /// Informs a request that continues after the commit, even if no caller waits for the outcome.
    pub(crate) early: Option<EarlyReport>,
    /// Keeps the store open until the outcome is known, even if no caller waits for it.
    pub(crate) store: Option<Arc<dyn KeepOpen>>,
}

/// Sends the cookie action for the response to a request, once a commit has succeeded. If the commit fails, it is
/// dropped unused.
pub(crate) struct EarlyReport {
    to: oneshot::Sender<CookieAction>,
    action: CookieAction,
    /// Lets the request wait for the outcome.
    begins: Option<Box<dyn FnOnce() + Send>>,
}

impl EarlyReport {
    #[cfg(feature = "http")]
    pub(crate) fn new(
        to: oneshot::Sender<CookieAction>,
        begins: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self {
            to,
            action: CookieAction::Keep,
            begins: Some(Box::new(begins)),
        }
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
        if let Some(EarlyReport { to, action, .. }) = self.early.take() {
            let _ = to.send(action);
        }
        let unused = std::mem::take(&mut self.after_abort);
        self.discard(unused);
        for hook in std::mem::take(&mut self.after_commit) {
            self.env.hooks.run(hook);
        }
    }

    /// If the outcome is unknown, no hook runs: neither kind would be correct. The commit may have created sessions, so
    /// their ids count as used, and no other session is created under them (C4.8).
    pub(crate) fn failed(mut self, error: &Error) {
        if error.kind() == ErrorKind::OutcomeUnknown {
            self.founders.iter().for_each(ClientId::mark_used);
            let unused = std::mem::take(&mut self.after_abort);
            self.discard(unused);
        }
    }

    /// Ends a transaction that could not be packed.
    pub(crate) fn refused(self, error: Error) -> Error {
        // Dropping the completion must not close the store.
        let _store = self.store.clone();
        self.failed(&error);
        error
    }

    /// Informs the request once the commit has succeeded. From here on, the commit ends even if nobody polls it, and the
    /// request can wait for that.
    fn will_tell(&mut self, action: &CookieAction, carried: Option<CarriedCommit>) {
        self.carried = carried;
        if let Some(early) = &mut self.early {
            early.action = action.clone();
            early.begins.take().into_iter().for_each(|begins| begins());
        }
    }

    /// Whether the commit leaves work for the thread for hooks.
    fn leaves_tasks(&self) -> bool {
        let hooks = [&self.after_commit, &self.after_abort];
        hooks.iter().any(|hooks| !hooks.is_empty()) || !self.closures.is_empty()
    }

    /// Leaks everything, in a process that was forked from the store's. The store's process gets the outcome and runs
    /// the hooks. Here, `Drop` could wait for a lock that a thread of the store's process held at the fork (C7.5).
    fn leak(&mut self) {
        let hooks = [&mut self.after_commit, &mut self.after_abort].map(std::mem::take);
        let closures = std::mem::take(&mut self.closures);
        let turns = std::mem::take(&mut self.turns);
        std::mem::forget((hooks, closures, turns, self.store.take(), self.env.clone()));
    }

    /// Refuses the commit, because the hooks of earlier commits do not run fast enough. So the number of waiting hooks
    /// stays bounded. This runs on the application's thread, so it may drop the application's data.
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

    /// Drops each value separately: if one panics, the others are still dropped.
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
        // Closing a store waits for its threads. This may be one of them.
        if let Some(store) = self.store.take()
            && Arc::strong_count(&store) == 1
        {
            self.discard(vec![store]);
        }
    }
}

/// A packed transaction that is not queued yet. Dropping it aborts. `completion` owns the hooks and closures of the
/// application.
pub(crate) struct PendingCommit {
    pub(crate) completion: Completion,
    pub(crate) packed: PackedCommit,
}

impl PendingCommit {
    /// Waits until no transaction holds the turn of a session that this commit writes to, as long as `patience` lasts.
    /// Must be awaited before [`commit`](Self::commit).
    pub(crate) async fn wait_in_line(&mut self, patience: &mut Patience) {
        if self.packed.set.is_none() {
            return;
        }
        let completion = &mut self.completion;
        let env = completion.env.clone();
        let held = completion.turns.first().map(Turn::session);
        // A transaction that holds a turn waits for no other turn, so two such transactions cannot deadlock.
        let mut none = Patience::new(Duration::ZERO);
        let patience = if held.is_some() { &mut none } else { patience };
        // All commits wait for sessions in the same order, so commits that wait in several lines cannot deadlock
        // either.
        let mut contended = std::mem::take(&mut self.packed.contended);
        contended.sort_unstable();
        for session in contended {
            if held != Some(session) {
                let pass = |left| env.turns.pass(session, left);
                completion.turns.extend(patience.wait_for(pass).await);
            }
        }
    }

    /// Commits. Its future is a part of each request's future. Its data is boxed, so that the future stays small.
    pub(crate) async fn commit(
        self: Box<Self>,
        waiter: WaiterKind,
    ) -> Result<CookieAction, CommitFailure> {
        let Self {
            mut completion,
            packed,
        } = *self;
        let env = completion.env.clone();
        // The application may fork while a future waits, so each wait may end in another process.
        env.process.check()?;
        // Held until the answer arrives, so that this future drops the last handle of the store.
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
            begun: Instant::now(),
        };
        // Dropping this future withdraws the commit, unless the storage has queued it (C2.4).
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

/// A span from the submission to the answer. It is never entered, because nothing is logged in it.
fn commit_span(set: &ChangeSet) -> tracing::Span {
    tracing::debug_span!(
        "cloakroom.commit",
        sessions = set.clients.len(),
        outcome = Empty
    )
}

/// Waits for an answer. It arrives only in the store's process. Other processes do not look at the channel: the fork
/// may have interrupted the sending thread.
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

/// A touch that is being recorded, and its session.
type TouchAnswer = (SessionRef, Answer<'static, TouchOutcome>);

/// Records access times. The engine does this even if nobody waits for its answers.
fn record_touches(env: &Env, touches: &[Touch]) -> impl Iterator<Item = TouchAnswer> {
    let touches = touches.iter();
    touches.map(|touch| (touch.session, env.storage.touch(*touch)))
}

/// The cookie action. If its session existed before and has ended meanwhile, the cookie stays as it is: an ended id
/// must not overwrite another one (C4.8). The answer to a touch shows whether its session was alive.
async fn valid(
    env: &Env,
    cookie_action: CookieAction,
    renews: &[LoadedSession],
    mut touched: Vec<TouchAnswer>,
) -> CookieAction {
    // One transaction loaded all of them, so they have the same `since`.
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
    /// The place that the engine keeps for the commit while it is computed again.
    again: Option<Box<dyn Resubmit>>,
    /// Whether a closure that is being recomputed makes this commit and waits for it.
    is_inside: bool,
    begun: Instant,
}

impl InFlight {
    fn submit(self, mut set: Box<ChangeSet>, waiter: WaiterKind) -> Submission {
        self.refuse_ended(&mut set);
        let storage = self.completion.env.storage.clone();
        if self.is_inside {
            // A bounded queue could deadlock: the commits that fill it may wait for the closure that makes this commit.
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

    /// Sets how long ended ids are refused. This happens at each submission, so the ids are refused for the full time,
    /// however long the transaction took.
    fn refuse_ended(&self, set: &mut ChangeSet) {
        let env = &self.completion.env;
        set.refusals = env.refusals();
    }

    /// Runs on the storage's thread, so it only passes the outcome on.
    fn complete(mut self, outcome: Outcome) {
        match outcome {
            Outcome::Committed(set) => {
                self.completion.env.commit_times.count(self.begun.elapsed());
                self.completion.committed();
                let _ = self.reply.send(Ok(Some(set)));
            }
            Outcome::Failed(error, client) => self.fail(CommitFailure { error, client }),
            // The thread that recomputes closures waits for this commit, so it cannot recompute this one.
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
