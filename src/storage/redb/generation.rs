//! Rows that are durable in the journal but not yet in redb: in memory, in the order of their keys, each
//! in as many versions as somebody may still read. One thread writes; nobody who reads waits for it.

use crate::client_id::ClientKey;
use crate::storage::ContainerId;
use crate::storage::record::session_key;
use arc_swap::ArcSwap;
use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use dashmap::DashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What an entry takes besides its key and its value, about.
const OVERHEAD: usize = 160;

/// Which tree of a database a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tree {
    Sessions = 0,
    Packages = 1,
    Tombstones = 2,
    Owners = 3,
}

impl Tree {
    pub(super) const ALL: [Self; 4] = [
        Self::Sessions,
        Self::Packages,
        Self::Tombstones,
        Self::Owners,
    ];
}

/// Which of the two databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    File,
    Memory,
}

impl Home {
    const IN_MEMORY: u8 = 0x80;

    pub(super) fn of(container: ContainerId) -> Self {
        if container.is_in_memory() {
            Self::Memory
        } else {
            Self::File
        }
    }

    fn mark(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Memory => Self::IN_MEMORY,
        }
    }
}

/// Where a row is: a byte that names its database and its tree, then its key there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowKey(Box<[u8]>);

impl RowKey {
    /// The key of a session's row in [`Tree::Sessions`].
    pub(super) fn of_session(container: ContainerId, client: ClientKey) -> [u8; 21] {
        let mut key = [Home::of(container).mark() | Tree::Sessions as u8; 21];
        let (_, rest) = key.split_at_mut(1);
        rest.copy_from_slice(&session_key(container, client));
        key
    }

    /// The key of a package's row.
    pub(super) fn of_package(container: ContainerId, client: ClientKey, package: &str) -> Self {
        let mut bytes = Vec::with_capacity(21 + package.len());
        bytes.push(Home::of(container).mark() | Tree::Packages as u8);
        bytes.extend_from_slice(&session_key(container, client));
        bytes.extend_from_slice(package.as_bytes());
        Self(bytes.into())
    }

    pub(super) fn new(home: Home, tree: Tree, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + 1);
        bytes.push(home.mark() | tree as u8);
        bytes.extend_from_slice(key);
        Self(bytes.into())
    }

    /// A key as it was written; `None` where it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.into());
        let (tree, rest) = key.split()?;
        let fits = match tree {
            Tree::Sessions => rest.len() == 20,
            Tree::Packages => rest.len() >= 20,
            Tree::Tombstones => rest.len() == 16,
            Tree::Owners => rest.len() == 36,
        };
        fits.then_some(key)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Box<[u8]> {
        self.0
    }

    pub(super) fn home(&self) -> Home {
        match self.0.first() {
            Some(mark) if mark & Home::IN_MEMORY != 0 => Home::Memory,
            _ => Home::File,
        }
    }

    /// The tree, and the key in it.
    pub(super) fn split(&self) -> Option<(Tree, &[u8])> {
        let (mark, key) = self.0.split_first()?;
        let tree = *Tree::ALL.get(usize::from(mark & !Home::IN_MEMORY))?;
        Some((tree, key))
    }
}

/// Keys as bytes, from the one to the other.
pub(super) type KeyRange = (Bound<Box<[u8]>>, Bound<Box<[u8]>>);

/// A row to be written; without a value it is removed.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) key: RowKey,
    pub(super) value: Option<Bytes>,
}

impl Row {
    /// Key and value, as a frame holds them.
    pub(super) fn as_parts(&self) -> (&[u8], Option<&[u8]>) {
        (self.key.as_bytes(), self.value.as_deref())
    }

    /// How many bytes those are.
    pub(super) fn len(&self) -> usize {
        self.key.0.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// What one commit made of a row, and what was there before it, for those who still read that.
#[derive(Debug)]
struct Version {
    number: u64,
    value: Option<Bytes>,
    earlier: Option<Arc<Version>>,
}

impl Version {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.value.as_ref().map_or(0, Bytes::len)
    }

    fn weight_of(mut version: Option<&Arc<Self>>) -> usize {
        let mut sum = 0;
        while let Some(this) = version {
            sum += this.weight();
            version = this.earlier.as_ref();
        }
        sum
    }
}

impl Drop for Version {
    /// One by one: a row that was changed often while somebody reads an old version has a long tail.
    fn drop(&mut self) {
        let mut earlier = self.earlier.take();
        while let Some(mut version) = earlier.and_then(Arc::into_inner) {
            earlier = version.earlier.take();
        }
    }
}

/// The rows of the commits between two checkpoints.
#[derive(Default)]
pub(super) struct Generation {
    /// Those that are looked for in their order, too.
    ordered: SkipMap<Box<[u8]>, ArcSwap<Version>>,
    /// Those of packages: most of all, and only looked up.
    packages: DashMap<Box<[u8]>, ArcSwap<Version>>,
    weight: AtomicUsize,
}

impl Generation {
    /// Puts in what commit `number` makes of a row. Nobody reads as of a commit before `oldest` but after
    /// the row's last version, so that what was before that can go. For the writer alone.
    pub(super) fn put(&self, row: Row, number: u64, oldest: u64) {
        let Row { key, value } = row;
        let version = |earlier| Version {
            number,
            value: value.clone(),
            earlier,
        };
        let is_package = matches!(key.split(), Some((Tree::Packages, _)));
        let change = |versions: &ArcSwap<Version>| {
            let newest = versions.load_full();
            let (earlier, gone) = if newest.number == number {
                (newest.earlier.clone(), newest.weight())
            } else if newest.number > oldest || newest.earlier.is_none() {
                (Some(newest), 0)
            } else {
                let gone = Version::weight_of(newest.earlier.as_ref());
                let kept = Version {
                    number: newest.number,
                    value: newest.value.clone(),
                    earlier: None,
                };
                (Some(Arc::new(kept)), gone)
            };
            let version = version(earlier);
            self.weight.fetch_add(version.weight(), Ordering::Relaxed);
            self.weight.fetch_sub(gone, Ordering::Relaxed);
            versions.store(Arc::new(version));
        };
        let found = if is_package {
            let versions = self.packages.get(key.as_bytes());
            versions.map(|versions| change(&versions))
        } else {
            let entry = self.ordered.get(key.as_bytes());
            entry.map(|entry| change(entry.value()))
        };
        if found.is_none() {
            let version = version(None);
            let weight = OVERHEAD + key.as_bytes().len() + version.weight();
            self.weight.fetch_add(weight, Ordering::Relaxed);
            let versions = ArcSwap::from_pointee(version);
            if is_package {
                self.packages.insert(key.0, versions);
            } else {
                self.ordered.insert(key.0, versions);
            }
        }
    }

    /// The row as of a commit: `None` where this generation does not say, `Some(None)` where it was removed.
    pub(super) fn get(&self, key: &[u8], number: u64) -> Option<Option<Bytes>> {
        if let Some(versions) = self.packages.get(key) {
            return as_of(&versions, number);
        }
        let entry = self.ordered.get(key)?;
        as_of(entry.value(), number)
    }

    /// The rows of a range as of a commit, in order, removed ones too; none of packages.
    pub(super) fn range(
        &self,
        range: KeyRange,
        number: u64,
    ) -> impl Iterator<Item = (Box<[u8]>, Option<Bytes>)> {
        self.ordered.range(range).filter_map(move |entry| {
            let value = as_of(entry.value(), number)?;
            Some((entry.key().clone(), value))
        })
    }

    /// All rows as of a commit, tree by tree in the order of their keys.
    pub(super) fn rows(&self, number: u64) -> impl Iterator<Item = Row> + '_ {
        let row = move |key: &[u8], versions: &ArcSwap<Version>| {
            Some(Row {
                key: RowKey(key.into()),
                value: as_of(versions, number)?,
            })
        };
        let packages = self.packages.iter();
        let mut packages: Vec<Row> = packages
            .filter_map(|entry| row(entry.key(), entry.value()))
            .collect();
        packages.sort_unstable_by(|a, b| a.key.0.cmp(&b.key.0));
        let ordered = self.ordered.iter();
        let ordered = ordered.filter_map(move |entry| row(entry.key(), entry.value()));
        ordered.chain(packages)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.packages.is_empty()
    }

    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }
}

fn as_of(versions: &ArcSwap<Version>, number: u64) -> Option<Option<Bytes>> {
    let newest = versions.load();
    let mut version = Some(&**newest);
    while let Some(this) = version {
        if this.number <= number {
            return Some(this.value.clone());
        }
        version = this.earlier.as_deref();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &[u8], value: Option<&'static str>) -> Row {
        Row {
            key: RowKey::new(Home::File, Tree::Packages, key),
            value: value.map(|v| Bytes::from_static(v.as_bytes())),
        }
    }

    fn get(generation: &Generation, number: u64) -> Option<Option<Bytes>> {
        let key = RowKey::new(Home::File, Tree::Packages, b"k");
        generation.get(key.as_bytes(), number)
    }

    #[test]
    fn each_commit_that_somebody_may_read_is_kept() {
        let generation = Generation::default();
        assert_eq!(get(&generation, 9), None);
        generation.put(row(b"k", Some("one")), 1, 0);
        generation.put(row(b"k", None), 3, 0);
        generation.put(row(b"k", Some("five")), 5, 0);
        assert_eq!(get(&generation, 0), None);
        for (number, expected) in [
            (1, Some("one")),
            (2, Some("one")),
            (3, None),
            (4, None),
            (5, Some("five")),
            (9, Some("five")),
        ] {
            let expected = expected.map(Bytes::from);
            assert_eq!(get(&generation, number), Some(expected), "{number}");
        }
    }

    #[test]
    fn what_nobody_reads_any_more_goes() {
        let generation = Generation::default();
        let mut least = usize::MAX;
        for number in 1..1000 {
            generation.put(row(b"k", Some("value")), number, number - 1);
            if number == 2 {
                least = generation.weight();
            }
        }
        assert_eq!(generation.weight(), least);
        assert_eq!(get(&generation, 998), Some(Some(Bytes::from("value"))));
        assert_eq!(get(&generation, 997), None, "nobody reads it");
    }

    #[test]
    fn a_second_change_in_one_commit_replaces_the_first() {
        let generation = Generation::default();
        generation.put(row(b"k", Some("one")), 1, 0);
        generation.put(row(b"k", Some("two")), 2, 0);
        generation.put(row(b"k", None), 2, 0);
        assert_eq!(get(&generation, 1), Some(Some(Bytes::from("one"))));
        assert_eq!(get(&generation, 2), Some(None));
    }

    #[test]
    fn a_long_tail_of_versions_is_let_go() {
        let generation = Generation::default();
        for number in 1..200_000 {
            generation.put(row(b"k", Some("value")), number, 0);
        }
        drop(generation);
    }

    #[test]
    fn rows_come_tree_by_tree() {
        let generation = Generation::default();
        for (n, tree) in [Tree::Owners, Tree::Sessions, Tree::Packages]
            .into_iter()
            .enumerate()
        {
            let key = RowKey::new(Home::File, tree, &[n as u8]);
            generation.put(Row { key, value: None }, 1, 0);
        }
        let trees: Vec<_> = generation
            .rows(1)
            .map(|row| row.key.split().unwrap().0)
            .collect();
        assert_eq!(trees, [Tree::Sessions, Tree::Owners, Tree::Packages]);
        assert_eq!(RowKey::parse(&[0x84]), None);
        assert_eq!(RowKey::parse(&[]), None);
    }
}
