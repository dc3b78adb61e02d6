//! Pages made by hand.

use super::{BYTES, branch, leaf, look, rows, widths};
use crate::storage::redb::format::*;

/// Stands for bytes of the page that are neither a key nor a value, and that nothing tells from one.
const ANY: &str = "any";

fn agree(found: &[String], expected: &[&str]) -> bool {
    let same = |(found, expected): (&String, &&str)| found == expected || *expected == ANY;
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

// C5.4
#[test]
fn a_leaf_gives_the_rows_that_its_ends_lead_to() {
    const KEYS: &[u8] = b"abbVWW";
    let page = |ends: &[u32]| leaf(ends, KEYS);
    let table: &[(&str, FixedWidths, Vec<u8>, [&str; 2])] = &[
        ("as it is", BYTES, page(&[21, 23, 24, 26]), ["a=V", "bb=WW"]),
        (
            "empty keys and values",
            BYTES,
            page(&[20, 20, 20, 20]),
            ["=", "="],
        ),
        (
            "shuffled keys",
            BYTES,
            page(&[23, 21, 24, 26]),
            ["abb=bbV", ""],
        ),
        (
            "shuffled values",
            BYTES,
            page(&[21, 23, 26, 24]),
            ["a=VWW", ""],
        ),
        (
            "keys that end before they begin",
            BYTES,
            page(&[3, 23, 24, 26]),
            ["", ANY],
        ),
        (
            "an overlap of keys and values",
            BYTES,
            page(&[21, 26, 24, 26]),
            ["", "bbVWW=WW"],
        ),
        (
            "values before the keys",
            BYTES,
            page(&[21, 23, 5, 26]),
            ["", ANY],
        ),
        (
            "an end beyond the page",
            BYTES,
            page(&[21, 23, 24, 27]),
            ["a=V", ""],
        ),
        (
            "an end far beyond it",
            BYTES,
            page(&[u32::MAX, 23, 24, 26]),
            ["", ""],
        ),
        (
            "the last key far beyond it",
            BYTES,
            page(&[21, u32::MAX, 24, 26]),
            ["", ""],
        ),
        ("no page at all", BYTES, Vec::new(), ["", ""]),
        (
            "fixed widths",
            widths(1, 2),
            leaf(&[], b"abVVWW"),
            ["a=VV", "b=WW"],
        ),
        (
            "fixed keys",
            widths(2, 0),
            leaf(&[17, 18], b"aabbVW"),
            ["aa=V", "bb=W"],
        ),
        (
            "fixed values",
            widths(0, 1),
            leaf(&[13, 15], b"abbVW"),
            ["a=V", "bb=W"],
        ),
        (
            "too wide keys",
            widths(usize::MAX, 1),
            leaf(&[], b"abVW"),
            ["", ""],
        ),
        (
            "too wide values",
            widths(1, usize::MAX),
            leaf(&[], b"abVW"),
            ["", ""],
        ),
        (
            "wider keys than it has",
            widths(4, 1),
            leaf(&[], b"abVW"),
            ["", ""],
        ),
        (
            "wider values than it has",
            widths(1, 3),
            leaf(&[], b"abVWXY"),
            ["a=VWX", ""],
        ),
    ];
    for (what, widths, page, expected) in table {
        let found = rows(page, *widths);
        let expected: &[&str] = if page.is_empty() {
            &["no page"]
        } else {
            expected
        };
        assert!(agree(&found, expected), "{what}: {found:?}");
    }
}

// C5.4
#[test]
fn a_branch_gives_the_keys_that_its_ends_lead_to() {
    let page = |ends: &[u32]| branch(ends, b"abb");
    let table: &[(&str, FixedWidths, Vec<u8>, [&str; 2])] = &[
        ("as it is", BYTES, page(&[89, 91]), ["a", "bb"]),
        ("empty keys", BYTES, page(&[88, 88]), ["", ""]),
        ("shuffled", BYTES, page(&[91, 89]), ["abb", ""]),
        (
            "overlapping what comes before",
            BYTES,
            page(&[80, 91]),
            ["", ANY],
        ),
        ("beyond the page", BYTES, page(&[89, 92]), ["a", ""]),
        ("far beyond it", BYTES, page(&[u32::MAX, 91]), ["", ""]),
        ("fixed width", widths(1, 0), branch(&[], b"abb"), ["a", "b"]),
        (
            "too wide",
            widths(usize::MAX, 0),
            branch(&[], b"abb"),
            ["", ""],
        ),
        (
            "wider than it has",
            widths(2, 0),
            branch(&[], b"abb"),
            ["ab", ""],
        ),
    ];
    for (what, widths, page, [first, second]) in table {
        // There is a child after the last key, and no key.
        let (found, expected) = (rows(page, *widths), [*first, second, ""]);
        assert!(agree(&found, &expected), "{what}: {found:?}");
    }
    let page = page(&[89, 91]);
    let Some(Node::Branch(branch)) = Node::of(&page, BYTES) else {
        panic!("no branch");
    };
    let children: Vec<_> = (0..5).map(|n| branch.child(n)).collect();
    let (first, second, third) = ((7, 70), (8, 71), (9, 72));
    assert_eq!(
        children,
        [Some(first), Some(second), Some(third), None, None]
    );
}

// C5.4
#[test]
fn what_is_neither_a_leaf_nor_a_branch_is_no_page() {
    for kind in [0, 3, 4, NO_PAGE] {
        assert!(Node::of(&[kind, 0, 2, 0, 0, 0, 0, 0], BYTES).is_none());
    }
    for len in 0..4 {
        assert!(Node::of(&[1, 0, 0, 0][..len], BYTES).is_none());
    }
    // More rows than a page can have lead out of it.
    let page = [1, 0, 0xFF, 0xFF, 0, 0, 0, 0];
    assert!(rows(&page, BYTES).iter().all(String::is_empty));
    assert!(rows(&page, widths(8, 8)).iter().all(String::is_empty));
}

// C5.4
#[test]
fn no_page_of_any_bytes_panics() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for n in 0..3000_usize {
        let len = random() as usize % 300;
        let mut page: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        // Most are leaves and branches of few rows, whose ends are small.
        if let [kind, _, low, high, rest @ ..] = &mut page[..] {
            *kind = 1 + (n % 2) as u8;
            if n % 5 > 0 {
                (*low, *high) = (*low % 16, 0);
                for end in rest.chunks_exact_mut(4) {
                    end[1..].fill(0);
                }
            }
        }
        for key in [0, 1, 8, usize::MAX / 2, usize::MAX] {
            for value in [0, 1, 8, usize::MAX / 2, usize::MAX] {
                look(&page, widths(key, value));
            }
        }
    }
}
