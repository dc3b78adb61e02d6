//! Chains of thousands of backups show what a model shows, with few files open.

use super::block::BlockWriter;
use super::chain::{Chain, NamedBackup};
use super::verify::count;
use crate::storage::BackupRow;
use crate::storage::record::{BackupCounts, BackupHeader, ContainerRecord, RecordKind, seal_plain};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::backup::row_order::{CONTAINERS, sort};
use crate::storage::redb::memtable::row_key::RowTree;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// More than two levels hold.
const FILES: u64 = 64 * 64 + 70;

fn container_name(container: u32) -> String {
    format!("container {container}")
}

fn container_row(container: u32) -> BackupRow {
    let record = ContainerRecord {
        name: container_name(container),
        id: container,
        timeout_ms: 1,
        resolution_ms: 1,
        max_lifetime_ms: None,
        implicit_sweeps: true,
        aliases: Vec::new(),
    };
    let name = record.name.clone();
    BackupRow {
        key: [&[CONTAINERS], name.as_bytes()].concat().into(),
        value: Some(record.encode().unwrap().into()),
    }
}

/// The row of a session, without a value for one that is removed.
fn session_row(container: u32, session: u8, value: Option<u64>) -> BackupRow {
    let own = [&container.to_be_bytes()[..], &[session; 16]].concat();
    let value = value.map(|n| seal_plain(RecordKind::Session, &own, n).unwrap().into());
    BackupRow {
        key: [&[RowTree::Sessions as u8], &own[..]].concat().into(),
        value,
    }
}

fn write(path: &Path, number: u64, mut rows: Vec<BackupRow>) {
    let id = |n: u64| u128::from(n).to_le_bytes();
    let header = BackupHeader {
        store: [1; 16],
        format: 2,
        commit: number,
        opening: [2; 16],
        reopened: 0,
        taken: 3,
        previous: number.checked_sub(1).map(|before| (id(before), before)),
    };
    let file = File::create(path).unwrap();
    let mut writer = BlockWriter::new(file, id(number), &header).unwrap();
    let mut counts = BackupCounts::default();
    sort(&mut rows);
    for row in rows {
        count(&mut counts, &row.key, row.value.as_deref());
        writer.put(row).unwrap();
    }
    writer.finish(counts).unwrap();
}

/// How many files this process has open, if the system tells.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

// C9.1
#[test]
fn a_chain_of_thousands_of_backups_is_read_with_few_files_open() {
    let place = tempfile::tempdir().unwrap();
    let mut model: BTreeMap<Box<[u8]>, BackupRow> = BTreeMap::new();
    let mut chain = Vec::new();
    for number in 0..FILES {
        // Container 2 is away twice, and comes back with the same number.
        let has_second = ![700, FILES - 40].contains(&number);
        let mut rows = vec![container_row(1)];
        if has_second {
            rows.push(container_row(2));
        } else {
            model.retain(|key, _| key[1..5] != [0, 0, 0, 2]);
        }
        for container in 1..=1 + u32::from(has_second) {
            let session = (number * 37 % 251) as u8;
            rows.push(session_row(container, session, Some(number)));
            if number % 3 == 1 {
                rows.push(session_row(container, session.wrapping_add(100), None));
            }
        }
        for row in &rows {
            match row.value {
                Some(_) => model.insert(row.key.clone(), row.clone()),
                None => model.remove(&row.key),
            };
        }
        let path = place.path().join(number.to_string());
        write(&path, number, rows);
        chain.push(NamedBackup::Path(path));
    }
    let target = Location::of(&place.path().join("target")).unwrap().unwrap();
    let (before, mut most, mut read) = (open_files(), 0, 0);
    let links = Chain::open(&chain).unwrap();
    let mut rows = links
        .rows(&target, &mut |bytes| {
            assert!(bytes >= read, "{bytes} {read}");
            read = bytes;
            most = most.max(open_files());
            Ok(())
        })
        .unwrap();
    most = most.max(open_files());
    let mut found: Vec<_> = rows.by_ref().map(Result::unwrap).collect();
    assert_eq!(rows.read(), links.len());
    let mut expected: Vec<_> = model.into_values().collect();
    sort(&mut expected);
    sort(&mut found);
    assert!(expected.len() > 100, "{}", expected.len());
    assert_eq!(found, expected);
    // Other tests of this process open files, too.
    assert!(most < before + 350, "{before} {most}");
}

#[test]
fn a_merge_can_be_broken_off() {
    let place = tempfile::tempdir().unwrap();
    let chain: Vec<_> = (0..70)
        .map(|number| {
            let path = place.path().join(number.to_string());
            let rows = vec![container_row(1), session_row(1, 1, Some(number))];
            write(&path, number, rows);
            NamedBackup::Path(path)
        })
        .collect();
    let target = Location::of(&place.path().join("target")).unwrap().unwrap();
    let links = Chain::open(&chain).unwrap();
    let why = || crate::error::Error::new(crate::error::ErrorKind::Interrupted, "stopped");
    let error = links.rows(&target, &mut |_| Err(why())).err().unwrap();
    assert_eq!(error.kind(), crate::error::ErrorKind::Interrupted);
    assert!(!place.path().join("target").exists());
}
