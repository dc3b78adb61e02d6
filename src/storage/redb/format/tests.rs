//! Pages made by hand and by redb: the rows that are read from them, and the rows that are not read if they are
//! damaged.

mod by_hand;
mod by_redb;

use super::layout::Geometry;
use super::*;

const BYTES: FixedWidths = FixedWidths {
    key: None,
    value: None,
};

fn widths(key: usize, value: usize) -> FixedWidths {
    let fixed = |width| (width > 0).then_some(width);
    FixedWidths {
        key: fixed(key),
        value: fixed(value),
    }
}

/// A leaf of two rows that lists these ends, and then these bytes.
fn leaf(ends: &[u32], bytes: &[u8]) -> Vec<u8> {
    let ends = ends.iter().flat_map(|end| end.to_le_bytes());
    let head = [1, 0, 2, 0];
    head.into_iter().chain(ends).chain(bytes.to_vec()).collect()
}

/// A branch with two keys and three children, numbered from 7 on, whose checksums are from 70 on.
fn branch(ends: &[u32], bytes: &[u8]) -> Vec<u8> {
    let checksums = (70..73_u128).flat_map(u128::to_le_bytes);
    let numbers = (7..10_u64).flat_map(u64::to_le_bytes);
    let ends = ends.iter().flat_map(|end| end.to_le_bytes());
    let head = [2, 0, 2, 0, 0, 0, 0, 0].into_iter().chain(checksums);
    let head = head.chain(numbers).chain(ends);
    head.chain(bytes.to_vec()).collect()
}

/// What can be had of each row of a leaf, or of each key of a branch, and of one beyond: as text.
fn rows(page: &[u8], widths: FixedWidths) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match Node::of(page, widths) {
        Some(Node::Leaf(leaf)) => {
            let row = |n| {
                leaf.row(n)
                    .map(|(key, value)| text(key) + "=" + &text(value))
            };
            let rows = (0..leaf.pairs).map(|n| row(n).unwrap_or_default());
            rows.collect()
        }
        Some(Node::Branch(branch)) => {
            let keys = (0..=branch.keys).map(|n| branch.key(n).map(text));
            keys.map(Option::unwrap_or_default).collect()
        }
        None => vec!["no page".to_owned()],
    }
}

/// Looks at all of a page that there is to look at.
fn look(page: &[u8], widths: FixedWidths) {
    match Node::of(page, widths) {
        Some(Node::Leaf(leaf)) => {
            for n in (0..leaf.pairs.min(40)).chain([leaf.pairs, usize::from(u16::MAX)]) {
                let _ = (leaf.key(n), leaf.row(n), leaf.value_start(n));
            }
            let _ = search(leaf.pairs, b"key", |n| leaf.key(n));
        }
        Some(Node::Branch(branch)) => {
            for n in (0..branch.keys.min(40)).chain([branch.keys, usize::from(u16::MAX)]) {
                let _ = (branch.key(n), branch.child(n), branch.numbers());
            }
            let _ = search(branch.keys, b"key", |n| branch.key(n));
        }
        None => {}
    }
    assert!(!is_whole(page, widths, 0));
}

/// Rows as redb gives them, in the order of their keys.
type Content = Vec<(Vec<u8>, Vec<u8>)>;

/// A page of a file, how its rows are laid out, and its checksum as the one above it says.
type Page<'a> = (&'a [u8], FixedWidths, u128);

/// Gathers the pages and the rows of a tree.
fn gather<'a>(
    (file, geometry): (&'a [u8], Geometry),
    (number, wanted, widths): (u64, u128, FixedWidths),
    (pages, rows): (&mut Vec<Page<'a>>, &mut Content),
) {
    let (start, len) = geometry.span(number).unwrap();
    let page = &file[start as usize..(start + len) as usize];
    pages.push((page, widths, wanted));
    match Node::of(page, widths).unwrap() {
        Node::Leaf(leaf) => rows.extend((0..leaf.pairs).map(|n| {
            let (key, value) = leaf.row(n).unwrap();
            (key.to_vec(), value.to_vec())
        })),
        Node::Branch(branch) => {
            for n in 0..=branch.keys {
                let (number, wanted) = branch.child(n).unwrap();
                let child = (number, wanted, widths);
                gather((file, geometry), child, (pages, rows));
            }
        }
    }
}

/// Every page of the trees of a file, and its tables with their rows.
fn read(file: &[u8]) -> (Vec<Page<'_>>, Vec<(String, TableRoot, Content)>) {
    let header = DatabaseHeader::read(file, BitRepair::Nothing).unwrap();
    let from = (file, header.geometry);
    let (mut pages, mut directory, mut tables) = (Vec::new(), Vec::new(), Vec::new());
    let root = header.data.unwrap();
    let top = (root.page, root.checksum, BYTES);
    gather(from, top, (&mut pages, &mut directory));
    for (name, definition) in directory {
        let table = TableRoot::read(&definition).unwrap();
        let root = table.root.unwrap();
        let top = (root.page, root.checksum, table.widths);
        let mut rows = Vec::new();
        gather(from, top, (&mut pages, &mut rows));
        tables.push((String::from_utf8(name).unwrap(), table, rows));
    }
    (pages, tables)
}

/// The page numbers in a page: those of a branch's children, or of the roots that a list of tables tells.
fn numbers(page: &[u8], widths: FixedWidths, is_list: bool) -> Vec<u64> {
    match Node::of(page, widths) {
        Some(Node::Branch(branch)) => {
            let children = (0..=branch.keys).map(|n| branch.child(n).unwrap().0);
            children.collect()
        }
        Some(Node::Leaf(leaf)) if is_list => {
            let tables = (0..leaf.pairs).map(|n| TableRoot::read(leaf.row(n).unwrap().1));
            tables
                .map(|table| table.unwrap().root.unwrap().page)
                .collect()
        }
        _ => Vec::new(),
    }
}
