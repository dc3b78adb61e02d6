//! What a transaction reads: the rows of the clients that it has loaded. Loading another client checks in the same
//! statement that the earlier ones are unchanged. So all rows are those of one moment: that of the last load.

use super::client_rows::StoredClient;
use super::pages::{owned, page};
use super::runtime::Runtime;
use super::shared::{Shared, lock};
use super::touches::PendingTouches;
use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot, TombstonePolicy};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

pub(super) struct PgSnapshot {
    runtime: Arc<Runtime>,
    state: Arc<SnapshotState>,
}

struct SnapshotState {
    shared: Arc<Shared>,
    touches: Arc<PendingTouches>,
    loaded: Mutex<HashMap<ClientKey, Result<Arc<StoredClient>>>>,
    conflict: Mutex<Option<(Error, ClientKey)>>,
    /// One load at a time: each checks the rows of those before.
    loading: tokio::sync::Mutex<Option<Moment>>,
}

impl PgSnapshot {
    pub(super) fn new(
        runtime: Arc<Runtime>,
        shared: Arc<Shared>,
        touches: Arc<PendingTouches>,
    ) -> Self {
        Self {
            runtime,
            state: Arc::new(SnapshotState {
                shared,
                touches,
                loaded: Mutex::default(),
                conflict: Mutex::default(),
                loading: tokio::sync::Mutex::default(),
            }),
        }
    }

    fn rows(&self, client: ClientKey) -> Result<Arc<StoredClient>> {
        let loaded = lock(&self.state.loaded);
        let not_loaded = || {
            let why = "a client was read that was not loaded";
            Error::new(ErrorKind::InvalidInput, why)
        };
        loaded.get(&client).ok_or_else(not_loaded)?.clone()
    }
}

impl SnapshotState {
    async fn load(&self, clients: Vec<ClientKey>) -> Result<()> {
        let mut first = self.loading.lock().await;
        let now = self.shared.clock.moment();
        let begun = *first.get_or_insert(now);
        let known: Vec<_> = {
            let loaded = lock(&self.loaded);
            let known = loaded
                .iter()
                .filter(|(client, _)| !clients.contains(client));
            known
                .filter_map(|(client, rows)| Some((*client, rows.as_ref().ok()?.version())))
                .collect()
        };
        if !known.is_empty() && now.since(begun) > self.shared.rules.snapshot_max_age {
            let why = "the transaction outlived its snapshot";
            return Err(Error::new(ErrorKind::SnapshotTooOld, why));
        }
        let found = match known.is_empty() {
            true => Some(self.shared.load(&clients).await?),
            false => self.shared.load_checked(&clients, &known).await?,
        };
        match found {
            Some(found) => {
                lock(&self.loaded).extend(found);
                Ok(())
            }
            None => Err(self.changed(&known).await?),
        }
    }

    /// The error of a load after clients that were loaded before have changed.
    async fn changed(&self, known: &[(ClientKey, Option<u64>)]) -> Result<Error> {
        let all: Vec<_> = known.iter().map(|(client, _)| *client).collect();
        let newest: HashMap<_, _> = self.shared.load(&all).await?.into_iter().collect();
        let is_changed = |client: &ClientKey, before: &Option<u64>| {
            let rows = newest.get(client).and_then(|rows| rows.as_ref().ok());
            rows.map(|rows| rows.version()) != Some(*before)
        };
        let mut changed = known
            .iter()
            .filter(|(client, before)| is_changed(client, before));
        let why = "a session that the transaction had read was changed before it read another one";
        let error = Error::new(ErrorKind::Conflict, why);
        if let Some((client, _)) = changed.next().or(known.first()) {
            *lock(&self.conflict) = Some((error.clone(), *client));
        }
        Ok(error)
    }
}

impl Snapshot for PgSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        let (state, clients) = (self.state.clone(), clients.to_vec());
        let asked = self.runtime.ask(async move { state.load(clients).await });
        Answer::later(asked)
    }

    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        lock(&self.state.conflict).clone()
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        lock(&self.state.loaded).contains_key(&client)
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        let rows = self.rows(client)?;
        let touches = self.state.touches.under_way(|it| it == client);
        if touches.is_empty() {
            return rows.session(container);
        }
        // An access of this process that is on its way shows.
        let rows = HashMap::from([(client, rows)]);
        let refusals = TombstonePolicy::default();
        self.state
            .shared
            .with_loaded(&rows, &touches, refusals, |rows| {
                rows.newest_session(container, client)
            })
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
        let shared = self.state.shared.clone();
        let asked = async move { page(&shared, container, after, limit).await };
        Answer::later(self.runtime.ask(asked))
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let (shared, owner) = (self.state.shared.clone(), owner.to_owned());
        let asked = async move { owned(&shared, &owner).await };
        Answer::later(self.runtime.ask(asked))
    }
}
