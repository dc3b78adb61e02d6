//! Validates a change set against the newest rows, and applies what it writes. The two are apart: between them an
//! engine may do what can still fail.

use super::revision::TablesRole;
use super::tables::MemoryTables;
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::{CurrentRows, MergeRefusal, resolve};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{
    ChangeSet, ClientChange, ContainerId, Mark, MergedWrites, RecordedTimes, Seen, SessionRef,
    TombstonePolicy, Touch, Version,
};
use bytes::Bytes;
use std::cell::RefCell;

/// What a commit goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitTerms {
    /// The version of the rows that it writes: a random number, never used before.
    pub(crate) version: Version,
    /// Counts the containers registered and unregistered so far.
    pub(crate) registry: u64,
    pub(crate) now: Timestamp,
}

/// A change set that was validated, and what it writes.
#[derive(Debug)]
pub(crate) struct DecidedCommit {
    writes: MergedWrites,
    packages: Vec<(Vec<u8>, Option<PackageRow>)>,
    /// Accesses to sessions that it does not write into.
    accesses: Vec<Touch>,
    /// What it writes to the containers of another engine.
    pub(crate) foreign: MergedWrites,
    now: Timestamp,
}

impl DecidedCommit {
    /// Writes that another engine merged.
    pub(crate) fn merged(
        mut writes: MergedWrites,
        accesses: Vec<Touch>,
        now: Timestamp,
    ) -> Result<Self> {
        let packages = std::mem::take(&mut writes.packages).into_iter();
        let packages = packages.map(|write| {
            let row = write.row.map(Bytes::from);
            let row = row.map(|row| PackageRow::decode(&write.key, row));
            Ok((write.key, row.transpose()?))
        });
        Ok(Self {
            packages: packages.collect::<Result<_>>()?,
            writes,
            accesses,
            foreign: MergedWrites::default(),
            now,
        })
    }

    /// How many sessions a sweep removes with it.
    pub(crate) fn swept(&self) -> u64 {
        self.writes.swept.len() as u64
    }

    /// How many clients begin a session with it.
    pub(crate) fn founded(&self) -> u64 {
        self.writes.founded
    }
}

impl MemoryTables {
    /// Validates a change set against the newest rows and computes what it writes. Changes no row.
    pub(crate) fn decide(
        &mut self,
        set: &ChangeSet,
        terms: CommitTerms,
    ) -> Result<DecidedCommit, MergeRefusal> {
        let rows = NewestRows {
            tables: self,
            registry: terms.registry,
            refusals: TombstonePolicy {
                now: terms.now,
                ..set.refusals
            },
            lowered: RefCell::default(),
        };
        let resolved = resolve(set, &rows, terms.version);
        // A tombstone that lies too far ahead is lowered even if the commit that met it fails (C3.5).
        for (client, until) in rows.lowered.into_inner() {
            self.tombstones.insert(client, until);
        }
        let mut writes = resolved?;
        self.check_claims(set)?;
        let foreign = match self.role {
            TablesRole::Server => writes.split_off_memory(),
            TablesRole::BesideAnother => MergedWrites::default(),
        };
        let accesses = self.accesses_beside(set);
        let decided = DecidedCommit::merged(writes, accesses, terms.now)?;
        Ok(DecidedCommit { foreign, ..decided })
    }

    /// Whether the change set may still write into the sessions that its transaction saw live. A session that another
    /// transaction has found expired since must not come back (C2.11, C3.2).
    fn check_claims(&self, set: &ChangeSet) -> Result<(), MergeRefusal> {
        for client in set.clients.iter().filter(|client| client.goes_on()) {
            let live = || client.seen.iter().filter(|seen| seen.is_live());
            let is_over = |seen: &&Seen| self.was_found_expired(set, client, seen);
            let mut written = live().filter(|seen| client.writes_in(seen.place.id));
            // A write into a container without the session continues the session that was seen in another one.
            let over = written.find(is_over);
            let over = over.or_else(|| live().next().filter(|_| live().all(|seen| is_over(&seen))));
            if let Some(seen) = over {
                let error = Error::new(
                    ErrorKind::Conflict,
                    "the session has expired, and was found so meanwhile",
                );
                let error = error.in_container(&*seen.place.name);
                return Err(MergeRefusal::Failed(error, Some(client.client)));
            }
        }
        Ok(())
    }

    /// Whether a session that was seen live was found expired since, here or by another engine.
    pub(crate) fn was_found_expired(
        &self,
        set: &ChangeSet,
        client: &ClientChange,
        seen: &Seen,
    ) -> bool {
        let Some(session) = seen.live_session(client.client) else {
            return false;
        };
        let of = (session.container, session.client);
        let mut foreign = set.foreign.iter();
        let since = self.role.revision(set.since);
        self.times.is_expired_since(session, since)
            || foreign.any(|foreign| foreign.expired.contains(&of))
    }

    /// The accesses that are due with a change set, to sessions of these tables that it does not write into. What was
    /// found expired since is left out.
    pub(crate) fn accesses_beside(&self, set: &ChangeSet) -> Vec<Touch> {
        let is_here = |container| self.role.keeps(container);
        let mut beside =
            set.accesses(|client, seen| is_here(seen.place.id) && !client.writes_in(seen.place.id));
        let since = |touch: &Touch| self.role.revision(touch.since);
        beside.retain(|touch| !self.times.is_expired_since(touch.session, since(touch)));
        beside
    }

    /// Puts the rows of a commit in. This cannot fail.
    pub(crate) fn apply(&mut self, commit: DecidedCommit) {
        let event = self.next_event();
        for write in commit.writes.sessions {
            let of = (write.container, write.client);
            match &write.row {
                Some(_) => self.times.settle(of),
                None => self.times.forget(of),
            }
            self.put_session(write.container, write.client, write.row, event);
        }
        for (key, row) in commit.packages {
            self.put_package(key, row, event);
        }
        for (_, client, until) in commit.writes.tombstones {
            self.tombstones.insert(client, until);
            self.ended.insert(client, event);
        }
        for (client, over) in commit.writes.swept {
            let known = self.swept.entry(client).or_insert(over);
            *known = over.max(*known);
        }
        for touch in commit.accesses {
            self.record(touch, commit.now);
        }
    }

    /// Records an access. Returns whether its session is still there, and nobody has found it expired since.
    pub(crate) fn touch(&mut self, touch: Touch, now: Timestamp) -> bool {
        let is_live = self.is_live(touch.session, touch.since);
        if is_live {
            self.record(touch, now);
        }
        is_live
    }

    fn record(&mut self, touch: Touch, now: Timestamp) {
        let (container, client) = (touch.session.container, touch.session.client);
        let row = self.newest_session(container, client);
        if let Some(row) = row.filter(|row| row.incarnation == touch.session.incarnation) {
            let mut part = row.access;
            touch.at.put_on(&mut part, now);
            if part != row.access {
                self.recorded += 1;
                self.times.record(touch.session, part);
            }
        }
    }

    /// Whether a session is still there, and nobody has found it expired since.
    pub(crate) fn is_live(&self, session: SessionRef, since: Mark) -> bool {
        let row = self.newest_row(session.container, session.client);
        let since = self.role.revision(since);
        row.is_some_and(|row| row.incarnation == session.incarnation)
            && !self.times.is_expired_since(session, since)
    }

    /// The newest times of a session. `None` if it has ended.
    pub(crate) fn recorded_times(&self, session: SessionRef) -> Option<RecordedTimes> {
        let row = self.newest_session(session.container, session.client)?;
        (row.incarnation == session.incarnation).then_some(RecordedTimes {
            created: row.access.created,
            last_access: row.access.last_access,
        })
    }

    pub(crate) fn tombstone(&self, client: ClientKey) -> Option<Timestamp> {
        self.tombstones.get(&client).copied()
    }

    /// Notes that a session was found expired, so that no access of an earlier transaction brings it back.
    pub(crate) fn note_expired(&mut self, session: SessionRef) {
        let event = self.next_event();
        self.times.note_expired(session, event);
    }

    /// Whether the session of a client was ended after `since`.
    pub(crate) fn ended_since(&self, client: ClientKey, since: Mark) -> bool {
        let ended = self.ended.get(&client);
        ended.is_some_and(|by| *by > self.role.revision(since).0)
    }

    /// Whether the session of a client that was swept was over after this time only. An end that lies ahead came from a
    /// wrong clock, and does not count.
    pub(crate) fn expired_since(&self, client: ClientKey, time: Timestamp, now: Timestamp) -> bool {
        let over = self.swept.get(&client);
        over.is_some_and(|over| *over > time && *over <= now)
    }

    /// Whether a client has had a session that has ended.
    pub(crate) fn is_used(&self, client: ClientKey) -> bool {
        self.ended.contains_key(&client) || self.swept.contains_key(&client)
    }
}

/// The newest rows, as a change set is validated against them.
struct NewestRows<'a> {
    tables: &'a MemoryTables,
    registry: u64,
    refusals: TombstonePolicy,
    /// Tombstones that lay too far ahead.
    lowered: RefCell<Vec<(ClientKey, Timestamp)>>,
}

impl CurrentRows for NewestRows<'_> {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        _read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        Ok(self.tables.newest_session(container, client))
    }

    /// The row that was read, if it has the version of the newest.
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>> {
        let newest = self.tables.newest_package(container, client, package);
        let same = read.filter(|read| newest.is_some_and(|row| row.version == read.version));
        Ok(same.or(newest).cloned())
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let until = self.tables.tombstones.get(&client).copied();
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
        self.tables.ended_since(client, mark)
    }

    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool {
        self.tables.expired_since(client, time, self.now())
    }

    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool {
        !founder.is_fresh() || self.tables.is_used(client)
    }

    fn registry(&self) -> u64 {
        self.registry
    }
}
