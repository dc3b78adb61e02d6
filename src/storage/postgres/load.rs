//! Reads rows of clients from the server.

use super::client_rows::{StoredClient, StoredRow};
use super::connection::{Connection, Param, SqlKey};
use super::current::RowsByClient;
use super::failure::Failure;
use super::keys::check_still;
use super::reading::read;
use super::shared::{Shared, lock};
use super::statements::Statement;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

/// The rows of clients, or how one is damaged, in the order in which they were asked for.
pub(super) type LoadedClients = Vec<(ClientKey, Result<Arc<StoredClient>>)>;

/// Clients that were read before, with their versions, as parameters of a statement.
#[derive(Debug, Default)]
pub(super) struct CheckedKeys {
    there: Vec<SqlKey>,
    versions: Vec<i64>,
    absent: Vec<SqlKey>,
}

impl CheckedKeys {
    /// `None` is the version of a client that is absent.
    pub(super) fn of(clients: impl Iterator<Item = (ClientKey, Option<u64>)>) -> Self {
        let mut keys = Self::default();
        for (client, version) in clients {
            match version {
                Some(version) => {
                    keys.there.push(SqlKey(client));
                    keys.versions.push(version.cast_signed());
                }
                None => keys.absent.push(SqlKey(client)),
            }
        }
        keys
    }
}

/// The value of a column.
pub(super) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| {
        let why = "the server's tables have other columns than this version of the crate";
        Error::new(ErrorKind::Corrupt, why).with_source(error)
    })
}

/// The columns of a client's row, which begin at `at`.
pub(super) fn stored_row(row: &Row, at: usize) -> Result<StoredRow> {
    let version: i64 = column(row, at)?;
    let body: Option<&[u8]> = column(row, at + 4)?;
    Ok(StoredRow {
        version: version.cast_unsigned(),
        seen: column(row, at + 1)?,
        sweep_at: column(row, at + 2)?,
        past: column(row, at + 3)?,
        body: body.map(Bytes::copy_from_slice),
        ended: column(row, at + 5)?,
        owners: column(row, at + 6)?,
        spilled: Vec::new(),
    })
}

fn spilled(row: &Row, at: usize) -> Result<Vec<(Vec<u8>, Bytes)>> {
    let places: Option<Vec<Vec<u8>>> = column(row, at)?;
    let bodies: Option<Vec<Vec<u8>>> = column(row, at + 1)?;
    let places = places.unwrap_or_default().into_iter();
    let bodies = bodies.unwrap_or_default().into_iter().map(Bytes::from);
    Ok(places.zip(bodies).collect())
}

impl Shared {
    /// Reads the newest rows of clients in one statement.
    pub(super) async fn fetch(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
    ) -> Result<LoadedClients, Failure> {
        let loaded = self.fetch_as_of(connection, clients).await?;
        self.keep(&loaded);
        Ok(loaded)
    }

    /// Reads the newest rows of clients that a sweep removes, without their large packages. They are not kept.
    pub(super) async fn fetch_swept(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
    ) -> Result<LoadedClients, Failure> {
        let known = lock(&self.sweeps).take_read(clients);
        let keys: Vec<_> = clients.iter().copied().map(SqlKey).collect();
        let versions: Vec<_> = clients.iter().map(|it| version_in(&known, *it)).collect();
        let params: [Param<'_>; 2] = [&keys, &versions];
        let rows = connection.run(Statement::LoadSwept, &params).await?;
        self.take_in_checked(connection, clients, &known, &rows)
            .await
    }

    /// Reads the rows of clients as of the moment that the connection's transaction shows.
    pub(super) async fn fetch_as_of(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
    ) -> Result<LoadedClients, Failure> {
        let known = self.known(clients);
        self.fetch_unless_known(connection, clients, &known).await
    }

    /// Reads the rows of clients. Known rows are not sent again: those of a version are always the same, but for the times in
    /// them.
    async fn fetch_unless_known(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
        known: &RowsByClient,
    ) -> Result<LoadedClients, Failure> {
        let version_of = |client: &ClientKey| version_in(known, *client);
        let rows = match clients {
            [client] => {
                let params: [Param<'_>; 2] = [&SqlKey(*client), &version_of(client)];
                connection.run(Statement::LoadOne, &params).await?
            }
            _ => {
                let keys: Vec<_> = clients.iter().copied().map(SqlKey).collect();
                let versions: Vec<_> = clients.iter().map(version_of).collect();
                let params: [Param<'_>; 2] = [&keys, &versions];
                connection.run(Statement::LoadMany, &params).await?
            }
        };
        self.take_in_checked(connection, clients, known, &rows)
            .await
    }

    /// Decodes the rows of clients. If one is damaged, it may be that this process lacks its key.
    async fn take_in_checked(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
        known: &RowsByClient,
        rows: &[Row],
    ) -> Result<LoadedClients, Failure> {
        let loaded = self.take_in(clients, known, rows)?;
        let mut loaded_rows = loaded.iter().map(|(_, rows)| rows);
        if self.heard.epoch() != self.settings.load().version
            && loaded_rows.any(|rows| rows.as_ref().map_or(true, |rows| rows.is_damaged))
        {
            // It may be no damage: another process may have begun to encrypt the store with keys that this one lacks.
            let rows = connection.run(Statement::Settings, &[]).await?;
            let row = rows.first().ok_or_else(lost_meta)?;
            check_still(&self.rules.cipher, column(row, 3)?)?;
        }
        Ok(loaded)
    }

    /// Reads the rows of clients, if others still have their versions.
    pub(super) async fn fetch_checked(
        &self,
        connection: &Connection,
        clients: &[ClientKey],
        others: &CheckedKeys,
    ) -> Result<Option<LoadedClients>, Failure> {
        let keys: Vec<_> = clients.iter().copied().map(SqlKey).collect();
        let CheckedKeys {
            there,
            versions,
            absent,
        } = others;
        let params: [Param<'_>; 4] = [&keys, there, versions, absent];
        let rows = connection.run(Statement::LoadChecked, &params).await?;
        match rows.is_empty() {
            true => Ok(None),
            false => {
                let loaded = self.take_in(clients, &RowsByClient::new(), &rows)?;
                self.keep(&loaded);
                Ok(Some(loaded))
            }
        }
    }

    /// The rows of clients that this process knows.
    fn known(&self, clients: &[ClientKey]) -> RowsByClient {
        let cache = lock(&self.cache);
        let known = clients.iter();
        known
            .filter_map(|client| Some((*client, cache.get(*client)?)))
            .collect()
    }

    fn take_in(
        &self,
        clients: &[ClientKey],
        known: &RowsByClient,
        rows: &[Row],
    ) -> Result<LoadedClients> {
        let Some(first) = rows.first() else {
            return Err(lost_meta());
        };
        let epoch: i64 = column(first, 0)?;
        self.heard.hear_epoch(epoch.cast_unsigned());
        self.heard.hear_time(column(first, 1)?);
        let mut loaded = Vec::with_capacity(clients.len());
        for row in rows {
            let Some(SqlKey(client)) = column(row, 2)? else {
                continue;
            };
            let version = column::<i64>(row, 3)?.cast_unsigned();
            let same = known.get(&client);
            let same = same.filter(|known| known.version() == Some(version));
            let rows = match same {
                Some(known) => known.with_stored_times(client, column(row, 4)?, column(row, 5)?),
                None => {
                    let mut stored = stored_row(row, 3)?;
                    stored.spilled = spilled(row, 10)?;
                    StoredClient::decode(client, stored, &self.rules.cipher).map(Arc::new)
                }
            };
            if let Ok(rows) = &rows {
                self.hear(client, rows);
            }
            loaded.push((client, rows));
        }
        let found: HashSet<_> = loaded.iter().map(|(client, _)| *client).collect();
        let absent = clients.iter().filter(|client| !found.contains(client));
        loaded.extend(absent.map(|client| (*client, Ok(Arc::default()))));
        Ok(loaded)
    }

    /// Keeps the newest rows of clients, for commits to start from.
    fn keep(&self, loaded: &LoadedClients) {
        let mut cache = lock(&self.cache);
        for (client, rows) in loaded {
            match rows {
                Ok(rows) => cache.put(*client, rows.clone()),
                Err(_) => cache.remove(*client),
            }
        }
    }

    /// Reads the rows of clients, if others still have their versions, as often as it takes within the deadline.
    pub(super) async fn load_checked(
        &self,
        clients: &[ClientKey],
        others: &CheckedKeys,
    ) -> Result<Option<LoadedClients>> {
        read!(self, |connection| self.fetch_checked(
            &connection,
            clients,
            others
        ))
    }

    /// Reads the newest rows of clients as the server has them, also where this process knows them, as often as it takes
    /// within the deadline.
    pub(super) async fn load_stored(&self, clients: &[ClientKey]) -> Result<LoadedClients> {
        let known = RowsByClient::new();
        read!(self, |connection| self.fetch_unless_known(
            &connection,
            clients,
            &known
        ))
    }

    /// Reads the newest rows of clients, as often as it takes within the deadline.
    pub(super) async fn load(&self, clients: &[ClientKey]) -> Result<LoadedClients> {
        if let [client] = clients {
            return Ok(vec![(*client, self.load_one(*client).await?)]);
        }
        read!(self, |connection| self.fetch(&connection, clients))
    }
}

/// The version of the known rows of a client, as a parameter.
fn version_in(known: &RowsByClient, client: ClientKey) -> Option<i64> {
    let rows = known.get(&client);
    rows.and_then(|rows| rows.version()).map(u64::cast_signed)
}

pub(super) fn lost_meta() -> Error {
    Error::new(ErrorKind::Corrupt, "the store's own row is missing")
}
