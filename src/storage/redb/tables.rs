//! The tables of a store file, opened for reading and for writing, and the rows in them.

use super::failure::{self, Contained, Writing, guarded};
use super::touches::Touches;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::ContainerId;
use crate::storage::merge::{Rows, Writes};
use crate::storage::record::{
    Kind, PackageRow, SessionRow, client_of, open_plain, package_key, seal_plain, session_key,
};
use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable, Table, TableDefinition};
use sha2::{Digest, Sha256};

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
pub(super) const RETIRED: TableDefinition<u32, ()> = TableDefinition::new("retired");
pub(super) const SESSIONS: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new("sessions");
pub(super) const PACKAGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packages");
pub(super) const TOMBSTONES: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("tombstones");
/// First 16 bytes of the owner's SHA-256, then the session's key.
pub(super) const OWNERS: TableDefinition<&[u8; 36], ()> = TableDefinition::new("owners");

/// The key of a session in the index of owners, or with zeros the start of an owner's range.
pub(super) fn owner_key(owner: &str, session: [u8; 20]) -> [u8; 36] {
    let hash = Sha256::digest(owner.as_bytes());
    let mut key = [0; 36];
    for (to, from) in key.iter_mut().zip(hash.iter().take(16).chain(&session)) {
        *to = *from;
    }
    key
}

/// The tables of one database as of one commit.
pub(super) struct Reader {
    sessions: Contained<ReadOnlyTable<&'static [u8; 20], &'static [u8]>>,
    packages: Contained<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    owners: Contained<ReadOnlyTable<&'static [u8; 36], ()>>,
}

impl Reader {
    pub(super) fn open(database: &Database) -> Result<Self> {
        let txn = database.begin_read().map(Contained::new);
        let txn = txn.map_err(failure::transaction)?;
        Ok(Self {
            sessions: Contained::new(txn.open_table(SESSIONS).map_err(failure::table)?),
            packages: Contained::new(txn.open_table(PACKAGES).map_err(failure::table)?),
            owners: Contained::new(txn.open_table(OWNERS).map_err(failure::table)?),
        })
    }

    pub(super) fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<SessionRow>> {
        session_row(&*self.sessions, container, client)
    }

    pub(super) fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        package_row(&*self.packages, container, client, package)
    }

    pub(super) fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<Vec<(ClientKey, Result<SessionRow>)>> {
        use std::ops::Bound::{Excluded, Included};
        let lowest = session_key(container, ClientKey::from_bytes([0; 16]));
        let highest = session_key(container, ClientKey::from_bytes([u8::MAX; 16]));
        let from = after.map(|client| session_key(container, client));
        let from = from.as_ref().map_or(Included(&lowest), Excluded);
        guarded(|| {
            let rows = self
                .sessions
                .range::<&[u8; 20]>((from, Included(&highest)))
                .map_err(failure::storage)?;
            rows.take(limit)
                .map(|row| {
                    let (key, record) = row.map_err(failure::storage)?;
                    let key = key.value();
                    Ok((client_of(key), SessionRow::decode(key, record.value())))
                })
                .collect()
        })
    }

    pub(super) fn owned(&self, owner: &str) -> Result<Vec<(ContainerId, ClientKey)>> {
        let (from, to) = (owner_key(owner, [0; 20]), owner_key(owner, [u8::MAX; 20]));
        guarded(|| {
            let rows = self
                .owners
                .range::<&[u8; 36]>(&from..=&to)
                .map_err(failure::storage)?;
            let mut found = Vec::new();
            for row in rows {
                let (key, ()) = row.map(|(k, v)| (k, v.value())).map_err(failure::storage)?;
                if let Some((container, client)) = session_of(key.value()) {
                    found.push((container, client));
                }
            }
            Ok(found)
        })
    }
}

pub(super) fn session_of(owner_key: &[u8; 36]) -> Option<(ContainerId, ClientKey)> {
    let session: &[u8; 20] = owner_key.last_chunk()?;
    let container: &[u8; 4] = session.first_chunk()?;
    Some((
        ContainerId(u32::from_be_bytes(*container)),
        client_of(session),
    ))
}

/// The tables of one database inside a write transaction.
pub(super) struct Writer<'t> {
    sessions: Contained<Table<'t, &'static [u8; 20], &'static [u8]>>,
    packages: Contained<Table<'t, &'static [u8], &'static [u8]>>,
    tombstones: Contained<Table<'t, &'static [u8; 16], &'static [u8]>>,
    owners: Contained<Table<'t, &'static [u8; 36], ()>>,
    pub(super) dirty: bool,
}

impl<'t> Writer<'t> {
    pub(super) fn open(txn: &'t Writing) -> Result<Self> {
        Ok(Self {
            sessions: txn.open_table(SESSIONS).map_err(failure::table)?,
            packages: txn.open_table(PACKAGES).map_err(failure::table)?,
            tombstones: txn.open_table(TOMBSTONES).map_err(failure::table)?,
            owners: txn.open_table(OWNERS).map_err(failure::table)?,
            dirty: false,
        })
    }

    /// Writes those of the rows that belong to this database; tells whether there were any.
    pub(super) fn apply(
        &mut self,
        writes: &Writes,
        here: impl Fn(ContainerId) -> bool,
    ) -> Result<bool> {
        let mut any = false;
        for write in writes.packages.iter().filter(|w| here(w.container)) {
            let key = write.key.as_slice();
            match &write.row {
                Some(row) => self.packages.insert(key, row.as_slice()).map(drop),
                None => self.packages.remove(key).map(drop),
            }
            .map_err(failure::storage)?;
            any = true;
        }
        for write in writes.sessions.iter().filter(|w| here(w.container)) {
            let key = session_key(write.container, write.client);
            let owner = write.row.as_ref().and_then(|row| row.owner.as_ref());
            if owner != write.old_owner.as_ref() {
                self.reindex(key, write.old_owner.as_deref(), owner.map(|o| &**o))?;
            }
            match &write.row {
                Some(row) => self.sessions.insert(&key, &*row.encode(&key)?).map(drop),
                None => self.sessions.remove(&key).map(drop),
            }
            .map_err(failure::storage)?;
            any = true;
        }
        for (_, client, until) in writes.tombstones.iter().filter(|(id, ..)| here(*id)) {
            let key = client.as_bytes();
            let record = seal_plain(Kind::Tombstone, key, until.0)?;
            self.tombstones
                .insert(key, &*record)
                .map_err(failure::storage)?;
            any = true;
        }
        self.dirty |= any;
        Ok(any)
    }

    fn reindex(&mut self, session: [u8; 20], old: Option<&str>, new: Option<&str>) -> Result<()> {
        if let Some(old) = old {
            self.owners
                .remove(&owner_key(old, session))
                .map_err(failure::storage)?;
        }
        if let Some(new) = new {
            self.owners
                .insert(&owner_key(new, session), ())
                .map_err(failure::storage)?;
        }
        Ok(())
    }

    /// Writes access times into the rows of the sessions that are still the ones touched.
    pub(super) fn touch(&mut self, touches: &[super::touches::Pending]) -> Result<u64> {
        let mut written = 0;
        for touch in touches {
            let key = session_key(touch.container, touch.client);
            // A damaged row is reported to whoever reads it; it must not fail everyone's commit.
            let Ok(Some(row)) = session_row(&*self.sessions, touch.container, touch.client) else {
                continue;
            };
            let last_access = touch.at.merged_with(row.last_access);
            if row.generation != touch.generation || last_access == row.last_access {
                continue;
            }
            let row = SessionRow { last_access, ..row };
            self.sessions
                .insert(&key, &*row.encode(&key)?)
                .map_err(failure::storage)?;
            self.dirty = true;
            written += 1;
        }
        Ok(written)
    }

    /// Removes at most `limit` rows of an unregistered container; returns how many there were.
    pub(super) fn reclaim(&mut self, container: ContainerId, limit: usize) -> Result<u64> {
        let from = container.0.to_be_bytes();
        let to = container.0.saturating_add(1).to_be_bytes();
        let mut packages = Vec::new();
        for row in self
            .packages
            .range::<&[u8]>(from.as_slice()..to.as_slice())
            .map_err(failure::storage)?
            .take(limit)
        {
            packages.push(row.map_err(failure::storage)?.0.value().to_vec());
        }
        for key in &packages {
            self.packages
                .remove(key.as_slice())
                .map_err(failure::storage)?;
        }
        let mut sessions = Vec::new();
        let lowest = session_key(container, ClientKey::from_bytes([0; 16]));
        let highest = session_key(container, ClientKey::from_bytes([u8::MAX; 16]));
        for row in self
            .sessions
            .range::<&[u8; 20]>(&lowest..=&highest)
            .map_err(failure::storage)?
            .take(limit.saturating_sub(packages.len()))
        {
            let (key, record) = row.map_err(failure::storage)?;
            let owner = SessionRow::decode(key.value(), record.value())
                .ok()
                .and_then(|row| row.owner);
            sessions.push((*key.value(), owner));
        }
        for (key, owner) in &sessions {
            self.sessions.remove(key).map_err(failure::storage)?;
            self.reindex(*key, owner.as_deref(), None)?;
        }
        let removed = (packages.len() + sessions.len()) as u64;
        self.dirty |= removed > 0;
        Ok(removed)
    }

    /// Removes at most `limit` tombstones that have had their time; returns how many.
    pub(super) fn bury(&mut self, now: Timestamp, limit: usize) -> Result<u64> {
        let mut old = Vec::new();
        for row in self.tombstones.iter().map_err(failure::storage)? {
            let (key, record) = row.map_err(failure::storage)?;
            let until: i64 = open_plain(Kind::Tombstone, key.value(), record.value()).unwrap_or(0);
            if until <= now.0 {
                old.push(*key.value());
            }
            if old.len() == limit {
                break;
            }
        }
        for key in &old {
            self.tombstones.remove(key).map_err(failure::storage)?;
        }
        self.dirty |= !old.is_empty();
        Ok(old.len() as u64)
    }
}

fn session_row(
    table: &impl ReadableTable<&'static [u8; 20], &'static [u8]>,
    container: ContainerId,
    client: ClientKey,
) -> Result<Option<SessionRow>> {
    let key = session_key(container, client);
    guarded(|| {
        table
            .get(&key)
            .map_err(failure::storage)?
            .map(|record| SessionRow::decode(&key, record.value()))
            .transpose()
    })
}

fn package_row(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    container: ContainerId,
    client: ClientKey,
    package: &str,
) -> Result<Option<PackageRow>> {
    let key = package_key(container, client, package);
    guarded(|| {
        table
            .get(key.as_slice())
            .map_err(failure::storage)?
            .map(|record| PackageRow::decode(&key, Bytes::copy_from_slice(record.value())))
            .transpose()
    })
}

fn tombstone_row(
    table: &impl ReadableTable<&'static [u8; 16], &'static [u8]>,
    client: ClientKey,
) -> Result<Option<Timestamp>> {
    let key = client.as_bytes();
    guarded(|| {
        table
            .get(key)
            .map_err(failure::storage)?
            .map(|record| open_plain(Kind::Tombstone, key, record.value()).map(Timestamp))
            .transpose()
    })
}

/// Both databases of a store inside one group commit.
pub(super) struct Writers<'t> {
    pub(super) file: Writer<'t>,
    pub(super) memory: Writer<'t>,
    pub(super) touches: &'t Touches,
    pub(super) registry: u64,
}

impl<'t> Writers<'t> {
    fn of(&self, container: ContainerId) -> &Writer<'t> {
        if container.is_in_memory() {
            &self.memory
        } else {
            &self.file
        }
    }
}

impl Rows for Writers<'_> {
    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        let row = session_row(&*self.of(container).sessions, container, client)?;
        Ok(row.map(
            |row| match self.touches.get(container, client, row.generation) {
                Some(at) => SessionRow {
                    last_access: at.merged_with(row.last_access),
                    ..row
                },
                None => row,
            },
        ))
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        package_row(&*self.of(container).packages, container, client, package)
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let file = tombstone_row(&*self.file.tombstones, client)?;
        Ok(file.max(tombstone_row(&*self.memory.tombstones, client)?))
    }

    fn registry(&self) -> u64 {
        self.registry
    }
}
