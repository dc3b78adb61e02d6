//! What a store asks of a disk, and how that goes wrong.

/// The kinds of calls that a store makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reading a file.
    Read,
    /// Writing to one.
    Write,
    /// Changing the length of one.
    SetLen,
    /// Makes the writes to a file durable.
    Sync,
    /// Making, naming or removing a file.
    Name,
    /// Making the names last.
    SyncNames,
}

impl Call {
    /// Whether the call can change the disk.
    pub fn changes(self) -> bool {
        self != Self::Read
    }
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// With this error of the operating system, and nothing done.
    Error(i32),
    /// Fails with this error after a part of its work. A sync that fails like this has lost some of its data, although
    /// all of it can still be read: the next sync succeeds without it.
    Half(i32),
    /// With a panic.
    Panic,
}

/// The disk is broken.
pub const EIO: i32 = 5;

/// The file is not open for that.
pub(super) const EBADF: i32 = 9;

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

    pub(super) fn count(&mut self, call: Call) {
        match call {
            Call::Read => self.reads += 1,
            Call::Write => self.writes += 1,
            Call::SetLen => self.extensions += 1,
            Call::Sync | Call::SyncNames => self.syncs += 1,
            Call::Name => self.names += 1,
        }
    }
}
