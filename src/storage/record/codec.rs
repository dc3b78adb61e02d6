//! How a record is encoded: a format byte, a bincode payload, and a checksum that covers the key of its row (C5.4).

use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64;

/// The format that most records are written in, and the first one that sessions were.
pub(super) const FORMAT: u8 = 1;
/// The format that the records of sessions are written in.
pub(super) const SESSION_FORMAT: u8 = 2;
const CHECKSUM: usize = size_of::<u64>();
/// No record is larger than this; a damaged length must not make a reader allocate.
const MAX_RECORD: usize = 1 << 30;

/// What kind of row a record is, so that a record of one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    Meta = 0,
    Container = 1,
    Session = 2,
    Package = 3,
    Tombstone = 4,
    Frame = 5,
    Journal = 6,
}

pub(super) fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD>()
}

pub(super) fn checksum(kind: RecordKind, key: &[u8], sealed: &[u8]) -> [u8; CHECKSUM] {
    let seed = XxHash3_64::oneshot_with_seed(kind as u64, key);
    XxHash3_64::oneshot_with_seed(seed, sealed).to_le_bytes()
}

pub(super) fn corrupt(kind: RecordKind, why: &str) -> Error {
    let what = match kind {
        RecordKind::Meta => "store",
        RecordKind::Container => "container",
        RecordKind::Session => "session",
        RecordKind::Package => "package",
        RecordKind::Tombstone => "ended-session",
        RecordKind::Frame => "journal",
        RecordKind::Journal => "journal's own",
    };
    Error::new(
        ErrorKind::Corrupt,
        format!("a {what} record is damaged: {why}"),
    )
}

/// Encodes `payload` as the record at `key`.
pub(super) fn seal(kind: RecordKind, key: &[u8], payload: impl bincode::Encode) -> Result<Vec<u8>> {
    let mut out = vec![FORMAT];
    append(&mut out, payload)?;
    close(kind, key, &mut out);
    Ok(out)
}

/// Appends `payload`, encoded, to a record that is being made.
pub(super) fn append(out: &mut Vec<u8>, payload: impl bincode::Encode) -> Result<()> {
    bincode::encode_into_std_write(payload, out, config()).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "a record cannot be encoded").with_source(e)
    })?;
    Ok(())
}

/// Completes the record at `key` by its checksum.
pub(super) fn close(kind: RecordKind, key: &[u8], record: &mut Vec<u8>) {
    let sum = checksum(kind, key, record);
    record.extend_from_slice(&sum);
}

/// A record at `key` of any format and payload at all, for the fuzzers, which cannot guess a checksum.
#[cfg(feature = "torture")]
pub(crate) fn seal_raw(kind: RecordKind, key: &[u8], (format, payload): (u8, &[u8])) -> Vec<u8> {
    let mut out = [&[format], payload].concat();
    close(kind, key, &mut out);
    out
}

/// The payload of the record at `key`, after its checksum and format were verified.
pub(super) fn open<'a>(kind: RecordKind, key: &[u8], record: &'a [u8]) -> Result<&'a [u8]> {
    verified(kind, key, record).map(|(_, payload)| payload)
}

/// The format and the payload of the record at `key`, after its checksum was verified. The format is one that records of
/// this kind have.
pub(super) fn verified<'a>(
    kind: RecordKind,
    key: &[u8],
    record: &'a [u8],
) -> Result<(u8, &'a [u8])> {
    let Some((sealed, sum)) = record.split_last_chunk::<CHECKSUM>() else {
        return Err(corrupt(kind, "it is too short"));
    };
    if checksum(kind, key, sealed) != *sum {
        return Err(corrupt(kind, "its checksum does not match"));
    }
    match sealed.split_first() {
        Some((&FORMAT, payload)) => Ok((FORMAT, payload)),
        Some((&SESSION_FORMAT, payload)) if kind == RecordKind::Session => {
            Ok((SESSION_FORMAT, payload))
        }
        Some((other, _)) => Err(corrupt(kind, &format!("unknown record format {other}"))),
        None => Err(corrupt(kind, "it is empty")),
    }
}

/// Whether the record at `key` is what was written there, whatever it holds.
pub(crate) fn verify(kind: RecordKind, key: &[u8], record: &[u8]) -> Result<()> {
    open(kind, key, record).map(drop)
}

/// What `decode` makes of a payload, which it must use up.
pub(super) fn whole<'a, T>(
    kind: RecordKind,
    payload: &'a [u8],
    decode: impl FnOnce(&'a [u8]) -> Result<(T, usize), bincode::error::DecodeError>,
) -> Result<T> {
    match decode(payload) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok(_) => Err(corrupt(kind, "it is too long")),
        Err(e) => Err(corrupt(kind, "it cannot be decoded").with_source(e)),
    }
}

/// A payload that is decoded piece by piece, into no more memory than what comes of it takes.
pub(super) struct PayloadReader<'a> {
    kind: RecordKind,
    payload: &'a [u8],
    pub(super) at: usize,
}

impl<'a> PayloadReader<'a> {
    pub(super) fn new(kind: RecordKind, payload: &'a [u8]) -> Self {
        Self {
            kind,
            payload,
            at: 0,
        }
    }

    pub(super) fn next<T: bincode::BorrowDecode<'a, ()>>(&mut self) -> Result<T> {
        let rest = self.payload.get(self.at..).unwrap_or_default();
        let (part, used) = bincode::borrow_decode_from_slice(rest, config())
            .map_err(|e| corrupt(self.kind, "it cannot be decoded").with_source(e))?;
        self.at += used;
        Ok(part)
    }

    /// Where in the record the next bytes are, if the payload begins at `start` there.
    pub(super) fn next_bytes(&mut self, start: usize) -> Result<Range<u32>> {
        let rest = self.payload.get(self.at..).unwrap_or_default();
        let too_short = || corrupt(self.kind, "it is too short");
        let (len, used) = length(rest).ok_or_else(too_short)?;
        let end = used.checked_add(len).filter(|end| *end <= rest.len());
        let end = self.at + end.ok_or_else(too_short)?;
        self.at = end;
        let place = |at: usize| u32::try_from(start + at).map_err(|_| too_long(self.kind));
        Ok(place(end - len)?..place(end)?)
    }

    /// How many parts follow; each takes a byte at least, so that a damaged number of them reserves no
    /// more than a record's worth.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count: u64 = self.next()?;
        let fits = |count: &usize| *count <= self.payload.len() - self.at;
        let count = usize::try_from(count).ok().filter(fits);
        count.ok_or_else(|| corrupt(self.kind, "it is too short"))
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.payload.len()
    }

    pub(super) fn end(self) -> Result<()> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(too_long(self.kind))
        }
    }
}

fn too_long(kind: RecordKind) -> Error {
    corrupt(kind, "it is too long")
}

/// A length as bincode writes it, and how many bytes that takes: packages consist of many.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (len, used) = match first {
        0..=250 => (u64::from(*first), 0),
        251 => (u16::from_le_bytes(*rest.first_chunk()?).into(), 2),
        252 => (u32::from_le_bytes(*rest.first_chunk()?).into(), 4),
        253 => (u64::from_le_bytes(*rest.first_chunk()?), 8),
        254.. => return None,
    };
    Some((usize::try_from(len).ok()?, 1 + used))
}

/// `count` parts in one allocation, or the first error.
pub(super) fn gather<T: Default>(
    count: usize,
    mut part: impl FnMut() -> Result<T>,
) -> Result<Arc<[T]>> {
    let mut failure = None;
    let parts = (0..count).map(|_| {
        if failure.is_some() {
            return T::default();
        }
        part().unwrap_or_else(|e| {
            failure = Some(e);
            T::default()
        })
    });
    let parts = parts.collect();
    failure.map_or(Ok(parts), Err)
}

/// A value that a small record may consist of.
pub(crate) trait PlainValue: bincode::Encode + bincode::Decode<()> {}

impl<T: bincode::Encode + bincode::Decode<()>> PlainValue for T {}

/// Encodes a record of one plain value, for the few rows that are no more than that.
pub(crate) fn seal_plain(kind: RecordKind, key: &[u8], value: impl PlainValue) -> Result<Vec<u8>> {
    seal(kind, key, value)
}

/// Decodes what [`seal_plain`] wrote.
pub(crate) fn open_plain<T: PlainValue>(kind: RecordKind, key: &[u8], record: &[u8]) -> Result<T> {
    whole(kind, open(kind, key, record)?, |payload| {
        bincode::decode_from_slice(payload, config())
    })
}

/// Durations are stored in milliseconds, rounded up: zero means never (C3.3), and no other may become it.
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration as it comes back from a record, to set: what is set and what is stored compare equal.
pub(crate) fn whole_millis(d: Duration) -> Duration {
    Duration::from_millis(millis(d))
}
