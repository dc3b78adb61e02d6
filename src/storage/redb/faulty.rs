//! A disk for tests, in memory: it fails where it is told to, keeps apart what is written and what
//! would survive a power loss, and remembers every call. It knows nothing of what is on it.

use super::file::Disk;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A call that changes the disk, as far as it took place.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    SetLen(u64),
    Sync,
    /// Not a call: the test says that it was told so far.
    Mark(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    SetLen,
    Sync,
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    /// With this error of the operating system, and nothing done.
    Error(i32),
    /// With this error, after half of what was to be written. A sync that fails so has lost what it
    /// was to keep, although it can still be read: the next sync succeeds without it.
    Half(i32),
    Panic,
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// Which calls fail: those that `on` accepts, after the first `after` of them, `times` in a row.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) on: fn(Call) -> bool,
    pub(crate) after: usize,
    pub(crate) times: usize,
    pub(crate) failure: Failure,
}

impl Fault {
    pub(crate) const FOR_GOOD: usize = usize::MAX;

    pub(crate) fn changes(call: Call) -> bool {
        call != Call::Read
    }
}

#[derive(Default)]
struct State {
    /// What reads find.
    seen: Vec<u8>,
    /// What a power loss leaves for certain.
    kept: Vec<u8>,
    unsynced: Vec<Change>,
    log: Vec<Change>,
    fault: Option<Fault>,
    struck: bool,
    /// Syncs wait.
    held: bool,
    waiting: usize,
}

/// Clones are handles on one disk.
#[derive(Clone)]
pub(crate) struct Faulty(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    locks: Option<FileBackend>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

pub(crate) fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { offset, data } => {
            let at = *offset as usize;
            if image.len() < at + data.len() {
                image.resize(at + data.len(), 0);
            }
            image[at..at + data.len()].copy_from_slice(data);
        }
        Change::SetLen(len) => image.resize(*len as usize, 0),
        Change::Sync | Change::Mark(_) => {}
    }
}

impl Faulty {
    /// A disk that holds `image` for certain.
    pub(crate) fn new(image: Vec<u8>) -> Self {
        Self::build(image, None)
    }

    /// An empty disk that can be locked as `file` can.
    pub(crate) fn locked_as(file: std::fs::File) -> Self {
        Self::build(Vec::new(), Some(FileBackend::new(file).unwrap()))
    }

    fn build(image: Vec<u8>, locks: Option<FileBackend>) -> Self {
        let state = State {
            seen: image.clone(),
            kept: image,
            ..State::default()
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            locks,
        }))
    }

    pub(crate) fn disk(&self) -> Disk {
        Arc::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// From now on nothing fails. Tells whether anything did.
    pub(crate) fn heal(&self) -> bool {
        let mut state = self.lock();
        state.fault = None;
        std::mem::take(&mut state.struck)
    }

    /// What a power loss now leaves, at the least.
    pub(crate) fn kept(&self) -> Vec<u8> {
        self.lock().kept.clone()
    }

    /// What a reader of the file finds now, as after the process was killed.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.lock().seen.clone()
    }

    pub(crate) fn mark(&self, number: u64) {
        self.lock().log.push(Change::Mark(number));
    }

    /// The changes since the last time.
    pub(crate) fn take_log(&self) -> Vec<Change> {
        std::mem::take(&mut self.lock().log)
    }

    /// Lets the next sync wait, returning when it does.
    pub(crate) fn hold(&self) {
        self.lock().held = true;
    }

    pub(crate) fn wait_until_held(&self) {
        let state = self.lock();
        let waited = self.0.changed.wait_while(state, |s| s.waiting == 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn release(&self) {
        self.lock().held = false;
        self.0.changed.notify_all();
    }

    /// How the next call of this kind goes wrong, if it does.
    fn next(state: &mut State, call: Call) -> Option<Failure> {
        let fault = state.fault.as_mut().filter(|fault| (fault.on)(call))?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        if fault.times == 0 {
            return None;
        }
        fault.times -= 1;
        let failure = fault.failure;
        state.struck = true;
        Some(failure)
    }

    fn change(&self, call: Call, change: Change) -> io::Result<()> {
        let mut state = self.lock();
        let failure = Self::next(&mut state, call);
        match failure {
            None => {
                apply(&mut state.seen, &change);
                state.unsynced.push(change.clone());
                state.log.push(change);
                Ok(())
            }
            Some(Failure::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Failure::Half(code)) => {
                if let Change::Write { offset, mut data } = change {
                    data.truncate(data.len() / 2);
                    let change = Change::Write { offset, data };
                    apply(&mut state.seen, &change);
                    state.unsynced.push(change.clone());
                    state.log.push(change);
                }
                Err(io::Error::from_raw_os_error(code))
            }
            Some(Failure::Panic) => panic!("the disk was told to panic"),
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.lock();
        match Self::next(&mut state, Call::Read) {
            None => {}
            Some(Failure::Panic) => panic!("the disk was told to panic"),
            Some(Failure::Error(code) | Failure::Half(code)) => {
                return Err(io::Error::from_raw_os_error(code));
            }
        }
        let at = offset as usize;
        match state.seen.get(at..at + out.len()) {
            Some(from) => out.copy_from_slice(from),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Call::SetLen, Change::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.held {
            state.waiting += 1;
            self.0.changed.notify_all();
            let waited = self.0.changed.wait_while(state, |state| state.held);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        match Self::next(&mut state, Call::Sync) {
            None => {
                let State { kept, unsynced, .. } = &mut *state;
                for change in unsynced.drain(..) {
                    apply(kept, &change);
                }
                state.log.push(Change::Sync);
                Ok(())
            }
            Some(Failure::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Failure::Half(code)) => {
                // The length is kept by the file system's own journal.
                let State { kept, unsynced, .. } = &mut *state;
                for change in unsynced.drain(..) {
                    if let Change::SetLen(_) = change {
                        apply(kept, &change);
                    }
                }
                Err(io::Error::from_raw_os_error(code))
            }
            Some(Failure::Panic) => panic!("the disk was told to panic"),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let data = data.to_vec();
        self.change(Call::Write, Change::Write { offset, data })
    }

    fn close(&self) -> io::Result<()> {
        match &self.0.locks {
            Some(file) => file.close(),
            None => Ok(()),
        }
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match &self.0.locks {
            Some(file) => file.try_lock_range(start, end),
            None => Err(BackendError::Unsupported),
        }
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        match &self.0.locks {
            Some(file) => file.unlock_range(start, end),
            None => Err(BackendError::Unsupported),
        }
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match &self.0.locks {
            Some(file) => file.query_lock_range(start, end),
            None => Err(BackendError::Unsupported),
        }
    }
}
