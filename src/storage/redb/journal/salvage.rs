//! Reads what can be read of a damaged journal, or of the journal of a damaged store. It changes nothing.

use super::frame::{Frame, JournalHeader, scan, scan_for_any};
use super::names::{MOST_PAIRS, names};
use super::recovery::{corrupt, cut_short};
use super::state::{JournalRef, RawFrameRows};
use crate::error::{Error, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::io_error;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;

/// The store's records about its journal, as far as they can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownJournal {
    pub(crate) store: Option<[u8; 16]>,
    pub(crate) named: Option<JournalRef>,
    pub(crate) covered: Option<u64>,
    pub(crate) reached: Option<u64>,
}

/// The rows of all intact frames that the file does not hold yet, in the order in which they were written. Losses are
/// reported. If the file does not record which frames it holds, all are taken: the last version of each row counts
/// anyway.
pub(crate) fn salvage(
    store: &Location,
    known: KnownJournal,
    lost: &mut dyn FnMut(Error),
) -> Result<Vec<RawFrameRows>> {
    let pairs = match known.named {
        Some(named) if !named.is_open => return Ok(Vec::new()),
        Some(named) => named.pair..named.pair + 1,
        None => 0..MOST_PAIRS,
    };
    let is_there = |pair: u16| {
        names(store, pair)
            .iter()
            .any(|journal| journal.folder.identity(&journal.name).is_ok())
    };
    let pairs = pairs.take_while(|pair| known.named.is_some() || *pair < 2 || is_there(*pair));
    let mut identity = known.store;
    let mut files = Vec::new();
    for location in pairs.flat_map(|pair| names(store, pair)) {
        match read(&location, lost) {
            Ok(Some(bytes)) => {
                files.extend(SalvagedFile::new(
                    location,
                    bytes,
                    &known,
                    &mut identity,
                    lost,
                ));
            }
            Ok(None) if known.named.is_some() => {
                lost(corrupt(&location, "this journal is missing"));
            }
            Ok(None) => {}
            Err(error) => lost(error),
        }
    }
    let mut frames: BTreeMap<u64, (&SalvagedFile, &Frame)> = BTreeMap::new();
    for file in &files {
        for frame in &file.frames {
            if known.covered.is_none_or(|covered| frame.number > covered) {
                frames.insert(frame.number, (file, frame));
            }
        }
    }
    report_gaps(&frames, known.covered, lost);
    report_end(&files, &frames, &known, lost);
    report_torn(&files, &frames, lost);
    let mut rows = Vec::new();
    for (file, frame) in frames.values() {
        match frame.rows(&file.bytes) {
            Ok(frame) => rows.push(frame),
            Err(error) => lost(corrupt(&file.location, error)),
        }
    }
    Ok(rows)
}

/// A file of the journal, and its intact frames.
struct SalvagedFile {
    location: Location,
    bytes: Bytes,
    frames: Vec<Frame>,
    torn: bool,
}

impl SalvagedFile {
    /// `None` if the file does not belong to the store. If the store's identity is lost, the first file determines
    /// it.
    fn new(
        location: Location,
        bytes: Bytes,
        known: &KnownJournal,
        identity: &mut Option<[u8; 16]>,
        lost: &mut dyn FnMut(Error),
    ) -> Option<Self> {
        let Ok(header) = JournalHeader::of(&bytes) else {
            lost(corrupt(
                &location,
                "both headers of the journal are damaged",
            ));
            // Its name shows to which store it belongs, and the numbers of its frames show which of them count.
            known.named.zip(known.covered)?;
            return Some(Self {
                frames: scan_for_any(&bytes),
                location,
                bytes,
                torn: false,
            });
        };
        let is_named = known
            .named
            .is_none_or(|named| named.opening == header.opening);
        if !is_named || *identity.get_or_insert(header.store) != header.store {
            lost(corrupt(
                &location,
                "this journal belongs to another store or another state of it, and is left out",
            ));
            return None;
        }
        let len = bytes.len() as u64;
        if len < header.len {
            lost(corrupt(&location, cut_short(len, header.len)));
        }
        let scanned = scan(&bytes, &header);
        let frames = scanned.frames.into_iter();
        Some(Self {
            frames: frames.chain(scanned.behind).collect(),
            location,
            bytes,
            torn: scanned.torn,
        })
    }
}

fn read(location: &Location, lost: &mut dyn FnMut(Error)) -> Result<Option<Bytes>> {
    let failed = |e| io_error(&location.path, "the journal cannot be read", e);
    let file = match location.folder.open_to_read(&location.name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let (bytes, error) = readable(&file).map_err(failed)?;
    if let Some(error) = error {
        let what = "a part of the journal cannot be read";
        lost(io_error(&location.path, what, error));
    }
    Ok(Some(bytes.into()))
}

/// The least that a disk reads at once.
const PAGE: usize = 4096;
/// How many of them are read at once while no error occurs.
const PAGES_AT_ONCE: usize = 256;

/// The readable parts of a file, zeros for the rest, and the first error.
fn readable(file: &Disk) -> io::Result<(Vec<u8>, Option<io::Error>)> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut first = None;
    let mut offset = 0;
    for part in bytes.chunks_mut(PAGE * PAGES_AT_ONCE) {
        if file.read(offset, part).is_err() {
            let mut offset = offset;
            for page in part.chunks_mut(PAGE) {
                if let Err(error) = file.read(offset, page) {
                    page.fill(0);
                    first.get_or_insert(error);
                }
                offset += PAGE as u64;
            }
        }
        offset += part.len() as u64;
    }
    Ok((bytes, first))
}

/// Reports missing frames between others, or after those that the store's file holds.
fn report_gaps(
    frames: &BTreeMap<u64, (&SalvagedFile, &Frame)>,
    covered: Option<u64>,
    lost: &mut dyn FnMut(Error),
) {
    let mut last = covered;
    let mut before: Option<&SalvagedFile> = None;
    for (number, (file, frame)) in frames {
        if let Some(last) = last
            && last + 1 < *number
        {
            // If this frame is the first in its file, the missing ones were in the other file, if that exists.
            let at_fault = before.filter(|_| frame.is_first).unwrap_or(file);
            let (first, last) = (last + 1, number - 1);
            let why = format!("the groups of commits {first} to {last} are lost");
            lost(corrupt(&at_fault.location, why));
        }
        last = Some(*number);
        before = Some(file);
    }
}

/// Reports missing frames at the end that existed when the store's file was written.
fn report_end(
    files: &[SalvagedFile],
    frames: &BTreeMap<u64, (&SalvagedFile, &Frame)>,
    known: &KnownJournal,
    lost: &mut dyn FnMut(Error),
) {
    let newest = frames.last_key_value().map(|(number, _)| *number);
    let last = newest.or(known.covered).unwrap_or_default();
    // A missing or skipped file is reported already.
    if let [other, file] = files
        && let Some(reached) = known.reached.filter(|reached| *reached > last)
    {
        let why = format!(
            "the groups of commits {} to {reached} are lost, which were in this file or in {}",
            last + 1,
            other.location.path.display()
        );
        lost(corrupt(&file.location, why));
    }
}

/// Reports a torn last frame. If others follow, it is a gap.
fn report_torn(
    files: &[SalvagedFile],
    frames: &BTreeMap<u64, (&SalvagedFile, &Frame)>,
    lost: &mut dyn FnMut(Error),
) {
    let newest = frames.last_key_value().map(|(number, _)| *number);
    for file in files {
        let last = file.frames.last().map(|frame| frame.number);
        if file.torn && (last.is_none() || last >= newest) {
            lost(corrupt(
                &file.location,
                "its last group of commits is not whole: one that was not durable yet, or that is lost",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::StorageBackend;
    use std::sync::Arc;

    /// A file some of whose pages cannot be read.
    #[derive(Debug)]
    struct Bad(Vec<u8>, &'static [usize]);

    impl StorageBackend for Bad {
        fn len(&self) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let Self(content, bad) = self;
            let start = offset as usize;
            let end = start + out.len();
            if bad.iter().any(|page| (start..end).contains(&(page * PAGE))) {
                // A failed read leaves other bytes than those on the disk.
                out.fill(0xff);
                return Err(io::Error::other("bad sector"));
            }
            out.copy_from_slice(&content[start..end]);
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            panic!("it is only read")
        }

        fn sync_data(&self) -> io::Result<()> {
            panic!("it is only read")
        }

        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            panic!("it is only read")
        }
    }

    // C5.4: also the first page, the last one, and several in a row.
    #[test]
    fn what_cannot_be_read_of_a_journal_takes_nothing_else_along() {
        let pages = 2 * PAGES_AT_ONCE + 1;
        let content: Vec<u8> = (0..pages)
            .flat_map(|page| vec![page as u8 | 1; PAGE])
            .collect();
        // The last page is none in full.
        let content = content[..content.len() - 100].to_vec();
        let last = pages - 1;
        for bad in [
            &[][..],
            &[0],
            &[2],
            &[1, 2],
            &[PAGES_AT_ONCE - 1, PAGES_AT_ONCE],
            &[2 * PAGES_AT_ONCE],
            &[0, 3, 2 * PAGES_AT_ONCE],
        ] {
            let file: Disk = Arc::new(Bad(content.clone(), bad));
            let (bytes, error) = readable(&file).unwrap();
            assert_eq!(error.is_some(), !bad.is_empty());
            assert_eq!(bytes.len(), content.len());
            for page in 0..pages {
                let end = if page == last {
                    content.len()
                } else {
                    (page + 1) * PAGE
                };
                let part = page * PAGE..end;
                if bad.contains(&page) {
                    assert!(bytes[part].iter().all(|byte| *byte == 0), "page {page}");
                } else {
                    assert_eq!(bytes[part.clone()], content[part], "page {page}");
                }
            }
        }
    }
}
