//! What a row holds and how it is encoded: a format byte, a bincode payload, and a checksum that
//! covers the row's key (C5.4). The only place that knows bincode; it knows no tables.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::ContainerId;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use twox_hash::XxHash3_64;

/// The format that records are written in.
const FORMAT: u8 = 1;
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

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_RECORD>()
}

fn checksum(kind: RecordKind, key: &[u8], sealed: &[u8]) -> [u8; CHECKSUM] {
    let seed = XxHash3_64::oneshot_with_seed(kind as u64, key);
    XxHash3_64::oneshot_with_seed(seed, sealed).to_le_bytes()
}

fn corrupt(kind: RecordKind, why: &str) -> Error {
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
fn seal(kind: RecordKind, key: &[u8], payload: impl bincode::Encode) -> Result<Vec<u8>> {
    let mut out = vec![FORMAT];
    bincode::encode_into_std_write(payload, &mut out, config()).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "a record cannot be encoded").with_source(e)
    })?;
    let sum = checksum(kind, key, &out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// A record at `key` of any payload at all, for the fuzzers, which cannot guess a checksum.
#[cfg(feature = "torture")]
pub(crate) fn seal_raw(kind: RecordKind, key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = [&[FORMAT], payload].concat();
    let sum = checksum(kind, key, &out);
    out.extend_from_slice(&sum);
    out
}

/// The payload of the record at `key`, after its checksum and format were verified.
fn open<'a>(kind: RecordKind, key: &[u8], record: &'a [u8]) -> Result<&'a [u8]> {
    let Some((sealed, sum)) = record.split_last_chunk::<CHECKSUM>() else {
        return Err(corrupt(kind, "it is too short"));
    };
    if checksum(kind, key, sealed) != *sum {
        return Err(corrupt(kind, "its checksum does not match"));
    }
    match sealed.split_first() {
        Some((&FORMAT, payload)) => Ok(payload),
        Some((other, _)) => Err(corrupt(kind, &format!("unknown record format {other}"))),
        None => Err(corrupt(kind, "it is empty")),
    }
}

/// Whether the record at `key` is what was written there, whatever it holds.
pub(crate) fn verify(kind: RecordKind, key: &[u8], record: &[u8]) -> Result<()> {
    open(kind, key, record).map(drop)
}

/// What `decode` makes of a payload, which it must use up.
fn whole<'a, T>(
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
struct PayloadReader<'a> {
    kind: RecordKind,
    payload: &'a [u8],
    at: usize,
}

impl<'a> PayloadReader<'a> {
    fn new(kind: RecordKind, payload: &'a [u8]) -> Self {
        Self {
            kind,
            payload,
            at: 0,
        }
    }

    fn next<T: bincode::BorrowDecode<'a, ()>>(&mut self) -> Result<T> {
        let rest = self.payload.get(self.at..).unwrap_or_default();
        let (part, used) = bincode::borrow_decode_from_slice(rest, config())
            .map_err(|e| corrupt(self.kind, "it cannot be decoded").with_source(e))?;
        self.at += used;
        Ok(part)
    }

    /// Where in the record the next bytes are, if the payload begins at `start` there.
    fn next_bytes(&mut self, start: usize) -> Result<Range<u32>> {
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
    fn count(&mut self) -> Result<usize> {
        let count: u64 = self.next()?;
        let fits = |count: &usize| *count <= self.payload.len() - self.at;
        let count = usize::try_from(count).ok().filter(fits);
        count.ok_or_else(|| corrupt(self.kind, "it is too short"))
    }

    fn is_at_end(&self) -> bool {
        self.at == self.payload.len()
    }

    fn end(self) -> Result<()> {
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
fn gather<T: Default>(count: usize, mut part: impl FnMut() -> Result<T>) -> Result<Arc<[T]>> {
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

/// The rows of one group of commits: each with its key, and without a value if it is removed.
pub(crate) type FrameRows<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

/// Appends the record of a group of commits to `out`.
pub(crate) fn seal_frame<'a>(
    out: &mut Vec<u8>,
    key: &[u8],
    rows: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<()> {
    let start = out.len();
    let failed =
        |e| Error::new(ErrorKind::InvalidInput, "a commit cannot be encoded").with_source(e);
    out.push(FORMAT);
    bincode::encode_into_std_write(rows.len() as u64, out, config()).map_err(failed)?;
    for row in rows {
        bincode::encode_into_std_write(row, out, config()).map_err(failed)?;
    }
    let sum = checksum(RecordKind::Frame, key, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum);
    Ok(())
}

/// Decodes what [`seal_frame`] wrote.
pub(crate) fn open_frame<'a>(key: &[u8], record: &'a [u8]) -> Result<FrameRows<'a>> {
    whole(
        RecordKind::Frame,
        open(RecordKind::Frame, key, record)?,
        |payload| bincode::borrow_decode_from_slice(payload, config()),
    )
}

/// The key of a session row.
pub(crate) fn session_key(container: ContainerId, client: ClientKey) -> [u8; 20] {
    let mut key = [0; 20];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&container.0.to_be_bytes());
    tail.copy_from_slice(client.as_bytes());
    key
}

/// The client of a session row's key.
pub(crate) fn client_of(key: &[u8; 20]) -> ClientKey {
    let mut client = [0; 16];
    for (to, from) in client.iter_mut().zip(key.iter().skip(4)) {
        *to = *from;
    }
    ClientKey::from_bytes(client)
}

/// The key of a package row: that of its session, then the package id.
pub(crate) fn package_key(container: ContainerId, client: ClientKey, package: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(20 + package.len());
    key.extend_from_slice(&session_key(container, client));
    key.extend_from_slice(package.as_bytes());
    key
}

/// One client in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) created: Timestamp,
    pub(crate) last_access: Timestamp,
    pub(crate) timeout: Option<Duration>,
    pub(crate) owner: Option<Arc<str>>,
    /// The number of the commit that founded it: tells it from a later session of the same client (C2.11).
    pub(crate) incarnation: u64,
    /// The packages that have a row, sorted, so that a lost one is noticed (C5.4).
    pub(crate) packages: Arc<[Arc<str>]>,
}

impl SessionRow {
    pub(crate) fn times(&self) -> Times {
        Times {
            created: self.created,
            last_access: self.last_access,
            timeout: self.timeout,
        }
    }

    pub(crate) fn has(&self, package: &str) -> bool {
        self.packages
            .binary_search_by(|p| (**p).cmp(package))
            .is_ok()
    }

    pub(crate) fn encode(&self, key: &[u8]) -> Result<Vec<u8>> {
        let timeout = self.timeout.map(millis);
        seal(
            RecordKind::Session,
            key,
            (
                self.created.0,
                self.last_access.0,
                timeout,
                self.owner.as_deref(),
                self.incarnation,
                &*self.packages,
            ),
        )
    }

    pub(crate) fn decode(key: &[u8], record: &[u8]) -> Result<Self> {
        type Head<'a> = (i64, i64, Option<u64>, Option<&'a str>, u64);
        let payload = open(RecordKind::Session, key, record)?;
        let mut parts = PayloadReader::new(RecordKind::Session, payload);
        let (created, last_access, timeout, owner, incarnation): Head<'_> = parts.next()?;
        let count = parts.count()?;
        let packages = gather(count, || parts.next().map(<&str>::into))?;
        parts.end()?;
        Ok(Self {
            created: Timestamp(created),
            last_access: Timestamp(last_access),
            timeout: timeout.map(Duration::from_millis),
            owner: owner.map(Arc::from),
            incarnation,
            packages,
        })
    }
}

/// Durations are stored in milliseconds, rounded up: zero means never (C3.3), and no other may become it.
pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration as it comes back from a record, to set: what is set and what is stored compare equal.
pub(crate) fn whole_millis(d: Duration) -> Duration {
    Duration::from_millis(millis(d))
}

/// One package of one session: the number of the commit that wrote it, and its values by key. The
/// values are slices of the row as it was read.
#[derive(Clone, Debug)]
pub(crate) struct PackageRow {
    pub(crate) version: u64,
    bytes: Bytes,
    /// Where in the record the first entry begins.
    start: usize,
    entries: Arc<[PackageEntry]>,
}

/// Where in the record a key and its value are.
#[derive(Clone, Debug, Default)]
struct PackageEntry {
    key: Range<u32>,
    value: Range<u32>,
}

/// What becomes of some keys of a package, sorted; `None` removes one.
pub(crate) type KeyWrites = [(Arc<str>, Option<Bytes>)];

impl PackageRow {
    /// The number of bytes that the record of `entries` takes; what the package limit counts (C5.3).
    #[cfg(any(test, feature = "torture"))]
    pub(crate) fn encode<'a>(
        key: &[u8],
        version: u64,
        entries: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Vec<u8>> {
        let mut out = vec![FORMAT];
        put(&mut out, (version, entries.len() as u64))?;
        for entry in entries {
            put(&mut out, entry)?;
        }
        let sum = checksum(RecordKind::Package, key, &out);
        out.extend_from_slice(&sum);
        Ok(out)
    }

    /// The record at `key` of what `old` holds, but for the keys that are written, and how many bytes it takes: what
    /// the package limit counts (C5.3). What lies between those keys is copied as it is.
    pub(crate) fn rebuild(
        old: Option<&Self>,
        key: &[u8],
        version: u64,
        (count, writes): (usize, &KeyWrites),
    ) -> Result<Vec<u8>> {
        let value_len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let written = writes
            .iter()
            .map(|(key, value)| key.len() + value_len(value) + 10);
        let more = written.sum::<usize>() + 32;
        let mut out = Vec::with_capacity(old.map_or(0, |old| old.bytes.len()) + more);
        out.push(FORMAT);
        put(&mut out, (version, count as u64))?;
        let mut rest = old.map(Self::whole).unwrap_or_default();
        for (name, value) in writes {
            crate::steps::count(1);
            let before = rest.take_before(name);
            out.extend_from_slice(before);
            if let Some(value) = value {
                put(&mut out, (&**name, &**value))?;
            }
        }
        out.extend_from_slice(rest.bytes());
        let sum = checksum(RecordKind::Package, key, &out);
        out.extend_from_slice(&sum);
        Ok(out)
    }

    fn whole(&self) -> RemainingEntries<'_> {
        let last = self.entries.last();
        RemainingEntries {
            row: Some(self),
            at: 0,
            from: self.start,
            to: last.map_or(self.start, |entry| entry.value.end as usize),
        }
    }

    pub(crate) fn decode(key: &[u8], record: Bytes) -> Result<Self> {
        let payload = open(RecordKind::Package, key, &record)?;
        let mut parts = PayloadReader::new(RecordKind::Package, payload);
        let version = parts.next()?;
        let count = parts.count()?;
        crate::steps::count(count);
        // One format byte stands before the payload.
        let start = 1 + parts.at;
        let entries = gather(count, || {
            let entry = PackageEntry {
                key: parts.next_bytes(1)?,
                value: parts.next_bytes(1)?,
            };
            let key = record.get(entry.key.start as usize..entry.key.end as usize);
            match std::str::from_utf8(key.unwrap_or_default()) {
                Ok(_) => Ok(entry),
                Err(_) => Err(corrupt(RecordKind::Package, "a key is not UTF-8")),
            }
        })?;
        parts.end()?;
        Ok(Self {
            version,
            bytes: record,
            start,
            entries,
        })
    }

    /// Whether this is what `record` holds: the very bytes, in the same place.
    pub(crate) fn is_of(&self, record: &Bytes) -> bool {
        self.bytes.as_ptr() == record.as_ptr() && self.bytes.len() == record.len()
    }

    fn key_of(&self, entry: &PackageEntry) -> &[u8] {
        let key = entry.key.start as usize..entry.key.end as usize;
        self.bytes.get(key).unwrap_or_default()
    }

    fn value_of(&self, entry: &PackageEntry) -> Bytes {
        self.bytes
            .slice(entry.value.start as usize..entry.value.end as usize)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        let found = |e: &PackageEntry| self.key_of(e).cmp(key.as_bytes());
        let at = self.entries.binary_search_by(found).ok()?;
        self.entries.get(at).map(|e| self.value_of(e))
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory_size(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.entries)
    }

    /// Keys and values, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Bytes)> {
        self.entries.iter().map(|e| {
            let key = std::str::from_utf8(self.key_of(e)).unwrap_or_default();
            (key, self.value_of(e))
        })
    }

    /// Whether two rows hold the same values, whichever commit wrote them.
    pub(crate) fn same_values(&self, other: &Self) -> bool {
        self.version == other.version || self.iter().eq(other.iter())
    }

    /// The first key for which two rows differ, of those that are `of_interest`.
    pub(crate) fn first_difference<'a>(
        one: Option<&'a Self>,
        other: Option<&'a Self>,
        of_interest: impl Fn(&str) -> bool,
    ) -> Option<&'a str> {
        let mut one = one.into_iter().flat_map(Self::iter).peekable();
        let mut other = other.into_iter().flat_map(Self::iter).peekable();
        loop {
            crate::steps::count(1);
            let key = match (one.peek(), other.peek()) {
                (Some((a, _)), Some((b, _))) => a.min(b),
                (Some((key, _)), None) | (None, Some((key, _))) => key,
                (None, None) => return None,
            };
            let key: &'a str = key;
            let is_here = |(k, _): &(&str, Bytes)| *k == key;
            let values = (one.next_if(is_here), other.next_if(is_here));
            if values.0 != values.1 && of_interest(key) {
                return Some(key);
            }
        }
    }
}

/// Appends what bincode makes of a value.
fn put(out: &mut Vec<u8>, value: impl bincode::Encode) -> Result<()> {
    match bincode::encode_into_std_write(value, out, config()) {
        Ok(_) => Ok(()),
        Err(e) => {
            Err(Error::new(ErrorKind::InvalidInput, "a package cannot be encoded").with_source(e))
        }
    }
}

/// The entries of a row that are not copied yet, and where they begin and end in its record.
#[derive(Default)]
struct RemainingEntries<'a> {
    row: Option<&'a PackageRow>,
    at: usize,
    from: usize,
    to: usize,
}

impl<'a> RemainingEntries<'a> {
    /// Takes what stands before `key`; goes on after it.
    fn take_before(&mut self, key: &str) -> &'a [u8] {
        let Some(row) = self.row else { return &[] };
        let entries = row.entries.get(self.at..).unwrap_or_default();
        let found = entries.binary_search_by(|e| row.key_of(e).cmp(key.as_bytes()));
        let (Ok(before) | Err(before)) = found;
        let end_of = |at: usize| at.checked_sub(1).and_then(|at| row.entries.get(at));
        let start = self.from;
        let end = match end_of(self.at + before) {
            Some(entry) => (entry.value.end as usize).max(start),
            None => start,
        };
        self.at += before + usize::from(found.is_ok());
        self.from = match end_of(self.at) {
            Some(entry) => entry.value.end as usize,
            None => start,
        };
        row.bytes.get(start..end).unwrap_or_default()
    }

    fn bytes(&self) -> &'a [u8] {
        let bytes = self.row.map_or(&[][..], |row| &row.bytes);
        bytes.get(self.from..self.to).unwrap_or_default()
    }
}

/// A container's place and settings, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerRecord {
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) timeout_ms: u64,
    pub(crate) resolution_ms: u64,
    pub(crate) max_lifetime_ms: Option<u64>,
    /// Stored where it is not set only: the first records end before it.
    pub(crate) implicit_sweeps: bool,
}

impl ContainerRecord {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let head = (
            &self.name,
            self.id,
            self.timeout_ms,
            self.resolution_ms,
            self.max_lifetime_ms,
        );
        let key = self.name.as_bytes();
        if self.implicit_sweeps {
            seal(RecordKind::Container, key, head)
        } else {
            seal(RecordKind::Container, key, (head, self.implicit_sweeps))
        }
    }

    pub(crate) fn decode(name: &str, record: &[u8]) -> Result<Self> {
        let payload = open(RecordKind::Container, name.as_bytes(), record)?;
        let mut parts = PayloadReader::new(RecordKind::Container, payload);
        let (name, id, timeout_ms, resolution_ms, max_lifetime_ms) = parts.next()?;
        let implicit_sweeps = parts.is_at_end() || parts.next()?;
        parts.end()?;
        Ok(Self {
            name,
            id,
            timeout_ms,
            resolution_ms,
            max_lifetime_ms,
            implicit_sweeps,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SessionRow {
        SessionRow {
            created: Timestamp(1),
            last_access: Timestamp(-2),
            timeout: Some(Duration::from_secs(3)),
            owner: Some("ann".into()),
            incarnation: 4,
            packages: ["a".into(), "b".into()].into(),
        }
    }

    #[test]
    fn a_session_row_comes_back_as_it_was() {
        let record = row().encode(b"key").unwrap();
        assert_eq!(SessionRow::decode(b"key", &record).unwrap(), row());
    }

    // C1.8
    #[test]
    fn a_container_record_comes_back_as_it_was() {
        for implicit_sweeps in [true, false] {
            let record = ContainerRecord {
                name: "shop".into(),
                id: 3,
                timeout_ms: 1,
                resolution_ms: 300,
                max_lifetime_ms: Some(7),
                implicit_sweeps,
            };
            let bytes = record.encode().unwrap();
            assert_eq!(ContainerRecord::decode("shop", &bytes).unwrap(), record);
        }
    }

    // C3.3
    #[test]
    fn durations_are_rounded_up_to_whole_milliseconds() {
        let micros = |n| millis(Duration::from_micros(n));
        assert_eq!([0, 1, 1000, 1001].map(micros), [0, 1, 1, 2]);
        assert_eq!(millis(Duration::MAX), u64::MAX);
        for d in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            assert_eq!(whole_millis(whole_millis(d)), whole_millis(d));
        }
    }

    #[test]
    fn a_package_row_finds_every_key() {
        let entries: Vec<(String, Vec<u8>)> = (0..300)
            .map(|i| (format!("{i:04}"), vec![i as u8; i]))
            .collect();
        let record = PackageRow::encode(
            b"key",
            7,
            entries.iter().map(|(k, v)| (k.as_str(), v.as_slice())),
        )
        .unwrap();
        let row = PackageRow::decode(b"key", record.into()).unwrap();
        assert_eq!(row.version, 7);
        for (key, value) in &entries {
            assert_eq!(row.get(key).as_deref(), Some(value.as_slice()));
        }
        assert_eq!(row.get("none"), None);
        assert_eq!(row.iter().count(), 300);
    }

    fn encode(content: &std::collections::BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let entries = content.iter().map(|(k, v)| (k.as_str(), v.as_slice()));
        PackageRow::encode(b"key", 8, entries).unwrap()
    }

    #[test]
    fn a_row_is_rebuilt_byte_by_byte_as_if_it_were_encoded_anew() {
        let value = |n: usize| vec![n as u8; [0, 1, 250, 251, 70_000][n % 5]];
        for seed in 0..300_usize {
            let mut content: std::collections::BTreeMap<_, _> = (0..seed % 7)
                .map(|n| (format!("{:02}", n * 3), value(seed + n)))
                .collect();
            let record = encode(&content);
            let old = PackageRow::decode(b"key", record.into()).unwrap();
            let mut writes: Vec<(Arc<str>, Option<Bytes>)> = Vec::new();
            for n in 0..20 {
                if (seed * 31 + n * 17) % 5 == 0 {
                    let key = format!("{n:02}");
                    let is_put = (seed + n) % 3 > 0;
                    let value = is_put.then(|| Bytes::from(value(seed + 3 * n)));
                    match &value {
                        Some(value) => content.insert(key.clone(), value.to_vec()),
                        None => content.remove(&key),
                    };
                    writes.push((key.into(), value));
                }
            }
            let written = (content.len(), &*writes);
            let rebuilt = PackageRow::rebuild(Some(&old), b"key", 8, written).unwrap();
            assert_eq!(rebuilt, encode(&content), "{seed}");
            writes.retain(|(_, value)| value.is_some());
            let written = (writes.len(), &*writes);
            let anew = PackageRow::rebuild(None, b"key", 8, written).unwrap();
            content.retain(|key, _| writes.iter().any(|(k, _)| **k == **key));
            assert_eq!(anew, encode(&content), "{seed}");
        }
    }

    // C5.5
    #[test]
    fn rebuilding_a_row_takes_steps_for_the_keys_that_change_alone() {
        let steps = |keys: usize| {
            let content = (0..keys).map(|n| (format!("{n:05}"), vec![7; 9])).collect();
            let old = PackageRow::decode(b"key", encode(&content).into()).unwrap();
            let writes = [("00003".into(), Some(Bytes::from_static(b"new")))];
            crate::steps::of(|| {
                PackageRow::rebuild(Some(&old), b"key", 8, (keys, &writes)).unwrap();
            })
        };
        assert_eq!(steps(10_000), steps(10));
    }

    #[test]
    fn the_first_difference_of_two_rows_is_found() {
        let row = |keys: &[&str]| {
            let entries = keys.iter().map(|key| (&key[..1], key.as_bytes()));
            let record = PackageRow::encode(b"key", 7, entries.collect::<Vec<_>>().into_iter());
            PackageRow::decode(b"key", record.unwrap().into()).unwrap()
        };
        let first = |one: &[&str], other: &[&str]| {
            let (one, other) = (row(one), row(other));
            let of_interest = |key: &str| key != "x";
            let found = PackageRow::first_difference(Some(&one), Some(&other), of_interest);
            found.map(str::to_owned)
        };
        assert_eq!(first(&["a", "b"], &["a", "b"]), None);
        assert_eq!(first(&["a", "b", "d"], &["a", "b2", "c"]).unwrap(), "b");
        assert_eq!(
            first(&["a", "x", "z"], &["a", "x2", "y", "z"]).unwrap(),
            "y"
        );
        assert_eq!(first(&["a"], &["a", "x"]), None);
        assert_eq!(first(&["a", "b"], &[]).unwrap(), "a");
    }

    // C5.4
    #[test]
    fn every_flipped_bit_is_found() {
        let record = PackageRow::encode(b"key", 7, [("k", &b"value"[..])].into_iter()).unwrap();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = PackageRow::decode(b"key", flipped.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    // C5.4
    #[test]
    fn a_record_at_another_key_or_of_another_kind_is_corrupt() {
        let record = row().encode(b"key").unwrap();
        assert!(SessionRow::decode(b"other", &record).is_err());
        assert!(PackageRow::decode(b"key", record.into()).is_err());
    }

    #[test]
    fn a_truncated_record_is_corrupt() {
        let record = row().encode(b"key").unwrap();
        for len in 0..record.len() {
            assert!(SessionRow::decode(b"key", &record[..len]).is_err());
        }
    }
}
