//! Journal files whose locks are held, so that no other process reads, renames or removes them (C7.4).

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::{Location, is_no_regular_file};
use crate::storage::redb::failure::{io_error, refused};
use std::io;
use std::ops::Bound::Unbounded;

fn open(location: &Location) -> Result<Option<Disk>> {
    match location.folder.open(&location.name) {
        Ok(disk) => Ok(Some(disk)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(cannot_open(location, e)),
    }
}

fn in_use(location: &Location) -> Error {
    let why = "this journal is in use: its store, whose file was moved or removed from here, or copied, is \
               still open in another process or in this one";
    refused(ErrorKind::Locked, &location.path, why)
}

/// Whether a name exists, even if it is no file that can be opened.
pub(crate) fn name_exists(location: &Location) -> Result<bool> {
    match location.folder.identity(&location.name) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(cannot_find(location, e)),
    }
}

fn cannot_find(location: &Location, error: io::Error) -> Error {
    let what = "it is not known whether the journal is there";
    io_error(&location.path, what, error)
}

/// The same for a name that could not be opened.
fn name_exists_as_other(location: &Location, error: io::Error) -> Result<bool> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(false),
        _ if is_no_journal(&error) => Ok(true),
        _ => Err(cannot_open(location, error)),
    }
}

/// Whether an error says that the name is no journal: a folder, a link, another user's file. Other errors come from
/// this process, such as a lack of descriptors, or from the disk.
fn is_no_journal(error: &io::Error) -> bool {
    use io::ErrorKind::{IsADirectory, PermissionDenied};
    is_no_regular_file(error) || matches!(error.kind(), IsADirectory | PermissionDenied)
}

fn cannot_open(location: &Location, error: io::Error) -> Error {
    io_error(&location.path, "the journal cannot be opened", error)
}

/// A locked journal file. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct HeldJournal {
    location: Location,
    disk: Disk,
    /// Distinguishes the file from later ones of the same name, if the system provides that. No other file gets it
    /// while this one is open.
    identity: Option<(u64, u64)>,
}

impl HeldJournal {
    /// Opens and locks a file; `None` if there is none.
    pub(crate) fn open(location: &Location) -> Result<Option<Self>> {
        // Opening the file reports NotFound and other errors.
        let identity = || location.folder.identity(&location.name).ok().flatten();
        let before = identity();
        let Some(disk) = open(location)? else {
            return Ok(None);
        };
        let held = Self::lock(location, disk, before)?;
        if identity() != before {
            let why = "another file took its place while it was opened; open the store again";
            return Err(refused(ErrorKind::Io, &location.path, why));
        }
        Ok(Some(held))
    }

    /// [`open`](Self::open); `Some(None)` for a name that is no journal.
    pub(crate) fn open_if_journal(location: &Location) -> Result<Option<Option<Self>>> {
        match Self::open(location) {
            Err(e) if e.io_error().is_some_and(is_no_journal) => Ok(Some(None)),
            held => held.map(|held| held.map(Some)),
        }
    }

    /// Whether there is a file; an error if it is in use. A name that cannot be opened is no journal that this
    /// process may use.
    pub(crate) fn is_free(location: &Location) -> Result<bool> {
        let disk = match location.folder.open(&location.name) {
            Ok(disk) => disk,
            Err(e) => return name_exists_as_other(location, e),
        };
        // A process that opens the store at the same time must not find the file locked by this check.
        match disk.query_lock_range(Unbounded, Unbounded) {
            Ok(false) => Ok(true),
            Ok(true) => Err(in_use(location)),
            Err(_) => Self::lock(location, disk, None).map(|_| true),
        }
    }

    /// Locks a file that was opened.
    pub(crate) fn lock(
        location: &Location,
        disk: Disk,
        identity: Option<(u64, u64)>,
    ) -> Result<Self> {
        match disk.try_lock_range(Unbounded, Unbounded) {
            Ok(true) => Ok(Self {
                location: location.clone(),
                disk,
                identity,
            }),
            Ok(false) => Err(in_use(location)),
            Err(e) => {
                let what = "the journal cannot be locked";
                Err(io_error(&location.path, what, e.into()))
            }
        }
    }

    /// Whether the name still leads to this file, as far as the system tells.
    pub(crate) fn is_at_its_name(&self) -> Result<bool> {
        let Location { folder, name, .. } = &self.location;
        match (self.identity, folder.identity(name)) {
            (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            (_, Err(e)) => Err(cannot_find(&self.location, e)),
            (Some(held), Ok(found)) => Ok(found == Some(held)),
            // Without an identity: if the named file is this one, its lock is taken.
            (None, Ok(_)) => Ok(folder.open(name).is_ok_and(|found| {
                let is_taken = matches!(found.try_lock_range(Unbounded, Unbounded), Ok(false));
                let _ = found.close();
                is_taken
            })),
        }
    }

    /// Removes the file, if its name still leads to it.
    pub(crate) fn remove(&self) -> Result<()> {
        let Location {
            folder, name, path, ..
        } = &self.location;
        if !self.is_at_its_name()? {
            if matches!(name_exists(&self.location), Ok(true)) {
                let journal = path.display();
                tracing::warn!(%journal, "another file bears the name of this store's journal by now, and is left as it is");
            }
            return Ok(());
        }
        match folder.remove(name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(io_error(path, "the old journal cannot be removed", e))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn location(&self) -> &Location {
        &self.location
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }
}

impl Drop for HeldJournal {
    fn drop(&mut self) {
        // The handle may be shared with a process that is just being started, so the lock is released explicitly.
        let _ = self.disk.close();
    }
}

/// The journal files of this store that this process has created or read, all of them locked. While the store is
/// open, the process removes no other files: a file with such a name may belong to another store, even if its header
/// says the same, as in a copy.
#[derive(Debug, Default)]
pub(crate) struct HeldJournals(Vec<([u8; 16], HeldJournal)>);

impl HeldJournals {
    /// Adds a file of an opening.
    pub(crate) fn add(&mut self, opening: [u8; 16], held: HeldJournal) {
        self.0.push((opening, held));
    }

    /// The files of an opening, in the order in which they were added.
    pub(crate) fn of(&self, opening: [u8; 16]) -> impl Iterator<Item = &HeldJournal> {
        let of_it = move |(its, _): &&([u8; 16], HeldJournal)| *its == opening;
        self.0.iter().filter(of_it).map(|(_, held)| held)
    }

    /// Whether a file at this location is held.
    pub(crate) fn has(&self, location: &Location) -> bool {
        let mut names = self.0.iter().map(|(_, held)| &held.location.name);
        names.any(|name| *name == location.name)
    }

    /// Removes the files of all other openings, and releases them.
    pub(crate) fn keep_only(&mut self, opening: [u8; 16]) -> Result<()> {
        let mut result = Ok(());
        self.0.retain(|(its, held)| {
            if *its == opening || result.is_err() {
                return true;
            }
            result = held.remove();
            result.is_err()
        });
        result
    }

    /// Removes all files. Dropping this releases them.
    pub(crate) fn remove(&self) -> Result<()> {
        self.0.iter().try_for_each(|(_, held)| held.remove())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::storage::redb::backend::folder::{Folder, NewFile};
    use std::ffi::OsStr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A folder that may not be looked into for a while.
    #[derive(Debug)]
    struct Shut(Arc<dyn Folder>, AtomicBool);

    impl Folder for Shut {
        fn open(&self, name: &OsStr) -> io::Result<Disk> {
            self.0.open(name)
        }

        fn make(&self) -> io::Result<Box<dyn NewFile>> {
            self.0.make()
        }

        fn remove(&self, name: &OsStr) -> io::Result<()> {
            self.0.remove(name)
        }

        fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            self.0.rename(from, to)
        }

        fn sync(&self) -> io::Result<()> {
            self.0.sync()
        }

        fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
            if self.1.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.0.identity(name)
        }
    }

    // C7.4
    #[test]
    fn a_journal_whose_name_cannot_be_looked_up_is_not_taken_for_removed() {
        let place = tempfile::tempdir().unwrap();
        let mut location = Location::of(&place.path().join("journal"))
            .unwrap()
            .unwrap();
        let folder = Arc::new(Shut(location.folder.clone(), true.into()));
        location.folder = folder.clone();
        std::fs::write(&location.path, "x").unwrap();
        folder.1.store(false, Ordering::SeqCst);
        let mut holdings = HeldJournals::default();
        holdings.add([1; 16], HeldJournal::open(&location).unwrap().unwrap());
        folder.1.store(true, Ordering::SeqCst);
        assert_eq!(holdings.remove().unwrap_err().kind(), ErrorKind::Io);
        assert!(holdings.keep_only([2; 16]).is_err());
        assert!(name_exists(&location).is_err());
        folder.1.store(false, Ordering::SeqCst);
        holdings.keep_only([2; 16]).unwrap();
        assert!(!location.path.exists());
        assert!(!name_exists(&location).unwrap());
    }
}
