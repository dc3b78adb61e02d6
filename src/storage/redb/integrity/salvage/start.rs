//! Locks a damaged store, and salvages it.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::{Location, is_no_regular_file};
use crate::storage::redb::failure;
use crate::storage::redb::format::BitRepair;
use crate::storage::redb::integrity::pages::Pages;
use crate::storage::redb::integrity::salvage::own_records::OwnSecrets;
use crate::storage::redb::integrity::salvage::run::SalvageRun;
use crate::storage::redb::open::create;
use crate::storage::redb::open::locks::name_holder;
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::{Finding, RowCounter, RowProgressFn, Salvaged};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound::Unbounded;
use std::rc::Rc;

/// Writes all readable rows of the store at `from` into a new store at `to`.
pub(crate) fn salvage(
    from: &Location,
    to: &Location,
    options: OpenOptions,
    (secrets, cipher): (OwnSecrets, &RecordCipher),
    found: &mut dyn FnMut(Finding),
    progress: &mut RowProgressFn<'_>,
) -> Result<Salvaged> {
    let disk = lock(from)?;
    let watch = (found, progress);
    let result = read_and_write(&disk, (from, to), options, (secrets, cipher), watch);
    let _ = disk.close();
    result
}

fn lock(
    Location {
        folder, name, path, ..
    }: &Location,
) -> Result<Disk> {
    let from = path.as_path();
    let disk = folder.open_to_read(name).map_err(|e| {
        if is_no_regular_file(&e) {
            failure::not_a_store(from, "it is no regular file")
        } else {
            failure::io_error(from, "the damaged store cannot be read", e)
        }
    })?;
    match disk.try_lock_shared_range(Unbounded, Unbounded) {
        Ok(true) => Ok(disk),
        Ok(false) => {
            let why = "the store is open already";
            Err(name_holder(failure::refused(ErrorKind::Locked, from, why)))
        }
        Err(e) => Err(failure::at(
            from,
            Error::new(ErrorKind::Io, "the file cannot be locked").with_source(e),
        )),
    }
}

fn read_and_write(
    disk: &Disk,
    (from, to): (&Location, &Location),
    options: OpenOptions,
    (secrets, cipher): (OwnSecrets, &RecordCipher),
    (found, progress): (&mut dyn FnMut(Finding), &mut RowProgressFn<'_>),
) -> Result<Salvaged> {
    let of_source = |e| failure::at(&from.path, e);
    let exists = || {
        let error = io::ErrorKind::AlreadyExists.into();
        failure::io_error(&to.path, "it exists already", error)
    };
    if to.folder.identity(&to.name).is_ok() {
        return Err(exists());
    }
    let mut work = SalvageRun {
        pages: Pages::new(disk.clone(), BitRepair::Bits).map_err(of_source)?,
        tables: BTreeMap::new(),
        cipher,
        found,
        salvaged: Salvaged::default(),
        rows_read: RowCounter::new(progress),
        names: BTreeMap::new(),
        retired: BTreeSet::new(),
        epoch: 0,
        next_container: 1,
        format: None,
        newer: Rc::default(),
    };
    work.directory().map_err(of_source)?;
    let own = work.own(secrets, from).map_err(of_source)?;
    match create::make(to, options, |database| work.fill(database, &own))? {
        Some(()) => Ok(work.salvaged),
        None => Err(exists()),
    }
}
