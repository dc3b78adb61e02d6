//! C2.14, C4.7, C5.3: what rotations, open transactions and long names take.

use super::{block_on, poll_once, put, until, visitor};
use crate::support::clock::clock;
use crate::support::engine::needs_files;
use crate::support::store::builder;
use crate::support::writer::HeldWriter;
use cloakroom::{ContainerSettings, Store, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Sessions of four packages of 64 KiB each, and transactions that rotate them all at once.
fn rotations(store: &Store, sessions: usize) -> Vec<Transaction> {
    let text = "x".repeat(64 << 10);
    let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        let txn = store.begin().unwrap();
        let session = txn.session(id).unwrap();
        for package in ["a", "b", "c", "d"] {
            session.pkg(package).insert("text", &text).unwrap();
        }
        txn.commit().unwrap();
    }
    let rotating = ids.iter().map(|id| {
        let txn = store.begin().unwrap();
        txn.session(id).unwrap().rotate().unwrap();
        txn
    });
    rotating.collect()
}

// C4.7
#[test]
fn a_session_that_is_rotated_takes_the_room_of_what_it_holds_while_it_waits() {
    needs_files!("the writer's thread is held up");
    let store = Store::builder().max_waiting_bytes(1 << 20);
    let store = store.in_memory().unwrap();
    let rotating = rotations(&store, 8);
    let held = HeldWriter::of(&store);
    let waiting: Vec<_> = rotating
        .into_iter()
        .map(|txn| poll_once(txn.commit_async()))
        .collect();
    let statistics = store.statistics().unwrap();
    assert!(statistics.waiting_bytes() > 3 * (256 << 10));
    assert_eq!(statistics.commits_held_back(), 5);
    drop(held);
    for rotation in waiting {
        block_on(rotation).unwrap();
    }
}

// C4.7
#[test]
fn sessions_that_are_rotated_at_once_stay_within_the_bounds_of_the_journal() {
    needs_files!("the writer's thread is held up");
    let folder = TempDir::new().unwrap();
    let store = Store::builder().journal_size(2 << 20);
    let store = store.open(folder.path().join("store")).unwrap();
    let rotating = rotations(&store, 16);
    let held = HeldWriter::of(&store);
    let waiting: Vec<_> = rotating
        .into_iter()
        .map(|txn| poll_once(txn.commit_async()))
        .collect();
    drop(held);
    for rotation in waiting {
        block_on(rotation).unwrap();
    }
    let len = store.statistics().unwrap().journal_len();
    assert!(len <= (2 << 20) + (128 << 10), "{len} bytes");
}

// C2.14
#[test]
fn a_transaction_that_is_held_open_shows_until_its_snapshot_is_taken_back() {
    needs_files!("superseded snapshots are counted");
    let clock = clock();
    let store = builder(&clock).in_memory().unwrap();
    let id = visitor(&store).unwrap();
    let held = |store: &Store| {
        let statistics = store.statistics().unwrap();
        let oldest = statistics.oldest_held_snapshot();
        (statistics.held_snapshots(), oldest)
    };
    let looking = |store: &Store| {
        let txn = store.begin().unwrap();
        assert!(txn.session(&id).unwrap().exists().unwrap());
        txn
    };
    // One that has looked at nothing holds nothing.
    let blind = store.begin().unwrap();
    let unread = blind.session(&id).unwrap().pkg("shop");
    unread.insert("blind", 1).unwrap();
    let first = looking(&store);
    clock.advance(Duration::from_secs(7));
    // Nothing newer is there: it costs nothing.
    assert_eq!(held(&store), (0, None));
    put(&store, &id, "shop", 2).unwrap();
    assert_eq!(held(&store), (1, Some(Duration::ZERO)));
    clock.advance(Duration::from_secs(20));
    let second = looking(&store);
    put(&store, &id, "shop", 3).unwrap();
    assert_eq!(held(&store), (2, Some(Duration::from_secs(20))));
    drop(second);
    assert_eq!(held(&store), (1, Some(Duration::from_secs(20))));
    clock.advance(Duration::from_secs(10));
    assert_eq!(held(&store), (1, Some(Duration::from_secs(30))));
    clock.advance(Duration::from_millis(1));
    until(|| held(&store) == (0, None));
    drop(first);
    assert_eq!(unread.get::<u32>("n").unwrap(), Some(3));
}

// C2.14
#[test]
fn the_file_stops_growing_although_a_transaction_is_held_open_all_the_time() {
    let folder = TempDir::new().unwrap();
    let clock = clock();
    let store = builder(&clock).open(folder.path().join("store.redb"));
    let store = Arc::new(store.unwrap());
    let id = visitor(&store).unwrap();
    let held = store.begin().unwrap();
    // Each round replaces 50 KB, and a third of the greatest age passes.
    let rounds = |from: u32, to: u32| {
        for n in from..to {
            let text = n.to_string().repeat(50_000);
            let text = &text[..50_000];
            let change = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("big").insert("text", text);
            store.transact(change).unwrap();
            clock.advance(Duration::from_secs(10));
            until(|| {
                let oldest = store.statistics().unwrap().oldest_held_snapshot();
                oldest.is_none_or(|age| age <= Duration::from_secs(30))
            });
        }
        store.statistics().unwrap().file_len()
    };
    let early = rounds(0, 20);
    let late = rounds(20, 300);
    assert!(late <= early * 2, "{early} bytes, later {late}");
    assert!(late < 280 * 50_000 / 4, "{late} bytes");
    drop(held);
}

/// C5.3: what a visitor sends may become a key.
#[test]
fn a_name_of_megabytes_makes_a_small_error() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let long = "\u{1}".repeat(5_000_000);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    for error in [
        session.pkg("p").insert(&long, 1).unwrap_err(),
        session.pkg(&long).insert("k", 1).unwrap_err(),
        store.register(&long, ContainerSettings::new()).unwrap_err(),
        store.container(&long).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().len() < 1000, "{error:.200}");
        assert!(format!("{error:?}").len() < 1000);
        let names = [error.container(), error.package(), error.key()];
        assert!(names.iter().flatten().all(|name| name.len() <= 1024));
    }
}
