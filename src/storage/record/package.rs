//! The row of a package, and its key.

use super::cipher::RecordCipher;
use super::codec::{
    ENCRYPTED, FORMAT, PayloadReader, RecordKind, checksum, close, config, corrupt, gather,
    verified,
};
use super::context::RecordContext;
use super::session::session_key;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerId, Version};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// The key of a package row: the key of its session, then the package id.
pub(crate) fn package_key(container: ContainerId, client: ClientKey, package: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(20 + package.len());
    key.extend_from_slice(&session_key(container, client));
    key.extend_from_slice(package.as_bytes());
    key
}

/// One package of one session: the version of the commit that wrote it, and its values by key. The values are slices
/// of the record.
#[derive(Clone, Debug)]
pub(crate) struct PackageRow {
    pub(crate) version: Version,
    /// The record as it is stored without encryption.
    bytes: Bytes,
    /// The record as it is stored, if it is encrypted.
    #[cfg(feature = "encryption")]
    encrypted: Option<Bytes>,
    /// The offset of the first entry in the record.
    start: usize,
    entries: Arc<[PackageEntry]>,
}

/// The positions of a key and its value in the record.
#[derive(Clone, Debug, Default)]
struct PackageEntry {
    key: Range<u32>,
    value: Range<u32>,
}

/// New values of keys, sorted. `None` removes a key.
pub(crate) type KeyWrites = [(Arc<str>, Option<Bytes>)];

impl PackageRow {
    /// The number of bytes of the record of `entries`, which the package limit counts (C5.3).
    #[cfg(any(test, feature = "torture"))]
    pub(crate) fn encode<'a>(
        key: &[u8],
        version: Version,
        entries: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Vec<u8>> {
        let mut out = vec![FORMAT];
        put(&mut out, (version.0, entries.len() as u64))?;
        for entry in entries {
            put(&mut out, entry)?;
        }
        let sum = checksum(RecordKind::Package, key, &out);
        out.extend_from_slice(&sum);
        Ok(out)
    }

    /// Encodes the record at `key`: the entries of `old` with the written keys changed. Runs of unchanged entries are
    /// copied as bytes.
    pub(crate) fn rebuild(
        old: Option<&Self>,
        key: &[u8],
        version: Version,
        (count, writes): (usize, &KeyWrites),
    ) -> Result<Vec<u8>> {
        let value_len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        let written = writes
            .iter()
            .map(|(key, value)| key.len() + value_len(value) + 10);
        let more = written.sum::<usize>() + 32;
        let mut out = Vec::with_capacity(old.map_or(0, |old| old.bytes.len()) + more);
        out.push(FORMAT);
        put(&mut out, (version.0, count as u64))?;
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

    /// Encrypts a record that [`rebuild`](Self::rebuild) made, if there are keys.
    pub(crate) fn encrypt(
        key: &[u8],
        mut record: Vec<u8>,
        cipher: &RecordCipher,
    ) -> Result<Vec<u8>> {
        if cipher.encrypts() {
            record.truncate(record.len().saturating_sub(size_of::<u64>()));
            let context = RecordContext::new(RecordKind::Package, key);
            cipher.encrypt(context, &mut record, 1)?;
            close(RecordKind::Package, key, &mut record);
        }
        Ok(record)
    }

    /// The record of the row at `key`, which `record` is of, encrypted with the current key if there are keys.
    pub(crate) fn again(
        &self,
        key: &[u8],
        record: &[u8],
        cipher: &RecordCipher,
    ) -> Result<Vec<u8>> {
        if !cipher.encrypts() {
            return Ok(record.to_vec());
        }
        let plain = Self::rebuild(Some(self), key, self.version, (self.len(), &[]))?;
        Self::encrypt(key, plain, cipher)
    }

    pub(crate) fn decode(key: &[u8], record: Bytes, cipher: &RecordCipher) -> Result<Self> {
        let (format, payload) = verified(RecordKind::Package, key, &record)?;
        if format & ENCRYPTED == 0 {
            cipher.accept_plain(RecordKind::Package)?;
            let len = payload.len();
            return Self::parse(record, len);
        }
        let context = RecordContext::new(RecordKind::Package, key);
        let plain = cipher.decrypt(context, format, payload, vec![FORMAT])?;
        let len = plain.len() - 1;
        let row = Self::parse(plain.into(), len)?;
        #[cfg(feature = "encryption")]
        let row = Self {
            encrypted: Some(record),
            ..row
        };
        Ok(row)
    }

    /// `record` begins with a format, which a payload of this length follows.
    fn parse(record: Bytes, len: usize) -> Result<Self> {
        let payload = record.get(1..1 + len).unwrap_or_default();
        let mut parts = PayloadReader::new(RecordKind::Package, payload);
        let version = Version(parts.next()?);
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
            #[cfg(feature = "encryption")]
            encrypted: None,
            start,
            entries,
        })
    }

    /// Whether this row was decoded from this very `record`: the same bytes at the same address.
    pub(crate) fn is_of(&self, record: &Bytes) -> bool {
        let stored = self.stored();
        stored.as_ptr() == record.as_ptr() && stored.len() == record.len()
    }

    /// The record as it is stored.
    fn stored(&self) -> &Bytes {
        #[cfg(feature = "encryption")]
        if let Some(encrypted) = &self.encrypted {
            return encrypted;
        }
        &self.bytes
    }

    fn key_of(&self, entry: &PackageEntry) -> &[u8] {
        let key = entry.key.start as usize..entry.key.end as usize;
        self.bytes.get(key).unwrap_or_default()
    }

    fn value_of(&self, entry: &PackageEntry) -> Bytes {
        self.bytes
            .slice(entry.value.start as usize..entry.value.end as usize)
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        let found = |e: &PackageEntry| self.key_of(e).cmp(key.as_bytes());
        let at = self.entries.binary_search_by(found).ok()?;
        self.entries.get(at).map(|e| self.value_of(e))
    }

    /// The approximate number of bytes of memory that it takes.
    pub(crate) fn memory_size(&self) -> usize {
        #[cfg(feature = "encryption")]
        let encrypted = self.encrypted.as_ref().map_or(0, Bytes::len);
        #[cfg(not(feature = "encryption"))]
        let encrypted = 0;
        self.bytes.len() + encrypted + size_of_val(&*self.entries)
    }

    /// Keys and values, in the order of the keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Bytes)> {
        self.entries.iter().map(|e| {
            let key = std::str::from_utf8(self.key_of(e)).unwrap_or_default();
            (key, self.value_of(e))
        })
    }

    /// Whether two rows have equal values. Their versions may differ.
    pub(crate) fn same_values(&self, other: &Self) -> bool {
        self.version == other.version || self.iter().eq(other.iter())
    }

    /// The first key that is `of_interest` and differs in two rows.
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

/// Appends a value, encoded by bincode.
fn put(out: &mut Vec<u8>, value: impl bincode::Encode) -> Result<()> {
    match bincode::encode_into_std_write(value, out, config()) {
        Ok(_) => Ok(()),
        Err(e) => {
            Err(Error::new(ErrorKind::InvalidInput, "a package cannot be encoded").with_source(e))
        }
    }
}

/// The entries of a row that are not copied yet, and their range in its record.
#[derive(Default)]
struct RemainingEntries<'a> {
    row: Option<&'a PackageRow>,
    at: usize,
    from: usize,
    to: usize,
}

impl<'a> RemainingEntries<'a> {
    /// Takes the bytes of the entries before `key`, and skips the entry of `key`.
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
