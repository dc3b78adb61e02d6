//! C2.2, C2.8, C5.3: what bounds a journal, and how checkpoints bring it into the file.

use super::{TempStore, active, builder, contains, fill, frames, journals};
use crate::support::visitors::{get, put};
use crate::support::wait::{SetOnDrop, until};
use cloakroom::{ClientId, ErrorKind, Store, Txn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn assert_holds(store: &Store, ids: &[ClientId], values: &[String]) {
    for (id, value) in ids.iter().zip(values) {
        let id = store.client_ids().verify(id.as_str()).unwrap();
        let txn = store.begin().unwrap();
        let found: Option<String> = txn.session(&id).unwrap().pkg("p").get("text").unwrap();
        assert!(found.as_ref() == Some(value), "{found:?} for {value:?}");
    }
}

#[test]
fn the_size_of_a_journal_is_bounded() {
    const SIZE: u64 = 256 << 10;
    // The last group may reach beyond the bound, and a file grows by no less than this.
    const BEYOND: u64 = 2 * ((64 << 10) + (8 << 10));
    let place = TempStore::new();
    let store = builder().journal_size(SIZE).open(place.path()).unwrap();
    let ids: Vec<_> = (0..50).map(|_| store.client_ids().issue()).collect();
    let mut largest = 0;
    let values = fill(&store, &ids, |store| {
        let len = store.statistics().unwrap().journal_len();
        largest = largest.max(len);
        let image = place.image();
        let on_disk: usize = journals(&image).iter().map(|name| image[name].len()).sum();
        assert!(on_disk as u64 <= SIZE + BEYOND, "{on_disk} bytes");
    });
    assert!(largest > SIZE / 2 && largest <= SIZE + BEYOND, "{largest}");
    assert!(store.statistics().unwrap().checkpoints() > 2);
    assert_holds(&store, &ids, &values);
    let image = place.image();
    drop(store);
    place.restore(&image);
    let store = place.open();
    assert_holds(&store, &ids, &values);
    assert!(store.check().unwrap().is_clean());
}

#[test]
fn the_memory_of_what_is_not_in_the_file_yet_is_bounded() {
    let place = TempStore::new();
    let store = builder()
        .unmerged_memory(256 << 10)
        .open(place.path())
        .unwrap();
    let ids: Vec<_> = (0..50).map(|_| store.client_ids().issue()).collect();
    let values = fill(&store, &ids, |_| {});
    // Each takes in at most half of it, of about a megabyte.
    assert!(store.statistics().unwrap().checkpoints() > 2);
    assert_holds(&store, &ids, &values);
    store.close().unwrap();
    assert_holds(&place.open(), &ids, &values);
}

const TEXT: &str = "a text that nothing else in the file contains";

fn put_text(store: &Store) {
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.pkg("p").insert("text", TEXT);
    store.transact(put).unwrap();
}

#[test]
fn after_an_interval_what_was_committed_is_in_the_file() {
    let place = TempStore::new();
    let interval = Duration::from_millis(50);
    let store = builder()
        .checkpoint_interval(interval)
        .open(place.path())
        .unwrap();
    for round in 1..3 {
        put_text(&store);
        until("a checkpoint", || {
            store.statistics().unwrap().checkpoints() >= round
        });
        assert!(contains(&place.image(), TEXT));
    }
}

#[test]
fn a_checkpoint_brings_what_was_committed_into_the_file() {
    let place = TempStore::new();
    let store = place.open();
    put_text(&store);
    assert!(!contains(&place.image(), TEXT));
    store.checkpoint().unwrap();
    assert!(contains(&place.image(), TEXT));
    let made = store.statistics().unwrap().checkpoints();
    assert_eq!(made, 1);
    // There is nothing left to bring.
    store.checkpoint().unwrap();
    assert_eq!(store.statistics().unwrap().checkpoints(), made);
}

/// How many bytes a checkpoint of so many sessions writes.
fn checkpoint_with(cache: usize, sessions: usize) -> u64 {
    let place = TempStore::new();
    let store = builder().cache_size(cache).open(place.path()).unwrap();
    let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
    let put = |value: &str| {
        let txn = store.begin().unwrap();
        for id in &ids {
            let package = txn.session(id).unwrap().pkg("p");
            package.insert("k", value.repeat(1000)).unwrap();
        }
        txn.commit().unwrap();
    };
    put("a");
    store.checkpoint().unwrap();
    put("b");
    let before = store.statistics().unwrap().bytes_written();
    store.checkpoint().unwrap();
    store.statistics().unwrap().bytes_written() - before
}

#[test]
fn a_checkpoint_that_is_larger_than_the_cache_writes_its_pages_once() {
    let (roomy, tight) = (
        checkpoint_with(64 << 20, 4000),
        checkpoint_with(4 << 20, 4000),
    );
    assert!(
        tight < roomy * 3 / 2,
        "{tight} bytes, {roomy} with more room"
    );
}

// C2.8
#[test]
fn commits_go_on_during_checkpoints() {
    const WRITERS: usize = 3;
    let place = TempStore::new();
    let store = place.open();
    let ids: Vec<_> = (0..2 * WRITERS)
        .map(|_| store.client_ids().issue())
        .collect();
    let counter = store.client_ids().issue();
    put(&store, &counter, 0);
    let over = AtomicBool::new(false);
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = ids
            .chunks(2)
            .map(|own| {
                let (store, over, counter) = (&store, &over, &counter);
                scope.spawn(move || {
                    let mut n = 0;
                    while !over.load(Ordering::Relaxed) || n < 3 {
                        n += 1;
                        let put = |txn: &Txn| {
                            txn.session(&own[0])?.pkg("p").insert("n", n)?;
                            txn.session(counter)?.pkg("p").add("n", 1)
                        };
                        store.transact(put).unwrap();
                        assert_eq!(get(store, &own[0]), Some(n));
                        // Comes and goes.
                        let end = |txn: &Txn| match n % 2 {
                            0 => txn.session(&own[1])?.pkg("p").clear(),
                            _ => txn.session(&own[1])?.pkg("p").insert("n", n),
                        };
                        store.transact(end).unwrap();
                    }
                    n
                })
            })
            .collect();
        let end = SetOnDrop(&over);
        for _ in 0..30 {
            let before = store.statistics().unwrap().commits();
            store.checkpoint().unwrap();
            until("a commit", || {
                store.statistics().unwrap().commits() > before
            });
        }
        drop(end);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    // Now and then there is nothing new.
    assert!(store.statistics().unwrap().checkpoints() >= 15);
    let check = |store: &Store| {
        for (own, n) in ids.chunks(2).zip(&counts) {
            assert_eq!(get(store, &own[0]), Some(*n));
            assert_eq!(get(store, &own[1]), (n % 2 == 1).then_some(*n));
        }
        assert_eq!(get(store, &counter), Some(counts.iter().sum()));
        assert!(store.check().unwrap().is_clean());
    };
    check(&store);
    let image = place.image();
    drop(store);
    place.restore(&image);
    check(&place.open());
}

// C5.3
#[cfg(feature = "torture")]
#[test]
fn a_commit_too_large_for_a_frame_is_refused_and_leaves_no_trace() {
    let place = TempStore::new();
    let store = builder().groups_of_at_most(64 << 10);
    let store = store.open(place.path()).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("p").insert("n", 2).unwrap();
    let half = "x".repeat(40 << 10);
    for package in ["a", "b"] {
        session.pkg(package).insert("half", &half).unwrap();
    }
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(get(&store, &id), Some(1));
    put(&store, &id, 3);
    assert_eq!(get(&store, &id), Some(3));
    let image = place.image();
    drop(store);
    place.restore(&image);
    assert_eq!(get(&place.open(), &id), Some(3));
}

// C2.2
#[cfg(feature = "torture")]
#[test]
fn commits_that_do_not_fit_in_one_frame_go_into_the_next() {
    const MANY: u64 = 40;
    let place = TempStore::new();
    let store = builder().groups_of_at_most(64 << 10);
    let store = store.open(place.path()).unwrap();
    let ids: Vec<_> = (0..MANY).map(|_| store.client_ids().issue()).collect();
    let commits = ids.iter().zip(0_u64..).map(|(id, n)| {
        let txn = store.begin().unwrap();
        let package = txn.session(id).unwrap().pkg("p");
        package.insert("n", n).unwrap();
        package.insert("text", "x".repeat(20 << 10)).unwrap();
        txn
    });
    let commits: Vec<_> = commits.collect();
    std::thread::scope(|scope| {
        for txn in commits {
            scope.spawn(|| txn.commit().unwrap());
        }
    });
    let file = &place.image()[&active(&place.image())];
    for at in frames(file) {
        let len = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap());
        assert!(len < 65 << 10, "a frame of {len} bytes");
    }
    let image = place.image();
    drop(store);
    place.restore(&image);
    let store = place.open();
    for (id, n) in ids.iter().zip(0..) {
        assert_eq!(get(&store, id), Some(n));
    }
}
