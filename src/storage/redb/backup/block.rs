//! The blocks of a backup file: how they are written and read, one after the other. Each is bound to its file and to its
//! place in it.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::BackupRow;
use crate::storage::record::{
    BackupCounts, BackupHeader, BackupRecord, open_backup, seal_backup_end, seal_backup_header,
    seal_backup_rows,
};
use std::io::{ErrorKind as IoKind, Read, Write};

/// The first bytes of a backup.
const MAGIC: &[u8; 16] = b"cloakroom backup";
/// The version of the format that this version of the crate writes.
const VERSION: u32 = 1;
/// The rows of a block have about so many bytes at least, unless no more come.
const ENOUGH: usize = 128 << 10;
/// The largest block. It bounds what a reader takes a damaged length for.
const LARGEST: u32 = 1 << 30;

/// Tells one backup from all others: random bytes.
pub(crate) type BackupId = [u8; 16];

/// The key of a block's record.
fn block_key(id: &BackupId, number: u64) -> [u8; 24] {
    let mut key = [0; 24];
    for (to, from) in key.iter_mut().zip(id.iter().chain(&number.to_le_bytes())) {
        *to = *from;
    }
    key
}

pub(super) fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the backup is damaged: {why}"))
}

/// Key and value.
fn parts(row: &BackupRow) -> (&[u8], Option<&[u8]>) {
    (&row.key, row.value.as_deref())
}

fn write_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the backup cannot be written").with_source(error)
}

/// Writes a backup.
pub(super) struct BlockWriter<W> {
    out: W,
    id: BackupId,
    number: u64,
    rows: Vec<BackupRow>,
    /// Bytes of those.
    held: usize,
    written: u64,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(mut out: W, id: BackupId, header: &BackupHeader) -> Result<Self> {
        let head = [&MAGIC[..], &VERSION.to_le_bytes(), &id].concat();
        out.write_all(&head).map_err(write_failed)?;
        let mut writer = Self {
            out,
            id,
            number: 0,
            rows: Vec::new(),
            held: 0,
            written: head.len() as u64,
        };
        let key = block_key(&id, 0);
        writer.write(&seal_backup_header(&key, header)?)?;
        Ok(writer)
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    fn write(&mut self, record: &[u8]) -> Result<()> {
        let len = u32::try_from(record.len())
            .ok()
            .filter(|len| *len <= LARGEST);
        let len = len.ok_or_else(|| Error::new(ErrorKind::TooLarge, "a row is too large"))?;
        self.out
            .write_all(&len.to_le_bytes())
            .and_then(|()| self.out.write_all(record))
            .map_err(write_failed)?;
        self.number += 1;
        self.written += 4 + u64::from(len);
        Ok(())
    }

    pub(super) fn put(&mut self, row: BackupRow) -> Result<()> {
        self.held += row.key.len() + row.value.as_ref().map_or(0, bytes::Bytes::len);
        self.rows.push(row);
        if self.held >= ENOUGH {
            self.flush_rows()?;
        }
        Ok(())
    }

    fn flush_rows(&mut self) -> Result<()> {
        self.held = 0;
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let key = block_key(&self.id, self.number);
        self.write(&seal_backup_rows(&key, rows.iter().map(parts))?)
    }

    /// Ends the backup. Returns what it was written to.
    pub(super) fn finish(mut self, counts: BackupCounts) -> Result<(W, u64)> {
        self.flush_rows()?;
        let key = block_key(&self.id, self.number);
        self.write(&seal_backup_end(&key, counts)?)?;
        self.out.flush().map_err(write_failed)?;
        Ok((self.out, self.written))
    }
}

/// Reads a backup.
pub(super) struct BlockReader<R> {
    input: R,
    pub(super) id: BackupId,
    pub(super) header: BackupHeader,
    number: u64,
    record: Vec<u8>,
    read: u64,
}

/// The content of a block after the first one.
pub(super) enum Block<'a> {
    Rows(Vec<(&'a [u8], Option<&'a [u8]>)>),
    End(BackupCounts),
}

impl<R: Read> BlockReader<R> {
    /// Reads the header.
    pub(super) fn new(mut input: R) -> Result<Self> {
        let mut magic = [0; MAGIC.len()];
        read_exact(&mut input, &mut magic).map_err(|error| match error.kind() {
            ErrorKind::Corrupt => not_a_backup(),
            _ => error,
        })?;
        if magic != *MAGIC {
            return Err(not_a_backup());
        }
        let mut version = [0; 4];
        read_exact(&mut input, &mut version)?;
        match u32::from_le_bytes(version) {
            0 => return Err(damaged("it has no version")),
            VERSION => {}
            newer => {
                let why = format!(
                    "the backup has version {newer} of the format; this version reads up to {VERSION}"
                );
                return Err(Error::new(ErrorKind::TooNew, why));
            }
        }
        let mut id = [0; 16];
        read_exact(&mut input, &mut id)?;
        let mut record = Vec::new();
        let mut read = (MAGIC.len() + version.len() + id.len()) as u64;
        read += read_record(&mut input, &mut record)?;
        let BackupRecord::Header(header) = open_backup(&block_key(&id, 0), &record)? else {
            return Err(damaged("it does not begin with its header"));
        };
        Ok(Self {
            input,
            id,
            header,
            number: 1,
            record,
            read,
        })
    }

    pub(super) fn input(&self) -> &R {
        &self.input
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// The next block. After the end, the file must end.
    pub(super) fn next(&mut self) -> Result<Block<'_>> {
        let key = block_key(&self.id, self.number);
        self.read += read_record(&mut self.input, &mut self.record)?;
        self.number += 1;
        match open_backup(&key, &self.record)? {
            BackupRecord::Header(_) => Err(damaged("it has two headers")),
            BackupRecord::Rows(rows) => Ok(Block::Rows(rows)),
            BackupRecord::End(counts) => {
                let more = self.input.by_ref().take(1).read_to_end(&mut Vec::new());
                match more.map_err(read_failed)? {
                    0 => Ok(Block::End(counts)),
                    _ => Err(damaged("something follows its end")),
                }
            }
        }
    }
}

fn not_a_backup() -> Error {
    Error::new(ErrorKind::NotAStore, "this is not a backup of a store")
}

fn read_failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the backup cannot be read").with_source(error)
}

fn read_exact(input: &mut impl Read, out: &mut [u8]) -> Result<()> {
    input.read_exact(out).map_err(|error| match error.kind() {
        IoKind::UnexpectedEof => damaged("it is cut short"),
        _ => read_failed(error),
    })
}

/// Reads a block. It takes no more memory than the file has bytes. Returns how many bytes it read.
fn read_record(input: &mut impl Read, record: &mut Vec<u8>) -> Result<u64> {
    let mut len = [0; 4];
    read_exact(input, &mut len)?;
    let len = u32::from_le_bytes(len);
    if len > LARGEST {
        return Err(damaged("a block is too long"));
    }
    record.clear();
    let read = input.by_ref().take(len.into()).read_to_end(record);
    if read.map_err(read_failed)? as u64 != u64::from(len) {
        return Err(damaged("it is cut short"));
    }
    Ok(4 + u64::from(len))
}
