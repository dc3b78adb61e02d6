//! The contents of a journal file: two copies of a header, and one frame for each group of commits.
//!
//! A frame begins at a sector boundary, so that a write torn by a power loss damages no earlier frame. It carries the
//! salt of the file's current use, which tells it from the frames of earlier uses.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{self, RecordKind};
use bytes::Bytes;
use std::ops::Range;

/// The unit that a disk writes atomically.
pub(crate) const SECTOR: usize = 512;
/// The offsets of the two copies of the header. They are not in one page of the disk or of the system.
pub(crate) const HEADERS: [u64; 2] = [0, 4096];
/// The offset of the first frame.
pub(crate) const START: u64 = 8192;
/// The same in files of an earlier form, whose first header copy is read.
const EARLIER_START: u64 = 4096;
const MAGIC: [u8; 4] = *b"CLOK";
/// Magic, length of the record, salt, number.
const PREFIX: usize = 24;

/// The header of a journal file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalHeader {
    /// The store that it belongs to.
    pub(crate) store: [u8; 16],
    /// The opening of that store for which the file was created.
    pub(crate) opening: [u8; 16],
    /// Distinguishes this use of the file from all others.
    pub(crate) salt: u64,
    /// Frames up to this number were copied from the previous journal.
    pub(crate) copied: u64,
    /// The least length of the file when this was written. A shorter file was truncated.
    pub(crate) len: u64,
    /// The offset of the first frame.
    pub(crate) start: u64,
}

type HeaderWire = ([u8; 16], [u8; 16], u64, u64, u64);
/// Of the earlier form.
type EarlierHeaderWire = ([u8; 16], [u8; 16], u64, u64);

impl JournalHeader {
    pub(crate) const KEY: &'static [u8] = b"header";

    /// One copy: a sector.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let wire: HeaderWire = (self.store, self.opening, self.salt, self.copied, self.len);
        let record = record::seal_plain(RecordKind::Journal, Self::KEY, wire)?;
        let len = u16::try_from(record.len()).unwrap_or(u16::MAX);
        let mut sector = [&MAGIC[..], &len.to_le_bytes(), &record].concat();
        sector.resize(SECTOR, 0);
        Ok(sector)
    }

    pub(crate) fn decode(sector: &[u8]) -> Result<Self> {
        let damaged = || Error::new(ErrorKind::Corrupt, "the header of a journal is damaged");
        let rest = sector.strip_prefix(&MAGIC).ok_or_else(damaged)?;
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(damaged)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let record = rest.get(..len).ok_or_else(damaged)?;
        let read = record::open_plain(RecordKind::Journal, Self::KEY, record);
        let ((store, opening, salt, copied, len), start): (HeaderWire, u64) = match read {
            Ok(wire) => (wire, START),
            Err(error) => {
                let earlier = record::open_plain(RecordKind::Journal, Self::KEY, record);
                let (store, opening, salt, copied): EarlierHeaderWire =
                    earlier.map_err(|_| error)?;
                ((store, opening, salt, copied, 0), EARLIER_START)
            }
        };
        Ok(Self {
            store,
            opening,
            salt,
            copied,
            len,
            start,
        })
    }

    /// Decodes the header of a file. The first copy is synced before the second is written, so one of them is always
    /// intact. If both are, the first is the newer.
    pub(crate) fn of(file: &[u8]) -> Result<Self> {
        let copy = |at: u64| {
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let sector = file.get(at..at.saturating_add(SECTOR));
            Self::decode(sector.unwrap_or_default())
        };
        copy(HEADERS[0]).or_else(|_| copy(HEADERS[1]))
    }
}

/// Rounds up to an offset at which a frame may begin.
pub(crate) fn aligned(offset: u64) -> u64 {
    offset.next_multiple_of(SECTOR as u64)
}

/// The bytes that a frame's checksum covers in addition to its rows.
fn key(salt: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (first, last) = key.split_at_mut(8);
    first.copy_from_slice(&salt.to_le_bytes());
    last.copy_from_slice(&number.to_le_bytes());
    key
}

/// Appends the beginning of a frame, with zeros in place of its length. Returns the bytes that its checksum covers in
/// addition to its rows.
pub(crate) fn prefix(frame: &mut Vec<u8>, salt: u64, number: u64) -> [u8; 16] {
    let key = key(salt, number);
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&key);
    key
}

/// Encodes frame `number`.
#[cfg(any(test, feature = "torture"))]
pub(crate) fn encode<'a>(
    salt: u64,
    number: u64,
    rows: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    encode_into(&mut frame, salt, number, rows)?;
    Ok(frame)
}

/// Encodes frame `number`, and replaces the contents of `frame`.
pub(crate) fn encode_into<'a>(
    frame: &mut Vec<u8>,
    salt: u64,
    number: u64,
    rows: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<()> {
    frame.clear();
    let key = prefix(frame, salt, number);
    record::seal_frame(frame, &key, rows)?;
    let len = u32::try_from(frame.len() - PREFIX)
        .map_err(|_| Error::new(ErrorKind::TooLarge, "a commit is too large for the journal"))?;
    if let Some(place) = frame.get_mut(4..8) {
        place.copy_from_slice(&len.to_le_bytes());
    }
    Ok(())
}

/// A frame in a file.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    /// Whether it is the first in its file.
    pub(crate) is_first: bool,
    /// Where its record is.
    record: Range<usize>,
    salt: u64,
}

impl Frame {
    /// The rows in it.
    pub(crate) fn rows(&self, file: &Bytes) -> Result<Vec<(Bytes, Option<Bytes>)>> {
        let record = file.get(self.record.clone()).unwrap_or_default();
        let rows = record::open_frame(&key(self.salt, self.number), record)?;
        let whole = |part: &[u8]| file.slice_ref(part);
        Ok(rows
            .into_iter()
            .map(|(key, value)| (whole(key), value.map(whole)))
            .collect())
    }

    /// The offset at which the next frame may begin.
    pub(crate) fn end(&self) -> u64 {
        aligned(self.record.end as u64)
    }

    /// Finds an intact frame at an offset, of this salt or of any.
    fn at(file: &[u8], offset: usize, salt: Option<u64>) -> Option<Self> {
        let frame = file.get(offset..)?;
        let (len, rest) = frame.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
        let (its_salt, rest) = rest.split_first_chunk::<8>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        let its_salt = u64::from_le_bytes(*its_salt);
        let salt = salt.unwrap_or(its_salt);
        if its_salt != salt {
            return None;
        }
        let number = u64::from_le_bytes(*number);
        let start = offset + PREFIX;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let record = start..start.checked_add(len)?;
        record::verify(
            RecordKind::Frame,
            &key(salt, number),
            file.get(record.clone())?,
        )
        .ok()?;
        Some(Self {
            number,
            is_first: false,
            record,
            salt,
        })
    }
}

/// The frames of a file up to the first damaged one, and the intact frames after it. A frame is written only after
/// the previous one was synced, so a power loss leaves no frame behind a torn one.
pub(crate) struct Scanned {
    pub(crate) frames: Vec<Frame>,
    /// Frames behind a damaged one, to be salvaged.
    pub(crate) behind: Vec<Frame>,
    /// Whether the bytes after the last frame may be the rest of another one.
    pub(crate) torn: bool,
}

pub(crate) fn scan(file: &[u8], header: &JournalHeader) -> Scanned {
    let mut scanned = scan_for(file, header.start, Some(header.salt));
    let last = scanned.behind.last().or(scanned.frames.last());
    let end = last.map_or(header.start, |frame| frame.end());
    scanned.torn = usize::try_from(end).is_ok_and(|end| resembles(file, end, header.salt));
    scanned
}

/// Whether the bytes at an offset differ in few bits from the beginning of a frame of this salt. In other bytes, half
/// the bits differ.
fn resembles(file: &[u8], offset: usize, salt: u64) -> bool {
    let Some(start) = file.get(offset..offset.saturating_add(16)) else {
        return false;
    };
    let mut expected = [0; 16];
    let (magic, rest) = expected.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    let (len, its_salt) = rest.split_at_mut(4);
    len.copy_from_slice(start.get(4..8).unwrap_or_default());
    its_salt.copy_from_slice(&salt.to_le_bytes());
    let differ = |(a, b): (&u8, &u8)| (a ^ b).count_ones();
    start.iter().zip(&expected).map(differ).sum::<u32>() <= 8
}

/// All intact frames of any use of the file, for a file whose header is lost.
pub(crate) fn scan_for_any(file: &[u8]) -> Vec<Frame> {
    let scanned = scan_for(file, EARLIER_START, None);
    let frames = scanned.frames.into_iter();
    frames.chain(scanned.behind).collect()
}

fn scan_for(file: &[u8], start: u64, salt: Option<u64>) -> Scanned {
    let mut scanned = Scanned {
        frames: Vec::new(),
        behind: Vec::new(),
        torn: false,
    };
    let mut at = start;
    // The first may have any number, if it comes first.
    let mut next = None;
    let mut whole = true;
    while let Ok(offset) = usize::try_from(at)
        && offset < file.len()
    {
        match Frame::at(file, offset, salt) {
            Some(frame) => {
                let frame = Frame {
                    is_first: at == start || (salt.is_none() && at == START),
                    ..frame
                };
                whole &= next.is_none_or(|next| next == frame.number);
                next = frame.number.checked_add(1);
                at = frame.end();
                if whole {
                    scanned.frames.push(frame);
                } else {
                    scanned.behind.push(frame);
                }
            }
            None => {
                whole = false;
                at += SECTOR as u64;
            }
        }
    }
    scanned
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: usize = START as usize;

    fn header() -> JournalHeader {
        JournalHeader {
            store: [1; 16],
            opening: [2; 16],
            salt: 0x5a17,
            copied: 0,
            len: 0,
            start: START,
        }
    }

    fn file(frames: &[(u64, usize)]) -> Vec<u8> {
        let sector = header().encode().unwrap();
        let mut file = vec![0; START as usize];
        for at in HEADERS {
            file[at as usize..][..SECTOR].copy_from_slice(&sector);
        }
        for (number, size) in frames {
            let value = vec![*number as u8; *size];
            let rows = [(&b"key"[..], Some(&value[..])), (b"gone", None)];
            file.extend(encode(header().salt, *number, rows.into_iter()).unwrap());
            file.resize(file.len().next_multiple_of(SECTOR), 0);
        }
        file.resize(file.len() + 8192, 0);
        file
    }

    fn numbers(file: &[u8]) -> (Vec<u64>, Vec<u64>) {
        let scanned = scan(file, &JournalHeader::of(file).unwrap());
        let numbers = |frames: &[Frame]| frames.iter().map(|frame| frame.number).collect();
        (numbers(&scanned.frames), numbers(&scanned.behind))
    }

    #[test]
    fn frames_come_back_in_order_with_their_rows() {
        let file = Bytes::from(file(&[(7, 10), (8, 600), (9, 0)]));
        let scanned = scan(&file, &JournalHeader::of(&file).unwrap());
        assert_eq!(numbers(&file), (vec![7, 8, 9], vec![]));
        let rows = scanned.frames[1].rows(&file).unwrap();
        assert_eq!(rows[0].0, &b"key"[..]);
        assert_eq!(rows[0].1.as_deref(), Some(&[8; 600][..]));
        assert_eq!(rows[1], (Bytes::from("gone"), None));
    }

    #[test]
    fn a_torn_tail_is_cut_and_a_hole_is_seen() {
        let whole = file(&[(7, 10), (8, 600), (9, 0)]);
        let mut torn = whole.clone();
        torn[FIRST + 512 + 1024 + 5] ^= 1;
        assert_eq!(numbers(&torn), (vec![7, 8], vec![]));
        let mut hole = whole.clone();
        hole[FIRST + 512 + 30] ^= 1;
        assert_eq!(numbers(&hole), (vec![7], vec![9]));
        assert_eq!(numbers(&file(&[(7, 1), (9, 1)])), (vec![7], vec![9]));
        let mut first = whole.clone();
        first[FIRST] ^= 1;
        assert_eq!(numbers(&first), (vec![], vec![8, 9]));
    }

    #[test]
    fn a_last_frame_that_is_damaged_anywhere_is_noticed() {
        let whole = file(&[(7, 10), (8, 20)]);
        let torn = |file: &[u8]| scan(file, &header()).torn;
        assert!(!torn(&whole));
        for bit in 0..8 * 60 {
            let mut flipped = whole.clone();
            flipped[FIRST + 512 + bit / 8] ^= 1 << (bit % 8);
            assert!(torn(&flipped), "bit {bit}");
        }
        // Bytes of an earlier use, after the end.
        let mut other = header();
        other.salt ^= 0x0123_4567_89ab_cdef;
        assert!(!scan(&whole, &other).torn);
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found() {
        let whole = file(&[(7, 20)]);
        let len = encode(
            0,
            0,
            [(&b"key"[..], Some(&[7; 20][..])), (b"gone", None)].into_iter(),
        )
        .unwrap()
        .len();
        for bit in 0..len * 8 {
            let mut flipped = whole.clone();
            flipped[FIRST + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(numbers(&flipped), (vec![], vec![]), "bit {bit}");
        }
    }

    #[test]
    fn either_copy_of_the_header_will_do() {
        let whole = file(&[]);
        for at in HEADERS {
            let mut half = whole.clone();
            half[at as usize + 9] ^= 1;
            assert_eq!(JournalHeader::of(&half).unwrap(), header());
        }
        let mut none = whole.clone();
        none[9] ^= 1;
        none[4105] ^= 1;
        assert_eq!(
            JournalHeader::of(&none).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        assert!(JournalHeader::of(&[]).is_err());
    }

    /// The store of version 2 that was killed by an earlier form of it has such headers.
    #[test]
    fn a_header_of_the_earlier_form_says_where_its_frames_begin() {
        let wire: EarlierHeaderWire = ([1; 16], [2; 16], 0x5a17, 7);
        let record = record::seal_plain(RecordKind::Journal, JournalHeader::KEY, wire).unwrap();
        let len = (record.len() as u16).to_le_bytes();
        let mut sector = [&MAGIC[..], &len, &record].concat();
        sector.resize(SECTOR, 0);
        let expected = JournalHeader {
            copied: 7,
            start: 4096,
            ..header()
        };
        assert_eq!(JournalHeader::decode(&sector).unwrap(), expected);
    }

    #[test]
    fn what_an_earlier_use_left_is_none_of_this_one() {
        let mut reused = file(&[(7, 10), (8, 10)]);
        let mut next = header();
        next.salt += 1;
        reused[..SECTOR].copy_from_slice(&next.encode().unwrap());
        assert_eq!(numbers(&reused), (vec![], vec![]));
    }
}
