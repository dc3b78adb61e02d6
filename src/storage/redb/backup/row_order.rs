//! The order of the rows in a backup: the store's own records, then each session with its packages, then the index of
//! owners, then the tombstones.

use crate::storage::BackupRow;
use crate::storage::redb::memtable::row_key::RowTree;
use std::cmp::Ordering;

/// The first byte of the keys of rows in the table `meta`.
pub(crate) const META: u8 = 4;
/// The same for the table `containers`.
pub(crate) const CONTAINERS: u8 = 5;

/// Tables whose rows come together, in the order of the parts.
fn part(table: u8) -> u8 {
    match table {
        META => 0,
        CONTAINERS => 1,
        table if table == RowTree::Sessions as u8 || table == RowTree::Packages as u8 => 2,
        table if table == RowTree::Owners as u8 => 3,
        table if table == RowTree::Tombstones as u8 => 4,
        _ => u8::MAX,
    }
}

/// Whether each backup has all rows of this table, so that those of earlier ones do not count.
pub(super) fn is_always_whole(table: u8) -> bool {
    table == META || table == CONTAINERS || table == RowTree::Tombstones as u8
}

/// Compares two keys.
pub(super) fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let (Some((table, key)), Some((other_table, other_key))) =
        (one.split_first(), other.split_first())
    else {
        return one.len().cmp(&other.len());
    };
    // A package's key begins with its session's.
    let by_part = part(*table).cmp(&part(*other_table));
    by_part
        .then_with(|| key.cmp(other_key))
        .then(table.cmp(other_table))
}

pub(super) fn sort(rows: &mut [BackupRow]) {
    rows.sort_unstable_by(|one, other| compare(&one.key, &other.key));
}

/// Whether a key is one that a row can have.
pub(super) fn is_valid(key: &[u8]) -> bool {
    let Some((table, key)) = key.split_first() else {
        return false;
    };
    match *table {
        META | CONTAINERS => std::str::from_utf8(key).is_ok(),
        0 => key.len() == 20,
        1 => key.len() >= 20 && std::str::from_utf8(key.get(20..).unwrap_or_default()).is_ok(),
        2 => key.len() == 16,
        3 => key.len() == 36,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_comes_before_its_packages_and_they_before_the_next_session() {
        let key = |table: u8, rest: &[u8]| [&[table][..], rest].concat();
        let (one, other) = ([1; 20], [2; 20]);
        let keys = [
            key(META, b"epoch"),
            key(META, b"identity"),
            key(CONTAINERS, b""),
            key(0, &one),
            key(1, &one),
            key(1, &[&one[..], b"a"].concat()),
            key(1, &[&one[..], b"b"].concat()),
            key(0, &other),
            key(1, &[&other[..], b"a"].concat()),
            key(3, &[0; 36]),
            key(2, &[0; 16]),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(is_valid(one));
            for (other_at, other) in keys.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{at} {other_at}");
            }
        }
    }
}
