//! Where the files of a store are opened, made and named: a folder of the file system, or one of a
//! harness's own. Knows nothing of what is in the files.

use super::file::Disk;
use redb::backends::FileBackend;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

/// A folder, with all that a store does in it. A change to its names survives a power loss once
/// [`sync`](Self::sync) returned.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub trait Folder: fmt::Debug + Send + Sync {
    /// A file that is there, for reading and writing.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound); [`IsADirectory`](io::ErrorKind::IsADirectory);
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) where it is no regular file.
    fn open(&self, name: &OsStr) -> io::Result<Disk>;

    /// A new, empty file under a name that nothing else bears, and that name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn make(&self) -> io::Result<(OsString, Disk)>;

    /// Gives a file that was made here its lasting name. What does not succeed removes it.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists), where something bears that name.
    fn publish(&self, made: &OsStr, name: &OsStr) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn remove(&self, name: &OsStr) -> io::Result<()>;

    /// Makes what was done to the names in it last.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn sync(&self) -> io::Result<()>;
}

/// A name in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(super) folder: Arc<dyn Folder>,
    pub(super) name: OsString,
    /// For the errors.
    pub(super) path: PathBuf,
}

impl Location {
    /// `None` where the path names no file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let folder = match path.parent()? {
            folder if folder == Path::new("") => Path::new("."),
            folder => folder,
        };
        Some(Self {
            folder: Arc::new(Directory(folder.to_owned())),
            name: path.file_name()?.to_owned(),
            path: path.to_owned(),
        })
    }

    #[cfg(feature = "torture")]
    pub(crate) fn within(folder: Arc<dyn Folder>, name: &str) -> Self {
        Self {
            folder,
            name: name.into(),
            path: name.into(),
        }
    }
}

/// A folder of the file system.
#[derive(Debug)]
struct Directory(PathBuf);

fn backend(file: File) -> io::Result<Disk> {
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Arc::new(backend))
}

impl Folder for Directory {
    fn open(&self, name: &OsStr) -> io::Result<Disk> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.0.join(name))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        backend(file)
    }

    fn make(&self) -> io::Result<(OsString, Disk)> {
        // Not made of the store's name, which may be as long as the system allows.
        let made = tempfile::Builder::new()
            .prefix(".cloakroom-")
            .suffix(".new")
            .tempfile_in(&self.0)?;
        let disk = backend(made.reopen()?)?;
        let path = made.into_temp_path().keep()?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok((name, disk))
    }

    fn publish(&self, made: &OsStr, name: &OsStr) -> io::Result<()> {
        let made = TempPath::try_from_path(self.0.join(made))?;
        Ok(made.persist_noclobber(self.0.join(name))?)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and its names need no sync of their own.
        if cfg!(unix) {
            File::open(&self.0)?.sync_all()?;
        }
        Ok(())
    }
}
