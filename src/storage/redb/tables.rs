//! The tables of a store file, opened for reading and for writing, and the rows in them.

use super::failure::{self, Contained, ContainedWrite, guarded};
use super::names;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{
    PackageRow, RecordCipher, RecordKind, SessionRow, client_of, open_plain, seal_plain,
    session_key,
};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::memtable::detached::{DatabaseLife, DetachedReader};
use crate::storage::redb::memtable::held::{Held, TableRows};
use crate::storage::redb::memtable::row_key::{RowTree, RowWrite};
use crate::storage::redb::own_tables::OwnTables;
use crate::storage::{ContainerId, TombstonePolicy};
use bytes::Bytes;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition,
};
use std::ops::Bound;
use std::sync::Arc;

pub(crate) const META: TableDefinition<&str, &[u8]> = TableDefinition::new(names::META);
pub(crate) const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new(names::CONTAINERS);
pub(crate) const RETIRED: TableDefinition<u32, ()> = TableDefinition::new(names::RETIRED);
pub(crate) const SESSIONS: TableDefinition<&[u8; 20], &[u8]> =
    TableDefinition::new(names::SESSIONS);
pub(crate) const PACKAGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new(names::PACKAGES);
pub(crate) const TOMBSTONES: TableDefinition<&[u8; 16], &[u8]> =
    TableDefinition::new(names::TOMBSTONES);
/// The hash of the owner ([`RecordCipher::owner_hashes`]), then the session's key.
pub(crate) const OWNERS: TableDefinition<&[u8; 36], ()> = TableDefinition::new(names::OWNERS);

/// The key of a session in the index of owners, or with zeros the start of an owner's range.
pub(crate) fn owner_key(hash: [u8; 16], session: [u8; 20]) -> [u8; 36] {
    let mut key = [0; 36];
    for (to, from) in key.iter_mut().zip(hash.iter().chain(&session)) {
        *to = *from;
    }
    key
}

/// The tables of one database as of one commit.
pub(crate) struct TableReader {
    sessions: Contained<ReadOnlyTable<&'static [u8; 20], &'static [u8]>>,
    packages: Contained<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    tombstones: Contained<ReadOnlyTable<&'static [u8; 16], &'static [u8]>>,
    owners: Contained<ReadOnlyTable<&'static [u8; 36], ()>>,
    own: OwnTables,
    life: Arc<DatabaseLife>,
    cipher: RecordCipher,
    /// Reads without redb; `None` if the list of tables cannot be read.
    detached: Option<DetachedReader>,
}

impl TableReader {
    /// Opens the tables. No thread may write to the database meanwhile.
    pub(crate) fn open(
        database: &Database,
        disk: &Disk,
        life: &Arc<DatabaseLife>,
        cipher: &RecordCipher,
    ) -> Result<Self> {
        let txn = database.begin_read().map(Contained::new);
        let txn = txn.map_err(failure::transaction)?;
        Ok(Self {
            sessions: Contained::new(txn.open_table(SESSIONS).map_err(failure::table)?),
            packages: Contained::new(txn.open_table(PACKAGES).map_err(failure::table)?),
            tombstones: Contained::new(txn.open_table(TOMBSTONES).map_err(failure::table)?),
            owners: Contained::new(txn.open_table(OWNERS).map_err(failure::table)?),
            own: OwnTables::open(&txn, META, CONTAINERS)?,
            life: life.clone(),
            cipher: cipher.clone(),
            detached: DetachedReader::new(disk).ok(),
        })
    }

    pub(crate) fn cipher(&self) -> &RecordCipher {
        &self.cipher
    }

    /// The tables of the file's own records.
    pub(crate) fn own(&self) -> &OwnTables {
        &self.own
    }

    /// The reader without redb, once redb has stopped.
    fn detached(&self) -> Option<&DetachedReader> {
        self.detached.as_ref().filter(|_| self.life.has_failed())
    }

    pub(crate) fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<SessionRow>> {
        let key = session_key(container, client);
        self.with_session(&key, |record| {
            SessionRow::decode(&key, record, &self.cipher)
        })
    }

    /// The row of a session as it is stored.
    pub(crate) fn session_record(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<Bytes>> {
        let key = session_key(container, client);
        self.with_session(&key, |record| Ok(Bytes::copy_from_slice(record)))
    }

    fn with_session<T>(
        &self,
        key: &[u8; 20],
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        if let Some(past) = self.detached() {
            let record = past.get(RowTree::Sessions, key)?;
            return record.map(|record| read(&record)).transpose();
        }
        guarded(|| {
            let record = self.sessions.get(key).map_err(failure::storage)?;
            record.map(|record| read(record.value())).transpose()
        })
    }

    pub(crate) fn package(&self, key: &[u8]) -> Result<Option<PackageRow>> {
        let Some(past) = self.detached() else {
            return package_row(&*self.packages, key, &self.cipher);
        };
        let record = past.get(RowTree::Packages, key)?;
        record
            .map(|record| PackageRow::decode(key, Bytes::from(record), &self.cipher))
            .transpose()
    }

    /// The row of a package as it is stored.
    pub(crate) fn package_record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(past) = self.detached() {
            return Ok(past.get(RowTree::Packages, key)?.map(Bytes::from));
        }
        guarded(|| {
            let row = self.packages.get(key).map_err(failure::storage)?;
            Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
        })
    }

    /// How many rows redb says that a table has, if that is known.
    pub(crate) fn row_count(&self, tree: RowTree) -> Result<Option<u64>> {
        if self.detached().is_some() {
            return Ok(None);
        }
        let count = guarded(|| {
            match tree {
                RowTree::Sessions => self.sessions.len(),
                RowTree::Packages => self.packages.len(),
                RowTree::Tombstones => self.tombstones.len(),
                RowTree::Owners => self.owners.len(),
            }
            .map_err(failure::storage)
        });
        count.map(Some)
    }

    pub(crate) fn package_len(&self, key: &[u8]) -> Result<usize> {
        if let Some(past) = self.detached() {
            let record = past.get(RowTree::Packages, key)?;
            return Ok(record.map_or(0, |record| record.len()));
        }
        guarded(|| {
            let row = self.packages.get(key).map_err(failure::storage)?;
            Ok(row.map_or(0, |row| row.value().len()))
        })
    }

    pub(crate) fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let Some(past) = self.detached() else {
            return tombstone_row(&*self.tombstones, client);
        };
        let key = client.as_bytes();
        let record = past.get(RowTree::Tombstones, key)?;
        record
            .map(|record| open_plain(RecordKind::Tombstone, key, &record).map(Timestamp))
            .transpose()
    }

    pub(crate) fn has_tombstones(&self) -> Result<bool> {
        if let Some(past) = self.detached() {
            return Ok(!past.is_empty(RowTree::Tombstones)?);
        }
        Ok(!self.tombstones.is_empty().map_err(failure::storage)?)
    }

    /// The sessions of a range of keys.
    pub(crate) fn sessions(
        &self,
        from: Bound<[u8; 20]>,
        to: [u8; 20],
    ) -> Result<TableRows<'_, 20>> {
        self.rows(RowTree::Sessions, from, to)
    }

    /// The same without redb, which skips unreadable parts; `None` if there is no such reader.
    pub(crate) fn sessions_around(
        &self,
        from: Bound<[u8; 20]>,
        to: [u8; 20],
    ) -> Option<Result<TableRows<'_, 20>>> {
        let past = self.detached.as_ref()?;
        let rows = past.range(RowTree::Sessions, from, to);
        Some(rows.map(|rows| Box::new(rows) as TableRows<'_, 20>))
    }

    /// The rows of a range of keys, of a tree whose keys have this length.
    pub(crate) fn rows<const N: usize>(
        &self,
        tree: RowTree,
        from: Bound<[u8; N]>,
        to: [u8; N],
    ) -> Result<TableRows<'_, N>> {
        if let Some(past) = self.detached() {
            return Ok(Box::new(past.range(tree, from, to)?));
        }
        match tree {
            RowTree::Owners => range(&*self.owners, from, to, |()| Bytes::new()),
            RowTree::Tombstones => range(&*self.tombstones, from, to, Bytes::copy_from_slice),
            RowTree::Sessions => range(&*self.sessions, from, to, Bytes::copy_from_slice),
            // The keys of packages have different lengths.
            RowTree::Packages => Err(not_a_key()),
        }
    }
}

/// The rows of a range of keys. `N` is the length `M` of the table's keys.
fn range<'t, const N: usize, const M: usize, V: redb::Value + 'static>(
    table: &'t ReadOnlyTable<&'static [u8; M], V>,
    from: Bound<[u8; N]>,
    to: [u8; N],
    value: impl for<'v> Fn(V::SelfType<'v>) -> Bytes + 't,
) -> Result<TableRows<'t, N>> {
    let (from, to) = (sized_bound(&from)?, sized(&to)?);
    let rows = table.range::<&[u8; M]>((from, Bound::Included(to)));
    Ok(Box::new(rows.map_err(failure::storage)?.map(move |row| {
        let (key, record) = row.map_err(failure::storage)?;
        Ok((*sized(key.value())?, Held::Row(value(record.value()))))
    })))
}

fn sized_bound<const N: usize, const M: usize>(from: &Bound<[u8; N]>) -> Result<Bound<&[u8; M]>> {
    Ok(match from {
        Bound::Included(key) => Bound::Included(sized(key)?),
        Bound::Excluded(key) => Bound::Excluded(sized(key)?),
        Bound::Unbounded => Bound::Unbounded,
    })
}

pub(crate) fn session_of(owner_key: &[u8; 36]) -> Option<(ContainerId, ClientKey)> {
    let session: &[u8; 20] = owner_key.last_chunk()?;
    let container: &[u8; 4] = session.first_chunk()?;
    Some((
        ContainerId(u32::from_be_bytes(*container)),
        client_of(session),
    ))
}

/// The tables of one database inside a write transaction.
pub(crate) struct TableWriter<'t> {
    sessions: Contained<Table<'t, &'static [u8; 20], &'static [u8]>>,
    packages: Contained<Table<'t, &'static [u8], &'static [u8]>>,
    tombstones: Contained<Table<'t, &'static [u8; 16], &'static [u8]>>,
    owners: Contained<Table<'t, &'static [u8; 36], ()>>,
    pub(crate) dirty: bool,
}

impl<'t> TableWriter<'t> {
    pub(crate) fn open(txn: &'t ContainedWrite) -> Result<Self> {
        Ok(Self {
            sessions: txn.open_table(SESSIONS).map_err(failure::table)?,
            packages: txn.open_table(PACKAGES).map_err(failure::table)?,
            tombstones: txn.open_table(TOMBSTONES).map_err(failure::table)?,
            owners: txn.open_table(OWNERS).map_err(failure::table)?,
            dirty: false,
        })
    }

    /// Writes a row, or removes it.
    pub(crate) fn put(&mut self, row: &RowWrite) -> Result<()> {
        let Some((tree, key)) = row.key.split() else {
            return Err(not_a_key());
        };
        match (tree, row.value.as_deref()) {
            (RowTree::Sessions, Some(value)) => self.sessions.insert(sized(key)?, value).map(drop),
            (RowTree::Sessions, None) => self.sessions.remove(sized(key)?).map(drop),
            (RowTree::Packages, Some(value)) => self.packages.insert(key, value).map(drop),
            (RowTree::Packages, None) => self.packages.remove(key).map(drop),
            (RowTree::Tombstones, Some(value)) => {
                self.tombstones.insert(sized(key)?, value).map(drop)
            }
            (RowTree::Tombstones, None) => self.tombstones.remove(sized(key)?).map(drop),
            (RowTree::Owners, Some(_)) => self.owners.insert(sized(key)?, ()).map(drop),
            (RowTree::Owners, None) => self.owners.remove(sized(key)?).map(drop),
        }
        .map_err(failure::storage)
    }

    /// Removes at most `limit` rows of an unregistered container; returns how many there were.
    pub(crate) fn reclaim(
        &mut self,
        container: ContainerId,
        limit: usize,
        cipher: &RecordCipher,
    ) -> Result<u64> {
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
            let owner = SessionRow::decode(key.value(), record.value(), cipher)
                .ok()
                .and_then(|row| row.owner);
            sessions.push((*key.value(), owner));
        }
        for (key, owner) in &sessions {
            self.sessions.remove(key).map_err(failure::storage)?;
            let hashes = owner
                .iter()
                .flat_map(|owner| cipher.owner_hashes(owner).all());
            for hash in hashes {
                let entry = owner_key(hash, *key);
                self.owners.remove(&entry).map_err(failure::storage)?;
            }
        }
        let removed = (packages.len() + sessions.len()) as u64;
        self.dirty |= removed > 0;
        Ok(removed)
    }

    /// Removes expired tombstones and lowers those that are too far in the future, at most `limit` of them. Returns
    /// the number.
    pub(crate) fn settle_tombstones(
        &mut self,
        refusals: TombstonePolicy,
        limit: usize,
    ) -> Result<u64> {
        let mut settled = Vec::new();
        for row in self.tombstones.iter().map_err(failure::storage)? {
            let (key, record) = row.map_err(failure::storage)?;
            settled.extend(settle(refusals, *key.value(), record.value())?);
            if settled.len() == limit {
                break;
            }
        }
        self.put_settled(&settled)
    }

    /// Writes changed tombstones and returns their number.
    pub(crate) fn put_settled(&mut self, settled: &[Settled]) -> Result<u64> {
        for (key, record) in settled {
            match record {
                Some(record) => self.tombstones.insert(key, &**record).map(drop),
                None => self.tombstones.remove(key).map(drop),
            }
            .map_err(failure::storage)?;
        }
        self.dirty |= !settled.is_empty();
        Ok(settled.len() as u64)
    }
}

/// The key of a tombstone and its new record; `None` removes it.
pub(crate) type Settled = ([u8; 16], Option<Vec<u8>>);

/// The change that a tombstone needs, if any: removed, or lowered.
pub(crate) fn settle(
    refusals: TombstonePolicy,
    key: [u8; 16],
    record: &[u8],
) -> Result<Option<Settled>> {
    let until = open_plain(RecordKind::Tombstone, &key, record).unwrap_or(0);
    if refusals.is_over(Timestamp(until)) {
        return Ok(Some((key, None)));
    }
    let Some(lowered) = refusals.lowered(Timestamp(until)) else {
        return Ok(None);
    };
    let record = seal_plain(RecordKind::Tombstone, &key, lowered.0)?;
    Ok(Some((key, Some(record))))
}

fn package_row(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
    cipher: &RecordCipher,
) -> Result<Option<PackageRow>> {
    guarded(|| {
        table
            .get(key)
            .map_err(failure::storage)?
            .map(|record| {
                let record = Bytes::copy_from_slice(record.value());
                PackageRow::decode(key, record, cipher)
            })
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
            .map(|record| open_plain(RecordKind::Tombstone, key, record.value()).map(Timestamp))
            .transpose()
    })
}

fn not_a_key() -> Error {
    Error::new(ErrorKind::Corrupt, "a row's key is damaged")
}

fn sized<const N: usize>(key: &[u8]) -> Result<&[u8; N]> {
    key.try_into().map_err(|_| not_a_key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::fault_injection::FaultInjection;
    use crate::storage::redb::memtable::row_key::RowKey;
    use crate::storage::redb::meta::begin_durable;
    use crate::storage::redb::open::database::on_disk;
    use crate::storage::redb::open::options::OpenOptions;
    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;
    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A disk that fails while it is told to.
    #[derive(Debug, Default)]
    struct Failing(InMemoryBackend, AtomicBool);

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) {
                return Err(io::Error::other("the disk fails"));
            }
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
    }

    // C2.13
    #[test]
    fn the_length_of_a_package_is_read_past_redb_once_that_has_stopped() {
        let options = OpenOptions {
            cache_size: 0,
            verify: false,
            wait: std::time::Duration::ZERO,
            private: false,
            creates: true,
            migrates: true,
            faults: FaultInjection::default(),
        };
        let failing = Arc::<Failing>::default();
        let (disk, database) = on_disk(failing.clone(), options, &Arc::default()).unwrap();
        let txn = begin_durable(&database).unwrap();
        let row = RowWrite {
            key: RowKey::new(RowTree::Packages, b"key"),
            value: Some(Bytes::from_static(b"value")),
        };
        TableWriter::open(&txn).unwrap().put(&row).unwrap();
        txn.commit().unwrap();
        let life = Arc::<DatabaseLife>::default();
        let reader = TableReader::open(&database, &disk, &life, &RecordCipher::Plain).unwrap();
        assert_eq!(reader.package_len(b"key").unwrap(), 5);
        life.fail();
        failing.1.store(true, Ordering::SeqCst);
        // redb has it in its cache.
        assert!(reader.package_len(b"key").is_err());
        failing.1.store(false, Ordering::SeqCst);
        assert_eq!(reader.package_len(b"key").unwrap(), 5);
        assert_eq!(reader.package_len(b"none").unwrap(), 0);
    }
}
