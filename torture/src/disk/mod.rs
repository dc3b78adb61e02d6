//! A disk in memory with one folder. It counts its calls, fails where it is told to, can crash at any operation, and
//! knows the content after a power loss. It knows nothing of the format of its files.

mod calls;
mod file;
mod folder;
mod loss;
mod state;

pub use calls::{Call, Counts, EIO, ENOSPC, Failure, Fault};
pub use file::{Change, apply};

use calls::EBADF;
use cloakroom::torture::Folder;
use fastrand::Rng;
use file::File;
use state::{State, Turn};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Clones are handles on one disk.
#[derive(Clone)]
pub struct Disk(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Disk {
    /// An empty disk whose chance comes from this seed.
    pub fn new(seed: u64) -> Self {
        Self::of(State {
            chance: Rng::with_seed(seed),
            ..State::default()
        })
    }

    /// A disk that holds this file for certain.
    pub fn holding(name: &str, image: Vec<u8>) -> Self {
        let mut state = State {
            chance: Rng::with_seed(0),
            ..State::default()
        };
        state.files.push(File::new(image));
        state.names.insert(name.into(), 0);
        state.kept_names = state.names.clone();
        Self::of(state)
    }

    /// A disk that holds for certain the files of a store, by what follows its name in theirs.
    pub fn holding_all(name: &str, files: &BTreeMap<&'static str, Vec<u8>>) -> Self {
        let mut state = State {
            chance: Rng::with_seed(0),
            ..State::default()
        };
        for (number, (suffix, image)) in files.iter().enumerate() {
            state.files.push(File::new(image.clone()));
            state.names.insert(format!("{name}{suffix}").into(), number);
        }
        state.kept_names = state.names.clone();
        Self::of(state)
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }))
    }

    /// The folder on it, for a store to be opened in.
    pub fn folder(&self) -> Arc<dyn Folder> {
        Arc::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets calls fail from now on.
    pub fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Whether a call was made to fail.
    pub fn has_failed(&self) -> bool {
        self.lock().struck
    }

    /// From now on nothing fails. Tells whether anything did.
    pub fn heal(&self) -> bool {
        let mut state = self.lock();
        state.fault = None;
        std::mem::take(&mut state.struck)
    }

    /// From now on a part of a file cannot be read, until all of it is written.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn spoil(&self, name: &str, part: Range<u64>) {
        let mut state = self.lock();
        let file = state.names[OsStr::new(name)];
        state.spoilt.push((file, part));
    }

    /// From now on no file can grow, new ones included. Writes in place succeed.
    pub fn fill(&self) {
        self.lock().full = true;
    }

    /// Makes room again.
    pub fn free(&self) {
        self.lock().full = false;
    }

    /// All can be read again.
    pub fn mend(&self) {
        self.lock().spoilt.clear();
    }

    /// The calls so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Crashes at the n-th operation from now on that changes the disk. A part of that one may take
    /// place; all later calls fail.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    pub fn crash_at(&self, n: u64) {
        assert!(n > 0, "the first operation is number 1");
        self.lock().left = Some(n);
    }

    /// Crashes now.
    pub fn crash(&self) {
        self.lock().crashed = true;
    }

    /// Whether it has crashed.
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The disk after a power loss at this moment: all that was synced, and by chance some of the rest, by sectors, in
    /// any order.
    pub fn after_power_loss(&self, chance: &mut Rng) -> Self {
        let state = self.lock();
        let mut names = state.kept_names.clone();
        for (name, file) in loss::some_of(&state.unsynced_names, chance) {
            match file {
                Some(file) => names.insert(name.clone(), *file),
                None => names.remove(name),
            };
        }
        let files = state.files.iter();
        let left = State {
            files: files
                .map(|file| File::new(file.after_power_loss(chance)))
                .collect(),
            kept_names: names.clone(),
            names,
            chance: chance.fork(),
            spoilt: state.spoilt.clone(),
            ..State::default()
        };
        Self::of(left)
    }

    /// The disk after the process was killed: every write is there.
    pub fn after_kill(&self) -> Self {
        let state = self.lock();
        let left = State {
            files: state.files.iter().map(File::after_kill).collect(),
            names: state.names.clone(),
            kept_names: state.kept_names.clone(),
            unsynced_names: state.unsynced_names.clone(),
            chance: state.chance.clone(),
            spoilt: state.spoilt.clone(),
            ..State::default()
        };
        Self::of(left)
    }

    /// What a power loss now leaves of all files, at the least.
    pub fn all_kept(&self) -> Self {
        let state = self.lock();
        let files = state.files.iter();
        Self::of(State {
            files: files.map(|file| File::new(file.kept.clone())).collect(),
            kept_names: state.kept_names.clone(),
            names: state.kept_names.clone(),
            ..State::default()
        })
    }

    /// The names on it, in order.
    pub fn names(&self) -> Vec<OsString> {
        self.lock().names.keys().cloned().collect()
    }

    /// What a power loss now leaves of a file, at the least; empty where there is none.
    pub fn kept(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let file = state.file(name.as_ref());
        file.map(|file| file.kept.clone()).unwrap_or_default()
    }

    /// What a reader of a file finds now, as after the process was killed; empty where there is none.
    pub fn seen(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        let file = state.file(name.as_ref());
        file.map(|file| file.seen.clone()).unwrap_or_default()
    }

    /// Flips one bit of a file, as a failing disk does behind everyone's back.
    ///
    /// # Panics
    ///
    /// If there is no such file, or no such bit in it.
    pub fn flip(&self, name: &str, bit: usize) {
        let mut state = self.lock();
        let file = state.names[OsStr::new(name)];
        state.files[file].flip(bit);
    }

    /// Notes in the log of a file that somebody was told so far.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn mark(&self, name: &str, number: u64) {
        let mut state = self.lock();
        let file = state.names[OsStr::new(name)];
        state.files[file].log.push(Change::Mark(number));
    }

    /// The changes to a file since the last time.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn take_log(&self, name: &str) -> Vec<Change> {
        let mut state = self.lock();
        let file = state.names[OsStr::new(name)];
        std::mem::take(&mut state.files[file].log)
    }

    /// Lets the next sync wait.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Whether a sync waits.
    pub fn is_held(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Returns when a sync waits.
    pub fn wait_until_held(&self) {
        let state = self.lock();
        let waited = self.0.changed.wait_while(state, |s| s.waiting == 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Lets the sync that waits go on.
    pub fn release(&self) {
        self.lock().held = false;
        self.0.changed.notify_all();
    }

    /// The state, once syncs need not wait.
    fn lock_to_sync(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.held {
            state.waiting += 1;
            self.0.changed.notify_all();
            let waited = self.0.changed.wait_while(state, |state| state.held);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}
