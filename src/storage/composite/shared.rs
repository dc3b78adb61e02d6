//! The state that the composite's calls share: both engines and the gate before them. Also takes snapshots of both
//! engines at one moment.

use super::driver::Driver;
use super::gate::{CommitGate, Inside};
use super::memory::MemoryEngine;
use super::memory_snapshot::MemorySnapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerId, Mark, Snapshot, Storage, StoreSettings};
use futures_channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The durable part of a snapshot, and the part in memory.
pub(super) type BothSnapshots = (Arc<dyn Snapshot>, MemorySnapshot);

pub(super) struct CompositeShared {
    pub(super) durable: Arc<dyn Storage>,
    pub(super) memory: Arc<MemoryEngine>,
    pub(super) gate: Arc<CommitGate>,
    /// The number of registrations that this process knows of. It is enough to validate commits in memory: no other
    /// process has their rows.
    pub(super) registry: AtomicU64,
    /// Whether there has been a container in memory. It is set before a transaction can know the first one.
    pub(super) has_memory: AtomicBool,
}

impl CompositeShared {
    pub(super) fn has_memory(&self) -> bool {
        self.has_memory.load(Ordering::Acquire)
    }

    pub(super) fn learn(&self, settings: &StoreSettings) {
        self.registry.fetch_max(settings.registry, Ordering::AcqRel);
        let mut containers = settings.containers.values();
        if containers.any(|record| ContainerId(record.id).is_in_memory()) {
            self.has_memory.store(true, Ordering::Release);
        }
    }

    /// The state of both engines at one moment, if the durable engine answers at once. Such an engine publishes commits
    /// of both engines only while the tables are locked, so the lock keeps them out.
    pub(super) fn snapshot_at_once(&self) -> Result<BothSnapshots> {
        let mut tables = self.memory.tables();
        let durable = self.durable.snapshot().wait()?;
        let memory = MemorySnapshot::of(&self.memory, &mut tables);
        Ok((durable, memory))
    }

    /// The state of both engines at one moment. The first attempt does not exclude commits. If a commit has entered the
    /// gate meanwhile, the second attempt excludes them.
    pub(super) async fn snapshot_late(self: &Arc<Self>, driver: &Driver) -> Result<BothSnapshots> {
        if let Some(before) = self.gate.quiet() {
            let memory = MemorySnapshot::of(&self.memory, &mut self.memory.tables());
            let durable = self.durable.snapshot().await?;
            if self.gate.quiet() == Some(before) {
                return Ok((durable, memory));
            }
        }
        let (reply, answer) = oneshot::channel();
        let shared = self.clone();
        let (enter, entered) = oneshot::channel();
        // The caller may never poll again, but commits wait until this future has left the gate. So the driver runs it.
        driver.run(async move {
            let Ok(inside): Result<Inside, _> = entered.await else {
                return;
            };
            let memory = MemorySnapshot::of(&shared.memory, &mut shared.memory.tables());
            let durable = shared.durable.snapshot().await;
            drop(inside);
            let _ = reply.send(durable.map(|durable| (durable, memory)));
        });
        self.gate
            .enter_snapshot(Box::new(move |inside| drop(enter.send(inside))));
        answer.await.map_err(|_| closed())?
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            memory: self.memory.revision(),
            ..self.durable.mark()
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store is closed")
}
