//! Validation and merge of a change set (C2.7 to C2.9, C2.11).

use super::carried::WithCarried;
use super::checks::{conflict, ended_on_the_way};
use super::foreign::WithForeign;
use super::import::import;
use super::package::{merge_keys, validate};
use super::rows::{CurrentRows, MergeRefusal};
use super::session::{SessionMerge, attributes, stored_package};
use super::writes::RowWriter;
use crate::client_id::ClientKey;
use crate::error::{Error, Result};
use crate::storage::record::SessionRow;
use crate::storage::{
    Arrival, ChangeSet, ClientChange, ClientFindings, ContainerId, MergedWrites, OnDuplicate,
    PackageChange, Seen, SeenState, SessionEnd, StaleCommute, Version,
};

/// Computes the rows that a commit of `set` with this version writes, or the reason why it cannot be committed.
pub(crate) fn resolve(
    set: &ChangeSet,
    rows: &impl CurrentRows,
    version: Version,
) -> Result<MergedWrites, MergeRefusal> {
    let Some(change) = &set.carried else {
        return resolve_with_foreign(set, rows, version);
    };
    let carried = change.rows();
    let rows = WithCarried { own: rows, carried };
    let mut writes = resolve_with_foreign(set, &rows, version)?;
    change.take_writes(&mut writes)?;
    Ok(writes)
}

fn resolve_with_foreign(
    set: &ChangeSet,
    rows: &impl CurrentRows,
    version: Version,
) -> Result<MergedWrites, MergeRefusal> {
    match &set.foreign {
        None => resolve_on(set, rows, version),
        Some(foreign) => resolve_on(set, &WithForeign { own: rows, foreign }, version),
    }
}

fn resolve_on(
    set: &ChangeSet,
    rows: &impl CurrentRows,
    version: Version,
) -> Result<MergedWrites, MergeRefusal> {
    let swept = |c: &ClientChange| matches!(c.end, SessionEnd::Swept(_));
    if rows.registry() != set.registry && !set.clients.iter().all(swept) {
        return Err(MergeRefusal::Failed(
            conflict("a container was registered or unregistered meanwhile"),
            None,
        ));
    }
    let mut merge = Merge {
        set,
        rows,
        writer: RowWriter {
            set,
            rows,
            version,
            writes: MergedWrites::default(),
        },
        stale: Vec::new(),
        findings: set.findings.as_ref().map(|_| ClientFindings::default()),
        client: None,
    };
    for client in &set.clients {
        if let Err(error) = merge.client(client) {
            return Err(MergeRefusal::Failed(error, merge.client));
        }
    }
    if merge.stale.is_empty() {
        if let (Some(to), Some(found)) = (&set.findings, merge.findings) {
            to.set(found);
        }
        Ok(merge.writer.writes)
    } else {
        Err(MergeRefusal::Stale(merge.stale))
    }
}

/// The same change under the session's new id, if the session's id was renewed meanwhile (C8.4). `None` if a part of
/// the session is in memory, because the new client is not locked there. `None` also if the change renews the id
/// itself. Both conflict later.
fn moved_on(change: &ClientChange, sessions: &[SessionMerge<'_>]) -> Option<ClientChange> {
    let moved =
        |session: &SessionMerge<'_>| session.stored.as_ref().and_then(|row| row.optional.moved);
    let to = leads_to(sessions)?;
    let is_renewal = change.leads_on.is_some();
    if is_renewal || !change.seen.iter().any(Seen::is_live) {
        return None;
    }
    let mut seen = Vec::with_capacity(sessions.len());
    for session in sessions {
        let was = session.seen;
        let state = match (was.state, &session.stored) {
            (SeenState::Live { incarnation }, Some(row))
                if moved(session).is_some_and(|it| it.from == Some(incarnation)) =>
            {
                SeenState::Live {
                    incarnation: row.incarnation,
                }
            }
            (SeenState::Live { .. }, _) => return None,
            (SeenState::Absent | SeenState::Expired { .. }, _) => SeenState::Absent,
        };
        if was.container_ref.id.is_in_memory() {
            return None;
        }
        let row = was.row.clone();
        seen.push(Seen {
            state,
            row: row.filter(|_| was.is_live()),
            ..was.clone()
        });
    }
    Some(ClientChange {
        client: to,
        seen,
        ..change.clone()
    })
}

/// The client to which the rows of a renewed id lead.
fn leads_to(sessions: &[SessionMerge<'_>]) -> Option<ClientKey> {
    let mut stored = sessions.iter().filter_map(|it| it.stored.as_ref());
    Some(stored.find_map(|row| row.optional.moved)?.client)
}

/// Checks that the owner is the one that the change depends on. A session that ends because of its owner must still have
/// this owner in some container, unless no row of it is left. A change for a visitor without an owner must not reach a
/// session that got one.
fn check_owner(change: &ClientChange, sessions: &[SessionMerge<'_>]) -> Result<()> {
    if change.keeps_owner && change.writes() && sessions.iter().any(SessionMerge::got_owner) {
        return Err(conflict("the session was given an owner meanwhile"));
    }
    let Some(owner) = &change.ends_of else {
        return Ok(());
    };
    let stored = sessions
        .iter()
        .filter_map(|session| session.stored.as_ref());
    let mut owners = stored.map(|row| row.owner.as_ref()).peekable();
    if owners.peek().is_none() || owners.any(|it| it == Some(owner)) {
        return Ok(());
    }
    Err(conflict("the session was given another owner meanwhile"))
}

struct Merge<'a, R> {
    set: &'a ChangeSet,
    rows: &'a R,
    writer: RowWriter<'a, R>,
    stale: Vec<StaleCommute>,
    findings: Option<ClientFindings>,
    /// The client whose session is merged. After a conflict, the next attempt waits in the line of this client.
    client: Option<ClientKey>,
}

impl<R: CurrentRows> Merge<'_, R> {
    /// The sessions of a client, sorted for the binary search in `package`.
    fn sessions<'c>(&self, change: &'c ClientChange) -> Result<Vec<SessionMerge<'c>>> {
        let mut sessions = Vec::with_capacity(change.seen.len());
        for seen in &change.seen {
            let stored = self
                .rows
                .session(seen.container_ref.id, change.client, seen.row.as_ref());
            let stored = stored.map_err(|e| e.in_container(&*seen.container_ref.name))?;
            sessions.push(SessionMerge::new(seen, stored));
        }
        sessions.sort_by_key(|session| session.seen.container_ref.id);
        Ok(sessions)
    }

    /// Checks that the session of rows that came with the request has not ended (C4.8). The rows themselves do not show
    /// this. A tombstone shows an end of a short time ago. `ended_since` shows an end since the request arrived,
    /// however long ago that was.
    fn check_carried_not_ended(&self, client: ClientKey) -> Result<()> {
        self.check_not_refused(client)?;
        let carried = self.set.carried.as_ref();
        match carried.is_some_and(|it| self.rows.ended_since(client, it.came())) {
            true => Err(ended_on_the_way()),
            false => Ok(()),
        }
    }

    /// Checks that an id without a session had none when its request arrived, either (C4.8).
    fn check_not_ended_since(&self, client: ClientKey, came: Arrival) -> Result<()> {
        self.check_not_refused(client)?;
        let has_ended = self.rows.ended_since(client, came.mark);
        match has_ended || self.rows.expired_since(client, came.at) {
            true => Err(ended_on_the_way()),
            false => Ok(()),
        }
    }

    fn client(&mut self, change: &ClientChange) -> Result<()> {
        self.client = Some(change.client);
        let mut sessions = self.sessions(change)?;
        if let SessionEnd::Swept(over) = change.end {
            return self.writer.sweep(change.client, &sessions, over);
        }
        if let SessionEnd::Imported(existing) = change.end {
            return self.import(change, sessions, existing);
        }
        if let Some(moved) = moved_on(change, &sessions).filter(|_| self.set.foreign.is_none()) {
            if let Some(findings) = &mut self.findings {
                findings.moved.push((change.client, moved.client));
            }
            return self.client(&moved);
        }
        if let Some(to) = leads_to(&sessions) {
            self.client = Some(to);
        }
        if change.writes() {
            for session in &sessions {
                session.check_same_session(change.end)?;
            }
        }
        if change.writes() && sessions.iter().any(SessionMerge::is_carried) {
            self.check_carried_not_ended(change.client)?;
        }
        check_owner(change, &sessions)?;
        let exists = sessions.iter().any(|session| session.row.is_some());
        let moved = sessions.iter().any(SessionMerge::came_or_went);
        if moved || change.exists.is_some_and(|seen| seen != exists) {
            return Err(conflict("the session came or went meanwhile"));
        }
        if sessions.iter().any(SessionMerge::was_listed_otherwise) {
            return Err(conflict("packages of the session came or went meanwhile"));
        }
        self.check_replaced(change, &sessions)?;
        let ends = |it: &&mut SessionMerge<'_>| change.ends_in.contains(&it.seen.container_ref.id);
        let ended = sessions.iter_mut().filter(ends);
        ended.for_each(SessionMerge::end);
        for package in &change.packages {
            self.package(change, &mut sessions, package)?;
        }
        sessions.iter_mut().for_each(SessionMerge::list_packages);
        if !self.stale.is_empty() {
            return Ok(());
        }
        self.found_alone(change, &mut sessions)?;
        if !exists && sessions.iter().any(|session| session.row.is_some()) {
            self.writer.writes.founded += 1;
            if let Some(findings) = &mut self.findings {
                findings.founded.push(change.client);
            }
        }
        for session in &mut sessions {
            session.check_count(&self.set.limits)?;
            if let Some(row) = &mut session.row {
                session.changed |= attributes(row, change, session.seen, self.rows.now());
                // The transaction would have created a session, and joins one that was created meanwhile. Joining is an
                // access (C3.6): otherwise the session could expire at once, together with the changes.
                let founds = change.home.is_some() || !session.packages.is_empty();
                let joins = session.seen.state == SeenState::Absent && founds;
                if joins && row.access.last_access < self.set.now {
                    row.access.last_access = self.set.now;
                    session.changed = true;
                }
            }
        }
        self.writer.finish(change, sessions)
    }

    fn import(
        &mut self,
        change: &ClientChange,
        sessions: Vec<SessionMerge<'_>>,
        existing: OnDuplicate,
    ) -> Result<()> {
        let Some(sessions) = import(change, sessions, existing, &self.writer)? else {
            return Ok(());
        };
        if let Some(findings) = &mut self.findings {
            findings.founded.push(change.client);
        }
        self.writer.finish(change, sessions)
    }

    /// Checks a client whose id is replaced by a new one. The client must have no session, unless this commit destroys
    /// it, and must not have lost one since its request arrived (C4.8).
    fn check_replaced(&self, change: &ClientChange, sessions: &[SessionMerge<'_>]) -> Result<()> {
        let Some(came) = change.replaced else {
            return Ok(());
        };
        let exists = sessions.iter().any(|session| session.row.is_some());
        if exists && change.end != SessionEnd::Destroyed {
            return Err(conflict("the session was founded meanwhile"));
        }
        self.check_not_ended_since(change.client, came)?;
        Ok(())
    }

    /// Checks that a session may begin under an id without a session. The id must never have had one (C4.8).
    fn check_founder(&self, change: &ClientChange) -> Result<()> {
        if let Some(founder) = &change.founder
            && self.rows.is_used(change.client, founder)
        {
            return Err(conflict(
                "the session of this id was founded and ended meanwhile",
            ));
        }
        self.check_not_refused(change.client)
    }

    /// Checks that no tombstone refuses an id (C4.8).
    fn check_not_refused(&self, client: ClientKey) -> Result<()> {
        let now = self.rows.now();
        match self.rows.tombstone(client)? {
            Some(until) if until > now => {
                let ended = conflict("the session of this id was rotated or destroyed");
                Err(ended.lasting(until.since(now)))
            }
            _ => Ok(()),
        }
    }

    fn package(
        &mut self,
        change: &ClientChange,
        sessions: &mut [SessionMerge<'_>],
        package: &PackageChange,
    ) -> Result<()> {
        let named = |e: Error| {
            e.in_container(&*package.container_ref.name)
                .in_package(&*package.package)
        };
        let at = sessions.binary_search_by_key(&package.container_ref.id, |session| {
            session.seen.container_ref.id
        });
        let gone = || named(conflict("the container is gone"));
        let at = at.map_err(|_| gone())?;
        let session = sessions.get(at).ok_or_else(gone)?;
        let (name, read) = (&package.package, package.observed.row.as_ref());
        let has_ended = session.has_ended();
        // A package that ends unread may be damaged.
        let old = match has_ended && package.observed.keys.are_none() {
            true => None,
            false => {
                stored_package(self.rows, session, change.client, name, read).map_err(named)?
            }
        };
        validate(&package.observed, old.as_ref()).map_err(named)?;
        if !package.writes() {
            return Ok(());
        }
        let old = old.filter(|_| !has_ended);
        let content = merge_keys(package, old, &mut self.stale).map_err(named)?;
        let Some(content) = content else {
            return Ok(());
        };
        content.check_count(&self.set.limits).map_err(named)?;
        let founded = match &session.row {
            Some(_) => None,
            None => Some(self.founded(change, sessions, package.container_ref.id)?),
        };
        let session = sessions.get_mut(at).ok_or_else(gone)?;
        founded.into_iter().for_each(|row| session.found(row));
        session
            .packages
            .insert(package.package.clone(), Box::new(content));
        Ok(())
    }

    /// The row of a session that begins in a container. If the client has a session in another container, the row
    /// continues it.
    fn founded(
        &self,
        change: &ClientChange,
        sessions: &[SessionMerge<'_>],
        container: ContainerId,
    ) -> Result<SessionRow> {
        let (now, version) = (self.set.now, self.writer.version);
        let stored = sessions.iter().filter(|session| !session.is_carried());
        let carried = sessions.iter().filter(|session| session.is_carried());
        // An id whose only session is in a cookie may be dead. So such a session does not let a stored session begin
        // under this id (C4.8).
        let moves = matches!(change.end, SessionEnd::Moves(_));
        let carried = carried.filter(|_| moves || container.is_in_cookie());
        let rows = stored.chain(carried);
        if let Some(other) = rows.filter_map(SessionMerge::row_before).next() {
            return Ok(other.continued(now, version));
        }
        self.check_founder(change)?;
        Ok(SessionRow::new(now, version))
    }

    /// Creates a session for its timeout, owner or label, if no package creates one (C8.1).
    fn found_alone(&self, change: &ClientChange, sessions: &mut [SessionMerge<'_>]) -> Result<()> {
        let Some(home) = change.home else {
            return Ok(());
        };
        let is_stored = |session: &SessionMerge<'_>| session.row.is_some() && !session.is_carried();
        if sessions.iter().any(is_stored) {
            return Ok(());
        }
        let row = self.founded(change, sessions, home)?;
        if let Some(session) = sessions
            .iter_mut()
            .find(|session| session.seen.container_ref.id == home)
        {
            session.found(row);
        }
        Ok(())
    }
}
