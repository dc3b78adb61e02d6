//! The engine that passes each call to the durable engine, to the containers in memory, or to both.

use super::driver::Driver;
use super::memory::{MemoryEngine, MemoryRules};
use super::moving::MovingParts;
use super::shared::CompositeShared;
use super::snapshot::CompositeSnapshot;
use super::times::ask_each;
use crate::client_id::ClientKey;
use crate::clock::{Clock, ClockOffset, Timestamp};
use crate::error::Result;
#[cfg(feature = "encryption")]
use crate::storage::ResealStep;
use crate::storage::{
    Answer, ChangeSet, Checked, CommitCallback, ContainerId, Counters, Finding, LocalEngine, Mark,
    NewestTimes, RowProgressFn, SWEPT_TOGETHER, SessionRef, SettingsChange, ShownTimes, Snapshot,
    StalePage, Storage, StoreSettings, Submission, TombstonePolicy, Touch, TouchOutcome,
    WaiterKind,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// A durable engine, and the containers in memory beside it. Until there is such a container, every call goes to the
/// durable engine.
pub(crate) struct Composite {
    pub(super) shared: Arc<CompositeShared>,
    /// Takes the snapshots of a durable engine that does not answer at once.
    pub(super) driver: Option<Arc<Driver>>,
}

impl Composite {
    /// Combines a durable engine with containers in memory.
    pub(crate) fn new(durable: Arc<dyn Storage>, clock: Clock, rules: MemoryRules) -> Result<Self> {
        let is_late = !durable.answers_at_once();
        Ok(Self {
            shared: Arc::new(CompositeShared {
                durable,
                memory: Arc::new(MemoryEngine::new(clock, rules)),
                gate: Arc::default(),
                registry: AtomicU64::new(0),
                has_memory: AtomicBool::new(false),
            }),
            driver: is_late.then(Driver::start).transpose()?.map(Arc::new),
        })
    }

    /// Notes the settings that the durable engine returns.
    fn known<'a>(
        &'a self,
        answer: Answer<'a, Result<Arc<StoreSettings>>>,
    ) -> Answer<'a, Result<Arc<StoreSettings>>> {
        answer.map(|settings| settings.inspect(|settings| self.shared.learn(settings)))
    }
}

impl Storage for Composite {
    fn mark(&self) -> Mark {
        self.shared.mark()
    }

    fn ready(&self) -> Result<()> {
        self.shared.durable.ready()
    }

    fn answers_at_once(&self) -> bool {
        self.shared.durable.answers_at_once()
    }

    fn lasting_snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        self.shared.durable.lasting_snapshot()
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        if !self.shared.has_memory() {
            return self.shared.durable.snapshot();
        }
        let Some(driver) = &self.driver else {
            let both = self.shared.snapshot_at_once();
            return Answer::now(both.map(|both| Arc::new(CompositeSnapshot::new(both)) as _));
        };
        Answer::later(async move {
            let both = self.shared.snapshot_late(driver).await?;
            let parts = MovingParts::new(self.shared.clone(), driver.clone());
            Ok(Arc::new(CompositeSnapshot::moving(both, parts)) as _)
        })
    }

    fn submit(&self, set: Box<ChangeSet>, waiter: WaiterKind, done: CommitCallback) -> Submission {
        self.shared.submit(set, waiter, done)
    }

    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        self.shared.submit_unbounded(set, done);
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        if !touch.session.container.is_in_memory() {
            return self.shared.durable.touch(touch);
        }
        let memory = &self.shared.memory;
        let is_alive = memory.tables().touch(touch, memory.clock.timestamp());
        Answer::now(match is_alive {
            true => TouchOutcome::Alive,
            false => TouchOutcome::Ended,
        })
    }

    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>> {
        let all = sessions.iter().copied();
        let (in_memory, durable): (Vec<_>, Vec<_>) =
            all.partition(|it| it.container.is_in_memory());
        let is_alive = |it: &SessionRef| self.shared.memory.tables().is_live(*it, since);
        if in_memory.iter().any(is_alive) {
            return Answer::now(Ok(true));
        }
        match durable.is_empty() {
            true => Answer::now(Ok(false)),
            false => self.shared.durable.is_any_alive(&durable, since),
        }
    }

    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let CompositeShared {
            memory, durable, ..
        } = &*self.shared;
        let in_memory = |sessions: &[SessionRef]| memory.recorded_times(sessions);
        ask_each(sessions, in_memory, |it| durable.recorded_times(it))
    }

    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let CompositeShared {
            memory, durable, ..
        } = &*self.shared;
        let in_memory = |sessions: &[SessionRef]| memory.found_expired(sessions);
        ask_each(sessions, in_memory, |it| durable.found_expired(it))
    }

    fn may_sweep(&self, every: Duration) -> Answer<'_, Result<bool>> {
        self.shared.durable.may_sweep(every)
    }

    fn swept_together(&self, container: ContainerId) -> usize {
        match container.is_in_memory() {
            true => SWEPT_TOGETHER,
            false => self.shared.durable.swept_together(container),
        }
    }

    fn stale(
        &self,
        container: ContainerId,
        now: Timestamp,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<StalePage>> {
        if !container.is_in_memory() {
            return self.shared.durable.stale(container, now, after, limit);
        }
        let mark = self.mark();
        let mut tables = self.shared.memory.tables();
        let newest = tables.snapshot();
        let rows = tables.sessions(&newest, container, after, limit);
        tables.give_back(newest);
        let sessions = rows.into_iter().map(|(client, row)| (client, Ok(row)));
        Answer::now(Ok(StalePage {
            mark,
            sessions: sessions.collect(),
            times: ShownTimes::Recorded,
        }))
    }

    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.known(self.shared.durable.settings())
    }

    fn settings_version(&self) -> u64 {
        self.shared.durable.settings_version()
    }

    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>> {
        self.known(self.shared.durable.configure(change))
    }

    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>> {
        Answer::later(async move {
            let reclaimed = self.shared.durable.reclaim(refusals).await?;
            if !self.shared.has_memory() {
                return Ok(reclaimed);
            }
            let settings = self.shared.durable.settings().await?;
            let records = settings.containers.values();
            let registered = records.map(|record| ContainerId(record.id)).collect();
            let memory = &self.shared.memory;
            let mut tables = memory.tables();
            let in_memory = tables.reclaim(refusals, &registered);
            memory.note_change(&mut tables);
            Ok(reclaimed + in_memory)
        })
    }

    fn check<'a>(
        &'a self,
        found: &'a mut (dyn FnMut(Finding) + Send),
        progress: &'a mut RowProgressFn<'a>,
    ) -> Answer<'a, Result<Checked>> {
        Answer::later(async move {
            let durable = self.shared.durable.check(found, progress).await?;
            let memory = self.shared.memory.tables().count();
            Ok(Checked {
                sessions: durable.sessions + memory.sessions,
                packages: durable.packages + memory.packages,
                bytes_in_use: durable.bytes_in_use,
                is_complete: durable.is_complete,
            })
        })
    }

    fn counters(&self) -> Counters {
        let mut counters = self.shared.durable.counters();
        self.shared.memory.add_to(&mut counters);
        counters
    }

    fn clock_offset(&self) -> Option<Arc<ClockOffset>> {
        self.shared.durable.clock_offset()
    }

    fn close(&self) -> Result<()> {
        let closed = self.shared.durable.close();
        if let Some(driver) = &self.driver {
            driver.close();
        }
        closed
    }

    #[cfg(feature = "encryption")]
    fn reseal(&self, after: Option<[u8; 20]>) -> Answer<'_, Result<ResealStep>> {
        self.shared.durable.reseal(after)
    }

    #[cfg(feature = "encryption")]
    fn leave_reseal(&self) -> Answer<'_, Result<()>> {
        self.shared.durable.leave_reseal()
    }

    #[cfg(feature = "encryption")]
    fn finish_reseal(&self) -> Answer<'_, Result<bool>> {
        self.shared.durable.finish_reseal()
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        self.shared.durable.local()
    }
}
