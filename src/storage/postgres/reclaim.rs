//! Removes rows that nobody needs: of ended sessions, of absent clients, and of containers that are not registered.

use super::client_rows::StoredClient;
use super::committer::PgCommitter;
use super::connection::{Connection, Param};
use super::current::RowsByClient;
use super::event::ENDS_KEPT;
use super::failure::Failure;
use super::pages::all_clients;
use super::pipeline::{Request, all};
use super::reading::{read, read_until};
use super::row_edit::{ClientWrite, PlanTerms, RowEdit};
use super::shared::{Shared, lock};
use super::statements::Statement;
use super::write_terms::WriteTerms;
use super::writes::requests;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::{ContainerId, TombstonePolicy};
use std::collections::BTreeSet;

/// How often a client's sessions are tried to be removed while others change its row.
const ATTEMPTS: usize = 4;
/// How many rows one call removes at most.
const REMOVED: i64 = 1000;

impl PgCommitter {
    /// Removes a bounded number of rows. Returns how many.
    pub(super) async fn reclaim(&self, refusals: TombstonePolicy) -> Result<u64> {
        let shared = &self.shared;
        let now = refusals.now.0;
        let params: [Param<'_>; 2] = [&now, &REMOVED];
        let rows = read!(shared, |connection| connection
            .run(Statement::Expired, &params))?;
        let far = (refusals.until() + refusals.slack + ENDS_KEPT).0;
        let lowered = self.lower_all(refusals, far).await?;
        Ok(rows.len() as u64 + lowered + self.remove_unregistered().await?)
    }

    /// Lowers the tombstones that lie too far ahead (C3.5). The rows of such a tombstone would stay too long, too.
    async fn lower_all(&self, refusals: TombstonePolicy, far: i64) -> Result<u64> {
        let params: [Param<'_>; 2] = [&far, &REMOVED];
        let rows = read!(&self.shared, |connection| connection
            .run(Statement::Ahead, &params))?;
        let mut lowered = Vec::new();
        let mut known = RowsByClient::new();
        for row in &rows {
            let (client, rows) = self.shared.decode(row)?;
            let Ok(rows) = rows else { continue };
            let until = rows.tombstone().and_then(|until| refusals.lowered(until));
            lowered.extend(until.map(|until| (client, until)));
            known.insert(client, rows);
        }
        let count = lowered.len() as u64;
        self.lower(&known, lowered).await;
        Ok(count)
    }

    /// Lowers tombstones that lie too far ahead, unless their rows were changed meanwhile.
    pub(super) async fn lower(&self, rows: &RowsByClient, lowered: Vec<(ClientKey, Timestamp)>) {
        for (client, until) in lowered {
            let Some(rows) = rows.get(&client) else {
                continue;
            };
            let mut edit = RowEdit::new(client, rows.clone(), self.terms(), self.shared.now());
            edit.lower(until);
            let written = match edit.finish(&self.shared.rules.cipher) {
                Ok(write) => {
                    let epoch = self.shared.settings.load().version;
                    let replaced = self.replace(client, &write, epoch).await;
                    replaced.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::debug!(%error, "a tombstone stays too far ahead");
            }
        }
    }

    pub(super) fn terms(&self) -> PlanTerms {
        PlanTerms {
            version: self.shared.version(),
            server_time: self.shared.heard.server_time(),
            sweeps: self.shared.sweep_times.load_full(),
        }
    }

    /// Writes a row in place of the one that it was made from. Does nothing if that was changed, or the settings have
    /// another number.
    async fn replace(
        &self,
        client: ClientKey,
        write: &ClientWrite,
        epoch: u64,
    ) -> Result<Replaced> {
        let shared = &self.shared;
        let until = shared.deadline();
        let begin = Shared::begin(until);
        let replaced = read_until!(shared, until, |connection| replace_on(
            &connection,
            client,
            write,
            (shared.write_terms(epoch, until), &begin)
        ));
        lock(&self.shared.cache).remove(client);
        replaced
    }

    /// Removes sessions of containers that are not registered. Each process searches once for those of a container.
    async fn remove_unregistered(&self) -> Result<u64> {
        let shared = &self.shared;
        let settings = shared.settings.load_full();
        let is_registered = |id: ContainerId| {
            let mut records = settings.containers.values();
            id == ContainerId::UNNAMED || records.any(|record| record.id == id.0)
        };
        // A container that is registered later has another number: its sessions are not looked at.
        let all = (0..settings.next_container).map(ContainerId);
        let gone: BTreeSet<_> = all.filter(|id| !is_registered(*id)).collect();
        let terms = SearchTerms {
            gone: &gone,
            epoch: settings.version,
        };
        let (searched, mut after) = {
            let mut state = lock(&shared.reclaim);
            match &state.searching {
                Some(under_way) => under_way.clone(),
                None if gone.is_subset(&state.searched) => return Ok(0),
                None => {
                    let begun = (gone.clone(), ClientKey::from_bytes([0; 16]));
                    state.searching = Some(begun.clone());
                    begun
                }
            }
        };
        let mut removed = 0;
        loop {
            let clients = all_clients(shared, after).await?;
            let Some((last, _)) = clients.last() else {
                let mut state = lock(&shared.reclaim);
                (state.searched, state.searching) = (searched, None);
                return Ok(removed);
            };
            let (begun, last) = (after, *last);
            for (client, rows) in clients {
                let Ok(rows) = rows else { continue };
                if !rows.has_any(|id| gone.contains(&id)) {
                    continue;
                }
                let Some(count) = self.remove_from(client, &terms).await? else {
                    // The next call looks at these clients again, with the newest settings.
                    lock(&self.shared.reclaim).searching = Some((searched, begun));
                    return Ok(removed);
                };
                removed += count;
            }
            after = last;
            if removed > 0 {
                lock(&shared.reclaim).searching = Some((searched, after));
                return Ok(removed);
            }
        }
    }

    /// Removes a client's sessions of containers that are gone. Returns how many clients were changed. `None`: it could
    /// not be done now.
    async fn remove_from(&self, client: ClientKey, terms: &SearchTerms<'_>) -> Result<Option<u64>> {
        for _ in 0..ATTEMPTS {
            // With its large packages.
            let Some((client, rows)) = self.shared.load(&[client]).await?.pop() else {
                return Ok(Some(0));
            };
            let Ok(rows) = rows else { return Ok(Some(0)) };
            let mut edit = RowEdit::new(client, rows, self.terms(), self.shared.now());
            if !edit.remove_unregistered(|id| !terms.gone.contains(&id)) {
                return Ok(Some(0));
            }
            let write = edit.finish(&self.shared.rules.cipher)?;
            if let Replaced::Written = self.replace(client, &write, terms.epoch).await? {
                return Ok(Some(1));
            }
            if self.shared.heard.epoch() != terms.epoch {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// What a search for sessions of unregistered containers goes by.
struct SearchTerms<'a> {
    gone: &'a BTreeSet<ContainerId>,
    /// The number of the settings that say so.
    epoch: u64,
}

/// Whether a row was replaced.
enum Replaced {
    Written,
    /// Somebody else has changed it, or the settings.
    Changed,
}

async fn replace_on(
    connection: &Connection,
    client: ClientKey,
    write: &ClientWrite,
    (terms, begin): (WriteTerms, &str),
) -> Result<Replaced, Failure> {
    connection
        .prepare_all(&[
            Statement::Replace,
            Statement::Remove,
            Statement::DropPackages,
        ])
        .await?;
    let mut flight: Vec<Request<'_>> = vec![Box::pin(connection.simple(begin))];
    flight.extend(requests(connection, [(client, write)], terms));
    flight.push(Box::pin(connection.simple("COMMIT")));
    match all(flight).await {
        Ok(()) => Ok(Replaced::Written),
        Err(Failure::Again(_)) => Ok(Replaced::Changed),
        Err(failure) => Err(failure),
    }
}

impl StoredClient {
    fn has_any(&self, is_picked: impl Fn(ContainerId) -> bool) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|session| is_picked(session.record.container))
    }
}
