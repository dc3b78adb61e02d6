//! Validates a change set against the newest rows, and applies its writes. These are two steps: between them, an engine
//! may take steps that can still fail.

use super::revision::TablesRole;
use super::tables::MemoryTables;
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::merge::{CurrentRows, MergeRefusal, found_expired, resolve};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{
    ChangeSet, ClientChange, ContainerId, Mark, MemoryWrites, MergedWrites, RecordedTimes, Seen,
    SessionRef, TombstonePolicy, Touch, Version,
};
use std::cell::RefCell;

/// The version, the registry and the time of a commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitTerms {
    /// The version of the rows that it writes: a random number, never used before.
    pub(crate) version: Version,
    /// How many times a container was registered or unregistered so far.
    pub(crate) registry: u64,
    pub(crate) now: Timestamp,
}

/// The writes of a change set that was validated.
#[derive(Debug)]
pub(crate) struct DecidedCommit {
    writes: MemoryWrites,
    /// Accesses to sessions that it does not write into.
    accesses: Vec<Touch>,
    /// How many clients begin a session with it.
    founded: u64,
    /// The writes to the containers of another engine.
    foreign: MemoryWrites,
    now: Timestamp,
}

impl DecidedCommit {
    /// A commit that another engine has merged.
    pub(crate) fn merged(writes: MemoryWrites, accesses: Vec<Touch>, now: Timestamp) -> Self {
        Self {
            writes,
            accesses,
            founded: 0,
            foreign: MemoryWrites::default(),
            now,
        }
    }

    /// How many sessions a sweep removes with it.
    pub(crate) fn swept(&self) -> u64 {
        self.writes.swept.len() as u64
    }

    /// How many clients begin a session with it.
    pub(crate) fn founded(&self) -> u64 {
        self.founded
    }

    /// Takes the writes to the containers of another engine.
    pub(crate) fn take_foreign(&mut self) -> MemoryWrites {
        std::mem::take(&mut self.foreign)
    }
}

impl MemoryTables {
    /// Validates a change set against the newest rows and computes its writes. Changes no row.
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
            self.tombstones.put(client, until);
        }
        let mut writes = resolved?;
        self.check_claims(set)?;
        let foreign = match self.role {
            TablesRole::Server => writes.split_off_memory(),
            TablesRole::BesideAnother => MergedWrites::default(),
        };
        Ok(DecidedCommit {
            accesses: self.accesses_beside(set),
            founded: writes.founded,
            writes: MemoryWrites::decode(writes)?,
            foreign: MemoryWrites::decode(foreign)?,
            now: terms.now,
        })
    }

    /// Whether the change set may still write into the sessions that its transaction saw live. A session that another
    /// transaction has found expired since must not come back (C2.11, C3.2).
    fn check_claims(&self, set: &ChangeSet) -> Result<(), MergeRefusal> {
        for client in set.clients.iter().filter(|client| client.goes_on()) {
            let is_over = |seen: &Seen| self.was_found_expired(set, client, seen);
            if let Some(seen) = client.over(is_over) {
                let error = found_expired(&seen.container_ref.name);
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

    /// The accesses that are due with a change set, to sessions of these tables that it does not write into. Sessions
    /// that were found expired since are left out.
    pub(crate) fn accesses_beside(&self, set: &ChangeSet) -> Vec<Touch> {
        self.accesses(set, |client, container| !client.writes_in(container))
    }

    /// All accesses that are due with a change set, to sessions of these tables.
    pub(crate) fn all_accesses(&self, set: &ChangeSet) -> Vec<Touch> {
        self.accesses(set, |_, _| true)
    }

    fn accesses(
        &self,
        set: &ChangeSet,
        pick: impl Fn(&ClientChange, ContainerId) -> bool,
    ) -> Vec<Touch> {
        let is_here = |container| self.role.keeps(container);
        let mut accesses = set.accesses(|client, seen| {
            is_here(seen.container_ref.id) && pick(client, seen.container_ref.id)
        });
        let since = |touch: &Touch| self.role.revision(touch.since);
        accesses.retain(|touch| !self.times.is_expired_since(touch.session, since(touch)));
        accesses
    }

    /// Puts the rows of a commit in. This cannot fail.
    pub(crate) fn apply(&mut self, commit: DecidedCommit) {
        let event = self.next_event();
        for write in commit.writes.sessions {
            self.times.settle((write.container, write.client));
            self.put_session(write.container, write.client, write.row, event);
        }
        for (key, row) in commit.writes.packages {
            self.put_package(key, row, event);
        }
        for (_, client, until) in commit.writes.tombstones {
            self.tombstones.put(client, until);
            self.ended.note(client, event);
        }
        for (client, over) in commit.writes.swept {
            self.swept.note(client, over);
        }
        for touch in commit.accesses {
            self.record(touch, commit.now);
        }
    }

    /// Records an access. Returns whether its session is still there, and nobody has found it expired since.
    pub(crate) fn touch(&mut self, touch: Touch, now: Timestamp) -> bool {
        let is_live = self.is_live(touch.session, touch.since);
        if is_live && !self.holds.keep(touch) {
            self.record(touch, now);
        }
        is_live
    }

    fn record(&mut self, touch: Touch, now: Timestamp) {
        let (container, client) = (touch.session.container, touch.session.client);
        let row = self.newest_session(container, client);
        if let Some(row) = row.filter(|row| row.incarnation == touch.session.incarnation) {
            let mut part = row.access;
            touch.at.by(now).put_on(&mut part, now);
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

    /// Lets nobody else commit to these clients, as the caller sees to it, while another engine commits. Who looks
    /// meanwhile sees the accesses that come with that commit.
    pub(crate) fn hold(&mut self, clients: &[ClientKey], claims: Vec<Touch>) {
        self.holds.begin(clients, claims);
    }

    /// Whether the outcome of a commit of another engine to this client is not known yet.
    pub(crate) fn is_held(&self, client: ClientKey) -> bool {
        self.holds.has(client)
    }

    /// Ends a hold: the commit is applied, or nothing of it came about.
    pub(crate) fn release(&mut self, clients: &[ClientKey], now: Timestamp) {
        for touch in self.holds.end(clients) {
            self.record(touch, now);
        }
    }

    /// The newest times of a session. `None` if it has ended.
    pub(crate) fn recorded_times(
        &self,
        session: SessionRef,
        now: Timestamp,
    ) -> Option<RecordedTimes> {
        let mut row = self.newest_session(session.container, session.client)?;
        self.holds.put_on(session, &mut row.access, now);
        (row.incarnation == session.incarnation).then(|| RecordedTimes::of(&row.access))
    }

    pub(crate) fn tombstone(&self, client: ClientKey) -> Option<Timestamp> {
        self.tombstones.get(client)
    }

    /// Notes that a session was found expired, so that no access of an earlier transaction brings it back.
    pub(crate) fn note_expired(&mut self, session: SessionRef) {
        let event = self.next_event();
        self.times.note_expired(session, event);
    }

    /// Whether the session of a client was ended after `since`.
    pub(crate) fn ended_since(&self, client: ClientKey, since: Mark) -> bool {
        self.ended.since(client, self.role.revision(since).0)
    }

    /// Whether the session of a client that was swept was over after this time only. An end that lies ahead came from a
    /// wrong clock, and does not count.
    pub(crate) fn expired_since(&self, client: ClientKey, time: Timestamp, now: Timestamp) -> bool {
        self.swept.within(client, time, now)
    }

    /// Whether a client has had a session that has ended.
    pub(crate) fn is_used(&self, client: ClientKey) -> bool {
        self.ended.has(&client) || self.swept.has(&client)
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
        let until = self.tables.tombstones.get(client);
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
