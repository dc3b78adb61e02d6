//! The memtable: rows that are durable in the journal but not yet in redb, each in as many versions as snapshots may
//! still read. One thread writes. A reader waits only while a row is put into the same shard.

use crate::storage::redb::memtable::row_key::{KeyRange, RowKey, RowTree, RowWrite};
use bytes::Bytes;
use crossbeam_skiplist::SkipSet;
use dashmap::DashMap;
use rapidhash::fast::RandomState;
use std::sync::atomic::{AtomicUsize, Ordering};

/// About how many bytes an entry takes besides its key and its value.
const OVERHEAD: usize = 160;

/// The number of a version from before the first commit of a memtable.
const BEFORE: u64 = 0;

/// How many bytes of a memtable are for copies of redb's rows. Copies help for sessions that are written again and again;
/// with more than fit into a processor's cache, redb finds the rows as fast.
const COPIES: usize = 1 << 20;

/// A row as one commit wrote it.
#[derive(Clone, Debug)]
struct RowVersion {
    number: u64,
    value: Option<Bytes>,
}

impl RowVersion {
    fn memory_size(&self) -> usize {
        size_of::<Self>() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Whether commits after a certain one have changed a row.
pub(crate) enum ChangedRow {
    Unchanged,
    /// The row, or that it was removed.
    Changed(Option<Bytes>),
}

/// The newest version of a row, and the earlier ones that snapshots may still read.
#[derive(Debug)]
struct RowVersions {
    newest: RowVersion,
    /// By ascending number.
    earlier: Vec<RowVersion>,
}

impl RowVersions {
    fn new(newest: RowVersion) -> Self {
        Self {
            newest,
            earlier: Vec::new(),
        }
    }

    /// Adds a version. Returns how many bytes of memory were added, and how many removed.
    fn push(&mut self, version: RowVersion, oldest: u64) -> (usize, usize) {
        let more = version.memory_size();
        let before = std::mem::replace(&mut self.newest, version);
        if before.number == self.newest.number {
            return (more, before.memory_size());
        }
        let mut less = 0;
        if before.number <= oldest {
            less = self
                .earlier
                .drain(..)
                .map(|version| version.memory_size())
                .sum();
        }
        self.earlier.push(before);
        (more, less)
    }

    /// Whether it is a copy of redb's row that no commit has changed.
    fn is_copy(&self) -> bool {
        self.newest.number == BEFORE
    }

    fn as_of(&self, number: u64) -> Option<&RowVersion> {
        if self.newest.number <= number {
            return Some(&self.newest);
        }
        let is_visible = |version: &RowVersion| {
            crate::steps::count(1);
            version.number <= number
        };
        let visible = self.earlier.partition_point(is_visible).checked_sub(1)?;
        self.earlier.get(visible)
    }
}

/// How many shards the rows are in. Growing a shard blocks its rows and the commit that needs the space, so there are
/// many small ones.
const PARTS: usize = 512;

/// The rows of the commits between two checkpoints.
pub(crate) struct Memtable {
    rows: DashMap<Box<[u8]>, RowVersions, RandomState>,
    /// The keys in order, of all trees that are scanned: not of packages, which are most of the rows.
    ordered: SkipSet<Box<[u8]>>,
    size: AtomicUsize,
    /// How much of `size` is for copies.
    copies: AtomicUsize,
}

impl Default for Memtable {
    fn default() -> Self {
        Self::with_room_for(0)
    }
}

impl Memtable {
    /// An empty memtable with capacity for so many rows.
    fn with_room_for(rows: usize) -> Self {
        Self {
            rows: DashMap::with_capacity_and_hasher_and_shard_amount(
                rows,
                RandomState::default(),
                PARTS,
            ),
            ordered: SkipSet::default(),
            size: AtomicUsize::default(),
            copies: AtomicUsize::default(),
        }
    }

    /// The next memtable, with capacity for as many rows and an eighth more.
    pub(crate) fn successor(&self) -> Self {
        let rows = self.rows.len();
        Self::with_room_for(rows + rows / 8)
    }

    /// Puts in a row as commit `number` writes it. No snapshot is older than `oldest`, so versions that only such a
    /// snapshot could read are dropped. For the writer alone.
    pub(crate) fn put(&self, row: RowWrite, number: u64, oldest: u64) {
        let RowWrite { key, value } = row;
        let version = RowVersion { number, value };
        let (more, less) = if let Some(mut versions) = self.rows.get_mut(key.as_bytes()) {
            // Only sessions are copied.
            let was_copy = versions.is_copy();
            let sizes = versions.push(version, oldest);
            drop(versions);
            if was_copy {
                self.ordered.insert(key.0);
            }
            sizes
        } else {
            let size = OVERHEAD + key.as_bytes().len() + version.memory_size();
            let is_package = matches!(key.split(), Some((RowTree::Packages, _)));
            // The row before the key: a scan that finds the key looks for the row next.
            let in_order = (!is_package).then(|| key.0.clone());
            self.rows.insert(key.0, RowVersions::new(version));
            if let Some(key) = in_order {
                self.ordered.insert(key);
            }
            (size, 0)
        };
        self.size.fetch_add(more, Ordering::Relaxed);
        self.size.fetch_sub(less, Ordering::Relaxed);
    }

    /// Puts in a copy of redb's row, so that it is found without redb. Does nothing if there is no space left for copies.
    /// For the writer alone.
    pub(crate) fn put_copy(&self, key: &[u8], value: Bytes) {
        if !self.takes_copies() || self.rows.contains_key(key) {
            return;
        }
        let copy = RowVersion {
            number: BEFORE,
            value: Some(value),
        };
        let size = OVERHEAD + key.len() + copy.memory_size();
        self.rows.insert(key.into(), RowVersions::new(copy));
        self.copies.fetch_add(size, Ordering::Relaxed);
        self.size.fetch_add(size, Ordering::Relaxed);
    }

    pub(crate) fn takes_copies(&self) -> bool {
        self.copies.load(Ordering::Relaxed) < COPIES
    }

    /// The row as of a commit: `None` if the memtable does not have it, `Some(None)` if it was removed.
    pub(crate) fn get(&self, key: &[u8], number: u64) -> Option<Option<Bytes>> {
        Some(self.rows.get(key)?.as_of(number)?.value.clone())
    }

    /// As [`get`](Self::get), unless no commit after `since` has changed the row.
    pub(crate) fn get_since(&self, key: &[u8], number: u64, since: u64) -> Option<ChangedRow> {
        let versions = self.rows.get(key)?;
        let version = versions.as_of(number)?;
        Some(match version.number <= since {
            true => ChangedRow::Unchanged,
            false => ChangedRow::Changed(version.value.clone()),
        })
    }

    /// As [`get`](Self::get), but without copies of redb's rows: a copy does not tell how the row in the file is encrypted.
    #[cfg(feature = "encryption")]
    pub(crate) fn get_changed(&self, key: &[u8], number: u64) -> Option<Option<Bytes>> {
        let versions = self.rows.get(key)?;
        if versions.is_copy() {
            return None;
        }
        Some(versions.as_of(number)?.value.clone())
    }

    /// The rows of a range as of a commit, in order, with the removed ones. Not for packages.
    pub(crate) fn range(
        &self,
        range: KeyRange,
        number: u64,
    ) -> impl Iterator<Item = (Box<[u8]>, Option<Bytes>)> {
        self.ordered.range(range).filter_map(move |key| {
            let value = self.get(key.value(), number)?;
            Some((key.value().clone(), value))
        })
    }

    /// All changed rows as of a commit, by tree and key.
    pub(crate) fn rows(&self, number: u64) -> Vec<RowWrite> {
        let row = |key: &[u8], versions: &RowVersions| {
            Some(RowWrite {
                key: RowKey(key.into()),
                value: versions.as_of(number)?.value.clone(),
            })
        };
        let rows = self.rows.iter();
        let mut rows: Vec<RowWrite> = rows
            .filter(|entry| !entry.is_copy())
            .filter_map(|entry| row(entry.key(), entry.value()))
            .collect();
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        rows
    }

    /// Calls `found` with the rows that commits after `since` changed, as of a commit.
    pub(crate) fn each_changed(
        &self,
        since: u64,
        number: u64,
        mut found: impl FnMut(&[u8], &Option<Bytes>),
    ) {
        for entry in self.rows.iter() {
            if let Some(version) = entry.as_of(number).filter(|it| it.number > since) {
                found(entry.key(), &version.value);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.memory_size() == 0
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn memory_size(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::memtable::write_batch::WriteBatch;
    use std::ops::Bound;

    fn row(key: &[u8], value: Option<&'static str>) -> RowWrite {
        RowWrite {
            key: RowKey::new(RowTree::Packages, key),
            value: value.map(|v| Bytes::from_static(v.as_bytes())),
        }
    }

    fn get(memtable: &Memtable, number: u64) -> Option<Option<Bytes>> {
        let key = RowKey::new(RowTree::Packages, b"k");
        memtable.get(key.as_bytes(), number)
    }

    #[test]
    fn each_commit_that_somebody_may_read_is_kept() {
        let memtable = Memtable::default();
        assert_eq!(get(&memtable, 9), None);
        memtable.put(row(b"k", Some("one")), 1, 0);
        memtable.put(row(b"k", None), 3, 0);
        memtable.put(row(b"k", Some("five")), 5, 0);
        assert_eq!(get(&memtable, 0), None);
        for (number, expected) in [
            (1, Some("one")),
            (2, Some("one")),
            (3, None),
            (4, None),
            (5, Some("five")),
            (9, Some("five")),
        ] {
            let expected = expected.map(Bytes::from);
            assert_eq!(get(&memtable, number), Some(expected), "{number}");
        }
    }

    // C2.7
    #[test]
    fn a_row_is_unchanged_since_the_commit_that_wrote_it_and_no_earlier_one() {
        let memtable = Memtable::default();
        let key = RowKey::new(RowTree::Packages, b"k");
        let since = |since| match memtable.get_since(key.as_bytes(), 9, since) {
            Some(ChangedRow::Unchanged) => "unchanged".into(),
            Some(ChangedRow::Changed(value)) => format!("{value:?}"),
            None => "not here".into(),
        };
        assert_eq!(since(9), "not here");
        memtable.put_copy(key.as_bytes(), Bytes::from("copy"));
        assert_eq!(since(0), "unchanged");
        memtable.put(row(b"k", Some("three")), 3, 0);
        memtable.put(row(b"k", None), 5, 0);
        assert_eq!((since(3), since(4)), ("None".into(), "None".into()));
        assert_eq!(since(5), "unchanged");
        memtable.put(row(b"k", Some("seven")), 7, 0);
        assert_eq!(since(6), r#"Some(b"seven")"#);
        assert_eq!(since(7), "unchanged");
    }

    #[test]
    fn what_nobody_reads_any_more_goes() {
        let memtable = Memtable::default();
        let mut least = usize::MAX;
        for number in 1..1000 {
            memtable.put(row(b"k", Some("value")), number, number - 1);
            if number == 2 {
                least = memtable.memory_size();
            }
        }
        assert_eq!(memtable.memory_size(), least);
        assert_eq!(get(&memtable, 998), Some(Some(Bytes::from("value"))));
        assert_eq!(get(&memtable, 997), None, "nobody reads it");
    }

    #[test]
    fn a_second_change_in_one_commit_replaces_the_first() {
        let memtable = Memtable::default();
        memtable.put(row(b"k", Some("one")), 1, 0);
        memtable.put(row(b"k", Some("two")), 2, 0);
        memtable.put(row(b"k", None), 2, 0);
        assert_eq!(get(&memtable, 1), Some(Some(Bytes::from("one"))));
        assert_eq!(get(&memtable, 2), Some(None));
    }

    // C5.5
    #[test]
    fn an_early_version_of_many_is_found_in_a_few_steps() {
        let memtable = Memtable::default();
        for number in 1..10_001 {
            memtable.put(row(b"k", Some("value")), number, 0);
        }
        let steps = crate::steps::of(|| assert!(get(&memtable, 7).is_some()));
        assert!(steps < 20, "{steps} steps");
    }

    #[test]
    fn a_long_tail_of_versions_is_let_go() {
        let memtable = Memtable::default();
        for number in 1..200_000 {
            memtable.put(row(b"k", Some("value")), number, 0);
        }
        drop(memtable);
    }

    #[test]
    fn the_next_generation_is_empty_and_has_room_for_as_many_rows() {
        let memtable = Memtable::default();
        for n in 0..10_000_u32 {
            memtable.put(row(&n.to_be_bytes(), None), 1, 1);
        }
        let next = memtable.successor();
        assert!(next.is_empty());
        assert!(next.rows.capacity() >= 10_000);
        assert_eq!(Memtable::default().successor().rows.capacity(), 0);
    }

    fn session_key(n: u32) -> RowKey {
        let mut key = [0; 20];
        key[..4].copy_from_slice(&n.to_be_bytes());
        RowKey::new(RowTree::Sessions, &key)
    }

    fn session(n: u32, value: &'static str) -> RowWrite {
        let value = Some(Bytes::from(value));
        let key = session_key(n);
        RowWrite { key, value }
    }

    fn sessions(memtable: &Memtable, number: u64) -> Vec<Option<Bytes>> {
        let range = (Bound::Unbounded, Bound::Unbounded);
        memtable.range(range, number).map(|row| row.1).collect()
    }

    #[test]
    fn a_copy_is_read_as_of_any_commit_and_is_no_change() {
        let memtable = Memtable::default();
        let key = session_key(1);
        memtable.put_copy(key.as_bytes(), Bytes::from("copy"));
        for number in [1, 9] {
            let read = memtable.get(key.as_bytes(), number);
            assert_eq!(read, Some(Some(Bytes::from("copy"))));
        }
        assert_eq!(memtable.rows(9).len(), 0, "nothing for a checkpoint");
        assert_eq!(sessions(&memtable, 9), [], "redb has it in its order");
    }

    #[test]
    fn a_change_takes_the_place_of_a_copy_but_for_those_who_read_as_of_before() {
        let memtable = Memtable::default();
        let key = session_key(1);
        memtable.put_copy(key.as_bytes(), Bytes::from("copy"));
        memtable.put(session(1, "changed"), 5, 4);
        let get = |number| memtable.get(key.as_bytes(), number).unwrap().unwrap();
        assert_eq!((get(4), get(5)), ("copy".into(), "changed".into()));
        assert_eq!(sessions(&memtable, 5), [Some(Bytes::from("changed"))]);
        let rows = memtable.rows(5);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].value, Some(Bytes::from("changed")));
        memtable.put_copy(key.as_bytes(), Bytes::from("copy"));
        assert_eq!(get(5), "changed", "what a commit made stays");
    }

    #[test]
    fn copies_take_no_more_memory_than_there_is_for_them() {
        let memtable = Memtable::default();
        let mut copied = 0;
        while WriteBatch::over(&memtable).collects_redb_rows() {
            memtable.put_copy(session_key(copied).as_bytes(), Bytes::from("copy"));
            copied += 1;
        }
        let full = memtable.memory_size();
        assert!((COPIES..COPIES + 1000).contains(&full), "{full}");
        memtable.put_copy(session_key(copied).as_bytes(), Bytes::from("copy"));
        assert_eq!(memtable.memory_size(), full);
        memtable.put(session(copied, "changed"), 1, 0);
        assert!(memtable.memory_size() > full, "commits go on");
    }

    #[test]
    fn rows_come_tree_by_tree() {
        let memtable = Memtable::default();
        for (n, tree) in [RowTree::Owners, RowTree::Sessions, RowTree::Packages]
            .into_iter()
            .enumerate()
        {
            let key = RowKey::new(tree, &[n as u8]);
            memtable.put(RowWrite { key, value: None }, 1, 0);
        }
        let rows = memtable.rows(1);
        let trees: Vec<_> = rows.iter().map(|row| row.key.split().unwrap().0).collect();
        assert_eq!(
            trees,
            [RowTree::Sessions, RowTree::Packages, RowTree::Owners]
        );
        assert_eq!(RowKey::parse(&[0x84]), None);
        assert_eq!(RowKey::parse(&[]), None);
    }
}
