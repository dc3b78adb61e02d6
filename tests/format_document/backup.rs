//! docs/backup-format.md: a whole backup and an incremental one of it, as they are in the fixtures.

use super::records::{Payload, opened, u32_at};
use std::collections::BTreeMap;
use std::path::Path;

/// Section 2.
struct Header {
    id: [u8; 16],
    store: [u8; 16],
    commit: u64,
    previous: Option<([u8; 16], u64)>,
}

type Row = (Vec<u8>, Option<Vec<u8>>);

struct Backup {
    header: Header,
    rows: Vec<Row>,
}

impl Backup {
    /// Section 1.
    fn read(name: &str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let file = std::fs::read(fixtures.join(name)).unwrap();
        assert_eq!(&file[..16], b"cloakroom backup");
        assert_eq!(u32_at(&file, 16), 1);
        let id: [u8; 16] = file[20..36].try_into().unwrap();
        let (mut at, mut number) = (36, 0_u64);
        let (mut header, mut rows) = (None, Vec::new());
        loop {
            let len = u32_at(&file, at) as usize;
            let record = &file[at + 4..at + 4 + len];
            let key = [&id[..], &number.to_le_bytes()].concat();
            let mut payload = opened(7, &key, record).expect("the checksum matches");
            at += 4 + len;
            match payload.u8() {
                0 => {
                    assert_eq!(number, 0);
                    header = Some(read_header(id, &mut payload));
                }
                1 => rows.extend(payload.list(|it| {
                    let key = it.long().to_vec();
                    (key, it.option(|it| it.long().to_vec()))
                })),
                2 => {
                    let counts = [(); 4].map(|()| payload.varint());
                    assert!(payload.is_used_up());
                    assert_eq!(counts, count(&rows));
                    assert_eq!(at, file.len(), "the file ends with its end");
                    let header = header.unwrap();
                    return Self { header, rows };
                }
                other => panic!("a block of the kind {other}"),
            }
            assert!(payload.is_used_up());
            number += 1;
        }
    }
}

fn read_header(id: [u8; 16], payload: &mut Payload<'_>) -> Header {
    let store = payload.array();
    assert_eq!(payload.varint(), 2, "the format of the store");
    let commit = payload.varint();
    let _opening: [u8; 16] = payload.array();
    let _reopened = payload.varint();
    // 2026-01-01 00:00:00 UTC.
    assert_eq!(payload.i64(), 1_767_225_600_000);
    let previous = payload.option(|it| (it.array(), it.varint()));
    Header {
        id,
        store,
        commit,
        previous,
    }
}

/// Section 4.
fn count(rows: &[Row]) -> [u64; 4] {
    let mut counts = [0; 4];
    for (key, value) in rows {
        let at = match (value, key[0]) {
            (None, _) => 3,
            (Some(_), 0) => 0,
            (Some(_), 1) => 1,
            (Some(_), _) => 2,
        };
        counts[at] += 1;
    }
    counts
}

/// Section 3: which part a table is in, and the kind of its records.
fn part(table: u8) -> (u8, Option<u64>) {
    match table {
        4 => (1, Some(0)),
        5 => (2, Some(1)),
        0 => (3, Some(2)),
        1 => (3, Some(3)),
        3 => (4, None),
        2 => (5, Some(4)),
        other => panic!("the table {other}"),
    }
}

fn assert_rows(backup: &Backup) {
    let order = |key: &[u8]| (part(key[0]).0, key[1..].to_vec());
    assert!(
        backup
            .rows
            .is_sorted_by(|(one, _), (other, _)| order(one) < order(other))
    );
    for (key, value) in &backup.rows {
        match (part(key[0]).1, value) {
            (Some(kind), Some(record)) => {
                opened(kind, &key[1..], record).expect("the checksum matches");
            }
            (None, Some(value)) => assert!(value.is_empty()),
            (_, None) => assert!(backup.header.previous.is_some()),
        }
    }
}

#[test]
fn the_document_of_backups_describes_the_fixtures() {
    let whole = Backup::read("backup-1.whole");
    let next = Backup::read("backup-1.next");
    assert_rows(&whole);
    assert_rows(&next);
    assert_eq!(whole.header.previous, None);
    let link = (whole.header.id, whole.header.commit);
    assert_eq!(next.header.previous, Some(link));
    assert_eq!(next.header.store, whole.header.store);
    assert!(next.header.commit > whole.header.commit);
    // Section 5.
    let mut state = BTreeMap::new();
    for (key, value) in &whole.rows {
        if ![2, 4, 5].contains(&key[0]) {
            state.insert(key.clone(), value.clone());
        }
    }
    for (key, value) in &next.rows {
        state.insert(key.clone(), value.clone());
    }
    state.retain(|_, value| value.is_some());
    let many = |table: u8| state.keys().filter(|key| key[0] == table).count();
    // As tests/backup restores them: Ann and Cat, an owner each, and the tombstone of Ben.
    assert_eq!([0, 1, 2, 3, 4, 5].map(many), [2, 2, 1, 2, 4, 2]);
}
