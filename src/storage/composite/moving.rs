//! Loads of a snapshot whose durable part each load may move to another moment. Then the part in memory follows, so that
//! both show the same moment.

use super::driver::Driver;
use super::gate::Inside;
use super::memory_snapshot::MemorySnapshot;
use super::shared::{CompositeShared, closed};
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::Snapshot;
use futures_channel::oneshot;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a snapshot needs to follow its durable part.
pub(super) struct MovingParts {
    shared: Arc<CompositeShared>,
    driver: Arc<Driver>,
    state: Mutex<MovingState>,
}

#[derive(Default)]
struct MovingState {
    /// The clients that both parts have loaded.
    loaded: HashSet<ClientKey>,
    /// How often the durable part had moved when the part in memory followed it.
    followed: u64,
    conflict: Option<(Error, ClientKey)>,
    /// Is told when the last load has ended.
    last: Option<oneshot::Receiver<()>>,
}

impl MovingParts {
    pub(super) fn new(shared: Arc<CompositeShared>, driver: Arc<Driver>) -> Self {
        Self {
            shared,
            driver,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, MovingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both parts have loaded a client, and show the same moment. A load that nobody awaits any more may have moved
    /// one of them alone.
    pub(super) fn is_loaded(&self, durable: &dyn Snapshot, client: ClientKey) -> bool {
        let state = self.lock();
        state.loaded.contains(&client) && state.followed == durable.moved()
    }

    pub(super) fn conflict(&self) -> Option<(Error, ClientKey)> {
        self.lock().conflict.clone()
    }

    /// Loads clients. One load at a time: each moves both parts.
    pub(super) async fn load(
        &self,
        (durable, memory): (&Arc<dyn Snapshot>, &MemorySnapshot),
        clients: &[ClientKey],
    ) -> Result<()> {
        let (end, ended) = oneshot::channel::<()>();
        let before = self.lock().last.replace(ended);
        if let Some(before) = before {
            // It ends without an answer.
            let _ = before.await;
        }
        let loaded = self.load_next(durable, memory, clients).await;
        drop(end);
        loaded
    }

    /// The first attempt does not exclude commits. If it has moved the durable part while a commit was inside the gate,
    /// the second attempt excludes them.
    async fn load_next(
        &self,
        durable: &Arc<dyn Snapshot>,
        memory: &MemorySnapshot,
        clients: &[ClientKey],
    ) -> Result<()> {
        let quiet = self.shared.gate.quiet();
        let before = durable.moved();
        durable.load(clients).await?;
        // After the load, which may have waited for a part in memory.
        let now = quiet.map(|_| self.memory_now());
        let moved = durable.moved();
        if moved != self.lock().followed {
            // If this load has not moved it, because another has loaded these clients, it is of a moment before.
            let has_moved = moved != before;
            let is_of_one_moment =
                has_moved && quiet.is_some() && self.shared.gate.quiet() == quiet;
            let (newer, moved) = match now.filter(|_| is_of_one_moment) {
                Some(now) => (now, moved),
                None => self.load_inside(durable.clone(), clients.to_vec()).await?,
            };
            let mut state = self.lock();
            if let Some(client) = memory.move_to(newer, &state.loaded) {
                let why = "a session that the transaction had read was changed in memory before it read another one";
                let error = Error::new(ErrorKind::Conflict, why);
                state.conflict = Some((error.clone(), client));
                return Err(error);
            }
            state.followed = moved;
        }
        self.lock().loaded.extend(clients);
        Ok(())
    }

    fn memory_now(&self) -> MemorySnapshot {
        let memory = &self.shared.memory;
        MemorySnapshot::of(memory, &mut memory.tables())
    }

    /// Loads clients while no commit concerns memory. Returns the part in memory at that moment, and how often the durable
    /// part had moved then.
    async fn load_inside(
        &self,
        durable: Arc<dyn Snapshot>,
        clients: Vec<ClientKey>,
    ) -> Result<(MemorySnapshot, u64)> {
        let (reply, answer) = oneshot::channel();
        let (enter, entered) = oneshot::channel();
        let shared = self.shared.clone();
        // The caller may never poll again, but commits wait until this future has left the gate. So the driver runs it.
        self.driver.run(async move {
            let Ok(inside): Result<Inside, _> = entered.await else {
                return;
            };
            let loaded = durable.load_now(&clients).await;
            let memory = MemorySnapshot::of(&shared.memory, &mut shared.memory.tables());
            let moved = durable.moved();
            drop(inside);
            let _ = reply.send(loaded.map(|()| (memory, moved)));
        });
        let gate = &self.shared.gate;
        gate.enter_snapshot(Box::new(move |inside| drop(enter.send(inside))));
        answer.await.map_err(|_| closed())?
    }
}
