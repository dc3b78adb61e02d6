//! Writes the readable rows of a damaged store into the new one, and reports each unreadable row.

use crate::client_id::ClientKey;
use crate::error::Result;
use crate::storage::merge::lost_package;
use crate::storage::record::{
    PackageRow, RecordKind, SessionRow, open_plain, seal_plain, seal_value,
};
use crate::storage::redb::failure::{self, guarded};
use crate::storage::redb::integrity::inspect::{ParsedKey, parse_key};
use crate::storage::redb::integrity::salvage::own_records::StoreRecords;
use crate::storage::redb::integrity::salvage::run::{SalvageRun, corrupt};
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::meta::{self, begin_durable};
#[cfg(feature = "encryption")]
use crate::storage::redb::sealing;
use crate::storage::redb::tables::{
    CONTAINERS, META, OWNERS, PACKAGES, SESSIONS, TOMBSTONES, owner_key, session_of,
};
use crate::storage::redb::{commit_number, names};
use crate::storage::{Damage, Finding};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

/// The number of bytes that one transaction writes.
const ROWS: usize = 1000;
const BYTES: usize = 8 << 20;

impl SalvageRun<'_> {
    pub(super) fn fill(&mut self, database: &Database, own: &StoreRecords) -> Result<()> {
        self.rows_read.of(self.number_of_rows())?;
        self.packages(database)?;
        self.sessions(database)?;
        self.leave_out_packages(database)?;
        self.owners(database)?;
        self.tombstones(database)?;
        let txn = begin_durable(database)?;
        {
            let mut meta = txn.open_table(META).map_err(failure::table)?;
            let mut put = |key: &str, record: Vec<u8>| {
                let put = meta.insert(key, &*record).map(drop);
                put.map_err(failure::storage)
            };
            if let Some(identity) = own.identity {
                put(
                    meta::IDENTITY,
                    seal_plain(RecordKind::Meta, meta::IDENTITY.as_bytes(), identity)?,
                )?;
            }
            // The file may still show those that it was made with.
            let fresh = || failure::random().map(|key| vec![(0, key)]);
            let fresh = self.cipher.encrypts().then(fresh).transpose()?;
            if let Some(secrets) = own.secrets.clone().or(fresh) {
                let key = meta::SECRETS.as_bytes();
                let record = seal_value(self.cipher, RecordKind::Meta, key, secrets)?;
                put(meta::SECRETS, record)?;
            }
            if let Some(times) = own.secret_times.clone().filter(|_| own.secrets.is_some()) {
                let key = meta::SECRET_TIMES;
                put(key, seal_plain(RecordKind::Meta, key.as_bytes(), times)?)?;
            }
            put(
                meta::EPOCH,
                seal_plain(RecordKind::Meta, meta::EPOCH.as_bytes(), self.epoch)?,
            )?;
            let next = seal_plain(
                RecordKind::Meta,
                meta::NEXT_CONTAINER.as_bytes(),
                self.next_container,
            )?;
            put(meta::NEXT_CONTAINER, next)?;
            let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
            for container in &own.containers {
                containers
                    .insert(container.name.as_str(), &*container.encode()?)
                    .map_err(failure::storage)?;
            }
        }
        #[cfg(feature = "encryption")]
        {
            let mut meta = txn.open_table(META).map_err(failure::table)?;
            sealing::name_keys(self.cipher, &mut meta)?;
        }
        txn.commit().map_err(failure::commit)
    }

    /// How many rows are read, about.
    fn number_of_rows(&self) -> u64 {
        let trees = [
            RowTree::Packages,
            RowTree::Sessions,
            RowTree::Owners,
            RowTree::Tombstones,
        ];
        let rows = trees.map(|tree| {
            let in_table = self.tables.get(tree.name()).map_or(0, |table| table.length);
            in_table.saturating_add(self.newer.rows(tree).count() as u64)
        });
        rows.into_iter().fold(0, u64::saturating_add)
    }

    /// Whether rows of this container are copied.
    fn wanted(&mut self, parsed: &ParsedKey<'_>) -> bool {
        if self.retired.contains(&parsed.container.0) {
            return false;
        }
        let known = self.names.contains_key(&parsed.container);
        if !known {
            let why = "its container is not known, so neither is when it ends";
            self.lost(Some(parsed), None, corrupt(why));
        }
        known
    }

    /// Copies every intact package.
    fn packages(&mut self, database: &Database) -> Result<()> {
        let mut batch = CopyBatch::new(database, |txn, rows| {
            let mut table = txn.open_table(PACKAGES).map_err(failure::table)?;
            for (key, value) in rows {
                table.insert(&*key, &*value).map_err(failure::storage)?;
            }
            Ok(())
        });
        self.each_newest(RowTree::Packages, |this, key, value| {
            let Some(parsed) = parse_key(key) else {
                this.lost(None, None, corrupt("a package's key is damaged"));
                return Ok(());
            };
            if !this.wanted(&parsed) {
                return Ok(());
            }
            let cipher = this.cipher;
            match PackageRow::decode(key, Bytes::copy_from_slice(value), cipher) {
                Ok(row) => {
                    this.epoch = this.epoch.max(commit_number::epoch_of(row.version.0));
                    batch.push(key, row.again(key, value, cipher)?)
                }
                Err(error) => {
                    this.lost(Some(&parsed), None, error);
                    Ok(())
                }
            }
        })?;
        batch.flush()
    }

    /// Copies every intact session, without its damaged packages.
    fn sessions(&mut self, database: &Database) -> Result<()> {
        let packages = database
            .begin_read()
            .map_err(failure::transaction)?
            .open_table(PACKAGES)
            .map_err(failure::table)?;
        let cipher = self.cipher;
        let mut batch = CopyBatch::new(database, |txn, rows| {
            let mut sessions = txn.open_table(SESSIONS).map_err(failure::table)?;
            let mut owners = txn.open_table(OWNERS).map_err(failure::table)?;
            for (key, value) in rows {
                let Ok(key) = <[u8; 20]>::try_from(&*key) else {
                    continue;
                };
                if let Some(owner) = SessionRow::decode(&key, &value, cipher)?.owner {
                    let hash = cipher.owner_hashes(&owner).current;
                    owners
                        .insert(&owner_key(hash, key), ())
                        .map_err(failure::storage)?;
                }
                sessions.insert(&key, &*value).map_err(failure::storage)?;
            }
            Ok(())
        });
        let mut sessions = 0;
        self.each_newest(RowTree::Sessions, |this, key, value| {
            let Some(parsed) = parse_key(key).filter(|_| key.len() == 20) else {
                this.lost(None, None, corrupt("a session's key is damaged"));
                return Ok(());
            };
            if !this.wanted(&parsed) {
                return Ok(());
            }
            let mut row = match SessionRow::decode(key, value, cipher) {
                Ok(row) => row,
                Err(error) => {
                    this.lost(Some(&parsed), None, error);
                    return Ok(());
                }
            };
            this.epoch = this.epoch.max(commit_number::epoch_of(row.incarnation.0));
            let mut kept = Vec::new();
            for package in row.packages.iter() {
                let package_key = [key, package.as_bytes()].concat();
                match packages.get(&*package_key).map_err(failure::storage)? {
                    Some(_) => kept.push(package.clone()),
                    None => {
                        let parsed = ParsedKey {
                            package: Some(package),
                            ..parsed
                        };
                        this.lost(Some(&parsed), None, lost_package());
                    }
                }
            }
            // A row that leads on from a renewed id is no session of its own (C8.4).
            sessions += u64::from(row.optional.moved.is_none());
            if kept.len() == row.packages.len() && !cipher.encrypts() {
                return batch.push(key, value.to_vec());
            }
            row.packages = kept.into();
            batch.push(key, row.encode(key, cipher)?)
        })?;
        batch.flush()?;
        self.salvaged.sessions = sessions;
        Ok(())
    }

    /// Removes the packages whose session is lost or does not list them. They could neither be read nor ended.
    fn leave_out_packages(&mut self, database: &Database) -> Result<()> {
        let read = database.begin_read().map_err(failure::transaction)?;
        let packages = read.open_table(PACKAGES).map_err(failure::table)?;
        let sessions = read.open_table(SESSIONS).map_err(failure::table)?;
        let mut batch = CopyBatch::new(database, |txn, rows| {
            let mut table = txn.open_table(PACKAGES).map_err(failure::table)?;
            for (key, _) in rows {
                table.remove(&*key).map_err(failure::storage)?;
            }
            Ok(())
        });
        let mut kept = 0;
        for row in packages.iter().map_err(failure::storage)? {
            let (key, _) = row.map_err(failure::storage)?;
            let key = key.value();
            let Some((session, parsed)) = key.split_first_chunk::<20>().zip(parse_key(key)) else {
                continue;
            };
            let row = sessions.get(session.0).map_err(failure::storage)?;
            let row = row.map(|row| SessionRow::decode(session.0, row.value(), self.cipher));
            let why = match row.transpose()? {
                Some(row) if row.has(parsed.package.unwrap_or_default()) => {
                    kept += 1;
                    continue;
                }
                Some(_) => "its session does not list the package",
                None => "the package's session is lost",
            };
            self.lost(Some(&parsed), None, corrupt(why));
            batch.push(key, Vec::new())?;
        }
        batch.flush()?;
        self.salvaged.packages = kept;
        Ok(())
    }

    /// The index of owners was rebuilt from the sessions. Other entries of the damaged index are lost.
    fn owners(&mut self, database: &Database) -> Result<()> {
        let sessions = database
            .begin_read()
            .map_err(failure::transaction)?
            .open_table(SESSIONS)
            .map_err(failure::table)?;
        let look = |this: &mut Self, key: &[u8]| {
            this.rows_read.count()?;
            let Ok(key) = <&[u8; 36]>::try_from(key) else {
                return Ok(());
            };
            let Some(((container, client), session)) = session_of(key).zip(key.last_chunk::<20>())
            else {
                return Ok(());
            };
            let parsed = ParsedKey {
                container,
                client,
                package: None,
            };
            if this.names.contains_key(&container)
                && !this.retired.contains(&container.0)
                && sessions.get(session).map_err(failure::storage)?.is_none()
            {
                let why = "the list of an owner names the session, which is lost";
                this.lost(Some(&parsed), None, corrupt(why));
            }
            Ok(())
        };
        let newer = self.newer.clone();
        self.each(names::OWNERS, |this, key, _| {
            match newer.get(RowTree::Owners, key) {
                Some(_) => Ok(()),
                None => look(this, key),
            }
        })?;
        newer
            .rows(RowTree::Owners)
            .try_for_each(|(key, _)| look(self, key))
    }

    fn tombstones(&mut self, database: &Database) -> Result<()> {
        let mut batch = CopyBatch::new(database, |txn, rows| {
            let mut table = txn.open_table(TOMBSTONES).map_err(failure::table)?;
            for (key, value) in rows {
                if let Ok(key) = <[u8; 16]>::try_from(&*key) {
                    table.insert(&key, &*value).map_err(failure::storage)?;
                }
            }
            Ok(())
        });
        self.each_newest(RowTree::Tombstones, |this, key, value| {
            match open_plain::<i64>(RecordKind::Tombstone, key, value) {
                Ok(_) => return batch.push(key, value.to_vec()),
                Err(error) => {
                    let client = <[u8; 16]>::try_from(key).ok().map(ClientKey::from_bytes);
                    (this.found)(Finding::Record(Damage {
                        container: None,
                        client,
                        package: None,
                        error,
                    }));
                }
            }
            Ok(())
        })?;
        batch.flush()
    }
}

type CopiedRows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows that are written together.
struct CopyBatch<'a, W> {
    database: &'a Database,
    write: W,
    rows: CopiedRows,
    bytes: usize,
}

impl<'a, W: FnMut(&WriteTransaction, CopiedRows) -> Result<()>> CopyBatch<'a, W> {
    fn new(database: &'a Database, write: W) -> Self {
        Self {
            database,
            write,
            rows: CopiedRows::new(),
            bytes: 0,
        }
    }

    fn push(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        self.bytes += key.len() + value.len();
        self.rows.push((key.to_vec(), value));
        if self.rows.len() >= ROWS || self.bytes >= BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        guarded(|| {
            let txn = begin_durable(self.database)?;
            (self.write)(&txn, rows)?;
            txn.commit().map_err(failure::commit)
        })
    }
}
