//! The folder in which a store opens, creates and names its files: of the file system, or of the fault harness. It
//! does not know their contents.

#[cfg(not(unix))]
#[path = "elsewhere.rs"]
mod directory;
#[cfg(unix)]
#[path = "unix.rs"]
mod directory;

use crate::storage::redb::backend::disk::Disk;
use directory::Directory;
use redb::backends::FileBackend;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder, with all that a store does in it. A change to its names survives a power loss once
/// [`sync`](Self::sync) returned.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub trait Folder: fmt::Debug + Send + Sync {
    /// A file that is there, for reading and writing.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound); [`IsADirectory`](io::ErrorKind::IsADirectory);
    /// [`InvalidInput`](io::ErrorKind::InvalidInput), and not of the system, where it is no regular file.
    fn open(&self, name: &OsStr) -> io::Result<Disk>;

    /// A file that is there, for reading alone. Does not wait for the other end of a pipe.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open); also of a folder, it says that it is no regular file.
    fn open_to_read(&self, name: &OsStr) -> io::Result<Disk> {
        self.open(name)
    }

    /// A new, empty file without its lasting name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn make(&self) -> io::Result<Box<dyn NewFile>>;

    /// Takes a file's name away, and the file with it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound), and others of the file system.
    fn remove(&self, name: &OsStr) -> io::Result<()>;

    /// Gives a file another name, which no other one bears.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound), [`AlreadyExists`](io::ErrorKind::AlreadyExists), and others
    /// of the file system.
    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()>;

    /// Makes what was done to the names in it last.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn sync(&self) -> io::Result<()>;

    /// Whether a file bears other names as well, here or elsewhere, as far as the system tells.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn has_other_names(&self, name: &OsStr) -> io::Result<bool> {
        let _ = name;
        Ok(false)
    }

    /// What tells that which bears a name now, a file or not, from all others, as far as the system tells. To be
    /// had without a file descriptor, and whoever's it is.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) where nothing bears the name, and others of the file system.
    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>>;

    /// Who can get at a file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn access(&self, name: &OsStr) -> io::Result<Access> {
        let _ = name;
        Ok(Access::Own)
    }
}

/// Who can get at a file.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "the system does not tell"))]
pub enum Access {
    /// The user who runs this process, and whoever may do anything; or the system does not tell.
    Own,
    /// A user who is not the one that runs this process.
    Foreign {
        /// The number of the file's owner.
        owner: u32,
        /// The number of the user who runs this process.
        user: u32,
    },
    /// Others than its owner.
    Shared {
        /// The permissions.
        mode: u32,
    },
}

/// A file that is being made; dropped, it is gone.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub trait NewFile {
    /// The file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn disk(&self) -> io::Result<Disk>;

    /// What tells it from all others, as far as the system tells: what [`Folder::identity`] says of its name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    /// Gives it its lasting name.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists), where something bears that name.
    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()>;

    /// Gives it the name of another file, which loses it at the same moment.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()>;
}

/// A name in a folder, which is found again whatever becomes of its path (C7.4).
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub(crate) folder: Arc<dyn Folder>,
    pub(crate) name: OsString,
    /// Where it was when the path was resolved. For the errors.
    pub(crate) path: PathBuf,
    /// The path that was resolved, where that is a link to it.
    link: Option<PathBuf>,
}

impl Location {
    /// Where a path leads now, links followed; the file itself need not be there. `None` where it names no
    /// file.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        let resolved = match path.canonicalize() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                    return Ok(None);
                };
                if names_a_folder(path) {
                    return Ok(None);
                }
                let folder = match folder {
                    folder if folder == Path::new("") => Path::new("."),
                    folder => folder,
                };
                folder.canonicalize()?.join(name)
            }
            resolved => resolved?,
        };
        let (Some(folder), Some(name)) = (resolved.parent(), resolved.file_name()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            folder: Arc::new(Directory::open(folder)?),
            name: name.to_owned(),
            link: path.is_symlink().then(|| path.to_owned()),
            path: resolved,
        }))
    }

    /// The link by which it was found, if that is one: a name in its own folder.
    pub(crate) fn link(&self) -> Option<Self> {
        let link = std::path::absolute(self.link.as_ref()?).ok()?;
        let folder = link.parent()?.canonicalize().ok()?;
        let name = link.file_name()?.to_owned();
        Some(Self {
            folder: Arc::new(Directory::open(&folder).ok()?),
            path: folder.join(&name),
            name,
            link: None,
        })
    }

    /// A file beside this one.
    pub(crate) fn beside(&self, name: OsString) -> Self {
        Self {
            folder: self.folder.clone(),
            path: self.path.with_file_name(&name),
            name,
            link: None,
        }
    }

    #[cfg(feature = "torture")]
    pub(crate) fn within(folder: Arc<dyn Folder>, name: &str) -> Self {
        Self {
            folder,
            name: name.into(),
            path: name.into(),
            link: None,
        }
    }
}

/// Whether a path ends with a separator, or in the folder itself: the system takes such a one for a file's no more once
/// the file is there.
fn names_a_folder(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes
        .rsplit(|byte| std::path::is_separator(char::from(*byte)))
        .next();
    matches!(last, Some(b"" | b"."))
}

fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Whether a file was not opened because it is no regular one. The system says `InvalidInput` of names that it does
/// not take.
pub(crate) fn is_no_regular_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

/// A file that was opened.
fn backend(file: File) -> io::Result<Disk> {
    if !file.metadata()?.is_file() {
        return Err(no_regular_file());
    }
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Arc::new(backend))
}
