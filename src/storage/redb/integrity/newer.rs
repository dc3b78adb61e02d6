//! The rows that are newer than those in a database: from the journal of a file, or from memory. The last version of
//! each row counts.

use crate::error::{Error, ErrorKind};
use crate::storage::redb::journal::RawFrameRows;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use bytes::Bytes;
use std::collections::BTreeMap;

/// By tree, then by key; without a value where the row was removed.
#[derive(Default)]
pub(crate) struct NewerRows(BTreeMap<u8, BTreeMap<Vec<u8>, Option<Bytes>>>);

impl NewerRows {
    /// Collects the rows of frames, in the order of their numbers.
    pub(crate) fn new(frames: Vec<RawFrameRows>, lost: &mut dyn FnMut(Error)) -> Self {
        let mut newer = Self::default();
        for (key, value) in frames.into_iter().flatten() {
            let parsed = RowKey::parse(&key);
            match parsed.as_ref().and_then(RowKey::split) {
                Some((tree, key)) => {
                    let rows = newer.0.entry(tree as u8).or_default();
                    rows.insert(key.to_vec(), value);
                }
                None => {
                    let why = "the key of a row in the journal is damaged";
                    lost(Error::new(ErrorKind::Corrupt, why));
                }
            }
        }
        newer
    }

    /// Adds a row, and replaces an older version.
    pub(crate) fn put(&mut self, row: RowWrite) {
        if let Some((tree, key)) = row.key.split() {
            let rows = self.0.entry(tree as u8).or_default();
            rows.insert(key.to_vec(), row.value);
        }
    }

    /// The newer version of a row; `None` if the database has the newest.
    pub(crate) fn get(&self, tree: RowTree, key: &[u8]) -> Option<Option<&[u8]>> {
        let value = self.0.get(&(tree as u8))?.get(key)?;
        Some(value.as_deref())
    }

    /// The rows of a tree that are there.
    pub(crate) fn rows(&self, tree: RowTree) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.0.get(&(tree as u8)).into_iter().flatten();
        rows.filter_map(|(key, value)| Some((key.as_slice(), value.as_deref()?)))
    }
}
