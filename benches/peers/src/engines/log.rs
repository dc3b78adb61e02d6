//! A bare append-only log, preallocated by writing zeros: one write and one `fdatasync` a group. The
//! limit of what any durable store can do. It can be read after it was opened, by an index in memory.

use super::group::{Commit, Committer, fill};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Change, PACKAGES, key};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use twox_hash::XxHash3_64;

pub(crate) struct Log;

impl Peer for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn about(&self) -> &'static str {
        "append-only file of zeros, one write and one fdatasync a group: the limit"
    }

    fn make(&self, site: &Site) -> Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path(site))?;
        let mut tail = Tail {
            file: Arc::new(file),
            at: 0,
            zeroed: 0,
            sequence: 1,
            frame: Vec::new(),
        };
        fill(&mut tail, site.sessions)?;
        tail.preallocate(ROOM)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let file = OpenOptions::new().read(true).write(true).open(path(site))?;
        let (tail, index) = scan(file)?;
        Ok(Box::new(Open {
            file: tail.file.clone(),
            index,
            committer: Committer::start(tail),
        }))
    }
}

fn path(site: &Site) -> PathBuf {
    site.folder.join("log")
}

/// Zeros written ahead when the log is made, and once they are used up.
const ROOM: u64 = 512 << 20;
const MORE_ROOM: u64 = 64 << 20;
/// Length of the body, its checksum, number of the frame.
const HEADER: usize = 4 + 8 + 8;

struct Tail {
    file: Arc<File>,
    at: u64,
    zeroed: u64,
    sequence: u64,
    frame: Vec<u8>,
}

impl Commit for Tail {
    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        self.frame.clear();
        self.frame.resize(HEADER, 0);
        for change in changes {
            self.frame.push(u8::try_from(change.key.len())?);
            let length = u16::try_from(change.row.len())?;
            self.frame.extend_from_slice(&length.to_le_bytes());
            self.frame.extend_from_slice(&change.key);
            self.frame.extend_from_slice(&change.row);
        }
        let (header, body) = self.frame.split_at_mut(HEADER);
        let checksum = XxHash3_64::oneshot_with_seed(self.sequence, body);
        let (length, rest) = header.split_at_mut(4);
        let (sum, sequence) = rest.split_at_mut(8);
        length.copy_from_slice(&u32::try_from(body.len())?.to_le_bytes());
        sum.copy_from_slice(&checksum.to_le_bytes());
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        let end = self.at + self.frame.len() as u64;
        if end > self.zeroed {
            self.preallocate((end - self.zeroed).max(MORE_ROOM))?;
        }
        self.file.write_all_at(&self.frame, self.at)?;
        self.file.sync_data()?;
        self.at = end;
        self.sequence += 1;
        Ok(())
    }
}

impl Tail {
    fn preallocate(&mut self, bytes: u64) -> Result<()> {
        let zeros = vec![0; 1 << 20];
        let end = self.zeroed + bytes;
        while self.zeroed < end {
            self.file.write_all_at(&zeros, self.zeroed)?;
            self.zeroed += zeros.len() as u64;
        }
        Ok(self.file.sync_all()?)
    }
}

/// Where the latest row of a key is, by the key's hash: no two of some millions have the same. It is freed
/// at once, so that closing takes no time for it.
type Index = HashMap<u64, (u64, u16)>;

/// Reads the log to its end: the first frame that is not whole, or not the next.
fn scan(file: File) -> Result<(Tail, Index)> {
    let zeroed = file.metadata()?.len();
    let (mut at, mut sequence) = (0, 1_u64);
    let mut index = Index::new();
    let mut header = [0; HEADER];
    let mut body = Vec::new();
    while at + HEADER as u64 <= zeroed {
        file.read_exact_at(&mut header, at)?;
        let (length, rest) = header.split_at(4);
        let (sum, number) = rest.split_at(8);
        let length = u32::from_le_bytes(length.try_into()?) as usize;
        let start = at + HEADER as u64;
        if length == 0 || number != sequence.to_le_bytes() || start + length as u64 > zeroed {
            break;
        }
        body.resize(length, 0);
        file.read_exact_at(&mut body, start)?;
        if sum != XxHash3_64::oneshot_with_seed(sequence, &body).to_le_bytes() {
            break;
        }
        note(&mut index, &body, start).context("a frame with a good checksum")?;
        (at, sequence) = (start + length as u64, sequence + 1);
    }
    let file = Arc::new(file);
    let frame = Vec::new();
    let tail = Tail {
        file,
        at,
        zeroed,
        sequence,
        frame,
    };
    Ok((tail, index))
}

fn note(index: &mut Index, mut body: &[u8], mut at: u64) -> Option<()> {
    while !body.is_empty() {
        let (&[key_len, low, high], rest) = body.split_first_chunk()?;
        let row_len = u16::from_le_bytes([low, high]);
        let (key, rest) = rest.split_at_checked(key_len.into())?;
        let (_, rest) = rest.split_at_checked(row_len.into())?;
        let row_at = at + 3 + u64::from(key_len);
        index.insert(XxHash3_64::oneshot(key), (row_at, row_len));
        at = row_at + u64::from(row_len);
        body = rest;
    }
    Some(())
}

struct Open {
    file: Arc<File>,
    index: Index,
    committer: Committer<Tail>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(self.committer.writer())
    }

    fn reader(&self) -> Result<Reader<'_>> {
        let mut row = Vec::new();
        Ok(Box::new(move |session, see| {
            for package in ["", PACKAGES[0], PACKAGES[1]] {
                let (at, length) = self
                    .index
                    .get(&XxHash3_64::oneshot(&key(session, package)))
                    .context("no such row")?;
                row.resize((*length).into(), 0);
                self.file.read_exact_at(&mut row, *at)?;
                if !package.is_empty() {
                    see(&row);
                }
            }
            Ok(())
        }))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        self.committer.stop()?;
        Ok(None)
    }
}
