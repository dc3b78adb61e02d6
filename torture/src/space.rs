//! A disk that can be filled and freed: a small file system where mounting is permitted, otherwise a limit on the size
//! of files.

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tempfile::TempDir;

/// So much a small disk holds.
const SIZE: u64 = 24 << 20;
/// So much of it the ballast takes.
const BALLAST: u64 = 18 << 20;

pub(crate) enum Space {
    Mounted {
        folder: TempDir,
    },
    /// Files of this process cannot grow beyond a limit.
    Limited {
        folder: TempDir,
    },
}

impl Space {
    /// A file system in memory with ballast in it.
    pub(crate) fn mounted() -> Result<Self, Errno> {
        let folder = tempfile::tempdir().unwrap();
        let data = std::ffi::CString::new(format!("size={SIZE}")).unwrap();
        mount("none", folder.path(), "tmpfs", MountFlags::empty(), &*data)?;
        let space = Self::Mounted { folder };
        fill(&space.ballast(), BALLAST).unwrap();
        Ok(space)
    }

    /// The process must have been started by [`again_without_the_signal`].
    pub(crate) fn limited() -> Self {
        let folder = tempfile::tempdir().unwrap();
        limit(Some(SIZE - BALLAST));
        Self::Limited { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Mounted { folder } | Self::Limited { folder } => folder.path(),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves nothing at all.
    pub(crate) fn exhaust(&self) {
        match self {
            Self::Mounted { .. } => {
                let rest = fill(&self.path().join("rest"), SIZE);
                let kind = rest.unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::StorageFull);
            }
            Self::Limited { .. } => limit(Some(0)),
        }
    }

    /// Takes back what [`exhaust`](Self::exhaust) did.
    pub(crate) fn relax(&self) {
        match self {
            Self::Mounted { .. } => fs::remove_file(self.path().join("rest")).unwrap(),
            Self::Limited { .. } => limit(Some(SIZE - BALLAST)),
        }
    }

    /// Makes room.
    pub(crate) fn free(&self) {
        match self {
            Self::Mounted { .. } => fs::remove_file(self.ballast()).unwrap(),
            Self::Limited { .. } => limit(None),
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Self::Mounted { folder } = self {
            let _ = unmount(folder.path(), UnmountFlags::DETACH);
        }
    }
}

fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    for _ in 0..bytes / 4096 {
        file.write_all(&[b'x'; 4096])?;
    }
    Ok(())
}

fn limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

/// Starts this program again in its own place, where a file that would become too long is an error
/// and not a signal that ends the process. Only a shell can arrange that without unsafe code.
pub(crate) fn again_without_the_signal(arguments: &[&str]) -> ExitCode {
    let error = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .exec();
    eprintln!("no shell: {error}");
    ExitCode::FAILURE
}
