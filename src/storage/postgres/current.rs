//! The loaded rows of clients, as a change set is validated against them. A client that is not loaded is noted, so that
//! the caller loads it and validates again.

use super::client_rows::StoredClient;
use super::event::{ENDS_KEPT, HeardEvents, ServerEvent, time_of};
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::CurrentRows;
use crate::storage::record::{PackageRow, RecordCipher, SessionRow};
use crate::storage::{ContainerId, Mark, SessionRef, TombstonePolicy, Touch};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The rows of clients by key.
pub(super) type RowsByClient = HashMap<ClientKey, Arc<StoredClient>>;

pub(super) struct LoadedRows<'a> {
    pub(super) clients: &'a RowsByClient,
    /// The accesses that are on their way to the server.
    pub(super) under_way: &'a [Touch],
    pub(super) events: &'a HeardEvents,
    pub(super) cipher: &'a RecordCipher,
    pub(super) registry: u64,
    pub(super) refusals: TombstonePolicy,
    /// A time that the server's clock has reached.
    pub(super) server_time: i64,
    /// By how much the time of an event may be wrong, in milliseconds.
    pub(super) margin: i64,
    /// Clients that were asked for and are not loaded.
    pub(super) missing: RefCell<BTreeSet<ClientKey>>,
    /// Tombstones that lay too far ahead.
    pub(super) lowered: RefCell<Vec<(ClientKey, Timestamp)>>,
}

impl LoadedRows<'_> {
    pub(super) fn rows_of(&self, client: ClientKey) -> Result<Arc<StoredClient>> {
        if let Some(rows) = self.clients.get(&client) {
            return Ok(rows.clone());
        }
        self.missing.borrow_mut().insert(client);
        Err(Error::new(
            ErrorKind::Unavailable,
            "a client is not loaded yet",
        ))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.refusals.now
    }

    /// Whether a session was found expired after `since`, or may have been.
    pub(super) fn is_found_expired(&self, session: SessionRef, since: Mark) -> bool {
        let rows = self.clients.get(&session.client);
        let seen = rows.and_then(|rows| rows.seen_of(session.container, session.incarnation));
        let found = seen.and_then(|seen| seen.found_expired);
        found.is_some_and(|event| self.is_after(session.client, event, since))
    }

    /// The newest row of a session, with the accesses that are on their way to the server.
    pub(super) fn newest_session(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<SessionRow>> {
        let Some(mut row) = self.rows_of(client)?.session(container)? else {
            return Ok(None);
        };
        for touch in self.under_way {
            let of = touch.session;
            if (of.container, of.client, of.incarnation) == (container, client, row.incarnation)
                && !self.is_found_expired(of, touch.since)
            {
                touch.at.put_on(&mut row.access, self.now());
            }
        }
        Ok(Some(row))
    }

    fn is_after(&self, client: ClientKey, event: ServerEvent, since: Mark) -> bool {
        self.events.is_after(client, event, since, self.margin)
    }
}

impl CurrentRows for LoadedRows<'_> {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        _read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        self.newest_session(container, client)
    }

    /// The row that was read, if it is the newest.
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>> {
        let rows = self.rows_of(client)?;
        let record = rows.package_record(container, package);
        match read.filter(|read| record.is_some_and(|record| read.is_of(record))) {
            Some(read) => Ok(Some(read.clone())),
            None => rows.package(container, client, package, self.cipher),
        }
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let until = self.rows_of(client)?.tombstone();
        let lowered = until.and_then(|until| self.refusals.lowered(until));
        if let Some(lowered) = lowered {
            self.lowered.borrow_mut().push((client, lowered));
        }
        Ok(lowered.or(until))
    }

    fn now(&self) -> Timestamp {
        self.refusals.now
    }

    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool {
        let [_, marked] = mark.durable;
        let kept = i64::try_from(ENDS_KEPT.as_millis()).unwrap_or(i64::MAX) - self.margin;
        if self.server_time.saturating_sub(time_of(marked)) > kept {
            return true;
        }
        match self.rows_of(client) {
            Ok(rows) => rows.end.is_some_and(|end| {
                end.refused_until.is_some() && self.is_after(client, end.event, mark)
            }),
            Err(_) => true,
        }
    }

    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool {
        let now = self.refusals.now;
        if now.since(time) > ENDS_KEPT {
            return true;
        }
        match self.rows_of(client) {
            Ok(rows) => {
                let over = rows.end.and_then(|end| end.swept);
                over.is_some_and(|over| over > time && over <= now)
            }
            Err(_) => true,
        }
    }

    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool {
        !founder.is_fresh()
            || match self.rows_of(client) {
                Ok(rows) => rows.end.is_some(),
                Err(_) => true,
            }
    }

    fn registry(&self) -> u64 {
        self.registry
    }
}
