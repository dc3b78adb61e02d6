//! The functions that fuzzers call with bytes in place of a journal file.

use super::frame::{
    Frame, HEADERS, JournalHeader, SECTOR, START, encode, prefix, scan, scan_for_any,
};
use super::state::RawFrameRows;
use crate::storage::record::{RecordKind, seal_raw};
use bytes::Bytes;

const HEADER: JournalHeader = JournalHeader {
    store: [1; 16],
    opening: [2; 16],
    salt: 0x0123_4567_89ab_cdef,
    copied: 0,
    len: 0,
    start: START,
};

/// Reads bytes as a journal file in four ways: as they are, as the content of a header with a correct checksum, as the
/// rows of frames with correct checksums, and as changes to a whole file.
///
/// # Panics
///
/// If a frame is found that was never written, or does not come back when it is written again.
pub(crate) fn decode_journal(data: &[u8]) {
    read(data.to_vec());
    let mut sealed = file(&[]);
    let record = seal_raw(RecordKind::Journal, JournalHeader::KEY, (1, data));
    if let Ok(len) = u16::try_from(record.len()) {
        let start = [&b"CLOK"[..], &len.to_le_bytes(), &record].concat();
        put(&mut sealed, 0, &start);
        if let Ok(header) = JournalHeader::of(&sealed) {
            // An earlier form is written no more.
            let header = JournalHeader {
                start: START,
                ..header
            };
            let again = header.encode().ok();
            assert_eq!(
                again.and_then(|sector| JournalHeader::decode(&sector).ok()),
                Some(header)
            );
        }
    }
    let parts: Vec<_> = data.split(|byte| *byte == b'\n').collect();
    let frames = parts
        .iter()
        .zip(7..)
        .map(|(rows, number)| frame(&HEADER, number, rows));
    let found = read(file(&frames.collect::<Vec<_>>()));
    assert_eq!(found, parts.len(), "a whole frame was not found");
    changed(data);
}

/// Finds the frames of a file, and reads their rows. Tells how many there are up to the first gap.
fn read(bytes: Vec<u8>) -> usize {
    let bytes = Bytes::from(bytes);
    for frame in scan_for_any(&bytes) {
        let _ = frame.rows(&bytes);
    }
    let Ok(header) = JournalHeader::of(&bytes) else {
        return 0;
    };
    let scanned = scan(&bytes, &header);
    for frame in scanned.frames.iter().chain(&scanned.behind) {
        let Ok(rows) = frame.rows(&bytes) else {
            continue;
        };
        let parts = rows.iter().map(|(key, value)| (&**key, value.as_deref()));
        let again = encode(header.salt, frame.number, parts).map(|frame| read_one(&header, frame));
        assert_eq!(
            again.ok().flatten(),
            Some(rows),
            "a frame does not come back"
        );
    }
    scanned.frames.len()
}

fn read_one(header: &JournalHeader, frame: Vec<u8>) -> Option<RawFrameRows> {
    let file = Bytes::from(file(&[frame]));
    let scanned = scan(&file, header);
    scanned
        .frames
        .first()
        .or(scanned.behind.first())?
        .rows(&file)
        .ok()
}

/// A whole file with a few bytes changed: every frame that is found was written there, in this order. Two bytes of each
/// change give the offset, and one gives the new byte.
fn changed(data: &[u8]) {
    const FRAMES: u64 = 6;
    let value = |number: u64| vec![number as u8; 300 * number as usize];
    let frames = (1..=FRAMES).filter_map(|number| {
        let value = value(number);
        let rows = [(&b"key"[..], Some(&value[..])), (b"gone", None)];
        encode(HEADER.salt, number, rows.into_iter()).ok()
    });
    let mut bytes = file(&frames.collect::<Vec<_>>());
    for change in data.chunks_exact(3) {
        let [low, high, byte] = [0, 1, 2].map(|n| change.get(n).copied().unwrap_or_default());
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
        put(&mut bytes, at, &[byte]);
    }
    let bytes = Bytes::from(bytes);
    // Nobody can seal another.
    let Ok(header) = JournalHeader::of(&bytes) else {
        return;
    };
    assert_eq!(header, HEADER);
    let scanned = scan(&bytes, &header);
    let is_as_written = |frame: &Frame| {
        let rows = frame.rows(&bytes);
        rows.is_ok_and(|rows| match &rows[..] {
            [(key, Some(found)), (gone, None)] => {
                key == "key" && gone == "gone" && **found == value(frame.number)
            }
            _ => false,
        })
    };
    let mut all = scanned.frames.iter().chain(&scanned.behind);
    assert!(all.all(is_as_written), "a frame that was never written");
    assert!(
        scanned
            .frames
            .iter()
            .map(|frame| frame.number)
            .eq((1..).take(scanned.frames.len()))
    );
}

/// The frame of any rows at all, or of what are none.
fn frame(header: &JournalHeader, number: u64, rows: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let key = prefix(&mut frame, header.salt, number);
    let record = seal_raw(RecordKind::Frame, &key, (1, rows));
    let len = u32::try_from(record.len()).unwrap_or_default();
    put(&mut frame, 4, &len.to_le_bytes());
    frame.extend_from_slice(&record);
    frame
}

fn file(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0; START as usize];
    for at in HEADERS {
        put(&mut file, at as usize, &HEADER.encode().unwrap_or_default());
    }
    for frame in frames {
        file.extend_from_slice(frame);
        file.resize(file.len().next_multiple_of(SECTOR), 0);
    }
    file
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + what.len()) {
        place.copy_from_slice(what);
    }
}

/// A journal file with one more frame, of any rows at all; `None` where they are none.
pub(crate) fn with_frame(file: &[u8], rows: &[u8]) -> Option<Vec<u8>> {
    let header = JournalHeader::of(file).ok()?;
    let scanned = scan(file, &header);
    let last = scanned.frames.last()?;
    let frame = frame(&header, last.number + 1, rows);
    let at = usize::try_from(last.end()).ok()?;
    let mut longer = file.to_vec();
    longer.resize((at + frame.len()).max(file.len()), 0);
    put(&mut longer, at, &frame);
    let longer = Bytes::from(longer);
    scan(&longer, &header).frames.last()?.rows(&longer).ok()?;
    Some(longer.to_vec())
}
