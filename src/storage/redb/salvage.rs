//! Copies what can be read of a damaged store into a new one (C5.4). The damaged file is only read, past
//! redb; the new one is written through it. Only what the current commit reaches is copied, so nothing
//! that was destroyed comes back.

use super::failure::{self, guarded};
use super::file::Disk;
use super::open::{self, OpenOptionsOf, begin_durable};
use super::pages::{BadPage, Mend, Met, Pages, Table};
use super::tables::{
    CONTAINERS, META, OWNERS, PACKAGES, SESSIONS, TOMBSTONES, owner_key, session_of,
};
use super::{inspect, migrate};
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::lost_package;
use crate::storage::record::{
    ContainerRecord, Kind, PackageRow, Plain, SessionRow, open_plain, seal_plain,
};
use crate::storage::{ContainerId, Damage, Found, Salvaged};
use bytes::Bytes;
use inspect::{Whose, whose};
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Bound::Unbounded;
use std::path::Path;
use std::sync::Arc;

/// How much is written in one transaction.
const ROWS: usize = 1000;
const BYTES: usize = 8 << 20;

/// Whether the application gave secrets, so that the store's own may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnSecrets {
    Needed,
    Dispensable,
}

/// Writes all that can be read of the store at `from` into a new store at `to`.
pub(crate) fn salvage(
    from: &Path,
    to: &Path,
    options: OpenOptionsOf,
    secrets: OwnSecrets,
    found: &mut dyn FnMut(Found),
) -> Result<Salvaged> {
    let disk = lock(from)?;
    let result = read_and_write(&disk, from, to, options, secrets, found);
    let _ = disk.close();
    result
}

fn lock(from: &Path) -> Result<Disk> {
    let failed = |e| open::io_error(from, "the damaged store cannot be read", e);
    let file = File::open(from).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(open::not_a_store(from, "it is no regular file"));
    }
    let disk: Disk = Arc::new(FileBackend::new(file).map_err(failure::database)?);
    match disk.try_lock_shared_range(Unbounded, Unbounded) {
        Ok(true) => Ok(disk),
        Ok(false) => Err(open::at(
            from,
            Error::new(ErrorKind::Locked, "the store is open elsewhere"),
        )),
        Err(e) => Err(open::at(
            from,
            Error::new(ErrorKind::Io, "the file cannot be locked").with_source(e),
        )),
    }
}

fn read_and_write(
    disk: &Disk,
    from: &Path,
    to: &Path,
    options: OpenOptionsOf,
    secrets: OwnSecrets,
    found: &mut dyn FnMut(Found),
) -> Result<Salvaged> {
    let exists = || open::io_error(to, "it exists already", io::ErrorKind::AlreadyExists.into());
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let mut work = Work {
        pages: Pages::new(disk.clone(), Mend::Bits).map_err(|e| open::at(from, e))?,
        tables: BTreeMap::new(),
        found,
        salvaged: Salvaged::default(),
        names: BTreeMap::new(),
        retired: BTreeSet::new(),
        epoch: 0,
        next_container: 1,
    };
    work.directory().map_err(|e| open::at(from, e))?;
    let own = work.own(secrets).map_err(|e| open::at(from, e))?;
    match open::make(&open::location(to)?, options, |database| {
        work.fill(database, &own)
    })? {
        Some(()) => Ok(work.salvaged),
        None => Err(exists()),
    }
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// What the store says of itself; `None` where that is lost.
struct Own {
    identity: Option<[u8; 16]>,
    secrets: Option<Vec<(u8, [u8; 32])>>,
    containers: Vec<ContainerRecord>,
}

struct Work<'a> {
    pages: Pages,
    tables: BTreeMap<String, Table>,
    found: &'a mut dyn FnMut(Found),
    salvaged: Salvaged,
    names: BTreeMap<ContainerId, String>,
    retired: BTreeSet<u32>,
    epoch: u64,
    next_container: u32,
}

impl Work<'_> {
    fn lost(&mut self, whose: Option<&Whose<'_>>, container: Option<&str>, error: Error) {
        let name = whose.and_then(|w| self.names.get(&w.container).map(String::as_str));
        let container = name.or(container).map(str::to_owned);
        let package = whose.and_then(|w| w.package);
        let error = match &container {
            Some(name) => error.in_container(name.as_str()),
            None => error,
        };
        let error = match package {
            Some(package) => error.in_package(package),
            None => error,
        };
        (self.found)(Found::Record(Damage {
            container,
            client: whose.map(|w| w.client),
            package: package.map(str::to_owned),
            error,
        }));
    }

    fn bad(&mut self, table: &str, page: &BadPage) {
        if page.mended {
            self.salvaged.mended += 1;
        } else {
            (self.found)(Found::Structure(inspect::bad_page(table, page)));
        }
    }

    /// Finds the tables, and out whether they are those of a store that this build can read.
    fn directory(&mut self) -> Result<()> {
        let mut bad = Vec::new();
        self.tables = self.pages.tables(|_, page| bad.push(page))?;
        bad.iter().for_each(|page| self.bad("tables", page));
        let mut format = None;
        self.each("meta", |_, key, value| {
            if key == migrate::KEY.as_bytes() {
                format = migrate::parse(value);
            }
            Ok(())
        })?;
        match format {
            Some(format) if format > migrate::CURRENT => Err(Error::new(
                ErrorKind::TooNew,
                format!("the store has format {format}"),
            )),
            Some(format) if format == migrate::CURRENT => Ok(()),
            Some(format) => Err(Error::new(
                ErrorKind::Unsupported,
                format!("the store has format {format}, which only opening it can read"),
            )),
            None if ["sessions", "packages", "containers"]
                .iter()
                .all(|name| self.tables.contains_key(*name)) =>
            {
                Ok(())
            }
            None => Err(Error::new(
                ErrorKind::NotAStore,
                "it is no store, or nothing is left of one",
            )),
        }
    }

    /// Visits the rows of a table that can be reached.
    fn each(
        &mut self,
        name: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = self.tables.get(name).copied() else {
            return Ok(());
        };
        let mut pages = self.pages.twin();
        pages.walk(&table, |met| {
            match met {
                Met::Row { key, value, .. } => visit(self, key, value)?,
                Met::Bad(page) => self.bad(name, &page),
            }
            Ok(())
        })
    }

    /// [`each`](Self::each), for tables whose rows are copied: reports how many cannot be reached.
    fn each_counted(
        &mut self,
        name: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = self.tables.get(name).copied() else {
            self.lost(None, None, corrupt(format!("the table {name:?} is lost")));
            return Ok(());
        };
        let mut count = 0_u64;
        self.each(name, |this, key, value| {
            count += 1;
            if count.is_multiple_of(100_000) {
                tracing::info!(table = name, rows = count, of = table.length, "salvaging");
            }
            visit(this, key, value)
        })?;
        if count != table.length {
            let why = format!(
                "the table {name:?} has {count} rows that can be reached, of {}",
                table.length
            );
            self.lost(None, None, corrupt(why));
        }
        Ok(())
    }

    /// Reads what the store says of itself.
    fn own(&mut self, secrets: OwnSecrets) -> Result<Own> {
        let mut meta: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        self.each_counted("meta", |_, key, value| {
            meta.insert(key.to_vec(), value.to_vec());
            Ok(())
        })?;
        let mut own = Own {
            identity: self.record(&meta, "identity"),
            secrets: self.record(&meta, "secrets"),
            containers: Vec::new(),
        };
        if own.secrets.as_ref().is_some_and(Vec::is_empty) {
            own.secrets = None;
        }
        if (own.identity.is_none() || own.secrets.is_none()) && secrets == OwnSecrets::Needed {
            return Err(corrupt(
                "the store's identity or its secrets cannot be read; give the builder a secret, \
                 and the new store gets an identity of its own",
            ));
        }
        self.salvaged.new_identity = own.identity.is_none();
        self.salvaged.new_secrets = own.secrets.is_none();
        self.epoch = self.record(&meta, "epoch").unwrap_or(0);
        self.next_container = self.record(&meta, "next-container").unwrap_or(1);
        self.each("retired", |this, key, _| {
            if let Ok(id) = <[u8; 4]>::try_from(key) {
                this.retired.insert(u32::from_le_bytes(id));
            }
            Ok(())
        })?;
        own.containers = self.containers()?;
        Ok(own)
    }

    fn record<T: Plain>(&mut self, meta: &BTreeMap<Vec<u8>, Vec<u8>>, key: &str) -> Option<T> {
        let read = meta
            .get(key.as_bytes())
            .map(|record| open_plain(Kind::Meta, key.as_bytes(), record));
        match read {
            Some(Ok(value)) => Some(value),
            _ => {
                let why = format!("the store's record {key:?} is lost");
                self.lost(None, None, corrupt(why));
                None
            }
        }
    }

    /// The containers. One whose record is damaged gets the default settings where its number is
    /// certain: the unnamed one, or the only one lost with the only number left.
    fn containers(&mut self) -> Result<Vec<ContainerRecord>> {
        let mut containers = Vec::new();
        let mut nameless = Vec::new();
        self.each_counted("containers", |this, key, value| {
            let name = String::from_utf8_lossy(key).into_owned();
            match ContainerRecord::decode(&name, value) {
                Ok(record) => containers.push(record),
                Err(error) => {
                    this.lost(None, Some(&name), error);
                    nameless.push(name);
                }
            }
            Ok(())
        })?;
        if containers.iter().all(|c| c.id != 0) {
            nameless.retain(|name| !name.is_empty());
            containers.push(defaults(String::new(), 0));
        }
        let known: BTreeSet<u32> = containers.iter().map(|c| c.id).collect();
        let unknown = match nameless[..] {
            [_] => self.unknown_containers(&known)?,
            _ => BTreeSet::new(),
        };
        if let ([name], Some(id), 1) = (&nameless[..], unknown.first(), unknown.len()) {
            containers.push(defaults(name.clone(), *id));
        }
        for container in &containers {
            let id = ContainerId(container.id);
            self.names.insert(id, container.name.clone());
            self.next_container = self.next_container.max(id.number() + 1);
        }
        for id in &self.retired {
            let number = ContainerId(*id).number();
            self.next_container = self.next_container.max(number.saturating_add(1));
        }
        Ok(containers)
    }

    /// The numbers, two at most, of containers that sessions are in and that no record names.
    fn unknown_containers(&self, known: &BTreeSet<u32>) -> Result<BTreeSet<u32>> {
        let mut unknown = BTreeSet::new();
        let Some(table) = self.tables.get("sessions") else {
            return Ok(unknown);
        };
        // Damaged pages are reported when the rows are copied.
        self.pages.twin().walk(table, |met| {
            if let Met::Row { key, .. } = met
                && let Some(whose) = whose(key)
                && !known.contains(&whose.container.0)
                && !self.retired.contains(&whose.container.0)
                && unknown.len() < 2
            {
                unknown.insert(whose.container.0);
            }
            Ok(())
        })?;
        Ok(unknown)
    }

    fn fill(&mut self, database: &Database, own: &Own) -> Result<()> {
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
                put("identity", seal_plain(Kind::Meta, b"identity", identity)?)?;
            }
            if let Some(secrets) = &own.secrets {
                let record = seal_plain(Kind::Meta, b"secrets", secrets.clone())?;
                put("secrets", record)?;
            }
            put("epoch", seal_plain(Kind::Meta, b"epoch", self.epoch)?)?;
            let next = seal_plain(Kind::Meta, b"next-container", self.next_container)?;
            put("next-container", next)?;
            let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
            for container in &own.containers {
                containers
                    .insert(container.name.as_str(), &*container.encode()?)
                    .map_err(failure::storage)?;
            }
        }
        txn.commit().map_err(failure::commit)
    }

    /// Whether rows of this container are copied.
    fn wanted(&mut self, whose: &Whose<'_>) -> bool {
        if self.retired.contains(&whose.container.0) {
            return false;
        }
        let known = self.names.contains_key(&whose.container);
        if !known {
            let why = "its container is not known, so neither is when it ends";
            self.lost(Some(whose), None, corrupt(why));
        }
        known
    }

    /// Copies every package that is whole.
    fn packages(&mut self, database: &Database) -> Result<()> {
        let mut batch = Batch::new(database, |txn, rows| {
            let mut table = txn.open_table(PACKAGES).map_err(failure::table)?;
            for (key, value) in rows {
                table.insert(&*key, &*value).map_err(failure::storage)?;
            }
            Ok(())
        });
        self.each_counted("packages", |this, key, value| {
            let Some(whose) = whose(key) else {
                this.lost(None, None, corrupt("a package's key is damaged"));
                return Ok(());
            };
            if !this.wanted(&whose) {
                return Ok(());
            }
            match PackageRow::decode(key, Bytes::copy_from_slice(value)) {
                Ok(row) => {
                    this.epoch = this.epoch.max(row.version >> 40);
                    batch.push(key, value.to_vec())
                }
                Err(error) => {
                    this.lost(Some(&whose), None, error);
                    Ok(())
                }
            }
        })?;
        batch.flush()
    }

    /// Copies every session that is whole, without the packages that are not.
    fn sessions(&mut self, database: &Database) -> Result<()> {
        let packages = database
            .begin_read()
            .map_err(failure::transaction)?
            .open_table(PACKAGES)
            .map_err(failure::table)?;
        let mut batch = Batch::new(database, |txn, rows| {
            let mut sessions = txn.open_table(SESSIONS).map_err(failure::table)?;
            let mut owners = txn.open_table(OWNERS).map_err(failure::table)?;
            for (key, value) in rows {
                let Ok(key) = <[u8; 20]>::try_from(&*key) else {
                    continue;
                };
                if let Some(owner) = SessionRow::decode(&key, &value)?.owner {
                    owners
                        .insert(&owner_key(&owner, key), ())
                        .map_err(failure::storage)?;
                }
                sessions.insert(&key, &*value).map_err(failure::storage)?;
            }
            Ok(())
        });
        let mut sessions = 0;
        self.each_counted("sessions", |this, key, value| {
            let Some(whose) = whose(key).filter(|_| key.len() == 20) else {
                this.lost(None, None, corrupt("a session's key is damaged"));
                return Ok(());
            };
            if !this.wanted(&whose) {
                return Ok(());
            }
            let mut row = match SessionRow::decode(key, value) {
                Ok(row) => row,
                Err(error) => {
                    this.lost(Some(&whose), None, error);
                    return Ok(());
                }
            };
            this.epoch = this.epoch.max(row.generation >> 40);
            let mut kept = Vec::new();
            for package in &row.packages {
                let package_key = [key, package.as_bytes()].concat();
                match packages.get(&*package_key).map_err(failure::storage)? {
                    Some(_) => kept.push(package.clone()),
                    None => {
                        let whose = Whose {
                            package: Some(package),
                            ..whose
                        };
                        this.lost(Some(&whose), None, lost_package());
                    }
                }
            }
            sessions += 1;
            if kept.len() == row.packages.len() {
                return batch.push(key, value.to_vec());
            }
            row.packages = kept;
            batch.push(key, row.encode(key)?)
        })?;
        batch.flush()?;
        self.salvaged.sessions = sessions;
        Ok(())
    }

    /// Takes out the packages whose session is lost, or does not list them: nobody could read them, nor
    /// end them.
    fn leave_out_packages(&mut self, database: &Database) -> Result<()> {
        let read = database.begin_read().map_err(failure::transaction)?;
        let packages = read.open_table(PACKAGES).map_err(failure::table)?;
        let sessions = read.open_table(SESSIONS).map_err(failure::table)?;
        let mut batch = Batch::new(database, |txn, rows| {
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
            let Some((session, whose)) = key.split_first_chunk::<20>().zip(whose(key)) else {
                continue;
            };
            let row = sessions.get(session.0).map_err(failure::storage)?;
            let row = row.map(|row| SessionRow::decode(session.0, row.value()));
            let why = match row.transpose()? {
                Some(row) if row.has(whose.package.unwrap_or_default()) => {
                    kept += 1;
                    continue;
                }
                Some(_) => "its session does not list the package",
                None => "the package's session is lost",
            };
            self.lost(Some(&whose), None, corrupt(why));
            batch.push(key, Vec::new())?;
        }
        batch.flush()?;
        self.salvaged.packages = kept;
        Ok(())
    }

    /// The lists of owners were made of the sessions; what else the damaged ones name is lost.
    fn owners(&mut self, database: &Database) -> Result<()> {
        let sessions = database
            .begin_read()
            .map_err(failure::transaction)?
            .open_table(SESSIONS)
            .map_err(failure::table)?;
        self.each("owners", |this, key, _| {
            let Ok(key) = <&[u8; 36]>::try_from(key) else {
                return Ok(());
            };
            let Some(((container, client), session)) = session_of(key).zip(key.last_chunk::<20>())
            else {
                return Ok(());
            };
            let whose = Whose {
                container,
                client,
                package: None,
            };
            if this.names.contains_key(&container)
                && !this.retired.contains(&container.0)
                && sessions.get(session).map_err(failure::storage)?.is_none()
            {
                let why = "the list of an owner names the session, which is lost";
                this.lost(Some(&whose), None, corrupt(why));
            }
            Ok(())
        })
    }

    fn tombstones(&mut self, database: &Database) -> Result<()> {
        let mut batch = Batch::new(database, |txn, rows| {
            let mut table = txn.open_table(TOMBSTONES).map_err(failure::table)?;
            for (key, value) in rows {
                if let Ok(key) = <[u8; 16]>::try_from(&*key) {
                    table.insert(&key, &*value).map_err(failure::storage)?;
                }
            }
            Ok(())
        });
        self.each_counted("tombstones", |this, key, value| {
            match open_plain::<i64>(Kind::Tombstone, key, value) {
                Ok(_) => return batch.push(key, value.to_vec()),
                Err(error) => {
                    let client = <[u8; 16]>::try_from(key).ok().map(ClientKey::from_bytes);
                    (this.found)(Found::Record(Damage {
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

/// The record of a container whose own is lost.
fn defaults(name: String, id: u32) -> ContainerRecord {
    ContainerRecord {
        name,
        id,
        timeout_ms: 3_600_000,
        resolution_ms: 600_000,
        max_lifetime_ms: None,
    }
}

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Rows that are written together.
struct Batch<'a, W> {
    database: &'a Database,
    write: W,
    rows: Rows,
    bytes: usize,
}

impl<'a, W: FnMut(&WriteTransaction, Rows) -> Result<()>> Batch<'a, W> {
    fn new(database: &'a Database, write: W) -> Self {
        Self {
            database,
            write,
            rows: Rows::new(),
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
