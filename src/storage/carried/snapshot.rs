//! A snapshot of an engine, together with the rows that came with the request.

use super::rows::CarriedRows;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot};
use std::sync::Arc;

pub(crate) struct CarriedSnapshot {
    engine: Arc<dyn Snapshot>,
    rows: Arc<CarriedRows>,
    now: Timestamp,
    /// The unnamed container, which is in one of the engines.
    unnamed: ContainerId,
}

impl CarriedSnapshot {
    /// `now` is the time of the snapshot.
    pub(crate) fn new(
        engine: Arc<dyn Snapshot>,
        rows: Arc<CarriedRows>,
        now: Timestamp,
        unnamed: ContainerId,
    ) -> Self {
        Self {
            engine,
            rows,
            now,
            unnamed,
        }
    }

    /// Whether an id ended a short time ago. Then the rows in its cookies are not read (C4.8).
    fn is_refused(&self, client: ClientKey) -> Result<bool> {
        let until = self.engine.tombstone(client)?;
        Ok(until.is_some_and(|until| until > self.now))
    }
}

impl Snapshot for CarriedSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        self.engine.load(clients)
    }

    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        self.engine.load_conflict()
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        self.engine.is_loaded(client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        if !container.is_in_cookie() {
            return self.engine.session(container, client);
        }
        let Some(row) = self.rows.session(container, client) else {
            return Ok(None);
        };
        // In every container of the engine, the row of a renewed id leads to the session.
        let unnamed = self.engine.session(self.unnamed, client)?;
        if let Some(leading) = unnamed.filter(|row| row.optional.moved.is_some()) {
            let lasts = leading.timeout.unwrap_or_default();
            let leads = leading.access.last_access + lasts > self.now;
            return Ok(leads.then_some(leading));
        }
        let is_refused = self.is_refused(client)?;
        Ok((!is_refused).then(|| row.clone()))
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        if !container.is_in_cookie() {
            return self.engine.package(container, client, package);
        }
        self.rows.package(container, client, package)
    }

    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        if !container.is_in_cookie() {
            return self.engine.package_len(container, client, package);
        }
        let row = self.rows.package(container, client, package)?;
        Ok(row.map_or(0, |row| row.memory_size()))
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        self.engine.tombstone(client)
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>> {
        self.engine.sessions(container, after, limit)
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        self.engine.owned(owner)
    }

    fn owned_page(
        &self,
        owner: &str,
        containers: &[ContainerId],
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        self.engine.owned_page(owner, containers, after, limit)
    }
}
