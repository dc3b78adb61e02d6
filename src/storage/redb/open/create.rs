//! Creates a store's file where there is none or an empty one (C7.2). The file is complete before it gets its name
//! (C7.3).

use crate::error::{ErrorKind, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::{Location, NewFile, is_no_regular_file};
use crate::storage::redb::failure;
use crate::storage::redb::failure::{at, guarded, io_error, not_a_store, refused, unreadable};
use crate::storage::redb::journal;
use crate::storage::redb::journal::HeldJournals;
use crate::storage::redb::open::database::{on_disk, open_overlay};
use crate::storage::redb::open::options::OpenOptions;
use redb::Database;
use std::io;
use std::sync::Arc;

/// Puts into a new store what it begins with.
pub(crate) type FillStore<'a> = dyn Fn(&Database) -> Result<()> + 'a;

/// Opens the file at a location, and creates it if there is none.
pub(crate) fn find_or_make(
    location: &Location,
    options: OpenOptions,
    fill: &FillStore<'_>,
) -> Result<Opened> {
    let path = &location.path;
    refuse_names_of_journals(location)?;
    let found_file = find(location)?;
    let is_empty = match &found_file {
        Some(file) => file.disk.len().map_err(|e| unreadable(path, e))? == 0,
        None => false,
    };
    if let Some(file) = found_file.filter(|_| !is_empty) {
        return Ok(file);
    }
    if !options.creates {
        return Err(match is_empty {
            true => not_a_store(path, "it is empty"),
            false => {
                let error = io::ErrorKind::NotFound.into();
                io_error(path, "there is no store, and none is to be created", error)
            }
        });
    }
    // If another process was faster, its file is opened, or found locked, like any other.
    let made = if is_empty {
        in_place_of_an_empty_file(location, options, fill)?
    } else {
        journal::none_in_use(location, 0, &HeldJournals::default()).map_err(|e| at(path, e))?;
        make(location, options, fill)?.is_some()
    };
    if made {
        tracing::info!(path = %path.display(), "a new store was made");
    }
    find(location)?.ok_or_else(|| {
        let error = io::ErrorKind::NotFound.into();
        io_error(path, "the new store cannot be opened", error)
    })
}

/// An opened file of a store.
pub(crate) struct Opened {
    pub(crate) disk: Disk,
    /// Distinguishes the file from later ones of the same name, if the system provides that.
    identity: Option<(u64, u64)>,
}

impl Opened {
    /// Whether the name still leads to this file, as far as the system tells.
    fn is_at(&self, location: &Location) -> Result<bool> {
        Ok(identity(location)? == self.identity)
    }

    /// Refuses a file that has lost its name: commits to it would not be found again.
    pub(crate) fn require_at(&self, location: &Location) -> Result<()> {
        if self.is_at(location)? {
            return Ok(());
        }
        let why = "it was removed, or another file took its place, while it was opened; open the store again";
        Err(refused(ErrorKind::Io, &location.path, why))
    }
}

fn identity(
    Location {
        folder, name, path, ..
    }: &Location,
) -> Result<Option<(u64, u64)>> {
    match folder.identity(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        identity => identity.map_err(|e| unreadable(path, e)),
    }
}

/// Opens the file at a location, if there is one.
fn find(location: &Location) -> Result<Option<Opened>> {
    const ATTEMPTS: usize = 10;
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let identity = identity(location)?;
        let Some(disk) = open(location)? else {
            return Ok(None);
        };
        let opened = Opened { disk, identity };
        if opened.is_at(location)? {
            return Ok(Some(opened));
        }
        // Checked again under the file's lock.
        found = Some(opened);
    }
    Ok(found)
}

fn open(
    Location {
        folder, name, path, ..
    }: &Location,
) -> Result<Option<Disk>> {
    match folder.open(name) {
        Ok(file) => Ok(Some(file)),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound => Ok(None),
            io::ErrorKind::IsADirectory => Err(not_a_store(path, "it is a folder")),
            _ if is_no_regular_file(&e) => Err(not_a_store(path, "it is no regular file")),
            _ => Err(io_error(path, "the store cannot be opened", e)),
        },
    }
}

/// A store of such a name would collide with the journal of another store (C7.4).
fn refuse_names_of_journals(location: &Location) -> Result<()> {
    if journal::is_name_of_a_journal(&location.name) {
        let why = "a store's file cannot have a name that ends as that of a journal does";
        return Err(refused(ErrorKind::InvalidInput, &location.path, why));
    }
    Ok(())
}

/// Creates a store, fills it, and gives it its name once it is complete (C7.3). `None` if the name exists by then.
pub(crate) fn make<T>(
    location: &Location,
    options: OpenOptions,
    fill: impl FnOnce(&Database) -> Result<T>,
) -> Result<Option<T>> {
    refuse_names_of_journals(location)?;
    let (made, filled) = build_store(location, options, fill)?;
    let failed = |e: io::Error| io_error(&location.path, "the store cannot be made", e);
    match made.publish(&location.name) {
        Ok(()) => {
            location.folder.sync().map_err(failed)?;
            Ok(Some(filled))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// Creates a store in the place of an empty file that is not locked. The new file is complete before it atomically
/// replaces the empty one (C7.3). Returns false if the file is gone, or no longer empty.
///
/// Every process that finds an empty file locks it like a store. So only one of them replaces it at a time, and none
/// replaces a file that another has replaced already.
fn in_place_of_an_empty_file(
    location: &Location,
    options: OpenOptions,
    fill: &FillStore<'_>,
) -> Result<bool> {
    let Location {
        folder, name, path, ..
    } = location;
    let Some(file) = find(location)? else {
        return Ok(false);
    };
    let replaced = lock(&file.disk, options).and_then(|()| {
        let len = |file: &Opened| file.disk.len().map_err(|e| unreadable(path, e));
        if len(&file)? > 0 || !file.is_at(location)? {
            return Ok(false);
        }
        // If the system gives no identity, a file that another process created is recognized by not being empty.
        if find(location)?.map(|now| len(&now)).transpose()? != Some(0) {
            return Ok(false);
        }
        if folder.has_other_names(name).map_err(|e| unreadable(path, e))? {
            return Err(not_a_store(path, "it is empty, and has several names"));
        }
        if let Some(journal) = journal::lies_beside(location)? {
            let why = format!(
                "it is empty, but was one, as {} lies beside it. If that is not needed, remove both",
                journal.path.display()
            );
            return Err(not_a_store(path, &why));
        }
        let failed = |e: io::Error| io_error(path, "the store cannot be made", e);
        let (made, ()) = build_store(location, options, fill)?;
        made.replace(name).map_err(failed)?;
        folder.sync().map_err(failed)?;
        Ok(true)
    });
    let _ = file.disk.close();
    replaced.map_err(|e| at(path, e))
}

/// Locks a file as redb does, without changing it.
fn lock(file: &Disk, options: OpenOptions) -> Result<()> {
    failure::discard(open_overlay(file.clone(), options)?);
    Ok(())
}

/// Creates a store without a name, and fills it.
pub(crate) fn build_store<T>(
    Location { folder, path, .. }: &Location,
    options: OpenOptions,
    fill: impl FnOnce(&Database) -> Result<T>,
) -> Result<(Box<dyn NewFile>, T)> {
    let failed = |e: io::Error| io_error(path, "the store cannot be made", e);
    let made = folder.make().map_err(failed)?;
    let disk = made.disk().map_err(failed)?;
    let filled = guarded(|| {
        let (disk, database) = on_disk(disk, options, &Arc::default())?;
        let (database, filled) = failure::guarded_on(database, fill)?;
        database.close().map_err(failure::database)?;
        disk.sync_data().map_err(failure::sync_failed)?;
        disk.close().map_err(failure::unlock)?;
        Ok(filled)
    });
    let filled = filled.map_err(|e| at(path, e))?;
    Ok((made, filled))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::RecordCipher;
    use crate::storage::redb::backend::folder::Folder;
    use crate::storage::redb::fault_injection::FaultInjection;
    use crate::storage::redb::open::identify::open_or_create;
    use std::ffi::OsStr;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn options() -> OpenOptions {
        OpenOptions {
            cache_size: 1 << 20,
            verify: false,
            wait: Duration::ZERO,
            private: false,
            creates: true,
            migrates: true,
            faults: FaultInjection::default(),
        }
    }

    /// What the other one made.
    static OTHERS: Mutex<Option<(u64, u64)>> = Mutex::new(None);

    /// A folder of a system that tells no identity of files. Somebody else is quicker, between the opening of a file
    /// and what comes next.
    #[derive(Debug)]
    struct Plain(Location, AtomicUsize);

    impl Plain {
        fn made(&self) -> Option<(u64, u64)> {
            self.0.folder.identity(&self.0.name).unwrap()
        }
    }

    impl Folder for Plain {
        fn open(&self, name: &OsStr) -> io::Result<Disk> {
            let opened = self.0.folder.open(name);
            if self.1.fetch_add(1, Ordering::SeqCst) == 1 {
                find_or_make(&self.0, options(), &|_| Ok(())).unwrap();
                *OTHERS.lock().unwrap() = self.made();
            }
            opened
        }

        fn make(&self) -> io::Result<Box<dyn NewFile>> {
            self.0.folder.make()
        }

        fn remove(&self, name: &OsStr) -> io::Result<()> {
            self.0.folder.remove(name)
        }

        fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            self.0.folder.rename(from, to)
        }

        fn sync(&self) -> io::Result<()> {
            self.0.folder.sync()
        }

        fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
            self.0.folder.identity(name).map(|_| None)
        }
    }

    /// A folder in which the file is moved away once it was opened for good.
    #[derive(Debug)]
    struct Moving(Location, AtomicUsize);

    impl Folder for Moving {
        fn open(&self, name: &OsStr) -> io::Result<Disk> {
            self.0.folder.open(name)
        }

        fn make(&self) -> io::Result<Box<dyn NewFile>> {
            self.0.folder.make()
        }

        fn remove(&self, name: &OsStr) -> io::Result<()> {
            self.0.folder.remove(name)
        }

        fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            self.0.folder.rename(from, to)
        }

        fn sync(&self) -> io::Result<()> {
            self.0.folder.sync()
        }

        fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
            let identity = self.0.folder.identity(name);
            if self.1.fetch_add(1, Ordering::SeqCst) == 1 {
                self.rename(name, "moved".as_ref())?;
            }
            identity
        }
    }

    // C7.4
    #[test]
    fn a_store_that_was_moved_away_while_it_was_opened_is_not_opened() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store");
        let own = Location::of(&path).unwrap().unwrap();
        find_or_make(&own, options(), &|_| Ok(())).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut moving = own.clone();
        moving.folder = Arc::new(Moving(own, AtomicUsize::new(0)));
        let opened = open_or_create(
            &moving,
            options(),
            &Arc::default(),
            (&RecordCipher::Plain, None),
            &mut |_| {},
        );
        let error = opened.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("while it was opened"), "{error}");
        assert_eq!(std::fs::read(place.path().join("moved")).unwrap(), before);
        // Nor is it held.
        let moved = Location::of(&place.path().join("moved")).unwrap().unwrap();
        open_or_create(
            &moved,
            options(),
            &Arc::default(),
            (&RecordCipher::Plain, None),
            &mut |_| {},
        )
        .unwrap();
    }

    // C7.2
    #[test]
    fn a_store_that_took_the_place_of_an_empty_file_meanwhile_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("store");
        std::fs::write(&path, "").unwrap();
        let own = Location::of(&path).unwrap().unwrap();
        let mut plain = own.clone();
        plain.folder = Arc::new(Plain(own.clone(), AtomicUsize::new(0)));
        find_or_make(&plain, options(), &|_| Ok(())).unwrap();
        // The other's has one name, and what took its place would be another file.
        let is_others = OTHERS.lock().unwrap().take();
        assert_eq!(own.folder.identity(&own.name).unwrap(), is_others);
    }
}
