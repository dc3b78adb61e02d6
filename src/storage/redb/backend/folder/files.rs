//! The operations of a store in a folder, of any kind.

use crate::storage::redb::backend::disk::Disk;
use redb::backends::FileBackend;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
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

    /// Makes the changes to the names in the folder durable.
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

    /// The identity of the file that has this name now, or of another object with the name. Distinct from all others,
    /// as far as the system tells. Needs no file descriptor and no right to the file.
    ///
    /// # Errors
    ///
    /// [`NotFound`](io::ErrorKind::NotFound) where nothing bears the name, and others of the file system.
    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>>;

    /// Who has access to a file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn access(&self, name: &OsStr) -> io::Result<Access> {
        let _ = name;
        Ok(Access::Own)
    }
}

/// Who has access to a file.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "the system does not tell"))]
pub enum Access {
    /// The user that runs this process, and the administrator. Also if the system does not tell.
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

    /// Gives it the owner, the group and the permissions of another file in the folder, where the system has them.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn share_as(&self, name: &OsStr) -> io::Result<()> {
        let _ = name;
        Ok(())
    }

    /// Gives it the owner and the group of another file in the folder, if that belongs to another user and the system
    /// lets this process: it does if that is the administrator.
    ///
    /// # Errors
    ///
    /// Those of the file system, but for the refusal.
    fn belong_as(&self, name: &OsStr) -> io::Result<()> {
        let _ = name;
        Ok(())
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

pub(super) fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

/// Whether a file was not opened because it is no regular one. The system says `InvalidInput` of names that it does
/// not take.
pub(crate) fn is_no_regular_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none()
}

/// A file that was opened.
pub(super) fn backend(file: File) -> io::Result<Disk> {
    if !file.metadata()?.is_file() {
        return Err(no_regular_file());
    }
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Arc::new(backend))
}
