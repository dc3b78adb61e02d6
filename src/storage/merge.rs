//! Validation and merge (C2.7 to C2.9, C2.11): holds a change set against the rows as they are now
//! and computes the rows to write. Pure; every engine uses it, inside its own write transaction.

use super::record::{PackageRow, SessionRow, package_key};
use super::{
    ChangeBase, ChangeSet, ChangeStep, ClientChange, ContainerId, ContainerRef, KeyChange, Limits,
    Observed, ObservedKeys, PackageChange, Seen, SeenState, SessionEnd, StaleCommute,
};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The rows as the writer sees them now. It is told what was read as of [`ChangeSet::as_of`], so that it need not
/// look where nothing can have changed since.
pub(crate) trait CurrentRows {
    /// Without `read`, there was none.
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>>;
    /// Without `read`, it may not have been read.
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>>;
    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>>;
    /// The time by the clock as it is: that of a change set may lie long back.
    fn now(&self) -> Timestamp;
    /// Whether the session of a client was ended by a later commit than this one, or may have been.
    fn ended_since(&self, client: ClientKey, commit: u64) -> bool;
    /// Whether the session of a client that has been swept was over after this time only, or may have been.
    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool;
    /// Counts the containers registered and unregistered so far.
    fn registry(&self) -> u64;
}

/// The rows that a commit writes. `None` removes a row.
#[derive(Debug, Default)]
pub(crate) struct MergedWrites {
    pub(crate) sessions: Vec<SessionWrite>,
    pub(crate) packages: Vec<PackageWrite>,
    pub(crate) tombstones: Vec<(ContainerId, ClientKey, Timestamp)>,
    /// Sessions that are swept, and from when on each was over.
    pub(crate) swept: Vec<(ClientKey, Timestamp)>,
    /// How many clients begin a session with it (C4.8).
    pub(crate) founded: u64,
}

#[derive(Debug)]
pub(crate) struct SessionWrite {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) old_owner: Option<Arc<str>>,
    pub(crate) row: Option<SessionRow>,
}

#[derive(Debug)]
pub(crate) struct PackageWrite {
    pub(crate) container: ContainerId,
    pub(crate) key: Vec<u8>,
    pub(crate) row: Option<Vec<u8>>,
}

/// Why a change set cannot be applied as it stands.
#[derive(Debug)]
pub(crate) enum MergeRefusal {
    Failed(Error, Option<ClientKey>),
    Stale(Vec<StaleCommute>),
}

impl From<Error> for MergeRefusal {
    fn from(error: Error) -> Self {
        Self::Failed(error, None)
    }
}

fn conflict(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, what)
}

/// A request came while its session was there, and acts when that has ended: it hands out no new id (C4.8). Another
/// request would.
pub(crate) fn ended_on_the_way() -> Error {
    conflict("the session ended after the request that bears its id had come")
        .lasting(Duration::from_secs(1))
}

/// Computes what committing `set` as commit number `version` writes, or why it cannot be.
pub(crate) fn resolve(
    set: &ChangeSet,
    rows: &impl CurrentRows,
    version: u64,
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
        version,
        writes: MergedWrites::default(),
        stale: Vec::new(),
    };
    for client in &set.clients {
        merge
            .client(client)
            .map_err(|e| MergeRefusal::Failed(e, Some(client.client)))?;
    }
    if merge.stale.is_empty() {
        Ok(merge.writes)
    } else {
        Err(MergeRefusal::Stale(merge.stale))
    }
}

struct Merge<'a, R> {
    set: &'a ChangeSet,
    rows: &'a R,
    version: u64,
    writes: MergedWrites,
    stale: Vec<StaleCommute>,
}

/// One client in one container while it is merged.
struct SessionMerge<'a> {
    seen: &'a Seen,
    /// The row in the file, served or not.
    stored: Option<SessionRow>,
    /// The row as this transaction must see it: expired ones are not there.
    row: Option<SessionRow>,
    changed: bool,
    /// Packages whose content was computed here.
    packages: BTreeMap<Arc<str>, MergedPackage>,
}

/// What a package holds after the merge.
struct MergedPackage {
    /// The row that stays but for what is written; none of a package that is new or was cleared.
    old: Option<PackageRow>,
    /// The keys that change, sorted.
    writes: Vec<(Arc<str>, Option<Bytes>)>,
    /// How many keys there are now, and how many there were.
    len: usize,
    was: usize,
}

impl MergedPackage {
    /// Whether what was added is within the limit, when everything is merged (C5.3).
    fn check_count(&self, limits: &Limits) -> Result<()> {
        if self.len > limits.keys && self.len > self.was {
            return Err(too_many_keys(self.len, limits));
        }
        Ok(())
    }
}

impl<'a> SessionMerge<'a> {
    fn new(seen: &'a Seen, stored: Option<SessionRow>) -> Self {
        let row = match (seen.state, &stored) {
            (
                SeenState::Expired {
                    incarnation,
                    last_access,
                    timeout,
                },
                Some(now),
            ) if now.incarnation == incarnation
                && now.last_access == last_access
                && now.timeout == timeout =>
            {
                None
            }
            _ => stored.clone(),
        };
        Self {
            seen,
            stored,
            row,
            changed: false,
            packages: BTreeMap::new(),
        }
    }

    /// Enters the packages in the session's list that were computed here, or takes them out of it.
    fn list_packages(&mut self) {
        let Some(row) = &mut self.row else { return };
        let mut computed = self.packages.iter();
        if computed.all(|(package, content)| row.has(package) == (content.len > 0)) {
            return;
        }
        let others = row.packages.iter();
        let others = others.filter(|package| !self.packages.contains_key(*package));
        let there = self.packages.iter().filter(|(_, content)| content.len > 0);
        let mut packages: Vec<_> = others.chain(there.map(|(name, _)| name)).cloned().collect();
        packages.sort_unstable();
        row.packages = packages.into();
        self.changed = true;
    }

    fn came_or_went(&self) -> bool {
        let was = matches!(self.seen.state, SeenState::Live { .. });
        self.seen.observed && was != self.row.is_some()
    }

    /// Whether what was added is within the limit, when everything is merged (C5.3).
    fn check_count(&self, limits: &Limits) -> Result<()> {
        let Some(row) = &self.row else { return Ok(()) };
        let stored = |package: &str| self.stored.as_ref().is_some_and(|row| row.has(package));
        let mut added = self.packages.keys().filter(|p| row.has(p) && !stored(p));
        let (count, limit) = (row.packages.len(), limits.packages);
        match added.next_back() {
            Some(package) if count > limit => {
                let error = too_large("the session has too many packages", count, limit, "");
                Err(error
                    .in_container(&*self.seen.place.name)
                    .in_package(&**package))
            }
            _ => Ok(()),
        }
    }

    /// A session that was seen live must be the one still there, and one seen expired must not have
    /// come back to life, or a write would join another session than the one it was meant for (C2.11).
    /// One that is destroyed may have come back: it ends all the same.
    fn check_same_session(&self, end: SessionEnd) -> Result<()> {
        let now = self.stored.as_ref().map(|row| row.incarnation);
        let ended = match self.seen.state {
            SeenState::Live { incarnation } => now != Some(incarnation),
            SeenState::Expired { incarnation, .. } => {
                now == Some(incarnation) && self.row.is_some() && end != SessionEnd::Destroyed
            }
            SeenState::Absent => false,
        };
        if ended {
            return Err(conflict("the session was ended or renewed meanwhile")
                .in_container(&*self.seen.place.name));
        }
        Ok(())
    }
}

impl<R: CurrentRows> Merge<'_, R> {
    fn client(&mut self, change: &ClientChange) -> Result<()> {
        let mut rooms = Vec::with_capacity(change.seen.len());
        for seen in &change.seen {
            let stored = self
                .rows
                .session(seen.place.id, change.client, seen.row.as_ref());
            let stored = stored.map_err(|e| e.in_container(&*seen.place.name))?;
            rooms.push(SessionMerge::new(seen, stored));
        }
        // So that the room of each package is found among many.
        rooms.sort_by_key(|room| room.seen.place.id);
        if let SessionEnd::Swept(over) = change.end {
            return self.sweep(change.client, &rooms, over);
        }
        if change.writes() {
            for room in &rooms {
                room.check_same_session(change.end)?;
            }
        }
        let exists = rooms.iter().any(|room| room.row.is_some());
        let moved = rooms.iter().any(SessionMerge::came_or_went);
        if moved || change.exists.is_some_and(|seen| seen != exists) {
            return Err(conflict("the session came or went meanwhile"));
        }
        if let Some(came) = change.replaced {
            if exists && change.end != SessionEnd::Destroyed {
                return Err(conflict("the session was founded meanwhile"));
            }
            self.check_not_refused(change.client)?;
            if self.rows.ended_since(change.client, came.newest)
                || self.rows.expired_since(change.client, came.at)
            {
                return Err(ended_on_the_way());
            }
        }
        let inherited = rooms.iter().find_map(|r| r.row.as_ref());
        let mut inherited = inherited.map(|row| (row.timeout, row.owner.clone()));
        for package in &change.packages {
            self.package(change, &mut rooms, package, &mut inherited)?;
        }
        for room in &mut rooms {
            room.list_packages();
        }
        if !self.stale.is_empty() {
            return Ok(());
        }
        self.found_alone(change, &mut rooms)?;
        if !exists && rooms.iter().any(|room| room.row.is_some()) {
            self.writes.founded += 1;
        }
        for room in &mut rooms {
            room.check_count(&self.set.limits)?;
            if let Some(row) = &mut room.row {
                room.changed |= attributes(row, change, room.seen, self.rows.now());
                // Whoever meant to found a session and joins one that was founded meanwhile accesses
                // it now (C3.6); or it might have expired by then, and the changes with it.
                let founds = change.home.is_some() || !room.packages.is_empty();
                let joins = room.seen.state == SeenState::Absent && founds;
                if joins && row.last_access < self.set.now {
                    row.last_access = self.set.now;
                    room.changed = true;
                }
            }
        }
        self.finish(change, rooms)
    }

    /// Whether a session may begin under an id that has none now: it has had none so far (C4.8).
    fn check_founder(&self, change: &ClientChange) -> Result<()> {
        if change.founder.as_ref().is_some_and(|it| !it.is_fresh()) {
            return Err(conflict(
                "the session of this id was founded and ended meanwhile",
            ));
        }
        self.check_not_refused(change.client)
    }

    /// An id that was rotated or destroyed lately founds nothing (C4.8).
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
        rooms: &mut [SessionMerge<'_>],
        package: &PackageChange,
        inherited: &mut Option<(Option<Duration>, Option<Arc<str>>)>,
    ) -> Result<()> {
        let named = |e: Error| {
            e.in_container(&*package.place.name)
                .in_package(&*package.package)
        };
        let at = rooms.binary_search_by_key(&package.place.id, |room| room.seen.place.id);
        let Some(room) = at.ok().and_then(|at| rooms.get_mut(at)) else {
            return Err(named(conflict("the container is gone")));
        };
        let (name, read) = (&package.package, package.observed.row.as_ref());
        let old = stored_package(self.rows, room, change.client, name, read).map_err(named)?;
        validate(&package.observed, old.as_ref()).map_err(named)?;
        if !package.writes() {
            return Ok(());
        }
        let content = merge_keys(package, old, &mut self.stale).map_err(named)?;
        let Some(content) = content else {
            return Ok(());
        };
        content.check_count(&self.set.limits).map_err(named)?;
        if room.row.is_none() {
            if inherited.is_none() {
                self.check_founder(change)?;
            }
            let (timeout, owner) = inherited.get_or_insert_default().clone();
            self.found(room, timeout, owner);
        }
        room.packages.insert(package.package.clone(), content);
        Ok(())
    }

    /// Founds a session for its timeout or its owner, where no package has (C8.1).
    fn found_alone(&self, change: &ClientChange, rooms: &mut [SessionMerge<'_>]) -> Result<()> {
        let Some(home) = change.home else {
            return Ok(());
        };
        if rooms.iter().any(|room| room.row.is_some()) {
            return Ok(());
        }
        self.check_founder(change)?;
        if let Some(room) = rooms.iter_mut().find(|room| room.seen.place.id == home) {
            self.found(room, None, None);
        }
        Ok(())
    }

    fn found(
        &self,
        room: &mut SessionMerge<'_>,
        timeout: Option<Duration>,
        owner: Option<Arc<str>>,
    ) {
        room.row = Some(SessionRow {
            created: self.set.now,
            last_access: self.set.now,
            timeout,
            owner,
            incarnation: self.version,
            packages: Arc::default(),
        });
        room.changed = true;
    }

    /// Turns the merged rooms of a client into rows to write.
    fn finish(&mut self, change: &ClientChange, rooms: Vec<SessionMerge<'_>>) -> Result<()> {
        let ends = match change.end {
            SessionEnd::Moves(_) | SessionEnd::Destroyed => true,
            SessionEnd::Stays | SessionEnd::Swept(_) => false,
        };
        for room in rooms {
            let id = room.seen.place.id;
            if ends {
                if room.stored.is_some() {
                    self.writes
                        .tombstones
                        .push((id, change.client, self.set.refusals.until()));
                }
                if let (SessionEnd::Moves(to), Some(_)) = (change.end, &room.row) {
                    self.carry_over(&room, change, to)?;
                }
                self.remove(&room, change.client);
                continue;
            }
            // A session founded over an expired one takes none of its rows along (C3.2).
            let replaced = room.row.as_ref().map(|row| row.incarnation)
                != room.stored.as_ref().map(|row| row.incarnation);
            if replaced && room.row.is_some() && room.stored.is_some() {
                self.remove_packages(&room, change.client);
            }
            for (package, content) in &room.packages {
                self.put_package(&room.seen.place, change.client, package, content)?;
            }
            if room.changed {
                self.writes.sessions.push(SessionWrite {
                    container: id,
                    client: change.client,
                    old_owner: room.stored.and_then(|row| row.owner),
                    row: room.row,
                });
            }
        }
        Ok(())
    }

    fn put_package(
        &mut self,
        place: &ContainerRef,
        client: ClientKey,
        package: &Arc<str>,
        content: &MergedPackage,
    ) -> Result<()> {
        let key = package_key(place.id, client, package);
        let row = if content.len == 0 {
            None
        } else {
            let written = (content.len, &*content.writes);
            let row = PackageRow::rebuild(content.old.as_ref(), &key, self.version, written)?;
            check_size(&self.set.limits, place, package, row.len())?;
            Some(row)
        };
        self.writes.packages.push(PackageWrite {
            container: place.id,
            key,
            row,
        });
        Ok(())
    }

    /// Writes a live session again under another id, with all its packages.
    fn carry_over(
        &mut self,
        room: &SessionMerge<'_>,
        change: &ClientChange,
        to: ClientKey,
    ) -> Result<()> {
        let Some(row) = &room.row else {
            return Ok(());
        };
        let from = change.client;
        // The new id was told before the commit made it valid; who used it must not lose by it.
        let is_used = change.founder.as_ref().is_some_and(|it| !it.is_fresh());
        if is_used || self.rows.session(room.seen.place.id, to, None)?.is_some() {
            return Err(conflict("the new id was used before it was valid"));
        }
        for package in row.packages.iter() {
            let place = &room.seen.place;
            if let Some(content) = room.packages.get(package) {
                self.put_package(place, to, package, content)?;
                continue;
            }
            let named = |e: Error| e.in_container(&*place.name).in_package(&**package);
            let old = stored_package(self.rows, room, from, package, None).map_err(named)?;
            let old = old.ok_or_else(|| named(lost_package()))?;
            let key = package_key(place.id, to, package);
            let record = PackageRow::rebuild(Some(&old), &key, self.version, (old.len(), &[]))?;
            self.writes.packages.push(PackageWrite {
                container: place.id,
                key,
                row: Some(record),
            });
        }
        self.writes.sessions.push(SessionWrite {
            container: room.seen.place.id,
            client: to,
            old_owner: None,
            row: Some(SessionRow {
                incarnation: self.version,
                ..row.clone()
            }),
        });
        Ok(())
    }

    /// Removes what has expired, and lowers the times that lie too far ahead.
    fn sweep(
        &mut self,
        client: ClientKey,
        rooms: &[SessionMerge<'_>],
        over: Timestamp,
    ) -> Result<()> {
        for room in rooms {
            let Some(row) = &room.row else {
                self.remove(room, client);
                self.writes.swept.push((client, over));
                continue;
            };
            let SeenState::Live { incarnation } = room.seen.state else {
                continue;
            };
            let mut lowered = row.clone();
            if let Some(touch) = room.seen.touch
                && row.incarnation == incarnation
            {
                touch.put_on(&mut lowered, self.rows.now());
            }
            if lowered != *row {
                self.writes.sessions.push(SessionWrite {
                    container: room.seen.place.id,
                    client,
                    old_owner: row.owner.clone(),
                    row: Some(lowered),
                });
            }
        }
        Ok(())
    }

    /// Removes what is stored of a session, whole.
    fn remove(&mut self, room: &SessionMerge<'_>, client: ClientKey) {
        let Some(stored) = &room.stored else { return };
        self.remove_packages(room, client);
        self.writes.sessions.push(SessionWrite {
            container: room.seen.place.id,
            client,
            old_owner: stored.owner.clone(),
            row: None,
        });
    }

    fn remove_packages(&mut self, room: &SessionMerge<'_>, client: ClientKey) {
        let container = room.seen.place.id;
        for package in room.stored.iter().flat_map(|row| row.packages.iter()) {
            self.writes.packages.push(PackageWrite {
                container,
                key: package_key(container, client, package),
                row: None,
            });
        }
    }
}

/// The row of a package that the session lists. That a listed one is missing is damage (C5.4).
fn stored_package(
    rows: &impl CurrentRows,
    room: &SessionMerge<'_>,
    client: ClientKey,
    package: &str,
    read: Option<&PackageRow>,
) -> Result<Option<PackageRow>> {
    let listed = match (&room.row, &room.stored) {
        (Some(row), Some(stored)) if row.incarnation == stored.incarnation => stored.has(package),
        _ => false,
    };
    if !listed {
        return Ok(None);
    }
    match rows.package(room.seen.place.id, client, package, read)? {
        Some(row) => Ok(Some(row)),
        None => Err(lost_package()),
    }
}

pub(crate) fn lost_package() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the session lists a package whose row is missing",
    )
}

/// Whether every key that was read still holds what was read (C2.7).
fn validate(observed: &Observed, current: Option<&PackageRow>) -> Result<()> {
    match (&observed.row, current) {
        (None, None) => return Ok(()),
        (Some(read), Some(now)) if read.version == now.version => return Ok(()),
        _ => {}
    }
    match &observed.keys {
        ObservedKeys::All => {
            let same = match (&observed.row, current) {
                (Some(read), Some(now)) => read.same_values(now),
                _ => false,
            };
            if !same {
                return Err(conflict("the package was changed meanwhile"));
            }
        }
        ObservedKeys::Some(keys) => {
            if let Some(key) = changed_key(observed.row.as_ref(), current, keys) {
                return Err(conflict("the value was changed meanwhile").at_key(key));
            }
        }
    }
    Ok(())
}

/// The first of some keys, which are sorted, whose values in two rows differ. Looks at the keys or at the rows,
/// whichever are fewer: who reads very many keys that are not there does not hold others up.
fn changed_key<'a>(
    one: Option<&'a PackageRow>,
    other: Option<&'a PackageRow>,
    keys: &'a [Arc<str>],
) -> Option<&'a str> {
    let len = |row: Option<&PackageRow>| row.map_or(0, PackageRow::len);
    if keys.len() > len(one) + len(other) {
        let is_read = |key: &str| keys.binary_search_by(|read| (**read).cmp(key)).is_ok();
        return PackageRow::first_difference(one, other, is_read);
    }
    let get = |row: Option<&PackageRow>, key: &str| row.and_then(|row| row.get(key));
    let mut keys = keys.iter().map(|key| &**key);
    keys.find(|key| {
        crate::steps::count(1);
        get(one, key) != get(other, key)
    })
}

/// What a package holds with its changes; none if that is what it held before.
fn merge_keys(
    package: &PackageChange,
    old: Option<PackageRow>,
    stale: &mut Vec<StaleCommute>,
) -> Result<Option<MergedPackage>> {
    let was = old.as_ref().map_or(0, PackageRow::len);
    let stays = old.as_ref().filter(|_| !package.clear);
    let mut len = if package.clear { 0 } else { was };
    let mut writes = Vec::with_capacity(package.keys.len());
    for (key, change) in &package.keys {
        let before = stays.and_then(|row| row.get(key));
        let after = merge_key(change, before.clone(), stale).map_err(|e| e.at_key(&**key))?;
        if before != after {
            len = len + usize::from(after.is_some()) - usize::from(before.is_some());
            writes.push((key.clone(), after));
        }
    }
    let is_changed = match &old {
        Some(old) if package.clear => {
            len != was || writes.iter().any(|(key, value)| old.get(key) != *value)
        }
        _ => !writes.is_empty(),
    };
    Ok(is_changed.then(|| MergedPackage {
        old: old.filter(|_| !package.clear),
        writes,
        len,
        was,
    }))
}

/// The value of a key after its change, given the value that is current before it.
pub(crate) fn merge_key(
    change: &KeyChange,
    current: Option<Bytes>,
    stale: &mut Vec<StaleCommute>,
) -> Result<Option<Bytes>> {
    let mut value = match &change.base {
        ChangeBase::Current => current,
        ChangeBase::Put(value) => Some(value.clone()),
        ChangeBase::Removed => None,
    };
    for step in &change.steps {
        value = match step {
            ChangeStep::Arithmetic(arithmetic) => Some(arithmetic.apply(value.as_deref())?.into()),
            ChangeStep::Commute(commute) => {
                if commute.input != value {
                    stale.push(StaleCommute {
                        index: commute.index,
                        current: value,
                    });
                    return Ok(None);
                }
                Some(commute.output.clone())
            }
        };
    }
    Ok(value)
}

/// Applies what concerns the session itself; tells whether the row changed. Where nothing else is written, an
/// access does not count if somebody has found the session expired since: it is recorded beside the merge.
fn attributes(row: &mut SessionRow, change: &ClientChange, seen: &Seen, now: Timestamp) -> bool {
    let before = row.clone();
    if let Some(timeout) = change.timeout {
        row.timeout = timeout;
    }
    if let Some(owner) = &change.owner {
        row.owner.clone_from(owner);
    }
    let same =
        matches!(seen.state, SeenState::Live { incarnation } if incarnation == row.incarnation);
    if let (Some(touch), true) = (seen.touch, same)
        && change.writes_in(seen.place.id)
    {
        touch.put_on(row, now);
    }
    *row != before
}

fn too_large(what: &str, size: usize, limit: usize, unit: &str) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("{what}: {size}{unit}, of {limit}{unit} at most"),
    )
}

pub(crate) fn too_many_keys(keys: usize, limits: &Limits) -> Error {
    too_large("the package has too many keys", keys, limits.keys, "")
}

/// Whether the record of a package is within its limit (C5.3).
fn check_size(limits: &Limits, place: &ContainerRef, package: &str, size: usize) -> Result<()> {
    if size > limits.package {
        let error = too_large("the package is too large", size, limits.package, " bytes");
        return Err(error.in_container(&*place.name).in_package(package));
    }
    Ok(())
}

/// Whether a key or a package id is within its limit (C5.3).
pub(crate) fn check_name(what: &str, name: &str, limits: &Limits) -> Result<()> {
    if name.len() > limits.name {
        let what = format!("{what} is too long");
        return Err(too_large(&what, name.len(), limits.name, " bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
