//! Identifying, migrating and opening a store file (C7). Nothing here knows sessions.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{ContainerRecord, PlainValue, RecordKind, open_plain, seal_plain};
use crate::storage::redb::backend::disk::{Disk, FileIo, OverlayBackend, StoreBackend};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::backend::write_buffer::MOST;
use crate::storage::redb::checkpoint::task::{
    COPIED, COVERED, JOURNAL, OPENED_AS, REACHED, name_journal, name_store, put_copied, put_reached,
};
use crate::storage::redb::failure;
use crate::storage::redb::failure::{Contained, ContainedWrite, guarded};
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::format;
use crate::storage::redb::format::MAGIC;
use crate::storage::redb::integrity::inspect::{InspectedJournal, examine, inspect_file};
use crate::storage::redb::integrity::pages::header_of;
use crate::storage::redb::journal;
use crate::storage::redb::journal::{
    ExpectedJournal, HeldJournals, Journal, JournalExtent, JournalRef, Recovered,
};
use crate::storage::redb::names;
use crate::storage::redb::open::create::{Opened, find_or_make};
use crate::storage::redb::open::{migrate, private};
use crate::storage::redb::tables::{CONTAINERS, META, RETIRED};
use crate::storage::{ContainerId, Finding, SecretRecord};
use redb::backends::InMemoryBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The most of a database in memory that is in redb's cache as well.
const MOST_TWICE_IN_MEMORY: usize = 256 << 20;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenOptions {
    pub(crate) cache_size: usize,
    pub(crate) verify: bool,
    /// How long it is waited for the locks of the files.
    pub(crate) wait: Duration,
    /// Whether a file that others can get at is refused.
    pub(crate) private: bool,
    pub(crate) bugs: FaultInjection,
}

impl OpenOptions {
    /// For a database in memory, of which redb's cache holds as much once more.
    pub(crate) fn in_memory(self) -> Self {
        Self {
            cache_size: self.cache_size.min(MOST_TWICE_IN_MEMORY),
            ..self
        }
    }

    /// How many bytes of pages a transaction may change, about: redb's cache keeps half of its room for
    /// them, and branches come on top. No more than are written in the order of the file.
    pub(crate) fn step(&self) -> usize {
        (self.cache_size / 4).min(MOST / 2)
    }
}

/// What a store file says of itself.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    pub(crate) secrets: Vec<SecretRecord>,
    pub(crate) containers: Vec<ContainerRecord>,
    pub(crate) retired: Vec<ContainerId>,
    /// The number that the next new container gets.
    pub(crate) next_container: u32,
    /// How often the file was opened; with the commits since, it numbers a commit.
    pub(crate) epoch: u64,
}

/// An error of opening the store at `path`. It is not yet one that reopens itself.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Unavailable => ErrorKind::Io,
        kind => kind,
    };
    error.of_file(path, kind)
}

pub(crate) fn io_error(path: &Path, what: &str, error: io::Error) -> Error {
    let failed = Error::new(ErrorKind::Io, what).with_source(error);
    failed.of_file(path, ErrorKind::Io)
}

/// An error of a file for which the operating system is not to blame.
pub(crate) fn refused(kind: ErrorKind, path: &Path, why: impl Into<String>) -> Error {
    Error::new(kind, why).of_file(path, kind)
}

pub(crate) fn not_a_store(path: &Path, why: &str) -> Error {
    let why = format!("this is not a store: {why}");
    refused(ErrorKind::NotAStore, path, why)
}

/// Opens the store at a location, making it if there is none.
pub(crate) fn open_or_create(
    location: &Location,
    options: OpenOptions,
    io: &Arc<FileIo>,
    found: &mut dyn FnMut(Finding),
) -> Result<(Disk, Database, Option<OpeningPlan>)> {
    let path = &location.path;
    let file = find_or_make(location, options)?;
    let lasts = |_: &Database| {
        // Whoever made it may have been killed before its name was sure to last.
        let synced = location.folder.sync();
        synced.map_err(|e| io_error(path, "the store's folder cannot be synced", e))
    };
    let opened = guarded(|| open_existing(location, &file, options, io, found)).and_then(
        |(disk, database, foreseen)| {
            let (database, ()) = failure::guarded_on(database, lasts)?;
            Ok((disk, database, foreseen))
        },
    );
    opened.inspect_err(|_| {
        // Not left to the end of the handle, which a process being started may share.
        let _ = file.disk.close();
    })
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> Error {
    io_error(path, "the store cannot be read", error)
}

/// Where a path leads now.
pub(crate) fn location(path: &Path) -> Result<Location> {
    let location = Location::of(path).map_err(|e| {
        let is_folder = |folder: &Path| folder.as_os_str().is_empty() || folder.is_dir();
        let what = if path.is_symlink() {
            "this link leads to no file"
        } else if path.parent().is_some_and(is_folder) {
            "the store cannot be opened"
        } else {
            "the store's folder cannot be opened"
        };
        io_error(path, what, e)
    })?;
    location.ok_or_else(|| {
        if path.is_dir() {
            not_a_store(path, "it is a folder")
        } else {
            refused(ErrorKind::Io, path, "the path names no file")
        }
    })
}

/// Opens a database again after a failure, on the handle that it had.
pub(crate) fn reopen(disk: &Disk, options: OpenOptions, io: &Arc<FileIo>) -> Result<Database> {
    build(disk.clone(), options, io)
}

/// A new database in memory.
pub(crate) fn in_memory(options: OpenOptions, io: &Arc<FileIo>) -> Result<(Disk, Database)> {
    on_disk(Arc::new(InMemoryBackend::new()), options.in_memory(), io)
}

/// The database on a disk that may be new.
pub(crate) fn on_disk(
    disk: Disk,
    options: OpenOptions,
    io: &Arc<FileIo>,
) -> Result<(Disk, Database)> {
    let database = build(disk.clone(), options, io)?;
    let (database, ()) = failure::guarded_on(database, migrate::run)?;
    Ok((disk, database))
}

fn build(inner: Disk, options: OpenOptions, io: &Arc<FileIo>) -> Result<Database> {
    io.unreadable().begin();
    let backend = StoreBackend::new(inner, io.clone());
    let database = guarded(|| {
        builder(options)
            .create_with_backend(backend)
            .map_err(failure::database)
    })?;
    io.unreadable().tolerate();
    Ok(database)
}

pub(crate) fn builder(options: OpenOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_size);
    builder
}

/// Identifies the file under its lock without changing it, then opens and migrates it for real.
fn open_existing(
    location: &Location,
    opened: &Opened,
    options: OpenOptions,
    io: &Arc<FileIo>,
    found: &mut dyn FnMut(Finding),
) -> Result<(Disk, Database, Option<OpeningPlan>)> {
    let path = &location.path;
    let file = &opened.disk;
    if options.private {
        private::require(location)?;
    }
    let unreadable = |e| unreadable(path, e);
    let len = file.len().map_err(unreadable)?;
    if len == 0 {
        return Err(not_a_store(path, "it is empty"));
    }
    let mut start = [0; MAGIC.len()];
    if len >= MAGIC.len() as u64 {
        file.read(0, &mut start).map_err(unreadable)?;
    }
    if start != MAGIC {
        return Err(not_a_store(path, "it is a file of another kind"));
    }
    identify(location, file, options, found)
        .and_then(|foreseen| {
            opened.require_at(location)?;
            if let Some(why) = private::exposure(location)? {
                tracing::warn!(path = %path.display(), "{why}");
            }
            let (disk, database) = on_disk(file.clone(), options, io)?;
            Ok((disk, database, foreseen))
        })
        .map_err(|e| at(path, e))
}

/// What an opening will go on with, read before a byte is changed.
pub(crate) struct OpeningPlan {
    expected: ExpectedJournal,
    recovered: Recovered,
    /// The files that it was read from: they stay locked.
    held: HeldJournals,
}

/// Whether this build can open the file and its journal, and may: what is damaged is found out before
/// redb, which trusts what it reads, changes a byte.
fn identify(
    store: &Location,
    file: &Disk,
    options: OpenOptions,
    found: &mut dyn FnMut(Finding),
) -> Result<Option<OpeningPlan>> {
    let mut identified = rehearse(store, file.clone(), options);
    if identified
        .as_ref()
        .is_err_and(|e| e.kind() != ErrorKind::Locked)
    {
        identified = format::check_version(&header_of(file)?).and(identified);
    }
    // Another error tells that it is no store of ours to look at. Whatever it tells, the lock is held.
    if identified
        .as_ref()
        .is_err_and(|e| e.kind() != ErrorKind::Corrupt)
    {
        return identified;
    }
    if options.verify {
        let mut any = false;
        let beyond = match &identified {
            Ok(Some(foreseen)) => {
                let frames = foreseen.recovered.frames.iter();
                InspectedJournal::Read(frames.map(|(_, rows)| rows.clone()).collect())
            }
            // A format without one.
            Ok(None) => InspectedJournal::Read(Vec::new()),
            Err(_) => InspectedJournal::Beside(store),
        };
        inspect_file(file, beyond, &mut |what| {
            any = true;
            found(what);
        })?;
        if any {
            return Err(Error::new(ErrorKind::Corrupt, "the store is damaged"));
        }
    }
    let foreseen = identified?;
    examine(file)?;
    match &foreseen {
        Some(f) => journal::none_in_use(store, f.expected.named.pair, &f.held)?,
        None => journal::none_in_use(store, 0, &HeldJournals::default())?,
    }
    Ok(foreseen)
}

fn rehearse(store: &Location, file: Disk, options: OpenOptions) -> Result<Option<OpeningPlan>> {
    let database = rehearsed(file, options)?;
    let (database, foreseen) = failure::guarded_on(database, |database| {
        migrate::check(database)?
            .then(|| foresee(store, database, HeldJournals::default()))
            .transpose()
    })?;
    failure::discard(database);
    Ok(foreseen)
}

/// A database whose changes stay in memory.
fn rehearsed(file: Disk, options: OpenOptions) -> Result<Database> {
    let overlay = OverlayBackend::new(file)
        .map_err(|e| Error::new(ErrorKind::Io, "the store cannot be read").with_source(e))?;
    guarded(|| {
        builder(options)
            .create_with_backend(overlay)
            .map_err(failure::database)
    })
}

/// Reads all that [`enter`] will read, in a file of the current format.
fn foresee(store: &Location, database: &Database, mut held: HeldJournals) -> Result<OpeningPlan> {
    let expected = journal_of(database)?;
    let txn = reading(database)?;
    own(&*Contained::new(
        txn.open_table(META).map_err(failure::table)?,
    ))?;
    containers(database)?;
    let recovered = journal::read(store, &expected, &mut held)?;
    Ok(OpeningPlan {
        expected,
        recovered,
        held,
    })
}

/// What was found at an opening.
pub(crate) struct OpenedStore {
    pub(crate) identity: Identity,
    /// Where the store has a file.
    pub(crate) journal: Option<(Journal, JournalRef)>,
    /// What was committed and is not in redb.
    pub(crate) recovered: Recovered,
}

/// What [`enter`] would find, where the disk has no room for what it makes: to be read until it has. Nothing is
/// written.
pub(crate) fn peek(
    store: &Location,
    disk: &Disk,
    options: OpenOptions,
    why: &Error,
    known: &mut JournalAtOpening,
) -> Result<(Database, OpenedStore)> {
    tracing::warn!(
        error = %why, path = %store.path.display(),
        "the disk is full: the store is opened for reading, and for writing once there is room"
    );
    let database = rehearsed(disk.clone(), options)?;
    failure::guarded_on(database, |database| {
        let held = std::mem::take(&mut known.held);
        let OpeningPlan {
            recovered, held, ..
        } = foresee(store, database, held)?;
        known.held = held;
        let txn = reading(database)?;
        let meta = Contained::new(txn.open_table(META).map_err(failure::table)?);
        let (containers, retired) = containers(database)?;
        let own = own(&*meta)?;
        let identity = Identity {
            containers,
            retired,
            // As it will be counted.
            epoch: own.epoch + 1,
            ..own
        };
        Ok(OpenedStore {
            identity,
            journal: None,
            recovered,
        })
    })
}

/// Where [`enter`] finds what the journal holds.
#[derive(Default)]
pub(crate) struct JournalAtOpening {
    /// What was read before.
    pub(crate) read: Option<(ExpectedJournal, Recovered)>,
    /// The files of the store's journals.
    pub(crate) held: HeldJournals,
    /// The store has been open. What bears the names of its journals and is not held may be another's.
    pub(crate) is_reopened: bool,
}

impl JournalAtOpening {
    pub(crate) fn of(foreseen: Option<OpeningPlan>) -> Self {
        let Some(foreseen) = foreseen else {
            return Self::default();
        };
        Self {
            read: Some((foreseen.expected, foreseen.recovered)),
            held: foreseen.held,
            is_reopened: false,
        }
    }
}

/// Reads what the file says of itself and what its journal holds beyond it, makes a new journal with that,
/// and counts this opening.
pub(crate) fn enter(
    store: Option<&Location>,
    largest: u64,
    database: &Database,
    io: &Arc<FileIo>,
    known: &mut JournalAtOpening,
) -> Result<OpenedStore> {
    let expected = journal_of(database)?;
    let Some(store) = store else {
        let identity = count_opening(database, None)?;
        return Ok(OpenedStore {
            identity,
            journal: None,
            recovered: Recovered::default(),
        });
    };
    let recovered = match known.read.take() {
        Some((of, recovered)) if of == expected => recovered,
        // A commit of unknown outcome may have named the next one, which holds all that the one before does.
        _ => journal::read(store, &expected, &mut known.held)?,
    };
    let held = &mut known.held;
    held.keep_only(expected.named.opening)?;
    let last = recovered.last;
    let pair = if known.is_reopened {
        journal::next_free(store, &expected.named)?
    } else {
        journal::make_room(store, &expected, last)?
    };
    let (journal, named) = Journal::make(store, &expected, &recovered, largest, io, pair, held)?;
    let identity = count_opening(database, Some((named, last, store)))?;
    // Not needed any more. Those that cannot be removed now are when the store is closed.
    if let Err(error) = held.keep_only(named.opening) {
        tracing::warn!(%error, "the files of the journal before are left");
    }
    Ok(OpenedStore {
        identity,
        journal: Some((journal, named)),
        recovered,
    })
}

/// The store's identity, and what the file says of the journal that belongs to it.
fn journal_of(database: &Database) -> Result<ExpectedJournal> {
    let txn = reading(database)?;
    let meta = Contained::new(txn.open_table(META).map_err(failure::table)?);
    Ok(ExpectedJournal {
        store: plain(&*meta, names::IDENTITY)?,
        named: JournalRef::from_wire(plain(&*meta, JOURNAL)?),
        extent: JournalExtent {
            covered: plain(&*meta, COVERED)?,
            reached: plain_if_there(&*meta, REACHED)?.unwrap_or_default(),
            copied: plain_if_there(&*meta, COPIED)?.unwrap_or_default(),
        },
        opened_as: plain_if_there(&*meta, OPENED_AS)?,
    })
}

fn reading(database: &Database) -> Result<Contained<ReadTransaction>> {
    let txn = database.begin_read().map(Contained::new);
    txn.map_err(failure::transaction)
}

/// Counts this opening of the store at a location, whose journal reaches a frame.
fn count_opening(
    database: &Database,
    journal: Option<(JournalRef, u64, &Location)>,
) -> Result<Identity> {
    let txn = begin_durable(database)?;
    if let Some((named, last, store)) = journal {
        name_journal(&txn, named)?;
        put_reached(&txn, last)?;
        put_copied(&txn, last)?;
        name_store(&txn, &store.path.to_string_lossy())?;
    }
    let identity = {
        let mut meta = txn.open_table(META).map_err(failure::table)?;
        let identity = own(&*meta)?;
        let epoch = identity.epoch + 1;
        let record = seal_plain(RecordKind::Meta, names::EPOCH.as_bytes(), epoch)?;
        meta.insert(names::EPOCH, &*record)
            .map_err(failure::storage)?;
        Identity { epoch, ..identity }
    };
    txn.commit().map_err(failure::commit)?;
    let (containers, retired) = containers(database)?;
    Ok(Identity {
        containers,
        retired,
        ..identity
    })
}

/// The store's own records, without its containers.
fn own(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Identity> {
    let secrets: Vec<(u8, [u8; 32])> = plain(meta, names::SECRETS)?;
    Ok(Identity {
        id: plain(meta, names::IDENTITY)?,
        secrets: secrets
            .into_iter()
            .map(|(name, key)| SecretRecord(name, key))
            .collect(),
        containers: Vec::new(),
        retired: Vec::new(),
        next_container: plain(meta, names::NEXT_CONTAINER)?,
        epoch: plain(meta, names::EPOCH)?,
    })
}

/// The containers, and those that were ended.
fn containers(database: &Database) -> Result<(Vec<ContainerRecord>, Vec<ContainerId>)> {
    let txn = reading(database)?;
    let table = Contained::new(txn.open_table(CONTAINERS).map_err(failure::table)?);
    let mut containers = Vec::new();
    for row in table.iter().map_err(failure::storage)? {
        let (name, record) = row.map_err(failure::storage)?;
        containers.push(ContainerRecord::decode(name.value(), record.value())?);
    }
    let table = Contained::new(txn.open_table(RETIRED).map_err(failure::table)?);
    let mut retired = Vec::new();
    for row in table.iter().map_err(failure::storage)? {
        retired.push(ContainerId(row.map_err(failure::storage)?.0.value()));
    }
    Ok((containers, retired))
}

/// A write transaction whose commit survives power loss, and that no failed sync can make half
/// durable: two phases. It leaves the file so that opening it needs no look at all of it.
pub(crate) fn begin_durable(database: &Database) -> Result<ContainedWrite> {
    let mut txn = database.begin_write().map_err(failure::transaction)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    Ok(Contained::new(txn))
}

/// Reads a row of the store's own table.
pub(crate) fn plain<T: PlainValue>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<T> {
    plain_if_there(meta, key)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("the store's record {key:?} is missing"),
        )
    })
}

/// [`plain`] for a row that not every store has.
pub(crate) fn plain_if_there<T: PlainValue>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>> {
    let record = meta.get(key).map_err(failure::storage)?;
    record
        .map(|record| open_plain(RecordKind::Meta, key.as_bytes(), record.value()))
        .transpose()
}
