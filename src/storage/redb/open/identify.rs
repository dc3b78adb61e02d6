//! Identifies a store file before a byte of it is changed, then opens and migrates it (C7). It knows no sessions.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::backend::page_copies::CopiedDisk;
use crate::storage::redb::failure;
use crate::storage::redb::failure::{
    Contained, at, guarded, io_error, not_a_store, refused, unreadable,
};
use crate::storage::redb::format;
use crate::storage::redb::format::MAGIC;
use crate::storage::redb::integrity::inspect::{InspectedJournal, examine, inspect_file};
use crate::storage::redb::integrity::pages::header_of;
use crate::storage::redb::journal;
use crate::storage::redb::journal::{ExpectedJournal, HeldJournals, Recovered};
use crate::storage::redb::open::create::{Opened, find_or_make};
use crate::storage::redb::open::database::{on_disk, open_overlay};
use crate::storage::redb::open::identity::{begin_read, containers, expected_journal, own_records};
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::open::taken_over::put_settings;
use crate::storage::redb::open::{migrate, private};
use crate::storage::redb::sealing;
use crate::storage::redb::tables::META;
use crate::storage::{Finding, StoreSettings};
use redb::Database;
use std::path::Path;
use std::sync::Arc;

/// Opens the store at a location, and creates it if there is none: with these settings, if there are any.
pub(crate) fn open_or_create(
    location: &Location,
    options: OpenOptions,
    io: &Arc<FileIo>,
    (cipher, initial): (&RecordCipher, Option<&StoreSettings>),
    found: &mut dyn FnMut(Finding),
) -> Result<(Disk, Database, Option<OpeningPlan>)> {
    let path = &location.path;
    let file = find_or_make(location, options, &|database| match initial {
        Some(settings) => put_settings(database, settings, cipher),
        None => Ok(()),
    })?;
    let lasts = |_: &Database| {
        // The process that created the file may have been killed before it synced the folder.
        let synced = location.folder.sync();
        synced.map_err(|e| io_error(path, "the store's folder cannot be synced", e))
    };
    let terms = (cipher, initial);
    let opened = guarded(|| open_existing(location, &file, options, io, terms, found)).and_then(
        |(disk, database, foreseen)| {
            let (database, ()) = failure::guarded_on(database, lasts)?;
            Ok((disk, database, foreseen))
        },
    );
    opened.inspect_err(|_| {
        // The handle may be shared with a process that is just being started, so the lock is released explicitly.
        let _ = file.disk.close();
    })
}

/// Resolves a path.
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

/// Identifies the file under its lock without changing it, then opens and migrates it.
fn open_existing(
    location: &Location,
    opened: &Opened,
    options: OpenOptions,
    io: &Arc<FileIo>,
    (cipher, initial): (&RecordCipher, Option<&StoreSettings>),
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
    identify(location, file, options, cipher, found)
        .and_then(|foreseen| {
            let is_copy = |of: &StoreSettings| {
                let plan = foreseen.as_ref();
                plan.is_some_and(|plan| plan.expected.store == of.identity)
            };
            if !initial.is_none_or(is_copy) {
                return Err(StoreSettings::no_copy());
            }
            opened.require_at(location)?;
            if let Some(why) = private::exposure(location)? {
                tracing::warn!(path = %path.display(), "{why}");
            }
            let disk = CopiedDisk::over(file.clone(), io.copies().clone());
            let (disk, database) = on_disk(disk, options, io)?;
            Ok((disk, database, foreseen))
        })
        .map_err(|e| at(path, advise(file, e)))
}

/// Adds what to do to an error of a file of which the disk can read a part only.
fn advise(file: &Disk, error: Error) -> Error {
    let is_read_error = error.kind() == ErrorKind::Unavailable && !failure::is_full(&error);
    if is_read_error && header_of(file).is_ok() {
        return error
            .and_says("a part of which cannot be read; StoreBuilder::salvage copies what can be");
    }
    error
}

/// The data with which an opening continues. It was read before a byte was changed.
pub(crate) struct OpeningPlan {
    pub(crate) expected: ExpectedJournal,
    pub(crate) recovered: Recovered,
    /// The files that were read. They stay locked.
    pub(crate) held: HeldJournals,
}

/// Checks whether this version can and may open the file and its journal. redb trusts what it reads, so damage is
/// found before redb changes a byte.
fn identify(
    store: &Location,
    file: &Disk,
    options: OpenOptions,
    cipher: &RecordCipher,
    found: &mut dyn FnMut(Finding),
) -> Result<Option<OpeningPlan>> {
    let mut identified = rehearse(store, file.clone(), options, cipher);
    if identified
        .as_ref()
        .is_err_and(|e| e.kind() != ErrorKind::Locked)
    {
        identified = format::check_version(&header_of(file)?).and(identified);
    }
    // With any other error the file is not inspected. The lock is held in any case.
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
            // A format without a journal.
            Ok(None) => InspectedJournal::Read(Vec::new()),
            Err(_) => InspectedJournal::Beside(store),
        };
        inspect_file(file, beyond, cipher, &mut |what| {
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

fn rehearse(
    store: &Location,
    file: Disk,
    options: OpenOptions,
    cipher: &RecordCipher,
) -> Result<Option<OpeningPlan>> {
    let database = open_overlay(file, options)?;
    let (database, foreseen) = failure::guarded_on(database, |database| {
        let is_current = migrate::check(database)?;
        if !is_current && !options.migrates {
            return Err(migrate::is_older(database));
        }
        is_current
            .then(|| check_readable(store, database, HeldJournals::default(), cipher))
            .transpose()
    })?;
    failure::discard(database);
    Ok(foreseen)
}

/// Reads all that [`enter`](super::enter::enter) will read, in a file of the current format.
pub(crate) fn check_readable(
    store: &Location,
    database: &Database,
    mut held: HeldJournals,
    cipher: &RecordCipher,
) -> Result<OpeningPlan> {
    let expected = expected_journal(database)?;
    let txn = begin_read(database)?;
    let meta = Contained::new(txn.open_table(META).map_err(failure::table)?);
    sealing::check_keys(cipher, &*meta)?;
    own_records(&*meta, cipher)?;
    containers(database)?;
    let recovered = journal::read(store, &expected, &mut held)?;
    Ok(OpeningPlan {
        expected,
        recovered,
        held,
    })
}
