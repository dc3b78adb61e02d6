//! C3.5: touches merge by maximum, and a clock that was wrong does no lasting harm.

use super::{builder, click, get, in_memory, last_access, peek, settings, touches};
use crate::support::clock::{MOMENT, clock, secs};
use crate::support::engine::needs_files;
use crate::support::visitors::visitor;
use crate::support::wait::until;
use crate::support::writer::HeldWriter;
use chrono::TimeDelta;
use cloakroom::ErrorKind;

// C3.5: zope.session's documents show this with two connections.
#[test]
fn two_simultaneous_touches_both_commit() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(601));
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    assert_eq!(get(&one, &id, "app", "n"), Some(1));
    assert_eq!(get(&two, &id, "app", "n"), Some(1));
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(clock.now()));
}

// C3.5
#[test]
fn a_touch_beside_changes_does_not_conflict_with_another() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(601));
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    one.session(&id).unwrap().pkg("app").insert("a", 1).unwrap();
    two.session(&id).unwrap().pkg("app").insert("b", 2).unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(peek(&store, &id, "app", "a"), Some(1));
    assert_eq!(peek(&store, &id, "app", "b"), Some(2));
}

// C3.5
#[test]
fn the_access_time_never_goes_backwards() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(700));
    let early = store.begin().unwrap();
    assert_eq!(get(&early, &id, "app", "n"), Some(1));
    clock.advance(secs(100));
    click(&store, &id);
    let late = clock.now();
    early.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(late));
    until("the touch is written", || touches(&store) > 0);
    assert_eq!(last_access(&store, &id), Some(late));
}

// C3.5: the same where the earlier access comes with a change.
#[test]
fn a_commit_begun_earlier_does_not_take_the_access_time_back() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(700));
    let early = store.begin().unwrap();
    early
        .session(&id)
        .unwrap()
        .pkg("app")
        .insert("m", 2)
        .unwrap();
    clock.advance(secs(100));
    click(&store, &id);
    let late = clock.now();
    early.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(late));
}

// C3.5: a transaction that took longer than the resolution is no clock that was wrong.
#[test]
fn a_transaction_longer_than_the_resolution_does_not_take_the_access_time_back() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(3600, 5)).unwrap();
    let id = visitor(&store);
    clock.advance(secs(6));
    let [reading, writing] = [store.begin().unwrap(), store.begin().unwrap()];
    assert_eq!(get(&reading, &id, "app", "n"), Some(1));
    writing
        .session(&id)
        .unwrap()
        .pkg("app")
        .insert("m", 2)
        .unwrap();
    clock.advance(secs(100));
    click(&store, &id);
    let late = clock.now();
    reading.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(late));
    writing.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(late));
}

// C3.5
#[test]
fn a_clock_set_back_within_the_resolution_changes_nothing() {
    let clock = clock();
    let store = in_memory(&clock);
    let start = clock.now();
    clock.advance(secs(600));
    let id = visitor(&store);
    clock.set(start);
    assert_eq!(click(&store, &id), Some(1));
    visitor(&store);
    assert_eq!(touches(&store), 0);
    assert_eq!(
        last_access(&store, &id),
        Some(start + TimeDelta::seconds(600))
    );
}

// C3.5
#[test]
fn an_access_time_far_ahead_counts_as_now_and_is_lowered() {
    let clock = clock();
    let store = in_memory(&clock);
    let start = clock.now();
    clock.advance(secs(86_400));
    let id = visitor(&store);
    clock.set(start);
    assert_eq!(click(&store, &id), Some(1));
    until("the touch is written", || touches(&store) == 1);
    assert_eq!(last_access(&store, &id), Some(start));
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.5, C3.2: also while the touch that lowers it waits to be written.
#[test]
fn an_access_time_far_ahead_is_lowered_by_a_waiting_touch() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let start = clock.now();
    clock.advance(secs(86_400));
    let id = visitor(&store);
    clock.set(start);
    let _held = HeldWriter::of(&store);
    click(&store, &id);
    assert_eq!(last_access(&store, &id), Some(start));
    clock.advance(secs(3600) + MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2, C3.5: a clock that ran ahead and was put right has ended nothing that was not swept.
#[test]
fn a_clock_put_right_again_finds_its_sessions() {
    let clock = clock();
    let store = in_memory(&clock);
    let start = clock.now();
    let id = visitor(&store);
    clock.advance(secs(86_400));
    assert_eq!(click(&store, &id), None);
    clock.set(start);
    assert_eq!(click(&store, &id), Some(1));
}

// C2.14
#[test]
fn a_clock_that_is_set_back_keeps_no_snapshot() {
    let clock = clock();
    let store = builder(&clock).snapshot_max_age(secs(30));
    let store = store.in_memory().unwrap();
    let id = visitor(&store);
    let held = store.begin().unwrap();
    let session = held.session(&id).unwrap();
    assert!(session.exists().unwrap());
    let package = session.pkg("app");
    click(&store, &id);
    visitor(&store);
    clock.set(clock.now() - TimeDelta::hours(1));
    clock.advance(secs(30) + MOMENT);
    let error = package.get::<u32>("n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotTooOld);
    until("the snapshot is taken back", || {
        store.statistics().unwrap().held_snapshots() == 0
    });
    drop(held);
}
