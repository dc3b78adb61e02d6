//! How a record is encoded: a format byte, a bincode payload, and a checksum that covers the key of its row (C5.4).

use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64;

/// The format of most records, and the first format of sessions.
pub(super) const FORMAT: u8 = 1;
/// The format of the records of sessions.
pub(super) const SESSION_FORMAT: u8 = 2;
/// The bit of a format that says that the record is encrypted.
pub(super) const ENCRYPTED: u8 = 0x80;
const CHECKSUM: usize = size_of::<u64>();
/// The size limit of a record. It bounds the allocation of a reader that meets a damaged length.
const MAX_RECORD: usize = 1 << 30;

/// The kind of a row. A record of one kind is never accepted as another.
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
    Backup = 7,
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
        RecordKind::Backup => "backup's",
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

/// Encodes `payload` at the end of an unfinished record.
pub(super) fn append(out: &mut Vec<u8>, payload: impl bincode::Encode) -> Result<()> {
    bincode::encode_into_std_write(payload, out, config()).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "a record cannot be encoded").with_source(e)
    })?;
    Ok(())
}

/// Appends the checksum of the record at `key`.
pub(super) fn close(kind: RecordKind, key: &[u8], record: &mut Vec<u8>) {
    let sum = checksum(kind, key, record);
    record.extend_from_slice(&sum);
}

/// A record at `key` with any format and payload. For the fuzzers, which cannot guess a checksum.
#[cfg(feature = "torture")]
pub(crate) fn seal_raw(kind: RecordKind, key: &[u8], (format, payload): (u8, &[u8])) -> Vec<u8> {
    let mut out = [&[format], payload].concat();
    close(kind, key, &mut out);
    out
}

/// Verifies the checksum and the format of the record at `key`. Returns its payload.
pub(super) fn open<'a>(kind: RecordKind, key: &[u8], record: &'a [u8]) -> Result<&'a [u8]> {
    match verified(kind, key, record)? {
        (format, _) if format & ENCRYPTED != 0 => Err(corrupt(kind, "it is encrypted")),
        (_, payload) => Ok(payload),
    }
}

/// Verifies the checksum of the record at `key`. Returns its payload and its format, which is one that records of this
/// kind may have.
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
        Some((format, payload)) if is_encrypted(kind, *format) => Ok((*format, payload)),
        Some((other, _)) => Err(corrupt(kind, &format!("unknown record format {other}"))),
        None => Err(corrupt(kind, "it is empty")),
    }
}

/// Whether records of this kind that are encrypted have this format.
fn is_encrypted(kind: RecordKind, format: u8) -> bool {
    match kind {
        RecordKind::Session => format == ENCRYPTED | SESSION_FORMAT,
        RecordKind::Package | RecordKind::Meta => format == ENCRYPTED | FORMAT,
        _ => false,
    }
}

/// Whether the checksum of the record at `key` is right.
pub(crate) fn verify(kind: RecordKind, key: &[u8], record: &[u8]) -> Result<()> {
    verified(kind, key, record).map(drop)
}

/// Decodes a payload with `decode`, which must consume all of it.
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

/// Decodes a payload piece by piece, with no more memory than the result takes.
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

    /// The offset of the next bytes in the record, if the payload begins at `start`.
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

    /// The number of parts that follow. Each takes at least one byte, so a damaged number reserves no more memory than
    /// the record has bytes.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count: u64 = self.next()?;
        let fits = |count: &usize| *count <= self.payload.len() - self.at;
        let count = usize::try_from(count).ok().filter(fits);
        count.ok_or_else(|| corrupt(self.kind, "it is too short"))
    }

    /// The bytes from this offset of the payload on that were read.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        self.payload.get(start..self.at).unwrap_or_default()
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

/// Decodes a length as bincode writes it. Returns also how many bytes it takes. Packages consist of many lengths.
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

/// The value of a record that has only one.
pub(crate) trait PlainValue: bincode::Encode + bincode::Decode<()> {}

impl<T: bincode::Encode + bincode::Decode<()>> PlainValue for T {}

/// Encodes a record of one value.
pub(crate) fn seal_plain(kind: RecordKind, key: &[u8], value: impl PlainValue) -> Result<Vec<u8>> {
    seal(kind, key, value)
}

/// Decodes a record of [`seal_plain`].
pub(crate) fn open_plain<T: PlainValue>(kind: RecordKind, key: &[u8], record: &[u8]) -> Result<T> {
    whole(kind, open(kind, key, record)?, |payload| {
        bincode::decode_from_slice(payload, config())
    })
}

/// A duration in milliseconds, as it is stored. It is rounded up, because zero means never (C3.3).
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Rounds a duration as storing it does, so that a setting and its stored value are equal.
pub(crate) fn whole_millis(d: Duration) -> Duration {
    Duration::from_millis(millis(d))
}
