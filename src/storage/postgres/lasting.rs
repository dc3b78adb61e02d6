//! A snapshot for maintenance: a transaction of the server that stays open, on a connection of its own. It keeps the rows of
//! the clients that were loaded last.

use super::client_rows::StoredClient;
use super::failure::Failure;
use super::pages::{owned, page};
use super::runtime::Runtime;
use super::server_snapshot::ServerSnapshot;
use super::shared::{Shared, lock};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub(super) struct LastingSnapshot {
    runtime: Arc<Runtime>,
    state: Arc<LastingState>,
}

struct LastingState {
    shared: Arc<Shared>,
    snapshot: ServerSnapshot,
    loaded: Mutex<HashMap<ClientKey, Result<Arc<StoredClient>>>>,
}

impl LastingSnapshot {
    pub(super) async fn begin(runtime: Arc<Runtime>, shared: Arc<Shared>) -> Result<Self> {
        let connection = shared.connection_beside(shared.deadline()).await;
        let connection = connection.map_err(Failure::into_error)?;
        let begun = ServerSnapshot::begin(runtime.clone(), &shared, connection).await;
        let state = LastingState {
            snapshot: begun.map_err(Failure::into_error)?,
            shared,
            loaded: Mutex::default(),
        };
        Ok(Self {
            runtime,
            state: Arc::new(state),
        })
    }

    fn rows(&self, client: ClientKey) -> Result<Arc<StoredClient>> {
        let loaded = lock(&self.state.loaded);
        let not_loaded = || {
            let why = "a client was read that was not among those that were loaded last";
            Error::new(ErrorKind::InvalidInput, why)
        };
        loaded.get(&client).ok_or_else(not_loaded)?.clone()
    }
}

impl Snapshot for LastingSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        let (state, clients) = (self.state.clone(), clients.to_vec());
        let asked = async move {
            let found = state.snapshot.load(&state.shared, &clients).await;
            let found = found.map_err(Failure::into_error)?;
            *lock(&state.loaded) = found.into_iter().collect();
            Ok(())
        };
        Answer::later(self.runtime.ask(asked))
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        lock(&self.state.loaded).contains_key(&client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        self.rows(client)?.session(container)
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        let cipher = &self.state.shared.rules.cipher;
        self.rows(client)?
            .package(container, client, package, cipher)
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        Ok(self.rows(client)?.tombstone())
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>> {
        let state = self.state.clone();
        let asked = async move {
            let of = (&*state.shared, Some(&state.snapshot));
            page(of, container, after, limit).await
        };
        Answer::later(self.runtime.ask(asked))
    }

    /// Those of now: maintenance asks for no owner.
    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let (state, owner) = (self.state.clone(), owner.to_owned());
        let asked = async move { owned(&state.shared, &owner).await };
        Answer::later(self.runtime.ask(asked))
    }
}
