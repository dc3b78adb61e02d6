//! C3.7: a sweep removes what has expired, and only that.

use super::{builder, get, in_file, in_memory, peek, put, settings, written};
use crate::support::clock::{MOMENT, clock, secs};
use crate::support::visitors::visitor;
use crate::support::wait::until;
use cloakroom::{ClientId, Container, ErrorKind};

// C3.7
#[test]
fn a_sweep_removes_exactly_what_has_expired() {
    const MANY: usize = 10_000;
    let clock = clock();
    let store = in_memory(&clock);
    let found = |count: usize| -> Vec<ClientId> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let txn = store.begin().unwrap();
            for _ in 0..50 {
                let id = store.client_ids().issue();
                let session = txn.session(&id).unwrap();
                session.pkg("app").insert("n", 1).unwrap();
                session.pkg("more").insert("n", 1).unwrap();
                ids.push(id);
            }
            txn.commit().unwrap();
        }
        ids
    };
    let stale = found(MANY / 2);
    clock.advance(secs(1800));
    let alive = found(MANY / 2);
    clock.advance(secs(1800) + MOMENT);
    let groups = store.statistics().unwrap().groups();
    let swept = store.container("").unwrap().sweep().unwrap();
    assert_eq!(swept.scanned, MANY as u64);
    assert_eq!(swept.removed, MANY as u64 / 2);
    // In batches, so that a request waits for a small one at most.
    assert!(store.statistics().unwrap().groups() - groups > 10);
    let check = store.check().unwrap();
    assert!(check.is_clean(), "{check:?}");
    assert_eq!(check.sessions, MANY as u64 / 2);
    assert_eq!(check.packages, MANY as u64);
    assert!(
        alive
            .iter()
            .all(|id| peek(&store, id, "more", "n") == Some(1))
    );
    assert!(
        stale
            .iter()
            .all(|id| peek(&store, id, "more", "n").is_none())
    );
}

// C3.7
#[test]
fn sweeping_a_store_with_nothing_stale_writes_nothing() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    for _ in 0..10 {
        visitor(&store);
    }
    clock.advance(secs(3600));
    let before = written(&store);
    let swept = store.container("").unwrap().sweep().unwrap();
    assert_eq!((swept.scanned, swept.removed), (10, 0));
    assert_eq!(written(&store), before);
}

// C3.7
#[test]
fn sweeps_run_by_themselves() {
    let clock = clock();
    let store = builder(&clock).implicit_sweeps(true).in_memory().unwrap();
    visitor(&store);
    clock.advance(secs(3601));
    let container = store.container("").unwrap();
    until("the session is swept", || {
        clock.advance(secs(600));
        is_empty(&container)
    });
}

/// Whether nothing is left of the sessions; looking does not sweep.
fn is_empty(container: &Container) -> bool {
    let statistics = container.statistics().unwrap();
    statistics.live + statistics.expired == 0
}

// C3.7
#[test]
fn sweeps_go_on_after_the_clock_was_set_back() {
    let clock = clock();
    let start = clock.now();
    let store = builder(&clock).implicit_sweeps(true).in_memory().unwrap();
    let container = store.container("").unwrap();
    visitor(&store);
    until("the session is swept", || {
        clock.advance(secs(100 * 86_400));
        is_empty(&container)
    });
    clock.set(start);
    visitor(&store);
    // Two days after the start, still long before what the clock had said.
    for _ in 0..48 {
        clock.advance(secs(3601));
    }
    until("the session is swept", || {
        clock.advance(MOMENT);
        is_empty(&container)
    });
}

// C3.7
#[test]
fn without_implicit_sweeps_rows_stay_until_one_is_asked_for() {
    let clock = clock();
    let store = in_memory(&clock);
    visitor(&store);
    for _ in 0..100 {
        clock.advance(secs(86_400));
    }
    let container = store.container("").unwrap();
    assert_eq!(container.statistics().unwrap().expired, 1);
    assert_eq!(container.sweep().unwrap().removed, 1);
    assert_eq!(container.statistics().unwrap().expired, 0);
}

// C3.7: from zope.session's documents, where a sweep is part of the transaction.
#[test]
fn stale_data_goes_although_the_transaction_around_a_sweep_is_aborted() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), None);
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
    txn.abort();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(store.check().unwrap().packages, 0);
}

// C3.7, C2.11
#[test]
fn a_transaction_that_loaded_a_session_which_was_swept_since_conflicts() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    txn.session(&id).unwrap().pkg("app").insert("n", 2).unwrap();
    clock.advance(secs(3601));
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C3.7: a container in memory is swept like any other.
#[test]
fn a_container_in_memory_is_swept() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let ram = store.register("ram", settings(60, 0).in_memory()).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "ram", "n", 1);
    clock.advance(secs(61));
    assert_eq!(ram.sweep().unwrap().removed, 1);
}
