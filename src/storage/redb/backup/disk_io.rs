//! A disk as a stream of bytes.

use crate::storage::redb::backend::disk::Disk;
use std::io::{self, Read, Write};

/// So much is written at once, and then synced. A sync of all of it at the end would hold up those of the journal.
const PORTION: usize = 256 << 10;

/// Writes a file from its beginning.
pub(super) struct DiskWriter {
    disk: Disk,
    at: u64,
    held: Vec<u8>,
    lasts: Lasts,
}

/// Whether what is written is to survive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    Yes,
    No,
}

impl DiskWriter {
    pub(super) fn new(disk: Disk) -> Self {
        Self {
            disk,
            at: 0,
            held: Vec::new(),
            lasts: Lasts::Yes,
        }
    }

    /// Of a file that this process alone needs.
    pub(super) fn of_temporary(disk: Disk) -> Self {
        Self {
            lasts: Lasts::No,
            ..Self::new(disk)
        }
    }
}

impl Write for DiskWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PORTION {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    /// Writes all of it, and makes it durable unless the file is temporary.
    fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            let end = self.at + self.held.len() as u64;
            self.disk.set_len(end)?;
            self.disk.write(self.at, &self.held)?;
            self.at = end;
            self.held.clear();
        }
        match self.lasts {
            Lasts::Yes => self.disk.sync_data(),
            Lasts::No => Ok(()),
        }
    }
}

/// So much is read at once. A file that is no longer is not held open.
pub(super) const READ: u64 = 64 << 10;

/// Reads a file from its beginning.
pub(super) struct DiskReader {
    /// `None` once all has been read.
    disk: Option<Disk>,
    at: u64,
    len: u64,
    held: Vec<u8>,
    used: usize,
}

impl DiskReader {
    pub(super) fn new(disk: Disk) -> io::Result<Self> {
        let mut reader = Self {
            len: disk.len()?,
            disk: Some(disk),
            at: 0,
            held: Vec::new(),
            used: 0,
        };
        reader.read_on()?;
        Ok(reader)
    }

    /// How many bytes the file has.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn read_on(&mut self) -> io::Result<()> {
        self.held.clear();
        self.used = 0;
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let many = (self.len - self.at).min(READ);
        self.held
            .resize(usize::try_from(many).unwrap_or_default(), 0);
        disk.read(self.at, &mut self.held)?;
        self.at += many;
        if self.at == self.len {
            self.disk = None;
        }
        Ok(())
    }
}

impl Read for DiskReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.used == self.held.len() {
            self.read_on()?;
        }
        let held = self.held.get(self.used..).unwrap_or_default();
        let many = held.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..many), held.get(..many)) {
            to.copy_from_slice(from);
        }
        self.used += many;
        Ok(many)
    }
}
