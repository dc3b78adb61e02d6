//! C3.5, C3.8: a clock that was ahead. The times that it recorded count as now, and the first transaction that meets
//! them lowers them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{ClientId, Clock, ContainerSettings, Session, Store, StoreBuilder, Transaction};
use std::time::Duration;
use support::clock::{HOUR, MOMENT};
use support::store::builder;
use support::visitors::visitor;

const DAY: Duration = Duration::from_secs(86_400);
/// A store whose clock was ten years ahead while `then` was done, and is right now.
fn wrong(then: impl Fn(&Store) -> ClientId) -> (Clock, Store, ClientId) {
    wrong_with(ContainerSettings::new(), |builder| builder, then)
}

fn wrong_with(
    settings: ContainerSettings,
    with: impl Fn(StoreBuilder) -> StoreBuilder,
    then: impl Fn(&Store) -> ClientId,
) -> (Clock, Store, ClientId) {
    let right = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Clock::manual("2036-01-01T00:00:00Z".parse().unwrap());
    let store = with(builder(&clock)).in_memory().unwrap();
    store.container("").unwrap().configure(settings).unwrap();
    let id = then(&store);
    clock.set(right);
    (clock, store, id)
}

/// A click, as a request makes it.
fn click(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    let n: Option<u32> = txn.session(id).unwrap().pkg("app").get("n").unwrap();
    txn.commit().unwrap();
    n.is_some()
}

/// Looks without leaving a trace.
fn lives(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    let there = txn.session(id).unwrap().exists().unwrap();
    txn.abort();
    there
}

fn sweep(store: &Store) -> u64 {
    store.container("").unwrap().sweep().unwrap().removed
}

fn commits(store: &Store) -> u64 {
    store.statistics().unwrap().commits()
}

// C3.5
#[test]
fn a_sweep_lowers_an_idle_sessions_times_once() {
    let (clock, store, id) = wrong(visitor);
    let before = commits(&store);
    assert_eq!(sweep(&store), 0);
    assert_eq!(commits(&store), before + 1);
    assert_eq!(sweep(&store), 0);
    assert_eq!(commits(&store), before + 1, "there is nothing to write");
    clock.advance(HOUR);
    assert!(lives(&store, &id));
    clock.advance(MOMENT);
    assert!(!lives(&store, &id));
    assert_eq!(sweep(&store), 1);
}

// C3.5
#[test]
fn a_visit_lowers_a_sessions_times() {
    let (clock, store, id) = wrong(visitor);
    assert!(click(&store, &id));
    clock.advance(HOUR);
    assert!(lives(&store, &id));
    clock.advance(MOMENT);
    assert!(!lives(&store, &id));
}

// C3.5: also a transaction that does not use the session, and one whose commit writes something else.
#[test]
fn a_transaction_that_meets_a_session_lowers_its_times() {
    let looks: [fn(&Session); 2] = [
        |session| assert!(session.created_at().unwrap().is_some()),
        |session| session.set_owner(Some("ann")).unwrap(),
    ];
    for look in looks {
        let (clock, store, id) = wrong(visitor);
        let txn = store.begin().unwrap();
        look(&txn.session(&id).unwrap());
        txn.commit().unwrap();
        clock.advance(HOUR + MOMENT);
        assert!(!lives(&store, &id));
    }
}

// C3.5: an access that waits to be written is lowered with the rest.
#[test]
fn a_touch_made_ahead_does_not_come_back() {
    let (clock, store, id) = wrong(|store| {
        let id = visitor(store);
        store.checkpoint().unwrap();
        id
    });
    // The clock is ahead once more, and a click leaves a touch that waits.
    clock.advance(2 * DAY);
    assert!(click(&store, &id));
    clock.set("2026-01-01T00:00:00Z".parse().unwrap());
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("n", 2).unwrap();
    txn.commit().unwrap();
    clock.advance(HOUR + MOMENT);
    assert!(!lives(&store, &id));
}

// C3.5: a recorded time below a waiting touch, which lies ahead as well, is lowered with it.
#[test]
fn a_visit_lowers_what_is_recorded_beneath_a_touch_that_waits() {
    let (clock, store, id) = wrong(|store| {
        let id = visitor(store);
        store.checkpoint().unwrap();
        id
    });
    clock.set("2036-01-01T00:20:00Z".parse().unwrap());
    assert!(click(&store, &id));
    clock.set("2026-01-01T00:00:00Z".parse().unwrap());
    assert!(click(&store, &id));
    clock.advance(HOUR);
    assert!(lives(&store, &id));
    clock.advance(MOMENT);
    assert!(!lives(&store, &id));
}

// C3.5: in the container that the transaction writes to, and in the one that it only reads.
#[test]
fn a_transaction_that_began_ahead_records_its_access_as_of_its_commit() {
    let right = "2026-01-01T00:00:00Z".parse().unwrap();
    for writes in [false, true] {
        let clock = Clock::manual(right);
        let store = builder(&clock).in_memory().unwrap();
        store.register("shop", ContainerSettings::new()).unwrap();
        let id = visitor(&store);
        let txn = store.begin().unwrap();
        let shop = txn.session(&id).unwrap().pkg("shop");
        shop.insert("n", 1).unwrap();
        txn.commit().unwrap();
        store.checkpoint().unwrap();
        let read = |txn: &Transaction| {
            let session = txn.session(&id).unwrap();
            ["app", "shop"].map(|package| session.pkg(package).get::<u32>("n").unwrap())
        };
        clock.advance(HOUR - MOMENT);
        let txn = store.begin().unwrap();
        assert!(read(&txn).iter().all(Option::is_some));
        if writes {
            let app = txn.session(&id).unwrap().pkg("app");
            app.insert("n", 2).unwrap();
        }
        clock.set(right);
        txn.commit().unwrap();
        store.checkpoint().unwrap();
        clock.advance(HOUR + MOMENT);
        let txn = store.begin().unwrap();
        assert_eq!(read(&txn), [None, None], "writes: {writes}");
    }
}

// C3.8
#[test]
fn an_absolute_lifetime_runs_from_when_the_founding_is_lowered() {
    for sweeps in [false, true] {
        for timeout in [HOUR, Duration::ZERO] {
            let settings = ContainerSettings::new()
                .max_lifetime(Some(DAY))
                .timeout(timeout);
            let (clock, store, id) = wrong_with(settings, |builder| builder, visitor);
            if sweeps {
                sweep(&store);
            }
            for _ in 0..48 {
                assert!(click(&store, &id));
                clock.advance(HOUR / 2);
            }
            assert!(lives(&store, &id));
            clock.advance(MOMENT);
            assert!(!lives(&store, &id), "sweeps: {sweeps}");
        }
    }
}

// C3.8, C4.7
#[test]
fn a_rotation_carries_lowered_times_over() {
    let settings = ContainerSettings::new().max_lifetime(Some(DAY));
    let (clock, store, id) = wrong_with(settings, |builder| builder, visitor);
    let txn = store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    for _ in 0..48 {
        assert!(click(&store, &new));
        clock.advance(HOUR / 2);
    }
    clock.advance(MOMENT);
    assert!(!lives(&store, &new));
}

// C3.5: only what lies more than a resolution ahead.
#[test]
fn a_time_within_the_resolution_stays() {
    let (clock, store, id) = wrong(visitor);
    clock.set("2035-12-31T23:50:00Z".parse().unwrap());
    let before = commits(&store);
    assert_eq!(sweep(&store), 0);
    assert!(lives(&store, &id));
    assert_eq!(commits(&store), before);
    clock.set("2036-01-01T01:00:00Z".parse().unwrap());
    assert!(lives(&store, &id));
    clock.advance(MOMENT);
    assert!(!lives(&store, &id));
}

fn ended(store: &Store) -> ClientId {
    let id = visitor(store);
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().destroy().unwrap();
    txn.commit().unwrap();
    store.client_ids().verify(id.as_str()).unwrap()
}

/// Whether a request with a dead id is given a new session.
fn is_let_in(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    let session = txn.session(id).unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    txn.commit().is_ok()
}

// C3.5, C4.8: the first transaction that meets the tombstone is refused; from then on the tombstone expires as usual.
#[test]
fn a_commit_lowers_a_tombstone() {
    for checkpoint in [false, true] {
        let (clock, store, id) = wrong(ended);
        if checkpoint {
            store.checkpoint().unwrap();
        }
        assert!(!is_let_in(&store, &id));
        clock.advance(Duration::from_secs(10) - MOMENT);
        assert!(!is_let_in(&store, &id));
        clock.advance(MOMENT);
        assert!(is_let_in(&store, &id), "checkpoint: {checkpoint}");
    }
}

// C3.5, C3.7, C4.8
#[test]
fn a_sweep_lowers_tombstones() {
    for checkpoint in [false, true] {
        let (clock, store, id) = wrong(ended);
        if checkpoint {
            store.checkpoint().unwrap();
        }
        sweep(&store);
        let swept = commits(&store);
        sweep(&store);
        assert_eq!(commits(&store), swept, "there is nothing to write");
        clock.advance(Duration::from_secs(10));
        assert!(is_let_in(&store, &id), "checkpoint: {checkpoint}");
    }
}

// C4.8, C3.5: how long a dead id is refused is no fault of a clock.
#[test]
fn a_tombstone_that_lasts_long_is_not_lowered() {
    let long = |builder: StoreBuilder| builder.tombstone_lifetime(DAY);
    let (clock, store, id) = wrong_with(ContainerSettings::new(), long, ended);
    clock.set("2036-01-01T00:00:00Z".parse().unwrap());
    sweep(&store);
    clock.advance(DAY - MOMENT);
    assert!(!is_let_in(&store, &id));
    clock.advance(MOMENT);
    assert!(is_let_in(&store, &id));
}
