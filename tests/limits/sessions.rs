//! C4.8: how many sessions are founded in an hour.

use super::{get, put, visitor};
use crate::support::clock::{HOUR, clock};
use crate::support::store::builder;
use cloakroom::{Clock, ContainerSettings, Error, ErrorKind, Result, Store};
use std::time::Duration;
use tempfile::TempDir;

/// At most `count` new sessions an hour.
fn limited(count: u64) -> (Clock, Store) {
    let clock = clock();
    let builder = builder(&clock).max_new_sessions(count, HOUR);
    let store = builder.in_memory().unwrap();
    (clock, store)
}

/// Asserts that the limit of new sessions is reached. Returns the error.
fn assert_full(result: Result<impl Sized>) -> Error {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("too many new sessions"));
    error
}

// C4.8
#[test]
fn sessions_beyond_the_limit_are_refused_and_leave_no_trace() {
    let folder = TempDir::new().unwrap();
    let builder = builder(&clock()).max_new_sessions(2, HOUR);
    let store = builder.open(folder.path().join("store.redb")).unwrap();
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    let before = store.statistics().unwrap();
    let id = store.client_ids().issue();
    for _ in 0..3 {
        assert_full(put(&store, &id, "shop", 1));
    }
    let after = store.statistics().unwrap();
    assert_eq!(after.bytes_written(), before.bytes_written());
    assert_eq!(after.refused_sessions(), 3);
    assert_eq!(get(&store, &id), None);
    let counts = store.container("").unwrap().statistics().unwrap();
    assert_eq!((counts.live, counts.unreadable), (2, 0));
}

// C4.8
#[test]
fn existing_sessions_go_on_at_the_limit() {
    let (_, store) = limited(1);
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = visitor(&store).unwrap();
    assert_full(visitor(&store));
    put(&store, &id, "shop", 2).unwrap();
    // In another container it is the same session.
    put(&store, &id, "bank", 2).unwrap();
    let new = store.transact(|txn| txn.session(&id)?.rotate()).unwrap();
    assert_eq!(get(&store, &new), Some(2));
    store.transact(|txn| txn.session(&new)?.destroy()).unwrap();
    assert_full(visitor(&store));
}

// C4.8
#[test]
fn room_for_new_sessions_comes_back_with_time() {
    let (clock, store) = limited(3);
    visitor(&store).unwrap();
    clock.advance(HOUR / 2);
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    clock.advance(HOUR / 2 - Duration::from_millis(1));
    assert_full(visitor(&store));
    clock.advance(HOUR / 16 + Duration::from_millis(1));
    visitor(&store).unwrap();
    assert_full(visitor(&store));
    clock.advance(HOUR / 2);
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    assert_full(visitor(&store));
}

// C4.8, C2.11
#[test]
fn what_a_refused_commit_would_found_is_not_counted() {
    let (clock, store) = limited(2);
    let container = store.container("").unwrap();
    let settings = container.settings().unwrap().timeout(HOUR / 60);
    container
        .configure(settings.resolution(Duration::ZERO))
        .unwrap();
    let old = visitor(&store).unwrap();
    let late = store.begin().unwrap();
    for id in [&old, &store.client_ids().issue()] {
        let package = late.session(id).unwrap().pkg("shop");
        assert_eq!(package.get::<u64>("other").unwrap(), None);
        package.insert("n", 2).unwrap();
    }
    clock.advance(HOUR / 30);
    assert_eq!(get(&store, &old), None);
    assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::Conflict);
    visitor(&store).unwrap();
    assert_full(visitor(&store));
}

// C4.8, C2.14
#[test]
fn a_clock_that_is_set_back_neither_frees_new_sessions_nor_keeps_them_off() {
    let (clock, store) = limited(1);
    visitor(&store).unwrap();
    clock.set(clock.now() - chrono::TimeDelta::days(1));
    assert_full(visitor(&store));
    clock.advance(HOUR);
    assert_full(visitor(&store));
    clock.advance(HOUR / 16 + Duration::from_millis(1));
    visitor(&store).unwrap();
}

// C4.8
#[test]
fn a_session_that_begins_in_several_containers_counts_once() {
    let (_, store) = limited(2);
    store.register("bank", ContainerSettings::new()).unwrap();
    let ram = ContainerSettings::new().in_memory();
    store.register("news", ram).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for package in ["shop", "bank", "news"] {
        let session = txn.session(&id).unwrap();
        session.pkg(package).insert("n", 1).unwrap();
    }
    txn.commit().unwrap();
    visitor(&store).unwrap();
    assert_full(visitor(&store));
}

// C4.8, C1.7
#[test]
fn sessions_in_memory_count_like_others() {
    let (_, store) = limited(1);
    let ram = ContainerSettings::new().in_memory();
    store.register("news", ram).unwrap();
    put(&store, &store.client_ids().issue(), "news", 1).unwrap();
    assert_full(put(&store, &store.client_ids().issue(), "news", 1));
}

// C4.8
#[test]
fn several_sessions_of_one_commit_count_each_and_pass_together_or_not_at_all() {
    let (_, store) = limited(3);
    let founding = |n: usize| -> Result<()> {
        let txn = store.begin()?;
        for _ in 0..n {
            let id = store.client_ids().issue();
            txn.session(&id)?.pkg("shop").insert("n", 1)?;
        }
        txn.commit()
    };
    assert_full(founding(4));
    founding(2).unwrap();
    assert_full(founding(2));
    founding(1).unwrap();
    let counts = store.container("").unwrap().statistics().unwrap();
    assert_eq!(counts.live, 3);
}

// C3.2, C4.8
#[test]
fn a_session_founded_over_an_expired_one_counts() {
    let clock = clock();
    let builder = builder(&clock).max_new_sessions(2, 100 * HOUR);
    let store = builder.in_memory().unwrap();
    let id = visitor(&store).unwrap();
    clock.advance(2 * HOUR);
    let late = store.client_ids().verify(id.as_str()).unwrap();
    put(&store, &late, "shop", 2).unwrap();
    clock.advance(2 * HOUR);
    assert_full(put(&store, &late, "shop", 3));
}

// C2.7, C4.8
#[test]
fn a_commit_that_fails_for_a_reason_of_its_own_counts_none() {
    let (_, store) = limited(2);
    let known = visitor(&store).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let read = txn.session(&known).unwrap().pkg("shop");
    assert_eq!(read.get::<u32>("n").unwrap(), Some(1));
    txn.session(&id)
        .unwrap()
        .pkg("shop")
        .insert("n", 1)
        .unwrap();
    put(&store, &known, "shop", 2).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    put(&store, &id, "shop", 1).unwrap();
    assert_full(visitor(&store));
}

// C2.10, C4.8
#[test]
fn transact_does_not_run_again_at_the_limit() {
    let (_, store) = limited(0);
    let id = store.client_ids().issue();
    let mut runs = 0;
    let founding: Result<()> = store.transact(|txn| {
        runs += 1;
        txn.session(&id)?.pkg("shop").insert("n", 1)
    });
    assert_full(founding);
    assert_eq!(runs, 1);
}

// C4.8
#[test]
fn an_id_that_was_refused_can_found_its_session_later() {
    let (clock, store) = limited(1);
    visitor(&store).unwrap();
    let id = store.client_ids().issue();
    assert_full(put(&store, &id, "shop", 1));
    clock.advance(2 * HOUR);
    put(&store, &id, "shop", 1).unwrap();
    assert_eq!(get(&store, &id), Some(1));
}
