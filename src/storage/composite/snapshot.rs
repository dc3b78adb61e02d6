//! A snapshot of two engines, both parts of one moment.

use super::memory::MemoryEngine;
use crate::client_id::ClientKey;
use crate::error::Result;
use crate::storage::memory::TableSnapshot;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, Snapshot};
use std::sync::Arc;

pub(super) struct CompositeSnapshot {
    pub(super) durable: Arc<dyn Snapshot>,
    pub(super) memory: MemorySnapshot,
}

/// The memory's part. It is kept until this is dropped.
pub(super) struct MemorySnapshot {
    engine: Arc<MemoryEngine>,
    held: Option<TableSnapshot>,
}

impl MemorySnapshot {
    pub(super) fn of(engine: &Arc<MemoryEngine>) -> Self {
        Self {
            held: Some(engine.tables().snapshot()),
            engine: engine.clone(),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&crate::storage::memory::MemoryTables, &TableSnapshot) -> T,
    ) -> Option<T> {
        let held = self.held.as_ref()?;
        Some(read(&self.engine.tables(), held))
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.engine.tables().give_back(held);
        }
    }
}

impl Snapshot for CompositeSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        self.durable.load(clients)
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        self.durable.is_loaded(client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        if !container.is_in_memory() {
            return self.durable.session(container, client);
        }
        let row = self
            .memory
            .read(|tables, held| tables.session(held, container, client));
        Ok(row.flatten())
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        if !container.is_in_memory() {
            return self.durable.package(container, client, package);
        }
        let row = self.memory.read(|tables, held| {
            let row = tables.package(held, container, client, package);
            row.cloned()
        });
        Ok(row.flatten())
    }

    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        if !container.is_in_memory() {
            return self.durable.package_len(container, client, package);
        }
        let row = self.package(container, client, package)?;
        Ok(row.map_or(0, |row| row.memory_size()))
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ClientKey, Result<SessionRow>)>>> {
        if !container.is_in_memory() {
            return self.durable.sessions(container, after, limit);
        }
        let rows = self
            .memory
            .read(|tables, held| tables.sessions(held, container, after, limit));
        let rows = rows.into_iter().flatten();
        Answer::now(Ok(rows.map(|(client, row)| (client, Ok(row))).collect()))
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let durable = self.durable.owned(owner);
        let memory = self.memory.read(|tables, held| tables.owned(held, owner));
        let memory = memory.unwrap_or_default();
        match durable {
            Answer::Now(durable) => Answer::now(durable.into_inner().map(|mut all| {
                all.extend(memory);
                all
            })),
            Answer::Later(durable) => Answer::later(async move {
                let mut all = durable.await?;
                all.extend(memory);
                Ok(all)
            }),
        }
    }
}
