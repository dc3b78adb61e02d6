//! What can be read of a damaged journal, or of one whose store is damaged. It reads alone.

use super::frame::{Frame, Header, scan, scan_for_any};
use super::recovery::{FrameRows, corrupt, cut_short};
use super::{MOST_PAIRS, Named, names};
use crate::error::{Error, Result};
use crate::storage::redb::folder::{Location, open_to_read};
use crate::storage::redb::open::io_error;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

/// What the store's file says of its journal, as far as that can be read.
#[derive(Clone, Copy, Debug)]
pub(in crate::storage::redb) struct Known {
    pub(in crate::storage::redb) store: Option<[u8; 16]>,
    pub(in crate::storage::redb) named: Option<Named>,
    pub(in crate::storage::redb) covered: Option<u64>,
    pub(in crate::storage::redb) reached: Option<u64>,
}

/// The rows of all whole frames that the file does not hold yet, in the order in which they were written.
/// What is lost is reported. If the file does not say which frames it holds, all of them are taken: a row
/// is changed by later frames alone.
pub(in crate::storage::redb) fn salvage(
    store: &Location,
    known: Known,
    lost: &mut dyn FnMut(Error),
) -> Result<Vec<FrameRows>> {
    let pairs = match known.named {
        Some(named) if !named.is_open => return Ok(Vec::new()),
        Some(named) => named.pair..named.pair + 1,
        None => 0..MOST_PAIRS,
    };
    let is_there = |pair: u16| {
        names(store, pair)
            .iter()
            .any(|journal| journal.path.exists())
    };
    let pairs = pairs.take_while(|pair| known.named.is_some() || *pair < 2 || is_there(*pair));
    let mut whose = known.store;
    let mut files = Vec::new();
    for location in pairs.flat_map(|pair| names(store, pair)) {
        match read(&location, lost) {
            Ok(Some(bytes)) => {
                files.extend(Salvaged::new(location, bytes, &known, &mut whose, lost));
            }
            Ok(None) if known.named.is_some() => {
                lost(corrupt(&location, "this journal is missing"));
            }
            Ok(None) => {}
            Err(error) => lost(error),
        }
    }
    let mut frames: BTreeMap<u64, (&Salvaged, &Frame)> = BTreeMap::new();
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

/// A file of the journal, and the whole frames in it.
struct Salvaged {
    location: Location,
    bytes: Bytes,
    frames: Vec<Frame>,
    torn: bool,
}

impl Salvaged {
    /// `None` where it does not belong to the store. Where nothing of the store's own says which one that
    /// is, the first file does.
    fn new(
        location: Location,
        bytes: Bytes,
        known: &Known,
        whose: &mut Option<[u8; 16]>,
        lost: &mut dyn FnMut(Error),
    ) -> Option<Self> {
        let Ok(header) = Header::of(&bytes) else {
            lost(corrupt(
                &location,
                "both headers of the journal are damaged",
            ));
            // Its name tells whose it is, and the numbers of its frames which of them count.
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
        if !is_named || *whose.get_or_insert(header.store) != header.store {
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
    let mut file = match open_to_read(&location.path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let len = file.metadata().map_err(failed)?.len();
    let (bytes, error) = readable(&mut file, len).map_err(failed)?;
    if let Some(error) = error {
        let what = "a part of the journal cannot be read";
        lost(io_error(&location.path, what, error));
    }
    Ok(Some(bytes.into()))
}

/// What a disk reads at least.
const PAGE: u64 = 4096;

/// All of a file that can be read, zeros for the rest, and what was said of that first.
fn readable(mut file: impl Read + Seek, len: u64) -> io::Result<(Vec<u8>, Option<io::Error>)> {
    let mut bytes = Vec::new();
    let mut first = None;
    while let Err(error) = file.read_to_end(&mut bytes) {
        first.get_or_insert(error);
        let next = (bytes.len() as u64 / PAGE + 1) * PAGE;
        if next >= len {
            break;
        }
        bytes.resize(usize::try_from(next).map_err(io::Error::other)?, 0);
        file.seek(SeekFrom::Start(next))?;
    }
    Ok((bytes, first))
}

/// Frames between others, or after those that the store's file holds, that are not there.
fn report_gaps(
    frames: &BTreeMap<u64, (&Salvaged, &Frame)>,
    covered: Option<u64>,
    lost: &mut dyn FnMut(Error),
) {
    let mut last = covered;
    let mut before: Option<&Salvaged> = None;
    for (number, (file, frame)) in frames {
        if let Some(last) = last
            && last + 1 < *number
        {
            // Where this one is the first in its file, they were in the one before, if that is there.
            let at_fault = before.filter(|_| frame.is_first).unwrap_or(file);
            let (first, last) = (last + 1, number - 1);
            let why = format!("the groups of commits {first} to {last} are lost");
            lost(corrupt(&at_fault.location, why));
        }
        last = Some(*number);
        before = Some(file);
    }
}

/// Frames at the end that were there when the store's file was written.
fn report_end(
    files: &[Salvaged],
    frames: &BTreeMap<u64, (&Salvaged, &Frame)>,
    known: &Known,
    lost: &mut dyn FnMut(Error),
) {
    let newest = frames.last_key_value().map(|(number, _)| *number);
    let last = newest.or(known.covered).unwrap_or_default();
    // One that is missing, or left out, is told of already.
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

/// What may have been the last frame. Where others follow, it is a gap.
fn report_torn(
    files: &[Salvaged],
    frames: &BTreeMap<u64, (&Salvaged, &Frame)>,
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
    use std::io::Cursor;

    /// A file some of whose pages cannot be read.
    struct Bad(Cursor<Vec<u8>>, &'static [u64]);

    impl Read for Bad {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Self(file, bad) = self;
            let page = file.position() / PAGE;
            if bad.contains(&page) {
                return Err(io::Error::other("bad sector"));
            }
            let left = ((page + 1) * PAGE - file.position()) as usize;
            let most = out.len().min(left);
            file.read(&mut out[..most])
        }
    }

    impl Seek for Bad {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    // C5.4: also the first page, the last one, and several in a row.
    #[test]
    fn what_cannot_be_read_of_a_journal_takes_nothing_else_along() {
        let pages = 5;
        let content: Vec<u8> = (0..pages)
            .flat_map(|n| vec![n + 1; PAGE as usize])
            .collect();
        for bad in [&[][..], &[0], &[2], &[1, 2], &[4], &[0, 1, 2, 3, 4]] {
            let file = Bad(Cursor::new(content.clone()), bad);
            let (bytes, error) = readable(file, content.len() as u64).unwrap();
            assert_eq!(error.is_some(), !bad.is_empty());
            for page in 0..u64::from(pages) {
                let start = (page * PAGE) as usize;
                let read = bytes.get(start..start + PAGE as usize);
                if !bad.contains(&page) {
                    assert_eq!(read, Some(&[page as u8 + 1; PAGE as usize][..]));
                } else if let Some(read) = read {
                    assert!(read.iter().all(|byte| *byte == 0));
                }
            }
        }
    }
}
