//! The engine: every answer but the cheap ones comes from the server.

use super::batch::WRITERS;
use super::committer::{CommitEnd, PgCommitter};
use super::failure::unavailable;
use super::in_line::unknown;
use super::lasting::LastingSnapshot;
use super::pages::check;
use super::runtime::Runtime;
use super::shared::{Shared, closed};
use super::snapshot::PgSnapshot;
use super::touches::PendingTouches;
use crate::client_id::ClientKey;
use crate::clock::{ClockOffset, Timestamp};
use crate::error::{ErrorKind, Result};
#[cfg(feature = "encryption")]
use crate::storage::ResealStep;
use crate::storage::admission_line::{AdmissionLine, AdmissionPermit, QueuedCommit};
use crate::storage::{
    Answer, ChangeSet, Checked, CommitCallback, ContainerId, Counters, Finding, Mark, NewestTimes,
    Outcome, Resubmit, RowCounter, RowProgressFn, SessionRef, SettingsChange, Snapshot, StalePage,
    Storage, StoreSettings, Submission, TombstonePolicy, Touch, TouchOutcome, WaiterKind,
};
use futures_channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout_at;

/// An engine that keeps its sessions in a PostgreSQL server, which several processes use.
pub(crate) struct PostgresEngine {
    runtime: Arc<Runtime>,
    shared: Arc<Shared>,
    touches: Arc<PendingTouches>,
    committer: Arc<PgCommitter>,
    line: Arc<AdmissionLine>,
    /// Commits that are under way hold it, so that closing waits for them.
    under_way: Arc<RwLock<()>>,
}

impl PostgresEngine {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        shared: Arc<Shared>,
        touches: Arc<PendingTouches>,
    ) -> Self {
        let committer = Arc::new(PgCommitter::new(shared.clone(), touches.clone()));
        for _ in 0..WRITERS {
            runtime.run(committer.clone().run());
        }
        let (here, committing) = (runtime.clone(), committer.clone());
        let under_way = Arc::<RwLock<()>>::default();
        let held = under_way.clone();
        let send = move |commit: QueuedCommit| {
            let Ok(held) = held.clone().try_read_owned() else {
                return (commit.done)(Outcome::Failed(closed(), None));
            };
            let QueuedCommit { set, done, permit } = commit;
            let (committer, answer) = (committing.clone(), CommitAnswer(Some(done)));
            here.run(async move {
                send(committer, set, (answer, permit)).await;
                drop(held);
            });
        };
        let line = AdmissionLine::new(shared.rules.admission, Box::new(send));
        Self {
            runtime,
            shared,
            touches,
            committer,
            line,
            under_way,
        }
    }
}

/// Answers a commit. If it is dropped before, as the engine's thread ends, nobody knows what became of the commit.
struct CommitAnswer(Option<CommitCallback>);

impl CommitAnswer {
    fn send(mut self, outcome: Outcome) {
        if let Some(done) = self.0.take() {
            done(outcome);
        }
    }
}

impl Drop for CommitAnswer {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Outcome::Failed(unknown(), None));
        }
    }
}

/// Commits a change set, and answers.
async fn send(
    committer: Arc<PgCommitter>,
    set: Box<ChangeSet>,
    (answer, permit): (CommitAnswer, Option<AdmissionPermit>),
) {
    let outcome = match committer.commit(set).await {
        Some((set, CommitEnd::Committed, _)) => Outcome::Committed(set),
        Some((set, CommitEnd::Stale(commutes), _)) => {
            let permit = permit.map(|permit| Box::new(PgPlace(permit)) as Box<dyn Resubmit>);
            return answer.send(Outcome::Stale(set, commutes, permit));
        }
        Some((set, CommitEnd::Failed(error, client), lost)) => {
            // Before the answer: from then on, others may look.
            match set.foreign.is_some() && !lost.is_empty() {
                true => committer.find_out(set, (lost, permit)),
                false => drop(permit),
            }
            return answer.send(Outcome::Failed(error, client));
        }
        None => Outcome::Failed(unknown(), None),
    };
    drop(permit);
    answer.send(outcome);
}

/// The place of a commit that is computed again.
struct PgPlace(AdmissionPermit);

impl Resubmit for PgPlace {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback) {
        self.0.resend(set, done);
    }
}

impl Storage for PostgresEngine {
    fn mark(&self) -> Mark {
        self.shared.mark()
    }

    fn ready(&self) -> Result<()> {
        self.shared.check_open()?;
        let deadline = self.shared.rules.server.deadline;
        match self.shared.pool.is_down_for(deadline) {
            true => Err(unavailable("the server cannot be reached")),
            false => Ok(()),
        }
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        let opened = self.shared.check_open().map(|()| {
            let (runtime, touches) = (self.runtime.clone(), self.touches.clone());
            let snapshot = PgSnapshot::new(runtime, self.shared.clone(), touches);
            Arc::new(snapshot) as Arc<dyn Snapshot>
        });
        Answer::now(opened)
    }

    fn lasting_snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        let begun = LastingSnapshot::begin(self.runtime.clone(), self.shared.clone());
        let begun = self.runtime.ask(begun);
        Answer::later(async move { Ok(Arc::new(begun.await?) as Arc<dyn Snapshot>) })
    }

    fn submit(&self, set: Box<ChangeSet>, _: WaiterKind, done: CommitCallback) -> Submission {
        if let Err(error) = self.shared.check_open() {
            done(Outcome::Failed(error, None));
            return Submission::admitted();
        }
        match self.line.enter(set, done) {
            Some(withdrawal) => Submission::pending(withdrawal),
            None => Submission::admitted(),
        }
    }

    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        match self.shared.check_open() {
            Ok(()) => self.line.pass(set, done),
            Err(error) => done(Outcome::Failed(error, None)),
        }
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        let (reply, answer) = oneshot::channel();
        if self.shared.check_open().is_err() {
            return Answer::now(TouchOutcome::Unknown);
        }
        if !self.touches.add(touch, Some(reply)) {
            let lost = &self.shared.counters.lost_touches;
            lost.fetch_add(1, Ordering::Relaxed);
            return Answer::now(TouchOutcome::Unknown);
        }
        Answer::later(async move { answer.await.unwrap_or(TouchOutcome::Unknown) })
    }

    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>> {
        let (shared, sessions) = (self.shared.clone(), sessions.to_vec());
        let asked = async move { shared.is_any_alive(&sessions, since).await };
        Answer::later(self.runtime.ask(asked))
    }

    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let (shared, touches) = (self.shared.clone(), self.touches.clone());
        let (asked_for, count) = (sessions.to_vec(), sessions.len());
        let asked = async move { Ok(shared.recorded_times(&asked_for, &touches).await) };
        times(self.runtime.ask(asked), count)
    }

    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let (shared, touches) = (self.shared.clone(), self.touches.clone());
        let (asked_for, count) = (sessions.to_vec(), sessions.len());
        let asked = async move { Ok(shared.found_expired(&asked_for, &touches).await) };
        times(self.runtime.ask(asked), count)
    }

    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>> {
        let shared = self.shared.clone();
        Answer::later(
            self.runtime
                .ask(async move { shared.load_settings().await }),
        )
    }

    fn settings_version(&self) -> u64 {
        self.shared.heard.epoch()
    }

    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>> {
        let shared = self.shared.clone();
        let asked = async move { shared.configure(change).await };
        Answer::later(self.runtime.ask(asked))
    }

    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>> {
        let committer = self.committer.clone();
        let asked = async move { committer.reclaim(refusals).await };
        Answer::later(self.runtime.ask(asked))
    }

    #[cfg(feature = "encryption")]
    fn reseal(&self, after: Option<[u8; 20]>) -> Answer<'_, Result<ResealStep>> {
        let committer = self.committer.clone();
        let asked = async move { committer.reseal(after).await };
        Answer::later(self.runtime.ask(asked))
    }

    #[cfg(feature = "encryption")]
    fn leave_reseal(&self) -> Answer<'_, Result<()>> {
        let committer = self.committer.clone();
        let asked = async move { committer.leave_reseal().await };
        Answer::later(self.runtime.ask(asked))
    }

    #[cfg(feature = "encryption")]
    fn finish_reseal(&self) -> Answer<'_, Result<bool>> {
        let committer = self.committer.clone();
        let asked = async move { committer.finish_reseal().await };
        Answer::later(self.runtime.ask(asked))
    }

    fn may_sweep(&self, every: Duration) -> Answer<'_, Result<bool>> {
        let shared = self.shared.clone();
        Answer::later(
            self.runtime
                .ask(async move { shared.may_sweep(every).await }),
        )
    }

    fn swept_together(&self, _: ContainerId) -> usize {
        super::sweeps::SWEPT_TOGETHER
    }

    fn stale(
        &self,
        container: ContainerId,
        now: Timestamp,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<StalePage>> {
        let shared = self.shared.clone();
        let asked = async move { shared.stale(container, now, after, limit).await };
        Answer::later(self.runtime.ask(asked))
    }

    fn check<'a>(
        &'a self,
        found: &'a mut (dyn FnMut(Finding) + Send),
        progress: &'a mut RowProgressFn<'a>,
    ) -> Answer<'a, Result<Checked>> {
        Answer::later(async move {
            let mut checked = Checked::default();
            let mut rows_read = RowCounter::new(progress);
            let mut after = ClientKey::from_bytes([0; 16]);
            loop {
                let shared = self.shared.clone();
                let page = self.runtime.ask(async move { check(&shared, after).await });
                let Some(page) = page.await? else {
                    checked.is_complete = true;
                    return Ok(checked);
                };
                after = page.last;
                checked.sessions += page.sessions;
                checked.packages += page.packages;
                page.findings.into_iter().for_each(&mut *found);
                let mut rows = 0..page.sessions + page.packages;
                if rows.try_for_each(|_| rows_read.count()).is_err() {
                    return Ok(checked);
                }
            }
        })
    }

    fn counters(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (load, counted) = (self.line.load(), &self.shared.counters);
        Counters {
            commits: get(&counted.commits),
            groups: get(&counted.groups),
            conflicts: get(&counted.conflicts),
            touches: get(&counted.touches),
            refused: get(&counted.refused),
            lost_touches: get(&counted.lost_touches),
            waiting: load.commits,
            waiting_bytes: load.bytes,
            pending_admission: load.waiting,
            ..Counters::default()
        }
    }

    fn clock_offset(&self) -> Option<Arc<ClockOffset>> {
        Some(self.shared.heard.offset())
    }

    fn close(&self) -> Result<()> {
        self.shared.process.check()?;
        if self.shared.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let (shared, touches) = (self.shared.clone(), self.touches.clone());
        let ending = end(shared, touches, self.under_way.clone());
        if self.runtime.is_this_thread() {
            // The last store was dropped by a task of the thread, which cannot wait for others.
            let (runtime, touches) = (self.runtime.clone(), self.touches.clone());
            let loads = self.shared.clone();
            self.runtime.run(async move {
                let _held = ending.await;
                runtime.stop();
                touches.close();
                loads.loads.close();
            });
            return Ok(());
        }
        let ended = self.runtime.ask(async move { Ok(ending.await) });
        let ended = Answer::later(ended).wait();
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.pool.close();
        self.runtime.stop();
        self.touches.close();
        self.shared.loads.close();
        match ended {
            Err(error) if error.kind() != ErrorKind::Closed => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes what is pending, and waits for the commits that are under way. While the answer is held, no other begins.
async fn end(
    shared: Arc<Shared>,
    touches: Arc<PendingTouches>,
    under_way: Arc<RwLock<()>>,
) -> Option<OwnedRwLockWriteGuard<()>> {
    let settled = async {
        touches.settle(&shared).await;
        if let Err(error) = shared.end_lease().await {
            tracing::debug!(%error, "another process sweeps only after a while");
        }
    };
    let _ = timeout_at(shared.deadline(), settled).await;
    shared.is_closed.store(true, Ordering::Release);
    // The outcome of a commit that was sent must be heard.
    let held = timeout_at(shared.deadline(), under_way.write_owned()).await;
    shared.pool.close();
    held.ok()
}

fn times<'a>(
    asked: impl Future<Output = Result<NewestTimes>> + Send + 'a,
    count: usize,
) -> Answer<'a, NewestTimes> {
    Answer::later(async move {
        let times = asked.await;
        times.unwrap_or_else(|error| vec![Err(error); count])
    })
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    // C10.2: the engine's thread may end while the server has not answered.
    #[test]
    fn a_commit_that_is_dropped_on_its_way_has_no_known_outcome() {
        let (told, outcomes) = channel();
        let answer = || {
            let told = told.clone();
            CommitAnswer(Some(Box::new(move |outcome| told.send(outcome).unwrap())))
        };
        drop(answer());
        let outcome = outcomes.try_recv().unwrap();
        assert!(
            matches!(outcome, Outcome::Failed(error, None) if error.kind() == ErrorKind::OutcomeUnknown)
        );
        answer().send(Outcome::Failed(closed(), None));
        let outcome = outcomes.try_recv().unwrap();
        assert!(
            matches!(outcome, Outcome::Failed(error, None) if error.kind() == ErrorKind::Closed)
        );
        assert!(outcomes.try_recv().is_err(), "once each");
    }
}
