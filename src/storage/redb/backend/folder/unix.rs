//! A folder that is held open, so that it stays the same one when its path leads elsewhere: the process
//! changed its working folder, the folder was moved, a link was switched.

use super::files::{Access, Folder, NewFile, backend, no_regular_file};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::failure::random;
use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// For reading and writing, and not where a link leads: the path was resolved when the store was opened.
const READ_WRITE: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// For reading alone, in the same way. It does not wait for the other end of a pipe.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

#[derive(Debug)]
pub(super) struct HeldFolder(Arc<File>);

impl HeldFolder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        Ok(Self(Arc::new(folder.into())))
    }

    fn open_with(&self, name: &OsStr, flags: OFlags) -> io::Result<Disk> {
        let file = retry_on_intr(|| openat(&*self.0, name, flags, Mode::empty()));
        let file = file.map_err(|error| match error {
            // A link, or a socket.
            Errno::LOOP | Errno::NXIO => no_regular_file(),
            error => io::Error::from(error),
        })?;
        backend(file.into())
    }

    fn is_there(&self, name: &OsStr) -> bool {
        statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

impl Folder for HeldFolder {
    fn open(&self, name: &OsStr) -> io::Result<Disk> {
        self.open_with(name, READ_WRITE)
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<Disk> {
        self.open_with(name, READ)
    }

    fn make(&self) -> io::Result<Box<dyn NewFile>> {
        #[cfg(target_os = "linux")]
        if let Some(made) = nameless::make(&self.0) {
            return Ok(Box::new(made));
        }
        Ok(Box::new(TempFile::make(&self.0)?))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&*self.0, name, AtFlags::empty())?)
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match rustix::fs::renameat_with(
            &*self.0,
            from,
            &*self.0,
            to,
            rustix::fs::RenameFlags::NOREPLACE,
        ) {
            // Not on every file system.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            renamed => return Ok(renamed?),
        }
        if self.is_there(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(renameat(&*self.0, from, &*self.0, to)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn has_other_names(&self, name: &OsStr) -> io::Result<bool> {
        let stat = statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(stat.st_nlink > 1)
    }

    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
        let stat = statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        #[allow(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "of other types elsewhere; the standard library casts them so"
        )]
        Ok(Some((stat.st_dev as u64, stat.st_ino as u64)))
    }

    fn access(&self, name: &OsStr) -> io::Result<Access> {
        let stat = statat(&*self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let user = rustix::process::geteuid().as_raw();
        let mode = Mode::from_raw_mode(stat.st_mode);
        Ok(if stat.st_uid != user {
            let owner = stat.st_uid;
            Access::Foreign { owner, user }
        } else if mode.intersects(Mode::RWXG | Mode::RWXO) {
            let permissions = mode & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
            #[allow(clippy::useless_conversion, reason = "of 16 bits elsewhere")]
            let mode = permissions.bits().into();
            Access::Shared { mode }
        } else {
            Access::Own
        })
    }
}

fn identity_of(file: &File) -> io::Result<Option<(u64, u64)>> {
    let metadata = file.metadata()?;
    Ok(Some((metadata.dev(), metadata.ino())))
}

/// Gives a file the owner, the group and the permissions of another one.
fn share_as(file: &File, folder: &File, name: &OsStr) -> io::Result<()> {
    let like = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let own = file.metadata()?;
    if (like.st_uid, like.st_gid) != (own.uid(), own.gid()) {
        std::os::unix::fs::fchown(file, Some(like.st_uid), Some(like.st_gid))?;
    }
    // Last: a change of the owner can take permissions away.
    let permissions = Mode::from_raw_mode(like.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
    Ok(rustix::fs::fchmod(file, permissions)?)
}

/// Gives a file the owner and the group of another one of another user, if this process may.
fn belong_as(file: &File, folder: &File, name: &OsStr) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};

    let like = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        like => like?,
    };
    if like.st_uid == file.metadata()?.uid() {
        return Ok(());
    }
    match std::os::unix::fs::fchown(file, Some(like.st_uid), Some(like.st_gid)) {
        // A user who is not known here, or a file system without users.
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Ok(())
        }
        given => given,
    }
}

/// A file under a temporary name, which a maker that is killed leaves behind.
struct TempFile {
    folder: Arc<File>,
    name: OsString,
    file: File,
}

impl TempFile {
    fn make(folder: &Arc<File>) -> io::Result<Self> {
        let name = temporary_name()?;
        let flags = READ_WRITE | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry_on_intr(|| openat(&**folder, &name, flags, mode))?;
        Ok(Self {
            folder: folder.clone(),
            name,
            file: file.into(),
        })
    }
}

/// Not made of the store's name, which may be as long as the system allows.
fn temporary_name() -> io::Result<OsString> {
    let number = random().map_err(io::Error::other)?;
    Ok(format!(".cloakroom-{:016x}.new", u64::from_le_bytes(number)).into())
}

impl NewFile for TempFile {
    fn disk(&self) -> io::Result<Disk> {
        HeldFolder(self.folder.clone()).open(&self.name)
    }

    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        identity_of(&self.file)
    }

    fn share_as(&self, name: &OsStr) -> io::Result<()> {
        share_as(&self.file, &self.folder, name)
    }

    fn belong_as(&self, name: &OsStr) -> io::Result<()> {
        belong_as(&self.file, &self.folder, name)
    }

    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let folder = &*self.folder;
        match linkat(folder, &self.name, folder, name, AtFlags::empty()) {
            // Not every file system has links.
            Err(error) if error != Errno::EXIST => {
                HeldFolder(self.folder.clone()).rename(&self.name, name)
            }
            linked => Ok(linked?),
        }
    }

    fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        Ok(renameat(&*self.folder, &self.name, &*self.folder, name)?)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = unlinkat(&*self.folder, &self.name, AtFlags::empty());
    }
}

/// Files without a name, which go with their maker.
#[cfg(target_os = "linux")]
mod nameless {
    use super::{
        Disk, NewFile, TempFile, backend, belong_as, identity_of, share_as, temporary_name,
    };
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
    use std::ffi::OsStr;
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;
    use std::sync::Arc;

    struct Nameless(File, Arc<File>);

    impl Nameless {
        /// Where the system shows it as long as it is open.
        fn path(&self) -> PathBuf {
            format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
        }
    }

    /// `None` where the file system or the system cannot.
    pub(super) fn make(folder: &Arc<File>) -> Option<impl NewFile + 'static> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(&**folder, c".", flags, Mode::RUSR | Mode::WUSR).ok()?;
        let made = Nameless(file.into(), folder.clone());
        made.path().exists().then_some(made)
    }

    impl NewFile for Nameless {
        fn disk(&self) -> io::Result<Disk> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.path())?;
            backend(file)
        }

        fn identity(&self) -> io::Result<Option<(u64, u64)>> {
            identity_of(&self.0)
        }

        fn share_as(&self, name: &OsStr) -> io::Result<()> {
            share_as(&self.0, &self.1, name)
        }

        fn belong_as(&self, name: &OsStr) -> io::Result<()> {
            belong_as(&self.0, &self.1, name)
        }

        fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
            let flags = AtFlags::SYMLINK_FOLLOW;
            Ok(linkat(CWD, self.path(), &*self.1, name, flags)?)
        }

        /// Nothing but a name takes another file's.
        fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()> {
            let folder = self.1.clone();
            let file = self.0.try_clone()?;
            let temporary = temporary_name()?;
            self.publish(&temporary)?;
            let named = TempFile {
                folder,
                name: temporary,
                file,
            };
            Box::new(named).replace(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    // C7.3: where the system gives no files without a name.
    #[test]
    fn a_file_under_a_temporary_name_takes_its_own_or_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = HeldFolder::open(place.path()).unwrap();
        let names = || {
            let entries = fs::read_dir(place.path()).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name());
            names.collect::<Vec<_>>()
        };
        let make = |content: &[u8]| {
            let made = TempFile::make(&folder.0).unwrap();
            made.disk().unwrap().write(0, content).unwrap();
            Box::new(made)
        };
        drop(make(b"dropped"));
        assert!(names().is_empty());
        make(b"first").publish("x".as_ref()).unwrap();
        let error = make(b"second").publish("x".as_ref()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(), ["x"]);
        let before = folder.identity("x".as_ref()).unwrap();
        make(b"third").replace("x".as_ref()).unwrap();
        assert_ne!(folder.identity("x".as_ref()).unwrap(), before);
        assert_eq!(fs::read(place.path().join("x")).unwrap(), b"third");
        folder.make().unwrap().replace("x".as_ref()).unwrap();
        assert_eq!(names(), ["x"]);
        assert_eq!(fs::read(place.path().join("x")).unwrap(), b"");
        folder.remove("x".as_ref()).unwrap();
        make(b"first").publish("x".as_ref()).unwrap();
        assert_eq!(fs::read(place.path().join("x")).unwrap(), b"first");
    }

    // C7.4
    #[test]
    fn a_folder_that_was_moved_is_still_the_one_that_was_opened() {
        let place = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| place.path().join(name));
        fs::create_dir(&one).unwrap();
        let folder = HeldFolder::open(&one).unwrap();
        fs::rename(&one, &other).unwrap();
        fs::create_dir(&one).unwrap();
        folder.make().unwrap().publish("x".as_ref()).unwrap();
        folder.rename("x".as_ref(), "y".as_ref()).unwrap();
        folder.sync().unwrap();
        assert!(other.join("y").exists());
        assert!(fs::read_dir(&one).unwrap().next().is_none());
        folder.open("y".as_ref()).unwrap();
        folder.remove("y".as_ref()).unwrap();
        assert!(!other.join("y").exists());
    }
}
