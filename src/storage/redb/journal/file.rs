//! One file of the journal. It is complete before it gets its name. It is filled with zeros ahead of the frames, so
//! that a sync of a frame writes data only, and no metadata.

use super::frame::{self, HEADERS, JournalHeader, START, aligned};
use super::held::{HeldJournal, HeldJournals};
use super::state::Recovered;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::{Location, NewFile};
use crate::storage::redb::failure::{self, guarded, io_error, random};
use crate::storage::redb::memtable::row_key::RowWrite;
use std::io;
use std::sync::Arc;

/// The first size of a file, and the least by which it grows.
const LEAST: u64 = 64 << 10;
/// The most by which it grows at once.
const MOST: u64 = 8 << 20;
/// The most memory that is kept for the next frame.
const KEPT: usize = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Why a frame was not appended.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// Nothing of the frame was written, because the disk is full. The file can still be written.
    NoRoom(Error),
    /// The frame may have reached the disk. The file must not be written again.
    Unknown(Error),
}

impl AppendFailure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NoRoom(error) | Self::Unknown(error) => error,
        }
    }
}

/// The store and the opening that a journal file belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub(crate) store: [u8; 16],
    pub(crate) opening: [u8; 16],
}

/// A journal file that is written.
pub(crate) struct JournalFile {
    disk: Disk,
    io: Arc<FileIo>,
    owner: Owner,
    salt: u64,
    /// Where the next frame begins.
    end: u64,
    /// The end of the zeros and frames.
    allocated: u64,
    /// How much of that is durable, and how much the header records.
    synced: u64,
    told: u64,
    /// Frames up to this number were copied from the journal before.
    copied: u64,
    /// The size that the file should not exceed.
    largest: u64,
    /// The last frame. Its memory is reused.
    frame: Vec<u8>,
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the journal cannot be written").with_source(error)
}

impl JournalFile {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.io.count_write(bytes.len());
        self.disk.write(offset, bytes).map_err(failed)
    }

    fn sync(&self) -> Result<()> {
        self.disk.sync_data().map_err(failed)?;
        self.io.count_sync();
        Ok(())
    }

    /// Fills the file with zeros up to `end` at least.
    fn allocate(&mut self, end: u64) -> Result<()> {
        while self.allocated < end {
            let step = self.allocated.clamp(LEAST, MOST);
            let target = (self.allocated + step).max(end.next_multiple_of(LEAST));
            // No further beyond the bound than needed.
            let target = target.min(
                self.largest
                    .next_multiple_of(LEAST)
                    .max(end.next_multiple_of(LEAST)),
            );
            while self.allocated < target {
                let part = (target - self.allocated).min(ZEROS.len() as u64);
                self.write(
                    self.allocated,
                    ZEROS.get(..part as usize).unwrap_or_default(),
                )?;
                self.allocated += part;
            }
        }
        Ok(())
    }

    /// Writes a frame and syncs it.
    pub(crate) fn append(&mut self, number: u64, rows: &[RowWrite]) -> Result<(), AppendFailure> {
        let rows = rows.iter().map(RowWrite::as_parts);
        frame::encode_into(&mut self.frame, self.salt, number, rows)
            .map_err(AppendFailure::NoRoom)?;
        let end = self.end + self.frame.len() as u64;
        guarded(|| self.allocate(end)).map_err(AppendFailure::NoRoom)?;
        guarded(|| {
            if self.told < self.synced {
                // The other copy stays unchanged, so that one of them is always intact.
                self.write(HEADERS[0], &self.header(self.synced).encode()?)?;
            }
            self.write(self.end, &self.frame)?;
            self.sync()
        })
        .map_err(AppendFailure::Unknown)?;
        self.io.note_frame(number);
        self.told = self.synced;
        self.synced = self.allocated;
        self.end = aligned(end);
        self.frame.truncate(KEPT);
        self.frame.shrink_to(KEPT);
        Ok(())
    }

    fn header(&self, len: u64) -> JournalHeader {
        JournalHeader {
            store: self.owner.store,
            opening: self.owner.opening,
            salt: self.salt,
            copied: self.copied,
            len,
            start: START,
        }
    }

    /// Writes both copies of the header. The file is never shorter than they record.
    fn write_header(&mut self, between: impl Fn(&Self) -> Result<()>) -> Result<()> {
        let sector = self.header(self.allocated).encode()?;
        for at in HEADERS {
            self.write(at, &sector)?;
            between(self)?;
        }
        self.synced = self.allocated;
        self.told = self.allocated;
        Ok(())
    }

    /// Prepares the file for reuse. Its rows are durable in redb.
    pub(crate) fn reset(mut self) -> Result<Self> {
        let before = self.allocated;
        self.allocated = before.min(self.largest.next_multiple_of(LEAST));
        self.salt = u64::from_le_bytes(random()?);
        self.copied = 0;
        self.write_header(Self::sync)?;
        // Only after the headers, which must never record more than the file has.
        if self.allocated < before {
            self.disk.set_len(self.allocated).map_err(failed)?;
        }
        self.end = START;
        Ok(self)
    }

    /// The number of bytes until the bound.
    pub(crate) fn remaining(&self) -> u64 {
        self.largest.saturating_sub(self.end - START)
    }

    pub(crate) fn filled(&self) -> f64 {
        (self.end - START) as f64 / self.largest.max(1) as f64
    }

    pub(crate) fn len(&self) -> u64 {
        self.allocated
    }
}

/// A journal file that is being created.
pub(crate) struct FileBuilder<'a> {
    made: Box<dyn NewFile>,
    location: &'a Location,
    held: HeldJournal,
    file: JournalFile,
}

impl<'a> FileBuilder<'a> {
    pub(crate) fn new(
        location: &'a Location,
        owner: Owner,
        largest: u64,
        io: &Arc<FileIo>,
    ) -> Result<Self> {
        let cannot = |e| io_error(&location.path, "the journal cannot be made", e);
        let made = location.folder.make().map_err(cannot)?;
        let identity = made.identity().map_err(cannot)?;
        let held = HeldJournal::lock(location, made.disk().map_err(cannot)?, identity)?;
        let mut file = JournalFile {
            disk: held.disk().clone(),
            io: io.clone(),
            owner,
            salt: u64::from_le_bytes(random()?),
            end: START,
            allocated: 0,
            synced: 0,
            told: 0,
            copied: 0,
            largest,
            frame: Vec::new(),
        };
        file.allocate(LEAST)?;
        Ok(Self {
            made,
            location,
            held,
            file,
        })
    }

    /// Writes the recovered frames.
    pub(crate) fn copy(&mut self, recovered: &Recovered) -> Result<()> {
        for (number, rows) in &recovered.frames {
            let parts = rows.iter().map(|(k, v)| (&**k, v.as_deref()));
            frame::encode_into(&mut self.file.frame, self.file.salt, *number, parts)?;
            let end = self.file.end + self.file.frame.len() as u64;
            self.file.allocate(end)?;
            self.file.write(self.file.end, &self.file.frame)?;
            self.file.end = aligned(end);
            self.file.copied = *number;
        }
        Ok(())
    }

    /// Gives the file its name, and the owner of the store: if another user opens the store, and is killed, its own user
    /// can still open it. The file is held whether that succeeds or not.
    pub(crate) fn publish(
        mut self,
        store: &Location,
        holdings: &mut HeldJournals,
    ) -> Result<JournalFile> {
        self.file.write_header(|_| Ok(()))?;
        self.file.sync()?;
        holdings.add(self.file.owner.opening, self.held);
        let given = self.made.belong_as(&store.name);
        given.map_err(|e| io_error(&self.location.path, "the journal cannot be given away", e))?;
        let published = self.made.publish(&self.location.name);
        published.map_err(|e| io_error(&self.location.path, "the journal cannot be named", e))?;
        Ok(self.file)
    }
}

impl Location {
    pub(crate) fn sync_folder(&self) -> Result<()> {
        let synced = self.folder.sync();
        synced.map_err(|e| io_error(&self.path, "the store's folder cannot be synced", e))
    }
}

/// Reads at most `most` bytes from the beginning of a file.
pub(crate) fn start_of(disk: &Disk, most: u64) -> Result<Vec<u8>> {
    let unreadable =
        |e| Error::new(ErrorKind::Unavailable, "the journal cannot be read").with_source(e);
    let len = disk.len().map_err(unreadable)?.min(most);
    let len = usize::try_from(len).map_err(|_| failure::too_long())?;
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(len)
        .map_err(|_| failure::too_long())?;
    bytes.resize(len, 0);
    disk.read(0, &mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
