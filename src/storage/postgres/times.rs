//! The newest times of sessions, and the notes of looks that found a session expired.

use super::client_rows::StoredClient;
use super::connection::{Connection, Param, SqlKey};
use super::current::RowsByClient;
use super::event::ServerEvent;
use super::failure::Failure;
use super::load::LoadedClients;
use super::locked::{came_meanwhile, check_locked};
use super::pipeline::{Request, all};
use super::reading::read;
use super::seen::encode_seen;
use super::shared::{Shared, lock};
use super::statements::Statement;
use super::touches::PendingTouches;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Mark, NewestTimes, RecordedTimes, SessionRef, TombstonePolicy, Touch};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

const PREPARED: &[Statement] = &[
    Statement::Lock,
    Statement::LoadOne,
    Statement::LoadMany,
    Statement::Touch,
];

fn clients_of(sessions: &[SessionRef]) -> Vec<ClientKey> {
    let clients: BTreeSet<_> = sessions.iter().map(|it| it.client).collect();
    clients.into_iter().collect()
}

impl Shared {
    /// The newest times of sessions.
    pub(super) async fn recorded_times(
        &self,
        sessions: &[SessionRef],
        touches: &PendingTouches,
    ) -> NewestTimes {
        let clients = clients_of(sessions);
        let under_way = touches.under_way(clients.iter().copied(), self.now());
        match self.load(&clients).await {
            Ok(loaded) => self.times(sessions, loaded, &under_way),
            Err(error) => vec![Err(error); sessions.len()],
        }
    }

    /// Notes that sessions were found expired, then returns their newest times.
    pub(super) async fn found_expired(
        &self,
        sessions: &[SessionRef],
        touches: &PendingTouches,
    ) -> NewestTimes {
        let clients = clients_of(sessions);
        // An access that came before may keep a session alive.
        let under_way = touches.under_way(clients.iter().copied(), self.now());
        let asked = (sessions, &*clients);
        let noted = read!(self, |connection| {
            self.note_expired(&connection, asked, &under_way)
        });
        match noted {
            Ok(loaded) => self.times(sessions, loaded, &[]),
            Err(error) => vec![Err(error); sessions.len()],
        }
    }

    fn times(
        &self,
        sessions: &[SessionRef],
        loaded: LoadedClients,
        under_way: &[Touch],
    ) -> NewestTimes {
        let mut rows = RowsByClient::new();
        let mut damaged = HashMap::new();
        for (client, found) in loaded {
            match found {
                Ok(found) => drop(rows.insert(client, found)),
                Err(error) => drop(damaged.insert(client, error)),
            }
        }
        self.with_loaded(&rows, under_way, TombstonePolicy::default(), |rows| {
            let times = sessions.iter().map(|session| {
                if let Some(error) = damaged.get(&session.client) {
                    return Err(error.clone());
                }
                let row = rows.newest_session(session.container, session.client)?;
                let row = row.filter(|row| row.incarnation == session.incarnation);
                Ok(row.map(|row| RecordedTimes::of(&row.access)))
            });
            times.collect()
        })
    }

    /// Writes the accesses under way and the notes to the rows of sessions. A commit that does not know of the notes finds
    /// other times in its row, and looks again. The versions stay: a note is no change of a session.
    async fn note_expired(
        &self,
        connection: &Connection,
        (sessions, clients): (&[SessionRef], &[ClientKey]),
        under_way: &[Touch],
    ) -> Result<LoadedClients, Failure> {
        connection.prepare_all(PREPARED).await?;
        let keys: Vec<_> = clients.iter().copied().map(SqlKey).collect();
        let (mut locked, mut loaded) = (Vec::new(), LoadedClients::new());
        let begin = Self::begin(self.deadline());
        let flight: Vec<Request<'_>> = vec![
            Box::pin(connection.simple(&begin)),
            Box::pin(async {
                locked = connection.run(Statement::Lock, &[&keys]).await?;
                Ok(())
            }),
            Box::pin(async {
                loaded = self.fetch(connection, clients).await?;
                Ok(())
            }),
        ];
        let begun = all(flight).await;
        if let Err(failure) = begun.and_then(|()| check_locked(&locked, &loaded)) {
            return Err(end_transaction(connection, failure).await);
        }
        let event = ServerEvent {
            token: self.version(),
            at: self.heard.server_time(),
        };
        let mut noted = LoadedClients::new();
        let (mut keys, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new());
        for (client, rows) in loaded {
            let Ok(mut rows) = rows else {
                noted.push((client, rows));
                continue;
            };
            let newest = Arc::make_mut(&mut rows);
            if self.note(newest, client, (sessions, under_way), event)
                && let Some(row) = &mut newest.stored
            {
                keys.push(SqlKey(client));
                let seen = match encode_seen(client, &newest.seen) {
                    Ok(seen) => seen,
                    Err(error) => return Err(end_transaction(connection, error.into()).await),
                };
                before.push(std::mem::replace(&mut row.seen, seen.clone()));
                after.push(seen);
                newest.show_times();
            }
            noted.push((client, Ok(rows)));
        }
        let params: [Param<'_>; 3] = [&keys, &before, &after];
        let mut written = Vec::new();
        let flight: Vec<Request<'_>> = vec![
            Box::pin(async {
                written = connection.run(Statement::Touch, &params).await?;
                Ok(())
            }),
            Box::pin(connection.simple("COMMIT")),
        ];
        all(flight).await?;
        if written.len() < keys.len() {
            return Err(came_meanwhile());
        }
        let known = noted
            .iter()
            .filter_map(|(client, rows)| Some((client, rows.as_ref().ok()?)));
        known.for_each(|(client, rows)| self.hear(*client, rows));
        Ok(noted)
    }

    /// Notes in the rows of a client which sessions were found expired. Returns whether there is one of them.
    fn note(
        &self,
        rows: &mut StoredClient,
        client: ClientKey,
        (sessions, under_way): (&[SessionRef], &[Touch]),
        event: ServerEvent,
    ) -> bool {
        let (events, now) = (lock(&self.events), self.now());
        let mut is_noted = false;
        for seen in &mut rows.seen {
            let is_it = |it: &SessionRef| {
                (it.container, it.client, it.incarnation)
                    == (seen.container, client, seen.incarnation)
            };
            if !sessions.iter().any(is_it) {
                continue;
            }
            for touch in under_way.iter().filter(|touch| is_it(&touch.session)) {
                let over = seen.found_expired;
                let is_over = over.is_some_and(|event| {
                    events.is_after(client, event, touch.since, self.margin())
                });
                if !is_over {
                    touch.at.put_on(&mut seen.access, now);
                }
            }
            seen.found_expired = Some(event);
            is_noted = true;
        }
        is_noted
    }

    /// Whether one of these sessions is still there and was not found expired after this mark.
    pub(super) async fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Result<bool> {
        let loaded = self.load(&clients_of(sessions)).await?;
        let found = loaded
            .into_iter()
            .filter_map(|(client, rows)| Some((client, rows.ok()?)));
        let rows: RowsByClient = found.collect();
        Ok(
            self.with_loaded(&rows, &[], TombstonePolicy::default(), |rows| {
                sessions.iter().any(|session| {
                    let row = rows.newest_session(session.container, session.client);
                    let is_it = |incarnation| incarnation == session.incarnation;
                    matches!(row, Ok(Some(row)) if is_it(row.incarnation))
                        && !rows.is_found_expired(*session, since)
                })
            }),
        )
    }
}

/// Rolls back after a failure that the server has answered. The failure that the caller gets says whether the connection
/// is still of use.
async fn end_transaction(connection: &Connection, failure: Failure) -> Failure {
    match failure {
        Failure::Again(_) | Failure::Refused(_) => match connection.simple("ROLLBACK").await {
            Ok(()) => failure,
            Err(_) => Failure::Lost(Error::new(
                ErrorKind::Unavailable,
                "a transaction could not be rolled back",
            )),
        },
        lost => lost,
    }
}
