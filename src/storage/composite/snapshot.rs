//! A snapshot of both engines. Both parts show the same moment.

use super::memory::MemoryEngine;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::{MemoryTables, TableSnapshot};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot, of_first_clients};
use std::sync::Arc;

pub(super) struct CompositeSnapshot {
    pub(super) durable: Arc<dyn Snapshot>,
    pub(super) memory: MemorySnapshot,
}

/// A snapshot of the containers in memory. Dropping it returns it to the tables.
pub(super) struct MemorySnapshot {
    engine: Arc<MemoryEngine>,
    held: Option<TableSnapshot>,
}

impl MemorySnapshot {
    pub(super) fn of(engine: &Arc<MemoryEngine>, tables: &mut MemoryTables) -> Self {
        Self {
            held: Some(tables.snapshot()),
            engine: engine.clone(),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&MemoryTables, &TableSnapshot) -> T) -> Result<T> {
        let tables = self.engine.tables();
        let held = self.held.as_ref().filter(|held| !tables.is_expired(held));
        let held = held.ok_or_else(outlived)?;
        Ok(read(&tables, held))
    }
}

fn outlived() -> Error {
    Error::new(
        ErrorKind::SnapshotTooOld,
        "the transaction outlived its snapshot",
    )
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        // In a forked process, a thread that does not exist there may hold the lock (C7.5).
        if let Some(held) = self.held.take().filter(|_| self.engine.process.is_this()) {
            self.engine.tables().give_back(held);
        }
    }
}

impl Snapshot for CompositeSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        self.durable.load(clients)
    }

    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        self.durable.load_conflict()
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        self.durable.is_loaded(client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        if !container.is_in_memory() {
            return self.durable.session(container, client);
        }
        self.memory
            .read(|tables, held| tables.session(held, container, client))
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
        self.memory.read(|tables, held| {
            let row = tables.package(held, container, client, package);
            row.cloned()
        })
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
        self.memory.read(|tables, held| {
            let row = tables.package(held, container, client, package);
            row.map_or(0, PackageRow::memory_size)
        })
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let memory = self.memory.read(|tables, _| tables.tombstone(client))?;
        Ok(self.durable.tombstone(client)?.max(memory))
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>> {
        if !container.is_in_memory() {
            return self.durable.sessions(container, after, limit);
        }
        let rows = self
            .memory
            .read(|tables, held| tables.sessions(held, container, after, limit));
        let with_ok = |(client, row)| (client, Ok(row));
        Answer::now(rows.map(|rows| rows.into_iter().map(with_ok).collect()))
    }

    fn owned_page(
        &self,
        owner: &str,
        containers: &[ContainerId],
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let durable = self.durable.owned_page(owner, containers, after, limit);
        let memory = self.memory.read(|tables, held| tables.owned(held, owner));
        let containers = containers.to_vec();
        let both = move |durable: Result<Vec<_>>| {
            let mut all = memory?;
            all.retain(|(container, _)| containers.contains(container));
            all.extend(durable?);
            Ok(of_first_clients(all, after, limit))
        };
        match durable {
            Answer::Now(durable) => Answer::now(both(durable.into_inner())),
            Answer::Later(durable) => Answer::later(async move { both(durable.await) }),
        }
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let durable = self.durable.owned(owner);
        let memory = self.memory.read(|tables, held| tables.owned(held, owner));
        let both = |durable: Result<Vec<_>>| {
            let mut all = durable?;
            all.extend(memory?);
            Ok(all)
        };
        match durable {
            Answer::Now(durable) => Answer::now(both(durable.into_inner())),
            Answer::Later(durable) => Answer::later(async move { both(durable.await) }),
        }
    }
}
