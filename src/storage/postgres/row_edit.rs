//! The row of one client while a commit changes it. Pure.

use super::body::{self, PackageRecord, SessionRecord};
use super::client_rows::{RowSession, StoredClient, StoredRow, past_with};
use super::event::{ENDS_KEPT, ServerEvent};
use super::seen::{EndRecord, SeenTimes, encode_end, encode_seen};
use super::sweep_times::SweepTimes;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
#[cfg(feature = "encryption")]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::record::{PackageRow, RecordCipher, SessionRow, client_of, session_key};
#[cfg(feature = "encryption")]
use crate::storage::record::{RecordKind, package_key};
use crate::storage::{ContainerId, MergedWrites, PackageWrite, SessionWrite, Touch};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The new row of a client.
pub(super) struct ClientWrite {
    pub(super) base: Arc<StoredClient>,
    pub(super) rows: Arc<StoredClient>,
    /// The packages with rows of their own that change: their places and records. `None` removes one.
    pub(super) spilled: BTreeMap<Vec<u8>, Option<Bytes>>,
}

/// What a commit writes of one client.
#[derive(Default)]
pub(super) struct ClientWrites<'a> {
    sessions: Vec<&'a SessionWrite>,
    packages: Vec<&'a PackageWrite>,
    /// Until when its id is refused.
    tombstones: Vec<Timestamp>,
    /// From when on a session was over that is swept.
    swept: Vec<Timestamp>,
}

impl<'a> ClientWrites<'a> {
    /// The writes of each client.
    pub(super) fn of(merged: &'a MergedWrites) -> HashMap<ClientKey, Self> {
        let mut clients: HashMap<_, Self> = HashMap::new();
        for write in &merged.sessions {
            let client = clients.entry(write.client).or_default();
            client.sessions.push(write);
        }
        for write in &merged.packages {
            if let Some(session) = write.key.first_chunk() {
                let client = clients.entry(client_of(session)).or_default();
                client.packages.push(write);
            }
        }
        for (_, client, until) in &merged.tombstones {
            let client = clients.entry(*client).or_default();
            client.tombstones.push(*until);
        }
        for (client, over) in &merged.swept {
            if let Some(client) = clients.get_mut(client) {
                client.swept.push(*over);
            }
        }
        clients
    }
}

/// The facts of a commit besides its change set.
#[derive(Clone)]
pub(super) struct PlanTerms {
    pub(super) version: u64,
    /// About the time of the server's clock.
    pub(super) server_time: i64,
    pub(super) sweeps: Arc<SweepTimes>,
}

/// How many records of a client were encrypted again, and how many could not be read.
#[cfg(feature = "encryption")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resealed {
    pub(super) records: u64,
    pub(super) unreadable: u64,
}

/// The row of a client while a commit changes it.
pub(super) struct RowEdit {
    client: ClientKey,
    base: Arc<StoredClient>,
    terms: PlanTerms,
    sessions: Vec<RowSession>,
    seen: Vec<SeenTimes>,
    end: Option<EndRecord>,
    spilled: BTreeMap<Vec<u8>, Option<Bytes>>,
    now: Timestamp,
}

impl RowEdit {
    pub(super) fn new(
        client: ClientKey,
        base: Arc<StoredClient>,
        terms: PlanTerms,
        now: Timestamp,
    ) -> Self {
        Self {
            client,
            sessions: base.sessions.clone(),
            seen: base.seen.clone(),
            end: base.end,
            spilled: BTreeMap::new(),
            now,
            base,
            terms,
        }
    }

    pub(super) fn apply(&mut self, writes: &ClientWrites<'_>, cipher: &RecordCipher) -> Result<()> {
        // New sessions first: their packages need a place. Removed ones last: theirs are removed before.
        for write in &writes.sessions {
            if let Some(row) = &write.row {
                self.put_session(write.container, row, cipher)?;
            }
        }
        for write in &writes.packages {
            self.put_package(write, cipher)?;
        }
        for write in &writes.sessions {
            if write.row.is_none() {
                self.remove_session(write.container);
            }
        }
        let event = ServerEvent {
            token: self.terms.version,
            at: self.terms.server_time,
        };
        for until in &writes.tombstones {
            self.end = Some(EndRecord {
                refused_until: Some(*until),
                event,
                swept: None,
            });
        }
        for over in &writes.swept {
            let refused_until = self.end.and_then(|end| end.refused_until);
            self.end = Some(EndRecord {
                refused_until,
                event,
                swept: Some(*over),
            });
        }
        Ok(())
    }

    fn put_session(
        &mut self,
        container: ContainerId,
        row: &SessionRow,
        cipher: &RecordCipher,
    ) -> Result<()> {
        let key = session_key(container, self.client);
        let record = Bytes::from(row.encode(&key, cipher)?);
        let found = self.place_of(container);
        match found {
            Ok(at) => {
                if let Some(session) = self.sessions.get_mut(at) {
                    session.record.record = record;
                    session.row = Ok(row.clone());
                }
            }
            Err(at) => {
                let record = SessionRecord {
                    container,
                    record,
                    packages: Vec::new(),
                };
                let row = Ok(row.clone());
                self.sessions.insert(at, RowSession { record, row });
            }
        }
        let before = self.seen.iter().position(|it| it.container == container);
        let before = before.map(|at| self.seen.swap_remove(at));
        let same = before.filter(|it| it.incarnation == row.incarnation);
        self.seen.push(SeenTimes {
            container,
            incarnation: row.incarnation,
            access: row.access,
            found_expired: same.and_then(|it| it.found_expired),
        });
        Ok(())
    }

    fn place_of(&self, container: ContainerId) -> Result<usize, usize> {
        self.sessions
            .binary_search_by(|it| it.record.container.cmp(&container))
    }

    fn put_package(&mut self, write: &PackageWrite, cipher: &RecordCipher) -> Result<()> {
        let Some((key, name)) = write.key.split_first_chunk() else {
            return Ok(());
        };
        let (true, Ok(name)) = (client_of(key) == self.client, std::str::from_utf8(name)) else {
            return Ok(());
        };
        let row = write.row.clone();
        let row = row.map(|row| PackageRow::encrypt(&write.key, row, cipher));
        let record = row.transpose()?.map(|row| PackageRecord::new(row.into()));
        let Ok(at) = self.place_of(write.container) else {
            return Ok(());
        };
        let Some(session) = self.sessions.get_mut(at) else {
            return Ok(());
        };
        let place = body::place(write.container, name);
        let was_spilled = session.record.is_spilled(name);
        match &record {
            Some(package) if package.is_spilled => {
                self.spilled.insert(place, package.record.clone());
            }
            _ if was_spilled => drop(self.spilled.insert(place, None)),
            _ => {}
        }
        session.record.put(name, record);
        Ok(())
    }

    pub(super) fn remove_session(&mut self, container: ContainerId) {
        self.seen.retain(|it| it.container != container);
        if let Ok(at) = self.place_of(container) {
            let removed = self.sessions.remove(at);
            for (name, package) in removed.record.packages {
                if package.is_spilled {
                    self.spilled.insert(body::place(container, &name), None);
                }
            }
        }
    }

    /// Removes the sessions of containers that are not registered. Returns whether there is one.
    pub(super) fn remove_unregistered(
        &mut self,
        is_registered: impl Fn(ContainerId) -> bool,
    ) -> bool {
        let all = self.sessions.iter().map(|it| it.record.container);
        let gone: Vec<_> = all.filter(|id| !is_registered(*id)).collect();
        gone.iter().for_each(|id| self.remove_session(*id));
        !gone.is_empty()
    }

    /// Encrypts the records again that are not encrypted with the current key.
    #[cfg(feature = "encryption")]
    pub(super) fn reseal(&mut self, cipher: &RecordCipher) -> Result<Resealed> {
        let mut done = Resealed::default();
        let Some(keys) = cipher.keys() else {
            return Ok(done);
        };
        for session in &mut self.sessions {
            let container = session.record.container;
            let Ok(row) = &session.row else {
                done.unreadable += 1;
                continue;
            };
            if !keys.is_current(RecordKind::Session, &session.record.record) {
                let key = session_key(container, self.client);
                session.record.record = row.encode(&key, cipher)?.into();
                done.records += 1;
            }
            for (name, package) in &mut session.record.packages {
                let key = package_key(container, self.client, name);
                let Some(record) = &package.record else {
                    done.unreadable += 1;
                    continue;
                };
                if keys.is_current(RecordKind::Package, record) {
                    continue;
                }
                let read = match PackageRow::decode(&key, record.clone(), cipher) {
                    Ok(read) => read,
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        done.unreadable += 1;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                let again = PackageRecord::new(read.again(&key, record, cipher)?.into());
                let place = body::place(container, name);
                if again.is_spilled {
                    self.spilled.insert(place, again.record.clone());
                } else if package.is_spilled {
                    self.spilled.insert(place, None);
                }
                *package = again;
                done.records += 1;
            }
        }
        Ok(done)
    }

    /// Lowers a tombstone that lies too far ahead (C3.5).
    pub(super) fn lower(&mut self, until: Timestamp) {
        if let Some(end) = &mut self.end {
            end.refused_until = Some(until);
        }
    }

    /// Records an access to a session that the commit does not change. Returns whether the session is here.
    pub(super) fn access(&mut self, touch: &Touch) -> bool {
        let is_of = |it: &&mut SeenTimes| {
            it.container == touch.session.container && it.incarnation == touch.session.incarnation
        };
        match self.seen.iter_mut().find(is_of) {
            Some(seen) => {
                touch.at.by(self.now).put_on(&mut seen.access, self.now);
                true
            }
            None => false,
        }
    }

    pub(super) fn finish(mut self, cipher: &RecordCipher) -> Result<ClientWrite> {
        self.seen.sort_unstable_by_key(|it| it.container);
        for session in &mut self.sessions {
            if let Ok(row) = &mut session.row {
                let newest = self.seen.iter().find(|it| {
                    it.container == session.record.container && it.incarnation == row.incarnation
                });
                row.access = newest.map_or(row.access, |it| it.access);
            }
        }
        let is_empty = self.sessions.is_empty();
        let sweep_at = match is_empty {
            true => self.kept_until(),
            false => self.swept_at(),
        };
        // The row of a session that was swept long after it was over tells nothing any more.
        let stored = match is_empty && sweep_at <= self.now {
            true => None,
            false => Some(self.stored(Some(sweep_at), cipher)?),
        };
        let is_damaged = self.base.is_damaged;
        Ok(ClientWrite {
            base: self.base,
            rows: Arc::new(StoredClient {
                stored,
                sessions: self.sessions,
                seen: self.seen,
                end: self.end,
                is_damaged,
            }),
            spilled: self.spilled,
        })
    }

    /// Until when a row without sessions is needed.
    fn kept_until(&self) -> Timestamp {
        match self.end {
            Some(EndRecord {
                refused_until: Some(until),
                ..
            }) => until.max(self.now) + ENDS_KEPT,
            Some(EndRecord {
                swept: Some(over), ..
            }) => over + ENDS_KEPT,
            _ => self.now + ENDS_KEPT,
        }
    }

    /// From when on a sweep looks at the sessions.
    fn swept_at(&self) -> Timestamp {
        let row = self.base.stored.as_ref().filter(|row| row.body.is_some());
        let before = row.and_then(|row| row.sweep_at).map(Timestamp);
        let times = &self.terms.sweeps;
        times.keep_or_next(before, &self.sessions, self.now)
    }

    fn stored(&self, sweep_at: Option<Timestamp>, cipher: &RecordCipher) -> Result<StoredRow> {
        let records: Vec<_> = self.sessions.iter().map(|it| it.record.clone()).collect();
        let ended = self.end.as_ref();
        let ended = ended.map(|end| encode_end(self.client, end)).transpose()?;
        let past = self.base.stored.as_ref();
        Ok(StoredRow {
            version: self.terms.version,
            past: past.map_or_else(Vec::new, |row| past_with(&row.past, row.version)),
            seen: encode_seen(self.client, &self.seen)?,
            body: body::encode(&records)?.map(Bytes::from),
            ended,
            owners: self.owners(cipher),
            sweep_at: sweep_at.map(|at| at.0),
            spilled: Vec::new(),
        })
    }

    /// The hashes of the owners of all sessions. Those of a damaged session are not known, so all from before stay.
    fn owners(&self, cipher: &RecordCipher) -> Option<Vec<Vec<u8>>> {
        let rows = self.sessions.iter().filter_map(|it| it.row.as_ref().ok());
        let owners = rows.filter_map(|row| row.owner.as_ref());
        let hashes = owners.map(|owner| cipher.owner_hashes(owner).current.to_vec());
        let mut all: BTreeSet<_> = hashes.collect();
        if self.sessions.iter().any(|it| it.row.is_err()) {
            let stored = self.base.stored.iter();
            all.extend(stored.flat_map(|row| row.owners.iter().flatten().cloned()));
        }
        (!all.is_empty()).then(|| all.into_iter().collect())
    }
}

impl SessionRecord {
    fn is_spilled(&self, package: &str) -> bool {
        let mut packages = self.packages.iter();
        packages.any(|(name, record)| **name == *package && record.is_spilled)
    }
}
