//! Pages that redb made.

use super::{BYTES, Content, Page, gather, look, numbers, read, widths};
use crate::storage::redb::format::checksum::checksum;
use crate::storage::redb::format::layout::Geometry;
use crate::storage::redb::format::*;
use redb::backends::FileBackend;
use redb::{Builder, Key, ReadableDatabase, ReadableTable, TableDefinition, Value};
use std::fs;

const TEXTS: TableDefinition<&str, &str> = TableDefinition::new("texts");
const NUMBERS: TableDefinition<u64, u64> = TableDefinition::new("numbers");
const BY_NUMBER: TableDefinition<u64, &str> = TableDefinition::new("by_number");
const BY_TEXT: TableDefinition<&str, u64> = TableDefinition::new("by_text");

fn content<K: Key + 'static, V: Value + 'static>(
    txn: &redb::ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Content {
    let table = txn.open_table(table).unwrap();
    let rows = table.iter().unwrap().map(|row| {
        let (key, value) = row.unwrap();
        let key = K::as_bytes(&key.value()).as_ref().to_vec();
        (key, V::as_bytes(&value.value()).as_ref().to_vec())
    });
    let mut rows: Content = rows.collect();
    // The order of the bytes, which is not redb's for numbers.
    rows.sort();
    rows
}

/// A file with tables of each kind, as redb made it, and the content of the tables by name.
fn made() -> (Vec<u8>, [(&'static str, Content); 4]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let backend = FileBackend::new(file.reopen().unwrap()).unwrap();
    let database = Builder::new().create_with_backend(backend).unwrap();
    let mut txn = database.begin_write().unwrap();
    txn.set_two_phase_commit(true);
    for n in 0..900 {
        let text = format!("{n:04}").repeat(1 + n as usize % 7);
        txn.open_table(TEXTS)
            .unwrap()
            .insert(&*text, &*text.repeat(3))
            .unwrap();
        txn.open_table(NUMBERS).unwrap().insert(n, n * n).unwrap();
        txn.open_table(BY_NUMBER)
            .unwrap()
            .insert(n, &*text)
            .unwrap();
        txn.open_table(BY_TEXT).unwrap().insert(&*text, n).unwrap();
    }
    // A page that is larger than the others.
    let long = "x".repeat(20_000);
    txn.open_table(TEXTS)
        .unwrap()
        .insert("long", &*long)
        .unwrap();
    txn.commit().unwrap();
    let txn = database.begin_read().unwrap();
    let tables = [
        ("texts", content(&txn, TEXTS)),
        ("numbers", content(&txn, NUMBERS)),
        ("by_number", content(&txn, BY_NUMBER)),
        ("by_text", content(&txn, BY_TEXT)),
    ];
    drop(txn);
    database.close().unwrap();
    (fs::read(file.path()).unwrap(), tables)
}

// C5.4
#[test]
fn what_redb_wrote_is_read_as_redb_reads_it() {
    let (file, expected) = made();
    check_header(&file[..HEADER]).unwrap();
    assert!(file.starts_with(&MAGIC));
    let (pages, tables) = read(&file);
    assert_eq!(tables.len(), expected.len());
    for (name, table, mut rows) in tables {
        let (_, content) = expected.iter().find(|(n, _)| *n == name).unwrap();
        assert_eq!(table.length, content.len() as u64, "{name}");
        rows.sort();
        assert!(rows == *content, "{name}");
    }
    for kind in [1, 2] {
        for (key, value) in [(0, 0), (8, 8), (8, 0), (0, 8)] {
            let is_one = |page: &Page<'_>| page.0[0] == kind && page.1 == widths(key, value);
            assert!(
                pages.iter().any(is_one),
                "a leaf and a branch of each layout"
            );
        }
    }
    for (page, widths, wanted) in &pages {
        assert!(is_whole(page, *widths, *wanted));
        assert!(!is_whole(page, *widths, *wanted ^ 1));
    }
}

// C5.4
#[test]
fn a_key_is_found_where_redb_put_it() {
    let (file, _) = made();
    for (page, widths, _) in read(&file).0 {
        // Numbers are in another order than their bytes.
        if let (Some(Node::Leaf(leaf)), None) = (Node::of(page, widths), widths.key) {
            for n in 0..leaf.pairs {
                let key = leaf.key(n).unwrap();
                let find = |key: &[u8]| search(leaf.pairs, key, |n| leaf.key(n)).unwrap();
                assert_eq!(find(key), Ok(n));
                assert_eq!(find(&[key, b"\0"].concat()), Err(n + 1));
            }
            // A page whose keys cannot be read says so.
            assert_eq!(search(leaf.pairs, b"k", |_| None), None);
        }
    }
}

/// What can be had of a page: each row or key, and each child.
fn parts(page: &[u8], widths: FixedWidths) -> Vec<Option<Vec<u8>>> {
    match Node::of(page, widths) {
        Some(Node::Leaf(leaf)) => {
            let row = |n| leaf.row(n).map(|(key, value)| [key, b"=", value].concat());
            (0..leaf.pairs).map(row).collect()
        }
        Some(Node::Branch(branch)) => {
            let keys = (0..branch.keys).map(|n| branch.key(n).map(<[u8]>::to_vec));
            let children = (0..=branch.keys).map(|n| {
                let (number, checksum) = branch.child(n)?;
                Some([&number.to_le_bytes()[..], &checksum.to_le_bytes()].concat())
            });
            keys.chain(children).collect()
        }
        None => Vec::new(),
    }
}

// C5.4
#[test]
fn of_a_page_cut_short_there_is_what_lies_before_the_cut() {
    let (file, _) = made();
    let (pages, _) = read(&file);
    let mut lost = 0;
    // Two pages of each kind and each layout are enough.
    let mut seen = Vec::new();
    for (page, widths, wanted) in pages {
        seen.push((page[0], widths));
        let such = seen.iter().filter(|one| **one == (page[0], widths));
        if such.count() > 2 {
            continue;
        }
        let whole = parts(page, widths);
        assert!(whole.iter().all(Option::is_some));
        for len in (0..page.len().min(4096)).step_by(5) {
            let cut = parts(&page[..len], widths);
            assert!(cut.is_empty() || cut.len() == whole.len());
            for (cut, whole) in cut.iter().zip(&whole) {
                assert!(cut.is_none() || cut == whole);
                lost += usize::from(cut.is_none());
            }
            // The part that is left out may be space without rows.
            let covers = is_whole(&page[..len], widths, wanted);
            assert!(!covers || cut.iter().all(Option::is_some));
        }
    }
    assert!(lost > 1000);
}

// C5.4
#[test]
fn a_flipped_bit_is_found_where_the_checksum_covers_it() {
    let (file, _) = made();
    let (pages, _) = read(&file);
    // The smallest, for each bit of each byte is tried for each.
    let covered = |(page, widths, wanted): &Page<'_>| {
        let fits = |len: &usize| is_whole(&page[..*len], *widths, *wanted);
        (0..page.len()).find(fits).unwrap_or(page.len())
    };
    let smallest = pages.iter().min_by_key(|page| covered(page)).unwrap();
    let (page, widths, wanted) = *smallest;
    let end = covered(smallest);
    assert_eq!(checksum(&page[..end]), wanted);
    for at in (0..end).step_by(7).chain([end - 1]) {
        let bit = at % 8;
        let mut flipped = page[..end].to_vec();
        flipped[at] ^= 1 << bit;
        assert!(!is_whole(&flipped, widths, wanted), "bit {bit} of {at}");
        look(&flipped, widths);
    }
    let mut flipped = page[..end].to_vec();
    flipped[end / 2] ^= 16;
    assert!(repair_bit(&mut flipped, |page| is_whole(
        page, widths, wanted
    )));
    assert_eq!(flipped, page[..end]);
    flipped[0] ^= 1;
    flipped[end / 2] ^= 16;
    let two = flipped.clone();
    assert!(!repair_bit(&mut flipped, |page| is_whole(
        page, widths, wanted
    )));
    assert_eq!(flipped, two, "what cannot be mended stays");
    // Beyond its rows a page may hold anything.
    if end < page.len() {
        let mut more = page.to_vec();
        more[end] ^= 1;
        assert!(is_whole(&more, widths, wanted));
    }
}

// C5.4
#[test]
fn a_definition_of_a_table_is_read_whole_or_not() {
    let (file, _) = made();
    let header = DatabaseHeader::read(&file, BitRepair::Nothing).unwrap();
    let root = header.data.unwrap();
    let mut directory = Vec::new();
    let top = (root.page, root.checksum, BYTES);
    gather(
        (&file, header.geometry),
        top,
        (&mut Vec::new(), &mut directory),
    );
    let found = |name: &str| {
        let definition = directory.iter().find(|(key, _)| key == name.as_bytes());
        TableRoot::read(&definition.unwrap().1).unwrap().widths
    };
    assert_eq!(found("texts"), BYTES);
    assert_eq!(found("numbers"), widths(8, 8));
    assert_eq!(found("by_number"), widths(8, 0));
    assert_eq!(found("by_text"), widths(0, 8));
    for (_, definition) in &directory {
        // Behind the widths stand alignments and the names of types, which do not matter here.
        for len in 0..TableRoot::ROOT + 1 + TreeRoot::LEN + 6 {
            assert!(TableRoot::read(&definition[..len]).is_none(), "{len}");
        }
        let mut other = definition.clone();
        other[0] = 4;
        assert!(TableRoot::read(&other).is_none(), "a table of another kind");
        let mut empty = definition.clone();
        empty[TableRoot::ROOT] = 0;
        assert!(TableRoot::read(&empty).unwrap().root.is_none());
    }
}

// C5.4
#[test]
fn a_page_is_where_its_number_says() {
    const ORDER: u64 = 1 << 59;
    const REGION: u64 = 1 << 20;
    let mut header = vec![0; HEADER];
    header[16..20].copy_from_slice(&2_u32.to_le_bytes());
    header[20..24].copy_from_slice(&100_u32.to_le_bytes());
    let geometry = Geometry::read(&header).unwrap();
    let pages = |n: u64| n * PAGE;
    let table = [
        ("the first page", 0, Some((pages(3), PAGE))),
        ("the next one", 1, Some((pages(4), PAGE))),
        ("one of two pages", ORDER + 1, Some((pages(5), 2 * PAGE))),
        (
            "one of the next region",
            REGION,
            Some((pages(3 + 102), PAGE)),
        ),
        ("the largest", 20 * ORDER, Some((pages(3), pages(1 << 20)))),
        ("one larger than any", 21 * ORDER, None),
        (
            "a bit that no such index has",
            ORDER + (1 << 19),
            Some((pages(3), 2 * PAGE)),
        ),
        ("what stands for none", u64::MAX, None),
    ];
    for (what, number, span) in table {
        assert_eq!(geometry.span(number), span, "{what}");
    }
    for len in 0..24 {
        assert!(Geometry::read(&header[..len]).is_none());
    }
    // No number overflows, for any content of a header.
    header[16..24].fill(0xFF);
    let geometry = Geometry::read(&header).unwrap();
    for order in 0..=20 {
        assert!(geometry.span(order * ORDER + (ORDER - 1)).is_some());
    }
}

// C5.4
#[test]
fn a_header_is_read_whole_or_not() {
    let (file, _) = made();
    let header = &file[..HEADER];
    let data = DatabaseHeader::read(header, BitRepair::Nothing)
        .unwrap()
        .data;
    let active = current(header).unwrap();
    // The end of the commit that is the current one.
    let (start, end) = if active == 0 { (64, 192) } else { (192, 320) };
    for len in 0..end {
        assert!(
            DatabaseHeader::read(&header[..len], BitRepair::Bits).is_err(),
            "{len}"
        );
        assert!(check_header(&header[..len]).is_err(), "{len}");
        let _ = PageNumbers::read(&header[..len]);
    }
    for bit in (0..128 * 8).step_by(5) {
        let mut flipped = header.to_vec();
        flipped[start + bit / 8] ^= 1 << (bit % 8);
        assert!(check_header(&flipped).is_err());
        assert!(DatabaseHeader::read(&flipped, BitRepair::Nothing).is_err());
        let mended = DatabaseHeader::read(&flipped, BitRepair::Bits).unwrap();
        assert_eq!(mended.data, data);
    }
}

// C5.4
#[test]
fn numbers_that_lead_beyond_the_file_are_refused() {
    let (file, _) = made();
    let layout = PageNumbers::read(&file).unwrap();
    let geometry = DatabaseHeader::read(&file, BitRepair::Nothing)
        .unwrap()
        .geometry;
    let mut refused = 0;
    // The first page is the list of tables.
    for (at, (page, widths, _)) in read(&file).0.into_iter().enumerate() {
        let start = page.as_ptr() as u64 - file.as_ptr() as u64;
        let numbers_of = |page: &[u8]| numbers(page, widths, at == 0);
        let spans = numbers_of(page)
            .into_iter()
            .map(|n| geometry.span(n).unwrap());
        let ends: Vec<_> = spans.map(|(start, len)| start + len).collect();

        let (mut kept, mut asked) = (page.to_vec(), Vec::new());
        let reaches = |end| {
            asked.push(end);
            Ok(true)
        };
        layout.refuse(start, &mut kept, reaches).unwrap();
        assert!(kept == page, "what leads to pages of the file stays");
        assert_eq!(asked, ends, "where the pages end");

        let mut without = page.to_vec();
        layout.refuse(start, &mut without, |_| Ok(false)).unwrap();
        let numbers = numbers_of(&without);
        assert_eq!(numbers.len(), ends.len());
        assert!(numbers.iter().all(|n| geometry.span(*n).is_none()));
        refused += numbers.len();
    }
    assert!(refused > 20);
}
