//! The content of a disk, and the outcome of the next call.

use super::calls::{Call, Counts, EIO, ENOSPC, Failure, Fault};
use super::file::File;
use super::not_found;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;

pub(super) type Names = BTreeMap<OsString, usize>;

#[derive(Default)]
pub(super) struct State {
    pub(super) files: Vec<File>,
    pub(super) names: Names,
    pub(super) kept_names: Names,
    /// Names given, or taken away.
    pub(super) unsynced_names: Vec<(OsString, Option<usize>)>,
    pub(super) handles: usize,
    pub(super) counts: Counts,
    pub(super) fault: Option<Fault>,
    pub(super) struck: bool,
    /// No file can grow.
    pub(super) full: bool,
    /// Parts of files that cannot be read.
    pub(super) spoilt: Vec<(usize, Range<u64>)>,
    /// Operations until the crash.
    pub(super) left: Option<u64>,
    pub(super) crashed: bool,
    /// Decides which data a failed sync loses.
    pub(super) chance: Rng,
    /// Syncs wait.
    pub(super) held: bool,
    pub(super) waiting: usize,
}

/// What a call does besides failing.
pub(super) enum Turn {
    Goes,
    /// A part of it takes place, and then it fails.
    Half(i32),
}

impl State {
    /// Counts a call, and says how it goes.
    pub(super) fn turn(&mut self, call: Call) -> io::Result<Turn> {
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

    pub(super) fn room_for(&self, file: usize, len: u64) -> io::Result<()> {
        if self.full && len > self.files[file].seen.len() as u64 {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    pub(super) fn name(&mut self, name: &OsStr, file: usize) {
        self.names.insert(name.to_owned(), file);
        self.unsynced_names.push((name.to_owned(), Some(file)));
    }

    pub(super) fn unname(&mut self, name: &OsStr) -> io::Result<usize> {
        let file = self.names.remove(name).ok_or_else(not_found)?;
        self.unsynced_names.push((name.to_owned(), None));
        Ok(file)
    }

    pub(super) fn file(&self, name: &OsStr) -> Option<&File> {
        self.files.get(*self.names.get(name)?)
    }
}
