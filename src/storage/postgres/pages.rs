//! Reads many clients: the sessions of a container in pages, those of an owner, and all of them for a check.

use super::client_rows::StoredClient;
use super::connection::{Param, SqlKey};
use super::failure::Failure;
use super::load::{column, stored_row};
use super::load_queue::RowsOrDamage;
use super::reading::read;
use super::server_snapshot::ServerSnapshot;
use super::shared::Shared;
use super::statements::Statement;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::{ContainerId, Damage, Finding, SessionPage};
use std::sync::Arc;
use tokio_postgres::Row;

/// How many clients one statement reads at least.
const ROWS: usize = 256;
/// About how many packages with rows of their own a check loads at once.
const LARGE: usize = 16;

pub(super) type FoundClient = (ClientKey, RowsOrDamage);

impl Shared {
    pub(super) fn decode(&self, row: &Row) -> Result<FoundClient> {
        let SqlKey(client) = column(row, 0)?;
        let stored = stored_row(row, 1)?;
        let rows = StoredClient::decode(client, stored, &self.rules.cipher);
        Ok((client, rows.map(Arc::new)))
    }

    /// The clients with sessions after one, in the order of their keys: the newest, or those of a snapshot. Their large
    /// packages are missing.
    async fn clients(
        &self,
        of: Option<&ServerSnapshot>,
        after: ClientKey,
        limit: usize,
    ) -> Result<Vec<FoundClient>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let after = SqlKey(after);
        let params: [Param<'_>; 2] = [&after, &limit];
        let rows = match of {
            None => read!(self, |connection| connection.run(Statement::Page, &params)),
            Some(snapshot) => {
                let rows = snapshot.page(self, &params).await;
                rows.map_err(Failure::into_error)
            }
        }?;
        rows.iter().map(|row| self.decode(row)).collect()
    }
}

/// Some clients with sessions after one, in the order of their keys. Their large packages are missing.
pub(super) async fn all_clients(shared: &Shared, after: ClientKey) -> Result<Vec<FoundClient>> {
    shared.clients(None, after, ROWS).await
}

/// At most `limit` sessions of a container in the order of their keys: the newest, or those of a snapshot. A damaged row is
/// an error in its place.
pub(super) async fn page(
    (shared, of): (&Shared, Option<&ServerSnapshot>),
    container: ContainerId,
    after: Option<ClientKey>,
    limit: usize,
) -> Result<SessionPage> {
    let mut page = SessionPage::new();
    // A client key is a hash: that none has this value can be relied on.
    let mut after = after.unwrap_or(ClientKey::from_bytes([0; 16]));
    loop {
        let clients = shared.clients(of, after, limit.max(ROWS)).await?;
        let Some((last, _)) = clients.last() else {
            return Ok(page);
        };
        after = *last;
        for (client, rows) in clients {
            let row = match rows {
                Ok(rows) => rows.session(container).transpose(),
                // Its containers are not known.
                Err(error) => Some(Err(error)).filter(|_| container == ContainerId::UNNAMED),
            };
            page.extend(row.map(|row| (client, row)));
            if page.len() >= limit {
                return Ok(page);
            }
        }
    }
}

/// The sessions of an owner.
pub(super) async fn owned(shared: &Shared, owner: &str) -> Result<Vec<(ContainerId, ClientKey)>> {
    let hashes = shared.rules.cipher.owner_hashes(owner).all();
    let hashes: Vec<Vec<u8>> = hashes.map(|hash| hash.to_vec()).collect();
    let params: [Param<'_>; 1] = [&hashes];
    let rows = read!(shared, |connection| connection
        .run(Statement::Owned, &params))?;
    let mut found = Vec::new();
    for row in &rows {
        let (client, rows) = shared.decode(row)?;
        for session in &rows?.sessions {
            if session.row.clone()?.owner.as_deref() == Some(owner) {
                found.push((session.record.container, client));
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What a check has read of some clients.
pub(super) struct CheckedPage {
    pub(super) last: ClientKey,
    pub(super) sessions: u64,
    pub(super) packages: u64,
    pub(super) findings: Vec<Finding>,
}

impl CheckedPage {
    fn report(
        &mut self,
        client: ClientKey,
        container: Option<String>,
        package: Option<String>,
        error: Error,
    ) {
        self.findings.push(Finding::Record(Damage {
            container,
            client: Some(client),
            package,
            error,
        }));
    }
}

/// Reads all of some clients after one, and reports damage. `None` if there are no more.
pub(super) async fn check(shared: &Shared, after: ClientKey) -> Result<Option<CheckedPage>> {
    let settings = shared.load_settings().await?;
    let name_of = |id: ContainerId| {
        let mut containers = settings.containers.values();
        containers
            .find(|it| it.id == id.0)
            .map(|it| it.name.clone())
    };
    let clients = shared.clients(None, after, ROWS).await?;
    let Some((last, _)) = clients.last() else {
        return Ok(None);
    };
    let mut page = CheckedPage {
        last: *last,
        sessions: 0,
        packages: 0,
        findings: Vec::new(),
    };
    for keys in groups(&clients) {
        // With the large packages.
        for (client, rows) in shared.load_stored(&keys).await? {
            match rows {
                Ok(rows) => page.check(client, &rows, &name_of, &shared.rules.cipher),
                Err(error) => page.report(client, None, None, error),
            }
        }
    }
    Ok(Some(page))
}

/// Clients that are loaded together. What has a row of its own may be as large as a package may be, so only few of these
/// are loaded at once.
fn groups(clients: &[FoundClient]) -> Vec<Vec<ClientKey>> {
    let mut groups = vec![Vec::new()];
    let mut count = 0;
    for (client, rows) in clients {
        let sessions = rows.iter().flat_map(|rows| &rows.sessions);
        let packages = sessions.flat_map(|session| &session.record.packages);
        let large = packages.filter(|(_, package)| package.is_spilled).count();
        match groups.last_mut() {
            Some(group) if large == 0 || group.is_empty() || count + large <= LARGE => {
                group.push(*client);
                count += large;
            }
            _ => {
                groups.push(vec![*client]);
                count = large;
            }
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

impl CheckedPage {
    /// Reads all of a client.
    fn check(
        &mut self,
        client: ClientKey,
        rows: &StoredClient,
        name_of: &impl Fn(ContainerId) -> Option<String>,
        cipher: &RecordCipher,
    ) {
        for session in &rows.sessions {
            let container = session.record.container;
            let name = name_of(container);
            let row = match &session.row {
                Ok(row) => row,
                Err(error) => {
                    self.report(client, name, None, error.clone());
                    continue;
                }
            };
            self.sessions += u64::from(row.optional.moved.is_none());
            for package in row.packages.iter() {
                let read = rows.package(container, client, package, cipher);
                let error = match read {
                    Ok(Some(_)) => {
                        self.packages += 1;
                        continue;
                    }
                    Ok(None) => lost_package(),
                    Err(error) => error,
                };
                self.report(client, name.clone(), Some(package.to_string()), error);
            }
        }
    }
}

fn lost_package() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the session lists a package whose row is missing",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::postgres::body::{PackageRecord, SessionRecord};
    use crate::storage::postgres::client_rows::RowSession;
    use bytes::Bytes;

    fn found((at, large): (u8, usize)) -> FoundClient {
        let package = || PackageRecord {
            record: None,
            is_spilled: true,
        };
        let packages = (0..large).map(|n| (n.to_string().into(), package()));
        let session = RowSession {
            record: SessionRecord {
                container: ContainerId(0),
                record: Bytes::new(),
                packages: packages.collect(),
            },
            row: Err(lost_package()),
        };
        let rows = StoredClient {
            sessions: vec![session],
            ..StoredClient::default()
        };
        (ClientKey::from_bytes([at; 16]), Ok(Arc::new(rows)))
    }

    #[test]
    fn few_large_packages_are_loaded_at_once() {
        let counts = [0, 0, 64, 0, 7, 7, 7, 0, 20, 20].into_iter();
        let clients: Vec<_> = (0..).zip(counts).map(found).collect();
        let groups = groups(&clients);
        let all = groups.concat();
        assert!(all.iter().eq(clients.iter().map(|(client, _)| client)));
        let large = |client: &ClientKey| {
            let (_, rows) = clients.iter().find(|(it, _)| it == client).unwrap();
            rows.as_ref().unwrap().sessions[0].record.packages.len()
        };
        for group in &groups {
            let count: usize = group.iter().map(large).sum();
            let of_one = group.iter().map(large).max().unwrap();
            assert!(count <= LARGE || count == of_one, "{group:?}");
        }
        assert!(groups.len() <= 6, "{groups:?}");
        assert_eq!(super::groups(&[]), Vec::<Vec<_>>::new());
    }
}
