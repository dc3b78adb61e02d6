//! A snapshot: the state that the server keeps for it, and the rows that were fetched from it.

use super::wire::Wire;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::TableSnapshot;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Answer, ContainerId, Snapshot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct RemoteSnapshot {
    wire: Arc<Wire>,
    /// `None` once it is given back.
    held: Option<Arc<TableSnapshot>>,
    loaded: Mutex<HashMap<ClientKey, ClientRows>>,
}

/// All that may be read of one client.
#[derive(Default)]
pub(super) struct ClientRows {
    sessions: HashMap<ContainerId, (SessionRow, HashMap<Arc<str>, PackageRow>)>,
    tombstone: Option<Timestamp>,
}

impl RemoteSnapshot {
    pub(super) fn new(wire: Arc<Wire>, held: TableSnapshot) -> Self {
        Self {
            wire,
            held: Some(Arc::new(held)),
            loaded: Mutex::default(),
        }
    }

    fn held(&self) -> Result<Arc<TableSnapshot>> {
        self.held.clone().ok_or_else(not_loaded)
    }

    fn with_rows<T>(&self, client: ClientKey, read: impl FnOnce(&ClientRows) -> T) -> Result<T> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.get(&client).map(read).ok_or_else(not_loaded)
    }
}

fn not_loaded() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a client was read that was not loaded",
    )
}

impl Snapshot for RemoteSnapshot {
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        let held = match self.held() {
            Ok(held) => held,
            Err(error) => return Answer::now(Err(error)),
        };
        let clients = clients.to_vec();
        let asked = self.wire.ask(move |server| {
            let mut loaded = Vec::with_capacity(clients.len());
            for client in clients {
                let mut rows = ClientRows {
                    tombstone: server.tables.tombstone(client),
                    ..ClientRows::default()
                };
                for container in server.containers() {
                    let tables = &server.tables;
                    let Some(row) = tables.session(&held, container, client) else {
                        continue;
                    };
                    let package = |name: &Arc<str>| {
                        let row = tables.package(&held, container, client, name)?;
                        Some((name.clone(), row.clone()))
                    };
                    let packages = row.packages.iter().filter_map(package).collect();
                    rows.sessions.insert(container, (row, packages));
                }
                loaded.push((client, rows));
            }
            Ok(loaded)
        });
        Answer::later(async move {
            let fetched = asked.await?;
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.extend(fetched);
            Ok(())
        })
    }

    fn is_loaded(&self, client: ClientKey) -> bool {
        self.with_rows(client, |_| ()).is_ok()
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        self.with_rows(client, |rows| {
            rows.sessions.get(&container).map(|(row, _)| row.clone())
        })
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        self.with_rows(client, |rows| {
            let (_, packages) = rows.sessions.get(&container)?;
            packages.get(package).cloned()
        })
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        self.with_rows(client, |rows| rows.tombstone)
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ClientKey, Result<SessionRow>)>>> {
        let held = match self.held() {
            Ok(held) => held,
            Err(error) => return Answer::now(Err(error)),
        };
        self.wire.ask(move |server| {
            let rows = server.tables.sessions(&held, container, after, limit);
            let rows = rows.into_iter().map(|(client, row)| (client, Ok(row)));
            Ok(rows.collect())
        })
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let held = match self.held() {
            Ok(held) => held,
            Err(error) => return Answer::now(Err(error)),
        };
        let owner = owner.to_owned();
        self.wire
            .ask(move |server| Ok(server.tables.owned(&held, &owner)))
    }
}

impl Drop for RemoteSnapshot {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.wire.give_back(held);
        }
    }
}
