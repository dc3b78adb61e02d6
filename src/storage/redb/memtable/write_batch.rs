//! The rows that a batch of commits has written so far.

use crate::storage::redb::memtable::row_key::{KeyRange, RowKey, RowWrite};
use crate::storage::redb::memtable::table::Memtable;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The writes of a batch so far. Only the batch sees them.
pub(crate) struct WriteBatch {
    rows: Mutex<BTreeMap<RowKey, Option<Bytes>>>,
    found: Option<Mutex<Vec<FoundRow>>>,
}

/// A row of a session as redb has it.
pub(crate) type FoundRow = ([u8; 21], Bytes);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WriteBatch {
    /// For a batch whose rows go into this memtable.
    pub(crate) fn over(memtable: &Memtable) -> Self {
        Self {
            rows: Mutex::default(),
            found: memtable.takes_copies().then(Mutex::default),
        }
    }

    /// Whether it collects rows that are found in redb, for copies in the memtable.
    pub(crate) fn collects_redb_rows(&self) -> bool {
        self.found.is_some()
    }

    pub(crate) fn tell(&self, row: FoundRow) {
        if let Some(found) = &self.found {
            locked(found).push(row);
        }
    }

    /// Takes out the collected rows.
    pub(crate) fn found(&self) -> Vec<FoundRow> {
        let found = self.found.as_ref();
        found.map_or_else(Vec::new, |found| std::mem::take(&mut *locked(found)))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RowKey, Option<Bytes>>> {
        locked(&self.rows)
    }

    pub(crate) fn put(&self, row: RowWrite) {
        self.lock().insert(row.key, row.value);
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.lock().get(key).cloned()
    }

    /// As [`Memtable::range`].
    pub(crate) fn range(&self, range: KeyRange) -> Vec<(Box<[u8]>, Option<Bytes>)> {
        let rows = self.lock();
        let rows = rows.range::<[u8], _>((
            range.0.as_ref().map(|key| &**key),
            range.1.as_ref().map(|key| &**key),
        ));
        rows.map(|(key, value)| (key.0.clone(), value.clone()))
            .collect()
    }

    /// Takes out one row for each key, by ascending key, however many members of the batch changed it.
    pub(crate) fn take(&self) -> impl Iterator<Item = RowWrite> + use<> {
        let rows = std::mem::take(&mut *self.lock());
        rows.into_iter().map(|(key, value)| RowWrite { key, value })
    }
}
