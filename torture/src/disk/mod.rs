//! A disk in memory with one folder: it counts what is asked of it, fails where it is told to, can
//! crash at any operation, and knows what a power loss then leaves. It knows nothing of what is on it.

mod file;
mod loss;

pub use file::{Change, apply};

use cloakroom::torture::{Folder, NewFile};
use fastrand::Rng;
use file::{File, Handle, ReadHandle};
use redb::StorageBackend;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The kinds of calls that a store makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reading a file.
    Read,
    /// Writing to one.
    Write,
    /// Changing the length of one.
    SetLen,
    /// Making what was written to a file last.
    Sync,
    /// Making, naming or removing a file.
    Name,
    /// Making the names last.
    SyncNames,
}

impl Call {
    /// Whether it can change what is on the disk.
    pub fn changes(self) -> bool {
        self != Self::Read
    }
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// With this error of the operating system, and nothing done.
    Error(i32),
    /// With this error, after a part of what was to be done. A sync that fails so has lost some of what
    /// it was to keep, although all of it can still be read: the next sync succeeds without it.
    Half(i32),
    /// With a panic.
    Panic,
}

/// The disk is broken.
pub const EIO: i32 = 5;
/// The file is not open for that.
const EBADF: i32 = 9;
/// The disk is full.
pub const ENOSPC: i32 = 28;

/// Which calls fail: those that `on` accepts, after the first `after` of them, `times` in a row.
#[derive(Clone, Copy)]
pub struct Fault {
    /// Which calls.
    pub on: fn(Call) -> bool,
    /// How many of them succeed before.
    pub after: usize,
    /// How many of them fail then.
    pub times: usize,
    /// How.
    pub failure: Failure,
}

impl Fault {
    /// As often as they are made.
    pub const FOR_GOOD: usize = usize::MAX;
}

/// How often a disk was asked for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Bytes of the largest of those, as it was asked for.
    pub largest_read: u64,
    /// Writes.
    pub writes: u64,
    /// Bytes of those.
    pub bytes_written: u64,
    /// Changes of a length.
    pub extensions: u64,
    /// Syncs, those of the folder included.
    pub syncs: u64,
    /// Files made or named.
    pub names: u64,
    /// Calls that were made to fail.
    pub faults: u64,
}

impl Counts {
    /// Operations that change the disk: the points at which it can crash.
    pub fn operations(&self) -> u64 {
        self.writes + self.extensions + self.syncs + self.names
    }

    fn count(&mut self, call: Call) {
        match call {
            Call::Read => self.reads += 1,
            Call::Write => self.writes += 1,
            Call::SetLen => self.extensions += 1,
            Call::Sync | Call::SyncNames => self.syncs += 1,
            Call::Name => self.names += 1,
        }
    }
}

type Names = BTreeMap<OsString, usize>;

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: Names,
    kept_names: Names,
    /// Names given, or taken away.
    unsynced_names: Vec<(OsString, Option<usize>)>,
    handles: usize,
    counts: Counts,
    fault: Option<Fault>,
    struck: bool,
    /// No file can grow.
    full: bool,
    /// Parts of files that cannot be read.
    spoilt: Vec<(usize, Range<u64>)>,
    /// Operations until the crash.
    left: Option<u64>,
    crashed: bool,
    /// What a failed sync loses, is chance.
    chance: Rng,
    /// Syncs wait.
    held: bool,
    waiting: usize,
}

/// What a call does besides failing.
enum Turn {
    Goes,
    /// A part of it takes place, and then it fails.
    Half(i32),
}

impl State {
    /// Counts a call, and says how it goes.
    fn turn(&mut self, call: Call) -> io::Result<Turn> {
        if self.crashed {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.counts.count(call);
        if call.changes()
            && let Some(left) = &mut self.left
        {
            *left -= 1;
            if *left == 0 {
                self.crashed = true;
                return Ok(Turn::Half(EIO));
            }
        }
        let Some(fault) = self.fault.as_mut().filter(|fault| (fault.on)(call)) else {
            return Ok(Turn::Goes);
        };
        if fault.after > 0 {
            fault.after -= 1;
            return Ok(Turn::Goes);
        }
        if fault.times == 0 {
            return Ok(Turn::Goes);
        }
        fault.times -= 1;
        self.struck = true;
        self.counts.faults += 1;
        match fault.failure {
            Failure::Error(code) => Err(io::Error::from_raw_os_error(code)),
            Failure::Half(code) => Ok(Turn::Half(code)),
            // Only what stands on a file can be told to panic.
            Failure::Panic if matches!(call, Call::Name | Call::SyncNames) => {
                Err(io::Error::from_raw_os_error(EIO))
            }
            Failure::Panic => panic!("the disk was told to panic"),
        }
    }

    fn room_for(&self, file: usize, len: u64) -> io::Result<()> {
        if self.full && len > self.files[file].seen.len() as u64 {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    fn name(&mut self, name: &OsStr, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.unsynced_names.push((name.to_owned(), Some(file)));
    }

    fn unname(&mut self, name: &OsStr) -> io::Result<usize> {
        let file = self.names.remove(name).ok_or_else(not_found)?;
        self.unsynced_names.push((name.to_owned(), None));
        Ok(file)
    }

    fn file(&self, name: &OsStr) -> Option<&File> {
        self.files.get(*self.names.get(name)?)
    }
}

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

    /// From now on no file can grow, new ones included; what is in its place can be written.
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

    /// What was asked of it so far.
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

    /// What the disk holds after a power loss at this moment: what was synced, and by chance some of the
    /// rest, by sectors, in any order.
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

    /// What the disk holds after the process was killed: all that was written.
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

impl Disk {
    fn handle(&self, state: &mut State, file: usize) -> Arc<dyn StorageBackend> {
        state.handles += 1;
        Arc::new(Handle {
            disk: self.clone(),
            file,
            owner: state.handles,
        })
    }

    /// A call that changes the names.
    fn naming(&self, change: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        match state.turn(Call::Name)? {
            Turn::Goes => change(&mut state),
            // It took place, but nobody is told so.
            Turn::Half(code) => {
                change(&mut state)?;
                Err(io::Error::from_raw_os_error(code))
            }
        }
    }
}

impl Folder for Disk {
    fn open(&self, name: &OsStr) -> io::Result<Arc<dyn StorageBackend>> {
        let mut state = self.lock();
        let file = *state.names.get(name).ok_or_else(not_found)?;
        Ok(self.handle(&mut state, file))
    }

    fn open_to_read(&self, name: &OsStr) -> io::Result<Arc<dyn StorageBackend>> {
        let mut state = self.lock();
        let file = *state.names.get(name).ok_or_else(not_found)?;
        state.handles += 1;
        Ok(Arc::new(ReadHandle(Handle {
            disk: self.clone(),
            file,
            owner: state.handles,
        })))
    }

    fn make(&self) -> io::Result<Box<dyn NewFile>> {
        let mut made = 0;
        self.naming(|state| {
            made = state.files.len();
            state.files.push(File::new(Vec::new()));
            Ok(())
        })?;
        let disk = self.clone();
        Ok(Box::new(Nameless { disk, file: made }))
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.naming(|state| state.unname(name).map(drop))
    }

    fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.naming(|state| {
            if state.names.contains_key(to) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let file = state.unname(from)?;
            state.name(to, file);
            Ok(())
        })
    }

    fn identity(&self, name: &OsStr) -> io::Result<Option<(u64, u64)>> {
        let file = *self.lock().names.get(name).ok_or_else(not_found)?;
        Ok(Some((0, file as u64)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock_to_sync();
        match state.turn(Call::SyncNames)? {
            Turn::Goes => {
                state.kept_names = state.names.clone();
                state.unsynced_names.clear();
                Ok(())
            }
            Turn::Half(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// A file without a name.
struct Nameless {
    disk: Disk,
    file: usize,
}

impl NewFile for Nameless {
    fn disk(&self) -> io::Result<Arc<dyn StorageBackend>> {
        Ok(self.disk.handle(&mut self.disk.lock(), self.file))
    }

    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(Some((0, self.file as u64)))
    }

    fn publish(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let file = self.file;
        self.disk.naming(|state| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.name(name, file);
            Ok(())
        })
    }

    fn replace(self: Box<Self>, name: &OsStr) -> io::Result<()> {
        let file = self.file;
        self.disk.naming(|state| {
            if !state.names.contains_key(name) {
                return Err(not_found());
            }
            state.name(name, file);
            Ok(())
        })
    }
}
