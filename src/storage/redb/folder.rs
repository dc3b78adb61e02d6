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
use tempfile::NamedTempFile;

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

    /// A new, empty file without its lasting name.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn make(&self) -> io::Result<Box<dyn Made>>;

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
}

/// A file that is being made; dropped, it is gone.
#[allow(unreachable_pub, reason = "public for the fault harness alone")]
pub trait Made {
    /// The file.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    fn disk(&self) -> io::Result<Disk>;

    /// Gives it its lasting name.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists), where something bears that name.
    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()>;
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

    /// A file beside this one.
    pub(super) fn beside(&self, name: OsString) -> Self {
        Self {
            folder: self.folder.clone(),
            path: self.path.with_file_name(&name),
            name,
        }
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

    fn make(&self) -> io::Result<Box<dyn Made>> {
        #[cfg(target_os = "linux")]
        if let Some(made) = nameless::make(&self.0) {
            return Ok(Box::new(made));
        }
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

    fn sync(&self) -> io::Result<()> {
        // Elsewhere a folder cannot be opened, and its names need no sync of their own.
        if cfg!(unix) {
            File::open(&self.0)?.sync_all()?;
        }
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
}

/// Files without a name, which go with their maker.
#[cfg(target_os = "linux")]
mod nameless {
    use super::{Disk, Made, backend};
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
    use std::ffi::OsStr;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    struct Nameless(File, PathBuf);

    impl Nameless {
        /// Where the system shows it as long as it is open.
        fn path(&self) -> PathBuf {
            format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
        }
    }

    /// `None` where the file system or the system cannot.
    pub(super) fn make(folder: &Path) -> Option<impl Made + 'static> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR).ok()?;
        let made = Nameless(file.into(), folder.to_owned());
        made.path().exists().then_some(made)
    }

    impl Made for Nameless {
        fn disk(&self) -> io::Result<Disk> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.path())?;
            backend(file)
        }

        fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
            let name = self.1.join(name);
            Ok(linkat(
                CWD,
                self.path(),
                CWD,
                name,
                AtFlags::SYMLINK_FOLLOW,
            )?)
        }
    }
}
