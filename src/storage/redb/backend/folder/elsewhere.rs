//! A folder of a system on which none can be held open: an absolute path.

use super::files::{Folder, NewFile, backend};
use crate::storage::redb::backend::disk::Disk;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

#[derive(Debug)]
pub(super) struct FolderPath(PathBuf);

impl FolderPath {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(std::path::absolute(path)?))
    }
}

impl Folder for FolderPath {
    fn open(&self, name: &OsStr) -> io::Result<Disk> {
        let mut options = OpenOptions::new();
        backend(options.read(true).write(true).open(self.0.join(name))?)
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<Disk> {
        backend(OpenOptions::new().read(true).open(self.0.join(name))?)
    }

    fn make(&self) -> io::Result<Box<dyn NewFile>> {
        // Not made of the store's name, which may be as long as the system allows.
        let made = tempfile::Builder::new()
            .prefix(".cloakroom-")
            .suffix(".new")
            .tempfile_in(&self.0)?;
        Ok(Box::new(PathFile(made, self.0.clone())))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let to = self.0.join(to);
        if to.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        std::fs::rename(self.0.join(from), to)
    }

    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
        self.0.join(name).symlink_metadata()?;
        Ok(None)
    }

    /// A folder cannot be opened here, and its names need no sync of their own.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file under a temporary name, which a maker that is killed leaves behind.
struct PathFile(NamedTempFile, PathBuf);

impl NewFile for PathFile {
    fn disk(&self) -> io::Result<Disk> {
        backend(self.0.reopen()?)
    }

    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let Self(file, folder) = *self;
        file.persist_noclobber(folder.join(name))?;
        Ok(())
    }

    fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let Self(file, folder) = *self;
        file.persist(folder.join(name))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C7.3
    #[test]
    fn a_file_takes_its_name_or_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = FolderPath::open(place.path()).unwrap();
        let names = || {
            let entries = std::fs::read_dir(place.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        let made = folder.make().unwrap();
        made.disk().unwrap().write(0, b"first").unwrap();
        made.publish("x".as_ref()).unwrap();
        drop(folder.make().unwrap());
        let error = folder.make().unwrap().publish("x".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(folder.open("x".as_ref()).unwrap().len().unwrap(), 5);
        folder.make().unwrap().replace("x".as_ref()).unwrap();
        let disk = folder.open_to_read("x".as_ref()).unwrap();
        assert_eq!(disk.len().unwrap(), 0);
        folder.make().unwrap().publish("y".as_ref()).unwrap();
        let error = folder.rename("x".as_ref(), "y".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        folder.remove("y".as_ref()).unwrap();
        assert!(folder.identity("y".as_ref()).is_err());
        folder.rename("x".as_ref(), "y".as_ref()).unwrap();
        folder.sync().unwrap();
        assert_eq!(names(), ["y"]);
    }
}
