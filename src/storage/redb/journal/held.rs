//! A journal file whose lock is held: nobody else reads, renames or removes it meanwhile (C7.4).

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::file::Disk;
use crate::storage::redb::folder::Location;
use crate::storage::redb::open::{io_error, refused};
use std::io;
use std::ops::Bound::Unbounded;

fn open(location: &Location) -> Result<Option<Disk>> {
    match location.folder.open(&location.name) {
        Ok(disk) => Ok(Some(disk)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(&location.path, "the journal cannot be opened", e)),
    }
}

fn in_use(location: &Location) -> Error {
    let why = "this journal is in use: its store, whose file was moved or removed from here, or copied, is \
               still open in another process or in this one";
    refused(ErrorKind::Locked, &location.path, why)
}

/// Dropped, it lets the file go.
#[derive(Debug)]
pub(in crate::storage::redb) struct Held {
    location: Location,
    disk: Disk,
}

impl Held {
    /// Opens a file and locks it; `None` where there is none.
    pub(super) fn open(location: &Location) -> Result<Option<Self>> {
        let disk = open(location)?;
        disk.map(|disk| Self::lock(location, disk)).transpose()
    }

    /// Whether there is a file; an error if it is in use.
    pub(super) fn is_free(location: &Location) -> Result<bool> {
        let Some(disk) = open(location)? else {
            return Ok(false);
        };
        // Whoever opens the store at the same time must not find it locked by those who only look.
        match disk.query_lock_range(Unbounded, Unbounded) {
            Ok(false) => Ok(true),
            Ok(true) => Err(in_use(location)),
            Err(_) => Self::lock(location, disk).map(|_| true),
        }
    }

    /// Locks a file that was opened.
    pub(super) fn lock(location: &Location, disk: Disk) -> Result<Self> {
        match disk.try_lock_range(Unbounded, Unbounded) {
            Ok(true) => Ok(Self {
                location: location.clone(),
                disk,
            }),
            Ok(false) => Err(in_use(location)),
            Err(e) => {
                let what = "the journal cannot be locked";
                Err(io_error(&location.path, what, e.into()))
            }
        }
    }

    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Not left to the end of the handle, which a process being started may share.
        let _ = self.disk.close();
    }
}
