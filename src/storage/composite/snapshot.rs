//! A snapshot of both engines. Both parts show the same moment.

use super::memory_snapshot::MemorySnapshot;
use super::moving::MovingParts;
use super::shared::BothSnapshots;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot, of_first_clients};
use std::sync::Arc;

pub(super) struct CompositeSnapshot {
    durable: Arc<dyn Snapshot>,
    memory: MemorySnapshot,
    /// Of a durable engine whose loads may move the moment of its part.
    moving: Option<MovingParts>,
}

impl CompositeSnapshot {
    /// Both parts as of one moment, which no load moves.
    pub(super) fn new((durable, memory): BothSnapshots) -> Self {
        Self {
            durable,
            memory,
            moving: None,
        }
    }

    /// Both parts as of one moment, which loads may move.
    pub(super) fn moving(both: BothSnapshots, parts: MovingParts) -> Self {
        Self {
            moving: Some(parts),
            ..Self::new(both)
        }
    }
}

impl Snapshot for CompositeSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        let Some(moving) = &self.moving else {
            return self.durable.load(clients);
        };
        let (both, clients) = ((&self.durable, &self.memory), clients.to_vec());
        Answer::later(async move { moving.load(both, &clients).await })
    }

    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        let moving = self.moving.as_ref().and_then(MovingParts::conflict);
        moving.or_else(|| self.durable.load_conflict())
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        match &self.moving {
            Some(moving) => moving.is_loaded(&*self.durable, client),
            None => self.durable.is_loaded(client),
        }
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
