//! C2.13: a thread that waits for a commit makes it itself while the store's own sleeps. What goes wrong there
//! goes no further than it would on the store's own: everyone is answered, and the file is let go of.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, ErrorKind, Store};
use metrics::{Counter, CounterFn, Key, with_local_recorder};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::metrics::Counters;
use support::store::place;

struct Sum(AtomicU64);

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

const COMMITS: &str = "cloakroom_commits_total";

fn open(path: &Path) -> Store {
    let builder = Store::builder().secret([7; 32]).implicit_sweeps(false);
    builder.open(path).unwrap()
}

fn put(store: &Store, id: &ClientId, n: u64) -> cloakroom::Result<()> {
    let txn = store.begin()?;
    txn.session(id)?.pkg("p").insert("n", n)?;
    txn.commit()
}

fn get(store: &Store, id: &ClientId) -> Option<u64> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("p").get("n").unwrap()
}

#[test]
fn a_quiet_store_commits_on_the_thread_that_waits() {
    let (_folder, path) = place();
    let store = open(&path);
    let id = store.client_ids().issue();
    let here = Arc::new(Sum(AtomicU64::new(0)));
    let recorder = Counters(|key: &Key| {
        assert_eq!(key.name(), COMMITS);
        Counter::from_arc(here.clone())
    });
    let mut n = 0;
    let until = Instant::now() + Duration::from_secs(60);
    while here.0.load(Ordering::Relaxed) < 100 {
        assert!(
            Instant::now() < until,
            "of {n} commits, too few were made here"
        );
        n += 1;
        with_local_recorder(&recorder, || put(&store, &id, n)).unwrap();
        assert_eq!(get(&store, &id), Some(n));
        thread::yield_now();
    }
    // A task's commit is the store's own to make.
    let before = here.0.load(Ordering::Relaxed);
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").insert("n", 0).unwrap();
    with_local_recorder(&recorder, || pollster::block_on(txn.commit_async())).unwrap();
    assert_eq!(here.0.load(Ordering::Relaxed), before);
    store.close().unwrap();
}

// C2.13
#[test]
fn a_committer_that_panics_on_the_thread_of_one_who_waits_answers_everyone() {
    let (_folder, path) = place();
    let store = open(&path);
    let id = store.client_ids().issue();
    let recorder = Counters(|_: &Key| -> Counter { panic!("the application's recorder") });
    let mut n = 0;
    let until = Instant::now() + Duration::from_secs(60);
    let error = loop {
        assert!(Instant::now() < until, "of {n} commits, none was made here");
        n += 1;
        thread::yield_now();
        if let Err(error) = with_local_recorder(&recorder, || put(&store, &id, n)) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    let others: Vec<_> = (0..4)
        .map(|n| {
            let (store, id) = (store.clone(), id.clone());
            thread::spawn(move || put(&store, &id, 1000 + n))
        })
        .collect();
    for other in others {
        // One may have come just before the end.
        match other.join().unwrap().map_err(|e| e.kind()) {
            Err(ErrorKind::Unavailable | ErrorKind::OutcomeUnknown) => {}
            other => panic!("{other:?}"),
        }
    }
    store.close().unwrap_err();
    let store = open(&path);
    let id = store.client_ids().verify(id.as_str()).unwrap();
    assert_eq!(get(&store, &id), Some(n), "it was durable before that");
    put(&store, &id, 5).unwrap();
    store.close().unwrap();
}
