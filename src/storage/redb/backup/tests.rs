//! Streams that are no backups, although their checksums may be right.

use super::row_order::{compare, is_valid};
use super::verify::count;
use super::verify_stream;
use crate::storage::record::{
    BackupCounts, BackupHeader, RecordKind, seal_backup_end, seal_backup_header, seal_backup_rows,
    seal_plain, seal_raw,
};
use proptest::prelude::*;
use std::ops::ControlFlow;

const ID: [u8; 16] = [7; 16];

fn header(previous: Option<([u8; 16], u64)>) -> BackupHeader {
    BackupHeader {
        store: [1; 16],
        format: 2,
        commit: 9,
        opening: [2; 16],
        reopened: 0,
        taken: 3,
        previous,
    }
}

fn key(number: usize) -> Vec<u8> {
    [&ID[..], &(number as u64).to_le_bytes()].concat()
}

/// A file of these records.
fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [b"cloakroom backup", &1_u32.to_le_bytes()[..], &ID].concat();
    for record in records {
        file.extend_from_slice(&(record.len() as u32).to_le_bytes());
        file.extend_from_slice(record);
    }
    file
}

fn reads(file: &[u8]) -> bool {
    verify_stream(file, 0, &mut |_| ControlFlow::Continue(())).is_ok()
}

type Rows = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn with_rows(previous: Option<([u8; 16], u64)>, rows: &Rows, counts: BackupCounts) -> Vec<u8> {
    let parts: Vec<_> = rows
        .iter()
        .map(|(key, value)| (&key[..], value.as_deref()))
        .collect();
    file(&[
        seal_backup_header(&key(0), &header(previous)).unwrap(),
        seal_backup_rows(&key(1), parts.into_iter()).unwrap(),
        seal_backup_end(&key(2), counts).unwrap(),
    ])
}

/// The row of a tombstone.
fn tombstone(client: u8) -> (Vec<u8>, Option<Vec<u8>>) {
    let own = [client; 16];
    let record = seal_plain(RecordKind::Tombstone, &own, 5_i64).unwrap();
    ([&[2], &own[..]].concat(), Some(record))
}

#[test]
fn rows_are_in_order_once_and_as_many_as_the_end_says() {
    let counts = |others, removed| BackupCounts {
        others,
        removed,
        ..BackupCounts::default()
    };
    let [one, two] = [1, 2].map(tombstone);
    let rows: Rows = vec![one.clone(), two.clone()];
    assert!(reads(&with_rows(None, &rows, counts(2, 0))));
    assert!(!reads(&with_rows(None, &rows, counts(1, 0))));
    assert!(!reads(&with_rows(
        None,
        &vec![two, one.clone()],
        counts(2, 0)
    )));
    assert!(!reads(&with_rows(
        None,
        &vec![one.clone(), one.clone()],
        counts(2, 0)
    )));
    let removed: Rows = vec![(one.0.clone(), None)];
    assert!(!reads(&with_rows(None, &removed, counts(0, 1))));
    assert!(reads(&with_rows(
        Some(([3; 16], 1)),
        &removed,
        counts(0, 1)
    )));
    // A record that is another row's.
    let moved: Rows = vec![([&[2], &[9; 16][..]].concat(), one.1)];
    assert!(!reads(&with_rows(None, &moved, counts(1, 0))));
}

#[test]
fn a_block_in_another_place_is_damage() {
    let rows = |number| seal_backup_rows(&key(number), std::iter::empty()).unwrap();
    let head = seal_backup_header(&key(0), &header(None)).unwrap();
    let end = |number| seal_backup_end(&key(number), BackupCounts::default()).unwrap();
    assert!(reads(&file(&[head.clone(), rows(1), rows(2), end(3)])));
    assert!(!reads(&file(&[head.clone(), rows(2), rows(1), end(3)])));
    assert!(!reads(&file(&[head.clone(), rows(1), end(3)])));
    assert!(!reads(&file(&[head.clone(), end(1), end(2)])));
    let again = seal_backup_header(&key(1), &header(None)).unwrap();
    assert!(!reads(&file(&[head, again, end(2)])));
    assert!(!reads(&file(&[rows(0), end(1)])));
}

/// A row, whose key has the length of its table's keys more often than not.
fn any_row() -> impl Strategy<Value = (Vec<u8>, Option<Vec<u8>>)> {
    let lens = prop_oneof![Just(16_usize), Just(20), Just(36), 0..40_usize];
    let key = (0..7_u8, lens).prop_flat_map(|(table, len)| {
        let rest = prop::collection::vec(0..4_u8, len);
        rest.prop_map(move |rest| [&[table][..], &rest].concat())
    });
    let own = (
        key,
        prop::option::of(prop::collection::vec(any::<u8>(), 0..3)),
    );
    let len = |table| match table {
        2 => 16,
        3 => 36,
        _ => 20,
    };
    // As it is, or with a key of the right length.
    (own, any::<bool>()).prop_map(move |((mut key, value), is_right)| {
        if is_right {
            key.resize(1 + len(key[0]), 1);
        }
        (key, value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // C5.4: no panic, and nothing that is not whole is taken for it.
    #[test]
    fn rubbish_behind_right_checksums_is_refused(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5),
        first in any::<bool>(),
    ) {
        let mut records = Vec::new();
        if first {
            records.push(seal_backup_header(&key(0), &header(None)).unwrap());
        }
        for mut payload in payloads {
            // A known kind more often than not.
            if let Some(kind) = payload.first_mut() {
                *kind %= 4;
            }
            let key = key(records.len());
            records.push(seal_raw(RecordKind::Backup, &key, (1, &payload)));
        }
        let file = file(&records);
        reads(&file);
        prop_assert!(!reads(&file[..file.len() - 1]));
    }

    #[test]
    fn rows_of_any_kind_are_read_or_refused(
        rows in prop::collection::vec(any_row(), 0..6),
        is_sorted in prop::bool::weighted(0.8),
        is_incremental in any::<bool>(),
    ) {
        let mut rows = rows;
        if is_sorted {
            rows.sort_by(|one, other| compare(&one.0, &other.0));
        }
        let previous = is_incremental.then_some(([3; 16], 1));
        let mut counts = BackupCounts::default();
        for (key, value) in &rows {
            count(&mut counts, key, value.as_deref());
        }
        let is_good = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| match value {
            None => is_valid(key) && is_incremental,
            // The records of all other tables have checksums.
            Some(value) => is_valid(key) && key[0] == 3 && value.is_empty(),
        };
        let in_order = rows.is_sorted_by(|one, other| compare(&one.0, &other.0).is_lt());
        let is_read = reads(&with_rows(previous, &rows, counts));
        prop_assert_eq!(is_read, in_order && rows.iter().all(is_good));
    }

    #[test]
    fn rubbish_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!reads(&bytes));
        let started = [b"cloakroom backup", &1_u32.to_le_bytes()[..], &bytes].concat();
        prop_assert!(!reads(&started));
    }
}
