//! A folder of a system on which none can be held open: an absolute path.

use crate::storage::redb::backend::folder::{Disk, Folder, Made, backend};
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(std::path::absolute(path)?))
    }
}

impl Folder for Directory {
    fn open(&self, name: &OsStr) -> io::Result<Disk> {
        let mut options = OpenOptions::new();
        backend(options.read(true).write(true).open(self.0.join(name))?)
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<Disk> {
        backend(OpenOptions::new().read(true).open(self.0.join(name))?)
    }

    fn make(&self) -> io::Result<Box<dyn Made>> {
        // Not made of the store's name, which may be as long as the system allows.
        let made = tempfile::Builder::new()
            .prefix(".cloakroom-")
            .suffix(".new")
            .tempfile_in(&self.0)?;
        Ok(Box::new(Named(made, self.0.clone())))
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
struct Named(NamedTempFile, PathBuf);

impl Made for Named {
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
