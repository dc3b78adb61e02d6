//! Waits for a lock that another process holds, and finds that process where the system tells (Linux).

use crate::error::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// Opens a file that may be locked, and retries until `wait` is over. Blocks the thread meanwhile.
pub(crate) fn waiting<T>(wait: Duration, mut open: impl FnMut() -> Result<T>) -> Result<T> {
    const FIRST_PAUSE: Duration = Duration::from_millis(5);
    const LAST_PAUSE: Duration = Duration::from_millis(100);
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match open() {
            Err(error) if error.kind() == ErrorKind::Locked => error,
            opened => return opened,
        };
        let left = wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(name_holder(error));
        }
        if pause == FIRST_PAUSE {
            tracing::info!(%error, "waiting for a lock");
        }
        std::thread::sleep(pause.min(left));
        pause = (2 * pause).min(LAST_PAUSE);
    }
}

/// Adds the process that holds the lock to an error of a locked file.
pub(crate) fn name_holder(error: Error) -> Error {
    let file = error.file().filter(|_| error.kind() == ErrorKind::Locked);
    match file.and_then(holder) {
        Some(holder) => error.and_says(&holder),
        None => error,
    }
}

#[cfg(not(target_os = "linux"))]
fn holder(_path: &std::path::Path) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
use linux::holder;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// The most open files of other processes that are examined.
    const MOST_LOOKED_AT: usize = 20_000;

    pub(crate) fn holder(path: &Path) -> Option<String> {
        let file = fs::metadata(path).ok()?;
        let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
        let id = format!("{major:02x}:{minor:02x}:{}", file.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let lock = Lock {
            inode: format!("ino:\t{}\n", file.ino()),
            id: &id,
        };
        match owner_of(&locks, &id) {
            LockHolder::Process(process) if lock.is_held_by(process).unwrap_or(true) => {
                Some(describe(process))
            }
            // The process that took the lock has closed the file or has ended, but a process forked from it still has
            // the file open.
            LockHolder::Process(former) => {
                let heir = describe(lock.find_holder()?);
                Some(format!(
                    "{heir}, forked from process {former}, which took the lock"
                ))
            }
            // The lock of an open file description, which several processes may share; or that of a process that has
            // ended or is hidden.
            LockHolder::OpenFile | LockHolder::None => Some(describe(lock.find_holder()?)),
        }
    }

    /// A lock, as it is described by the files that are open under it.
    struct Lock<'a> {
        inode: String,
        id: &'a str,
    }

    impl Lock<'_> {
        /// Whether a process has the file open under the lock; `None` if its files are not visible.
        fn is_held_by(&self, process: u32) -> Option<bool> {
            match fs::read_dir(format!("/proc/{process}/fdinfo")) {
                Ok(files) => Some(files.flatten().any(|file| self.tells_of(&file))),
                Err(error) if error.kind() == ErrorKind::NotFound => Some(false),
                Err(_) => None,
            }
        }

        fn tells_of(&self, file: &fs::DirEntry) -> bool {
            let info = fs::read_to_string(file.path()).unwrap_or_default();
            info.contains(&self.inode) && info.contains("lock:") && info.contains(self.id)
        }

        fn find_holder(&self) -> Option<u32> {
            let mut looked_at = 0;
            for process in fs::read_dir("/proc").ok()?.flatten() {
                let name = process.file_name();
                let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                let Ok(files) = fs::read_dir(process.path().join("fdinfo")) else {
                    continue;
                };
                for file in files.flatten() {
                    looked_at += 1;
                    if looked_at > MOST_LOOKED_AT {
                        return None;
                    }
                    if self.tells_of(&file) {
                        return Some(number);
                    }
                }
            }
            None
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum LockHolder {
        Process(u32),
        OpenFile,
        None,
    }

    /// Finds the holder of a file's lock in `/proc/locks`.
    pub(crate) fn owner_of(locks: &str, id: &str) -> LockHolder {
        let mut owner = LockHolder::None;
        for line in locks.lines() {
            let mut words = line.split_ascii_whitespace();
            // A line with an arrow is a waiting process.
            let process = words.nth(4);
            if words.next() != Some(id) || line.contains("->") {
                continue;
            }
            match process.and_then(|process| process.parse().ok()) {
                // A process that is not visible from here has the number 0.
                Some(process) if process > 0 => return LockHolder::Process(process),
                _ => owner = LockHolder::OpenFile,
            }
        }
        owner
    }

    fn describe(process: u32) -> String {
        if process == std::process::id() {
            return "by this process itself".to_owned();
        }
        match fs::read_to_string(format!("/proc/{process}/comm")) {
            Ok(name) => format!("by process {process} ({})", name.trim().escape_debug()),
            Err(_) => format!("by process {process}"),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::linux::{LockHolder, owner_of};
    use super::*;
    use std::fs::File;

    const LOCKS: &str = "\
1: FLOCK  ADVISORY  WRITE 13455 fe:00:11 0 EOF
2: OFDLCK ADVISORY  WRITE -1 fe:00:12 0 EOF
3: OFDLCK ADVISORY  WRITE -1 fe:00:13 0 EOF
4: FLOCK  ADVISORY  WRITE 17 fe:00:13 0 EOF
4: -> FLOCK  ADVISORY  WRITE 18 fe:00:14 0 EOF
5: FLOCK  ADVISORY  WRITE 0 fe:00:15 0 EOF
";

    #[test]
    fn the_lines_of_the_system_tell_who_holds_a_lock() {
        for (inode, owner) in [
            (11, LockHolder::Process(13455)),
            (12, LockHolder::OpenFile),
            (13, LockHolder::Process(17)),
            (14, LockHolder::None),
            (15, LockHolder::OpenFile),
            (1, LockHolder::None),
        ] {
            assert_eq!(owner_of(LOCKS, &format!("fe:00:{inode}")), owner);
        }
        assert_eq!(owner_of("", "fe:00:11"), LockHolder::None);
    }

    // C7.1
    #[test]
    fn a_lock_of_an_open_file_is_told_of_as_well() {
        use redb::StorageBackend;
        use redb::backends::FileBackend;
        use std::ops::Bound::Unbounded;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let backend = FileBackend::new(File::create_new(&path).unwrap()).unwrap();
        let locked = || {
            let locked = Error::new(ErrorKind::Locked, "it is in use");
            name_holder(locked.of_file(&path, ErrorKind::Locked)).to_string()
        };
        let path = path.display();
        assert_eq!(locked(), format!("{path}: it is in use"));
        assert!(backend.try_lock_range(Unbounded, Unbounded).unwrap());
        let expected = format!("{path}: it is in use, by this process itself");
        assert_eq!(locked(), expected);
    }
}
