//! Encrypts the rows of clients again that are not encrypted with the current key. Before it begins, no process writes with
//! another key any more: the store's own row says so, and its settings get a new number, which every commit names.

use super::client_rows::StoredClient;
use super::committer::PgCommitter;
use super::connection::{Connection, Param, SqlKey};
use super::failure::{Failure, sent, unavailable};
use super::keys::{fence, finished, is_finished, is_open, unfenced};
use super::load::{column, lost_meta};
use super::pages::all_clients;
use super::pipeline::{Request, all};
use super::pool::Borrowed;
use super::reading::{read, read_until};
use super::row_edit::{Resealed, RowEdit};
use super::settings::{decode_row, digest, encode};
use super::shared::{Shared, lock};
use super::statements::Statement;
use super::writes::requests;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{RecordKeys, RecordKind, client_of, session_key};
use crate::storage::{ContainerId, ResealStep};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

/// How many clients are written at a time: the server makes their commits durable together.
const TOGETHER: usize = 4;
/// How long it waits for the statements that began before no process wrote with another key.
const WRITERS: Duration = Duration::from_secs(60);
/// How often it looks whether these have ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The transactions that write to clients' rows. They hold this lock from before they look at the number of the settings.
const WRITING: &str = "SELECT l.virtualtransaction FROM pg_catalog.pg_locks l \
     JOIN pg_catalog.pg_class c ON c.oid = l.relation \
     WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND c.relname = 'cloakroom_client' \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())";

/// What the statements of one transaction are.
const PREPARED: &[Statement] = &[
    Statement::Lock,
    Statement::LoadOne,
    Statement::Insert,
    Statement::Replace,
    Statement::Remove,
    Statement::DropPackages,
    Statement::PutPackages,
];

impl PgCommitter {
    /// Encrypts the sessions of some clients after a key. Each client is written by itself, behind the lock of its row, so
    /// it can be broken off at any moment.
    pub(super) async fn reseal(self: &Arc<Self>, after: Option<[u8; 20]>) -> Result<ResealStep> {
        let shared = &self.shared;
        let Some(keys) = shared.rules.cipher.keys() else {
            let why = "the store was opened without keys";
            return Err(Error::new(ErrorKind::Unsupported, why));
        };
        let mut step = ResealStep::default();
        if after.is_none() {
            let fence = shared.keep_other_keys_out().await?;
            *lock(&shared.reseal_fence) = Some(fence);
            shared.outwait_writers().await?;
            let rows = read!(shared, |connection| connection.run(Statement::Count, &[]))?;
            let count: i64 = rows.first().map_or(Ok(0), |row| column(row, 0))?;
            step.of = count.cast_unsigned();
        }
        let after = after.map_or(ClientKey::from_bytes([0; 16]), |key| client_of(&key));
        let mut writing = JoinSet::new();
        for (client, rows) in all_clients(shared, after).await? {
            step.last = Some(session_key(ContainerId::UNNAMED, client));
            match rows {
                Ok(rows) => {
                    step.sessions += rows.sessions.len() as u64;
                    if rows.is_current(keys) {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    step.sessions += 1;
                    step.unreadable += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if writing.len() >= TOGETHER {
                note(&mut step, writing.join_next().await)?;
            }
            let committer = self.clone();
            writing.spawn(async move { committer.reseal_client(client).await });
        }
        while !writing.is_empty() {
            note(&mut step, writing.join_next().await)?;
        }
        Ok(step)
    }

    async fn reseal_client(&self, client: ClientKey) -> Result<Resealed> {
        let shared = &self.shared;
        let until = shared.deadline();
        loop {
            let connection = shared.connection_to_write(until).await;
            let connection = connection.map_err(Failure::into_error)?;
            let done = self.reseal_on(&connection, client, until);
            let failure = match shared.within(until, done).await {
                Ok(done) => {
                    connection.give_back();
                    lock(&shared.cache).remove(client);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            match &failure {
                Failure::Again(_) | Failure::Refused(_) => {
                    shared.roll_back(connection, until).await
                }
                Failure::Lost(_) | Failure::NotSent(_) => connection.give_up(),
            }
            if !failure.may_be_repeated() || Instant::now() >= until {
                return Err(failure.into_error());
            }
            shared.load_settings().await?;
        }
    }

    /// Encrypts the records of a client behind the lock of its row.
    async fn reseal_on(
        &self,
        connection: &Connection,
        client: ClientKey,
        until: Instant,
    ) -> Result<Resealed, Failure> {
        let shared = &self.shared;
        let cipher = &shared.rules.cipher;
        let epoch = shared.settings.load().version;
        connection.prepare_all(PREPARED).await?;
        let begin = Shared::begin(until);
        let key = [SqlKey(client)];
        let mut found = None;
        let flight: Vec<Request<'_>> = vec![
            Box::pin(connection.simple(&begin)),
            Box::pin(async {
                connection
                    .run(Statement::Lock, &[&key.as_slice()])
                    .await
                    .map(drop)
            }),
            // With its large packages.
            Box::pin(async {
                found = shared.fetch_as_of(connection, &[client]).await?.pop();
                Ok(())
            }),
        ];
        all(flight).await?;
        let (edit, done) = match found {
            Some((_, Ok(rows))) => {
                let mut edit = RowEdit::new(client, rows, self.terms(), shared.now());
                let done = edit.reseal(cipher)?;
                (Some(edit).filter(|_| done.records > 0), done)
            }
            Some((_, Err(error))) if error.kind() != ErrorKind::Corrupt => return Err(error.into()),
            Some((_, Err(_))) => {
                let (records, unreadable) = (0, 1);
                (
                    None,
                    Resealed {
                        records,
                        unreadable,
                    },
                )
            }
            None => (None, Resealed::default()),
        };
        let Some(edit) = edit else {
            connection.simple("ROLLBACK").await?;
            return Ok(done);
        };
        let write = edit.finish(cipher)?;
        let mut flight = requests(
            connection,
            [(client, &write)],
            shared.write_terms(epoch, until),
        );
        flight.push(Box::pin(connection.simple("COMMIT")));
        all(flight).await?;
        Ok(done)
    }

    /// Notes that the store needs the current key alone, unless another process has changed the keys meanwhile.
    pub(super) async fn finish_reseal(&self) -> Result<bool> {
        let cipher = &self.shared.rules.cipher;
        let is_done = |stored: &[u8]| is_finished(cipher, stored);
        self.end_fence(|fence| finished(cipher, fence), is_done)
            .await
    }

    /// Lets other keys be used again: rows were met that cannot be encrypted again.
    pub(super) async fn leave_reseal(&self) -> Result<()> {
        self.end_fence(unfenced, is_open).await.map(drop)
    }

    /// Replaces what the store's own row says of the keys. False if another process has changed it meanwhile.
    async fn end_fence(
        &self,
        after: impl Fn(&[u8]) -> Result<Vec<u8>>,
        is_done: impl Fn(&[u8]) -> Result<bool>,
    ) -> Result<bool> {
        let shared = &self.shared;
        let Some(fence) = lock(&shared.reseal_fence).clone() else {
            return Ok(false);
        };
        let done = after(&fence)?;
        let until = shared.deadline();
        loop {
            let rows = read_until!(shared, until, |connection| connection
                .run(Statement::Settings, &[]))?;
            let row = rows.first().ok_or_else(lost_meta)?;
            let epoch: i64 = column(row, 0)?;
            let stored: Option<&[u8]> = column(row, 3)?;
            let Some(stored) = stored else {
                return Ok(false);
            };
            let record = match is_done(stored)? {
                // The answer to an attempt was lost, or another process came first.
                true => stored,
                false if stored == fence => &done,
                false => return Ok(false),
            };
            let params: [Param<'_>; 3] = [&epoch, &stored, &record];
            let written = read_until!(shared, until, |connection| async {
                let written = connection.run(Statement::SetKeys, &params).await?;
                match connection.is_unconfirmed() {
                    true => Err(Failure::NotSent(unavailable(
                        "no standby has confirmed the new keys",
                    ))),
                    false => Ok(written),
                }
            })?;
            if !written.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Notes what became of one client that is written.
fn note(step: &mut ResealStep, done: Option<Result<Result<Resealed>, JoinError>>) -> Result<()> {
    let Some(done) = done else { return Ok(()) };
    let broken_off = |_| unavailable("a session was not encrypted again");
    let done = done.map_err(broken_off)??;
    step.records += done.records;
    step.unreadable += done.unreadable;
    Ok(())
}

impl Shared {
    /// Makes the current key the only one that any process writes with. Returns the record that says so.
    async fn keep_other_keys_out(&self) -> Result<Vec<u8>> {
        let cipher = &self.rules.cipher;
        let until = self.deadline();
        loop {
            self.load_settings().await?;
            let rows = read_until!(self, until, |connection| connection
                .run(Statement::Settings, &[]))?;
            let row = rows.first().ok_or_else(lost_meta)?;
            let keys: Option<&[u8]> = column(row, 3)?;
            let stored = keys.ok_or_else(lost_meta)?;
            let Some(fenced) = fence(cipher, stored)? else {
                return Ok(stored.to_vec());
            };
            let mut settings = decode_row(row, cipher)?;
            let old = settings.version.cast_signed();
            // Other contents under the same number would look like those of a server that was set back.
            settings.version += 1;
            // With the secrets of the ids, which are encrypted, too.
            let record = encode(&settings, cipher)?;
            let new = settings.version.cast_signed();
            let params: [Param<'_>; 5] = [&old, &new, &record, &stored, &fenced];
            let written = read_until!(self, until, |connection| connection
                .run(Statement::Fence, &params))?;
            if !written.is_empty() {
                self.heard.know_settings(settings.version, digest(&record));
                self.know(Arc::new(settings));
                return Ok(fenced);
            }
        }
    }

    /// Waits until all statements have ended that may have looked at the number of the settings before now.
    async fn outwait_writers(&self) -> Result<()> {
        let until = Instant::now() + WRITERS;
        let mut writers = self.writers().await?;
        while !writers.is_empty() {
            if Instant::now() > until {
                let why = "a transaction that writes to the store's tables does not end, as when it waits for a standby";
                return Err(unavailable(why));
            }
            sleep(PAUSE).await;
            let still = self.writers().await?;
            writers.retain(|writer| still.contains(writer));
        }
        Ok(())
    }

    async fn writers(&self) -> Result<HashSet<String>> {
        let rows = read!(self, |connection| async {
            connection.probe(WRITING).await.map_err(sent)
        })?;
        rows.iter().map(|row| column(row, 0)).collect()
    }

    async fn roll_back(&self, connection: Borrowed, until: Instant) {
        match self.within(until, connection.simple("ROLLBACK")).await {
            Ok(()) => connection.give_back(),
            Err(_) => connection.give_up(),
        }
    }
}

impl StoredClient {
    /// Whether all that was read is encrypted with the current key. Large packages are not read.
    fn is_current(&self, keys: &RecordKeys) -> bool {
        self.sessions.iter().all(|session| {
            let mut packages = session.record.packages.iter();
            keys.is_current(RecordKind::Session, &session.record.record)
                && packages.all(|(_, package)| {
                    let record = package.record.as_ref().filter(|_| !package.is_spilled);
                    record.is_some_and(|record| keys.is_current(RecordKind::Package, record))
                })
        })
    }
}
