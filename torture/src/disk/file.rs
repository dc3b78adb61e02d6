//! A file of the simulated disk: the content for readers, the content after a power loss, and the owner of its lock.

use super::{Call, Disk, EBADF, EIO, Turn, loss};
use fastrand::Rng;
use redb::{BackendError, StorageBackend};
use std::io;
use std::ops::{Bound, Range};

/// A change to a file, as far as it took place.
#[derive(Clone, Debug)]
pub enum Change {
    /// Bytes written.
    Write {
        /// Where.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// The length changed.
    SetLen(u64),
    /// All that was changed before lasts.
    Sync,
    /// Not a change: somebody was told so far.
    Mark(u64),
}

/// Applies a change of the file to an image.
pub fn apply(image: &mut Vec<u8>, change: &Change) {
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

#[derive(Default)]
pub(super) struct File {
    /// What reads find.
    pub(super) seen: Vec<u8>,
    /// What a power loss leaves for certain.
    pub(super) kept: Vec<u8>,
    unsynced: Vec<Change>,
    pub(super) log: Vec<Change>,
    owner: Option<usize>,
}

impl File {
    pub(super) fn new(image: Vec<u8>) -> Self {
        Self {
            seen: image.clone(),
            kept: image,
            ..Self::default()
        }
    }

    pub(super) fn after_power_loss(&self, chance: &mut Rng) -> Vec<u8> {
        loss::image(&self.kept, &self.unsynced, chance)
    }

    /// The lock goes with the process.
    pub(super) fn after_kill(&self) -> Self {
        Self {
            seen: self.seen.clone(),
            kept: self.kept.clone(),
            unsynced: self.unsynced.clone(),
            ..Self::default()
        }
    }

    pub(super) fn flip(&mut self, bit: usize) {
        for image in [&mut self.seen, &mut self.kept] {
            image[bit / 8] ^= 1 << (bit % 8);
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change.clone());
        self.log.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.kept, &change);
        }
        self.log.push(Change::Sync);
    }

    /// A failed sync: some of the written data is lost for good, though all can still be read. The file system's own
    /// journal keeps the length.
    fn lose(&mut self, chance: &mut Rng) {
        let lengths = |change: &&Change| matches!(change, Change::SetLen(_));
        for change in self.unsynced.iter().filter(lengths) {
            apply(&mut self.kept, change);
        }
        self.kept = loss::image(&self.kept, &self.unsynced, chance);
        self.unsynced.clear();
    }
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) disk: Disk,
    pub(super) file: usize,
    pub(super) owner: usize,
}

fn failed(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Handle {
    /// Holds the file's lock, or finds that another handle does.
    fn is_mine(&self, takes: bool) -> bool {
        let mut state = self.disk.lock();
        let owner = &mut state.files[self.file].owner;
        if owner.is_none() && takes {
            *owner = Some(self.owner);
        }
        owner.is_none_or(|owner| owner == self.owner)
    }

    fn let_go(&self) {
        let mut state = self.disk.lock();
        let owner = &mut state.files[self.file].owner;
        if *owner == Some(self.owner) {
            *owner = None;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.file].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        if let Turn::Half(code) = state.turn(Call::Read)? {
            return Err(failed(code));
        }
        state.counts.largest_read = state.counts.largest_read.max(out.len() as u64);
        let end = offset.saturating_add(out.len() as u64);
        let meets = |part: &Range<u64>| part.start < end && offset < part.end;
        if state
            .spoilt
            .iter()
            .any(|(file, part)| *file == self.file && meets(part))
        {
            return Err(failed(EIO));
        }
        let at = offset as usize;
        let seen = &state.files[self.file].seen;
        match at.checked_add(out.len()).and_then(|end| seen.get(at..end)) {
            Some(from) => out.copy_from_slice(from),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.room_for(self.file, len)?;
        match state.turn(Call::SetLen)? {
            Turn::Goes => state.files[self.file].change(Change::SetLen(len)),
            Turn::Half(code) => return Err(failed(code)),
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock_to_sync();
        match state.turn(Call::Sync)? {
            Turn::Goes => state.files[self.file].sync(),
            // After a crash, the power loss decides which data is lost.
            Turn::Half(code) if state.crashed => return Err(failed(code)),
            Turn::Half(code) => {
                let mut chance = state.chance.fork();
                state.files[self.file].lose(&mut chance);
                return Err(failed(code));
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.room_for(self.file, offset + data.len() as u64)?;
        let turn = state.turn(Call::Write)?;
        state.counts.bytes_written += data.len() as u64;
        let written = match turn {
            Turn::Goes => data,
            Turn::Half(_) if state.crashed => data,
            Turn::Half(_) => &data[..data.len() / 2],
        };
        let end = offset + written.len() as u64;
        let is_whole = |part: &Range<u64>| offset <= part.start && part.end <= end;
        state
            .spoilt
            .retain(|(file, part)| *file != self.file || !is_whole(part));
        state.files[self.file].change(Change::Write {
            offset,
            data: written.to_vec(),
        });
        match turn {
            Turn::Goes => Ok(()),
            Turn::Half(code) => Err(failed(code)),
        }
    }

    fn close(&self) -> io::Result<()> {
        self.let_go();
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(self.is_mine(true))
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(!self.is_mine(false))
    }
}

/// A file that was opened for reading alone.
#[derive(Debug)]
pub(super) struct ReadHandle(pub(super) Handle);

fn not_permitted() -> io::Error {
    failed(EBADF)
}

impl StorageBackend for ReadHandle {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(not_permitted())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(not_permitted())
    }

    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(not_permitted())
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    /// Others that only read are kept out, too: no test has several.
    fn try_lock_shared_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_range(from, to)
    }
}
