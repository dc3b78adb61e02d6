//! The ranges of keys in which redb cannot write rows, because of pages that cannot be read.

use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use std::collections::BTreeMap;
use std::ops::Bound;

/// The keys below a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageKeys {
    pub(crate) after: Option<Vec<u8>>,
    /// `None`: up to the end.
    pub(crate) up_to: Option<Vec<u8>>,
}

/// Where a range of a tree ends. The last one of a tree has no end.
type RangeEnd = (u8, bool, Vec<u8>);

/// Ranges that do not overlap, as those of pages do not.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockedRanges(BTreeMap<RangeEnd, Option<Vec<u8>>>);

impl BlockedRanges {
    pub(crate) fn add(&mut self, tree: RowTree, range: PageKeys) {
        let is_last = range.up_to.is_none();
        let end = (tree as u8, is_last, range.up_to.unwrap_or_default());
        self.0.insert(end, range.after);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, key: &RowKey) -> bool {
        let Some((tree, key)) = key.split() else {
            return false;
        };
        let from = (tree as u8, false, key.to_vec());
        let mut ends = self.0.range((Bound::Included(from), Bound::Unbounded));
        ends.next().is_some_and(|((of, ..), after)| {
            *of == tree as u8 && after.as_deref().is_none_or(|after| after < key)
        })
    }

    /// How many bytes the rows in these ranges have.
    pub(crate) fn bytes_of<'a>(&self, rows: impl IntoIterator<Item = &'a RowWrite>) -> usize {
        let blocked = rows.into_iter().filter(|row| self.has(&row.key));
        blocked.map(RowWrite::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_blocked_in_its_own_tree_after_the_start_and_up_to_the_end() {
        let mut ranges = BlockedRanges::default();
        let bytes = |key: u8| Some(vec![key]);
        let range = |after, up_to| PageKeys { after, up_to };
        ranges.add(RowTree::Sessions, range(None, bytes(2)));
        ranges.add(RowTree::Sessions, range(bytes(5), bytes(7)));
        ranges.add(RowTree::Owners, range(bytes(8), None));
        let blocked = |tree: RowTree| -> Vec<u8> {
            let has = |key: &u8| ranges.has(&RowKey::new(tree, &[*key]));
            (0..10).filter(has).collect()
        };
        assert_eq!(blocked(RowTree::Sessions), [0, 1, 2, 6, 7]);
        assert!(blocked(RowTree::Packages).is_empty());
        assert_eq!(blocked(RowTree::Owners), [9]);
        let row = |key| RowWrite {
            key: RowKey::new(RowTree::Sessions, &[key]),
            value: Some(vec![0; 9].into()),
        };
        let rows = [row(1), row(3), row(6)];
        assert_eq!(ranges.bytes_of(&rows), 2 * rows[0].len());
    }
}
