//! Time (C3): when a session ends, what an access writes, and what a sweep takes. All time comes from a
//! clock that is moved by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use chrono::{DateTime, TimeDelta, Utc};
use cloakroom::{
    ClientId, Clock, Container, ContainerSettings, ErrorKind, Store, StoreBuilder, Transaction,
};
use std::time::Duration;
use support::clock::{MOMENT, clock, secs};
use support::engine::needs_files;
use support::store::{self, keys_of, place};
use support::visitors::visitor;
use support::wait::until;
use support::writer::HeldWriter;
use tempfile::TempDir;

/// No sweeps but those that a test asks for, and snapshots that outlive its leaps in time.
fn builder(clock: &Clock) -> StoreBuilder {
    store::builder(clock).snapshot_max_age(secs(1 << 30))
}

fn in_memory(clock: &Clock) -> Store {
    builder(clock).in_memory().unwrap()
}

fn in_file(clock: &Clock) -> (TempDir, Store) {
    let (folder, path) = place();
    (folder, builder(clock).open(path).unwrap())
}

fn settings(timeout: u64, resolution: u64) -> ContainerSettings {
    ContainerSettings::new()
        .timeout(secs(timeout))
        .resolution(secs(resolution))
}

fn put(store: &Store, id: &ClientId, pkg: &str, key: &str, value: i64) {
    let txn = store.begin().unwrap();
    txn.session(id)
        .unwrap()
        .pkg(pkg)
        .insert(key, value)
        .unwrap();
    txn.commit().unwrap();
}

fn get(txn: &Transaction, id: &ClientId, pkg: &str, key: &str) -> Option<i64> {
    txn.session(id).unwrap().pkg(pkg).get(key).unwrap()
}

/// Reads in a transaction of its own, as a request would: an access.
fn click(store: &Store, id: &ClientId) -> Option<i64> {
    let txn = store.begin().unwrap();
    let value = get(&txn, id, "app", "n");
    txn.commit().unwrap();
    value
}

/// Looks without leaving an access time.
fn peek(store: &Store, id: &ClientId, pkg: &str, key: &str) -> Option<i64> {
    get(&store.begin().unwrap(), id, pkg, key)
}

fn last_access(store: &Store, id: &ClientId) -> Option<DateTime<Utc>> {
    store
        .begin()
        .unwrap()
        .session(id)
        .unwrap()
        .last_access()
        .unwrap()
}

/// Everything that reaches the disk, and the access times among it.
fn written(store: &Store) -> (u64, u64, u64) {
    let statistics = store.statistics().unwrap();
    (
        statistics.bytes_written(),
        statistics.syncs(),
        statistics.touches(),
    )
}

fn touches(store: &Store) -> u64 {
    store.statistics().unwrap().touches()
}

// C3.1, C3.2
#[test]
fn a_session_is_served_for_an_hour_and_not_a_moment_longer() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert!(!session.exists().unwrap());
    assert_eq!(session.last_access().unwrap(), None);
    assert_eq!(session.pkg("app").keys().unwrap(), Vec::<String>::new());
}

// C3.2
#[test]
fn what_has_expired_is_not_served_after_reopening_nor_after_a_sweep() {
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let id = visitor(&store);
    store.close().unwrap();
    clock.advance(secs(3600) + MOMENT);
    let store = builder(&clock).open(&path).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(
        store.container("").unwrap().statistics().unwrap().expired,
        1
    );
    store.container("").unwrap().sweep().unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(
        store.container("").unwrap().statistics().unwrap().expired,
        0
    );
}

// C3.2: fifty minutes at the least, since the last use may go unrecorded.
#[test]
fn a_session_last_used_within_the_resolution_ends_50_minutes_later() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(600));
    assert_eq!(click(&store, &id), Some(1));
    clock.advance(secs(3000));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2: sixty minutes at the most.
#[test]
fn a_session_last_used_after_the_resolution_ends_60_minutes_later() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(600) + MOMENT);
    assert_eq!(click(&store, &id), Some(1));
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2
#[test]
fn a_transaction_reads_the_time_once() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(secs(7200));
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.1
#[test]
fn a_visitor_who_clicks_every_half_timeout_stays_whatever_the_resolution() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(60, 3600)).unwrap();
    let id = visitor(&store);
    for _ in 0..50 {
        clock.advance(secs(30));
        assert_eq!(click(&store, &id), Some(1));
    }
}

// C3.1: the timeout in force is the session's own.
#[test]
fn a_visitor_with_a_short_timeout_of_its_own_stays_while_clicking() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .set_timeout(Some(secs(10)))
        .unwrap();
    txn.commit().unwrap();
    for _ in 0..50 {
        clock.advance(secs(5));
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(secs(10) + MOMENT);
    assert_eq!(click(&store, &id), None);
}

// C3.4
#[test]
fn loads_within_the_resolution_write_nothing() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let id = visitor(&store);
    let before = written(&store);
    for _ in 0..6 {
        clock.advance(secs(100));
        for _ in 0..1000 {
            assert_eq!(click(&store, &id), Some(1));
        }
    }
    assert_eq!(written(&store), before);
}

// C3.4
#[test]
fn a_due_touch_becomes_durable_by_itself() {
    needs_files!("syncs are counted");
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let id = visitor(&store);
    clock.advance(secs(601));
    let syncs = store.statistics().unwrap().syncs();
    click(&store, &id);
    clock.advance(secs(1));
    until("the touch is written", || touches(&store) == 1);
    until("and synced", || store.statistics().unwrap().syncs() > syncs);
}

// C3.4
#[test]
fn a_touch_survives_reopening() {
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let id = visitor(&store);
    clock.advance(secs(601));
    click(&store, &id);
    let then = clock.now();
    store.close().unwrap();
    clock.advance(secs(3600));
    let store = builder(&clock).open(&path).unwrap();
    assert_eq!(last_access(&store, &id), Some(then));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
}

// C3.4: the writer stands still, the request does not.
#[test]
fn a_due_touch_does_not_wait_for_the_writer() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(601));
    let held = HeldWriter::of(&store);
    assert_eq!(click(&store, &id), Some(1));
    assert_eq!(last_access(&store, &id), Some(clock.now()));
    assert_eq!(touches(&store), 0);
    drop(held);
    until("the touch is written", || touches(&store) == 1);
}

// C3.4
#[test]
fn a_due_touch_goes_along_with_the_next_commit() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let id = visitor(&store);
    clock.advance(secs(601));
    let held = HeldWriter::of(&store);
    click(&store, &id);
    let before = store.statistics().unwrap();
    let other = store.begin().unwrap();
    let session = other.session(&store.client_ids().issue()).unwrap();
    session.pkg("app").insert("n", 2).unwrap();
    let committing = std::thread::spawn(move || other.commit());
    drop(held);
    committing.join().unwrap().unwrap();
    let after = store.statistics().unwrap();
    assert_eq!(after.touches(), 1);
    assert_eq!(after.groups(), before.groups() + 1);
}

// C3.4, C1.7: changes in memory need no disk, and a touch beside them must not ask for it.
#[test]
fn a_due_touch_does_not_take_a_commit_in_memory_to_the_disk() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    store
        .register("ram", ContainerSettings::new().in_memory())
        .unwrap();
    let id = visitor(&store);
    clock.advance(secs(601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    txn.session(&id).unwrap().pkg("ram").insert("n", 2).unwrap();
    txn.commit().unwrap();
    // What the commit itself wrote is not counted as a touch; this one came later, by itself.
    until("the touch is written", || touches(&store) == 1);
    assert_eq!(last_access(&store, &id), Some(clock.now()));
}

// C2.4, C3.4
#[test]
fn an_aborted_transaction_leaves_no_touch() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let founded = clock.now();
    clock.advance(secs(601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    txn.abort();
    visitor(&store);
    assert_eq!(last_access(&store, &id), Some(founded));
    assert_eq!(touches(&store), 0);
}

// C2.2, C3.4
#[test]
fn a_commit_that_conflicts_leaves_no_touch() {
    let clock = clock();
    let store = in_memory(&clock);
    let (id, rival) = (visitor(&store), visitor(&store));
    let founded = clock.now();
    clock.advance(secs(601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    assert_eq!(get(&txn, &rival, "app", "n"), Some(1));
    txn.session(&rival)
        .unwrap()
        .pkg("app")
        .insert("m", 2)
        .unwrap();
    put(&store, &rival, "app", "n", 3);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    visitor(&store);
    assert_eq!(last_access(&store, &id), Some(founded));
}

// C3.4: a transaction that changed one session and read another takes the touch along.
#[test]
fn a_touch_of_a_session_that_was_only_read_is_in_the_commit() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let (read, changed) = (visitor(&store), visitor(&store));
    clock.advance(secs(601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &read, "app", "n"), Some(1));
    txn.session(&changed)
        .unwrap()
        .pkg("app")
        .insert("n", 2)
        .unwrap();
    let held = {
        txn.commit().unwrap();
        HeldWriter::of(&store)
    };
    assert_eq!(last_access(&store, &read), Some(clock.now()));
    assert_eq!(last_access(&store, &changed), Some(clock.now()));
    drop(held);
}

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

// C3.2
#[test]
fn a_touch_that_waits_keeps_the_session_alive_for_loads() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    let _held = HeldWriter::of(&store);
    assert_eq!(click(&store, &id), Some(1));
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    assert_eq!(touches(&store), 0);
}

// C3.2: the snapshot is older than the touch, which is written when the session is looked at.
#[test]
fn a_touch_written_after_the_snapshot_keeps_the_session_alive_for_loads() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    let touching = store.begin().unwrap();
    assert_eq!(get(&touching, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    let txn = store.begin().unwrap();
    touching.commit().unwrap();
    until("the touch is written", || touches(&store) == 1);
    // The new snapshot is out when another commit has gone through.
    visitor(&store);
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    txn.session(&id).unwrap().pkg("app").insert("n", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), Some(2));
}

// C3.2
#[test]
fn a_touch_that_waits_keeps_the_session_alive_for_commits() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    let held = HeldWriter::of(&store);
    click(&store, &id);
    clock.advance(secs(3600));
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("app").insert("n", 2).unwrap();
    let committing = std::thread::spawn(move || txn.commit());
    drop(held);
    committing.join().unwrap().unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), Some(2));
}

// C2.7, C3.2: whoever saw it over goes on, and whoever saw it live and wrote does not.
#[test]
fn a_session_that_expired_for_a_transaction_is_written_to_by_none_that_saw_it_live() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    let touching = store.begin().unwrap();
    assert_eq!(get(&touching, &id, "app", "n"), Some(1));
    let session = touching.session(&id).unwrap();
    session.pkg("app").insert("m", 1).unwrap();
    clock.advance(MOMENT);
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), None);
    let other = store.client_ids().issue();
    txn.session(&other)
        .unwrap()
        .pkg("app")
        .insert("n", 1)
        .unwrap();
    assert_eq!(touching.commit().unwrap_err().kind(), ErrorKind::Conflict);
    txn.commit().unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(peek(&store, &other, "app", "n"), Some(1));
}

// C3.2
#[test]
fn a_touch_that_waits_keeps_the_session_alive_for_the_owners_list() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().set_owner(Some("ann")).unwrap();
    txn.commit().unwrap();
    clock.advance(secs(3600));
    let _held = HeldWriter::of(&store);
    click(&store, &id);
    clock.advance(secs(3600));
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
}

// C3.2, C3.7
#[test]
fn a_session_touched_while_a_sweep_waits_survives_it() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let (kept, gone) = (visitor(&store), visitor(&store));
    clock.advance(secs(3600));
    let touching = store.begin().unwrap();
    assert_eq!(get(&touching, &kept, "app", "n"), Some(1));
    clock.advance(MOMENT);
    let held = HeldWriter::of(&store);
    let container = store.container("").unwrap();
    std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| container.sweep().unwrap());
        touching.commit().unwrap();
        drop(held);
        assert_eq!(sweeping.join().unwrap().removed, 1);
    });
    assert_eq!(peek(&store, &kept, "app", "n"), Some(1));
    assert_eq!(container.statistics().unwrap().expired, 0);
    assert_eq!(peek(&store, &gone, "app", "n"), None);
}

// C3.7: the touch that waits is itself too old.
#[test]
fn a_sweep_takes_a_session_whose_waiting_touch_has_expired() {
    needs_files!("the writer's thread is held up");
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    let held = HeldWriter::of(&store);
    click(&store, &id);
    clock.advance(secs(3600) + MOMENT);
    let container = store.container("").unwrap();
    std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| container.sweep().unwrap());
        drop(held);
        // The touch is written before the sweep looks, while it does, or after.
        let swept = sweeping.join().unwrap();
        assert_eq!(swept.removed, swept.scanned);
    });
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.6
#[test]
fn founding_a_session_sets_its_access_time() {
    let clock = clock();
    let store = in_memory(&clock);
    for looks in [true, false] {
        let txn = store.begin().unwrap();
        let id = store.client_ids().issue();
        let session = txn.session(&id).unwrap();
        let looked = clock.now();
        assert!(!looks || !session.exists().unwrap());
        session.pkg("app").insert("n", 1).unwrap();
        clock.advance(secs(5));
        txn.commit().unwrap();
        // The time is read with the first look, or else by the commit (C2.1).
        let founded = if looks { looked } else { clock.now() };
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        assert_eq!(session.created_at().unwrap(), Some(founded));
        assert_eq!(session.last_access().unwrap(), Some(founded));
    }
}

// C3.6, C2.8: two that found one session, the slower of which began when it would have expired.
#[test]
fn joining_a_session_founded_meanwhile_counts_as_an_access() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = store.client_ids().issue();
    let early = store.begin().unwrap();
    early
        .session(&id)
        .unwrap()
        .pkg("app")
        .insert("a", 1)
        .unwrap();
    clock.advance(secs(3601));
    let late = store.begin().unwrap();
    late.session(&id)
        .unwrap()
        .pkg("app")
        .insert("b", 2)
        .unwrap();
    early.commit().unwrap();
    late.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(clock.now()));
    assert_eq!(peek(&store, &id, "app", "b"), Some(2));
}

// C3.6
#[test]
fn resolution_zero_records_every_access() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(3600, 0)).unwrap();
    let id = visitor(&store);
    for _ in 0..10 {
        clock.advance(MOMENT);
        click(&store, &id);
        assert_eq!(last_access(&store, &id), Some(clock.now()));
    }
}

// C3.3
#[test]
fn timeout_zero_never_expires_and_is_never_touched_nor_swept() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(0, 600)).unwrap();
    let id = visitor(&store);
    let founded = clock.now();
    for _ in 0..100 {
        clock.advance(secs(365 * 86_400));
        assert_eq!(click(&store, &id), Some(1));
    }
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 0);
    visitor(&store);
    assert_eq!(touches(&store), 0);
    assert_eq!(last_access(&store, &id), Some(founded));
}

// C3.3, C3.8
#[test]
fn a_timeout_of_zero_of_its_own_keeps_a_session_for_good() {
    let clock = clock();
    let store = in_memory(&clock);
    let (kept, gone) = (visitor(&store), visitor(&store));
    let txn = store.begin().unwrap();
    txn.session(&kept)
        .unwrap()
        .set_timeout(Some(Duration::ZERO))
        .unwrap();
    txn.commit().unwrap();
    clock.advance(secs(400 * 86_400));
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
    assert_eq!(peek(&store, &kept, "app", "n"), Some(1));
    assert_eq!(peek(&store, &gone, "app", "n"), None);
}

// C3.8
#[test]
fn the_absolute_lifetime_ends_a_session_however_busy() {
    let clock = clock();
    let store = in_memory(&clock);
    let settings = ContainerSettings::new().max_lifetime(Some(secs(7200)));
    store.register("", settings).unwrap();
    let id = visitor(&store);
    for _ in 0..12 {
        clock.advance(secs(600));
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(MOMENT);
    assert_eq!(click(&store, &id), None);
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
}

// C3.8, C4.7
#[test]
fn rotating_does_not_prolong_the_absolute_lifetime() {
    let clock = clock();
    let store = in_memory(&clock);
    let settings = ContainerSettings::new().max_lifetime(Some(secs(7200)));
    store.register("", settings).unwrap();
    let mut id = visitor(&store);
    for _ in 0..12 {
        clock.advance(secs(600));
        let txn = store.begin().unwrap();
        id = txn.session(&id).unwrap().rotate().unwrap();
        txn.commit().unwrap();
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(MOMENT);
    assert_eq!(click(&store, &id), None);
}

// C3.3: only zero is never.
#[test]
fn a_timeout_below_a_millisecond_ends_a_session() {
    let clock = clock();
    let store = in_memory(&clock);
    let tiny = Duration::from_micros(500);
    let id = visitor(&store);
    set_timeout(&store, &id, tiny);
    let settings = ContainerSettings::new().timeout(tiny);
    let brief = store.register("brief", settings.clone()).unwrap();
    assert_eq!(brief.settings().unwrap(), settings);
    assert_eq!(settings.timeout, MOMENT);
    let visitor = store.client_ids().issue();
    put(&store, &visitor, "brief", "n", 1);
    clock.advance(2 * MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(peek(&store, &visitor, "brief", "n"), None);
}

// C2.12, C3.8
#[test]
fn setting_the_timeout_that_a_session_has_writes_nothing() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let id = visitor(&store);
    let odd = Duration::from_micros(3_600_000_500);
    set_timeout(&store, &id, odd);
    let before = written(&store);
    set_timeout(&store, &id, odd);
    assert_eq!(written(&store), before);
}

fn set_timeout(store: &Store, id: &ClientId, timeout: Duration) {
    let txn = store.begin().unwrap();
    let session = txn.session(id).unwrap();
    session.set_timeout(Some(timeout)).unwrap();
    txn.commit().unwrap();
}

// C3.8
#[test]
fn a_timeout_of_its_own_is_kept_over_rotation_and_reopening() {
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .set_timeout(Some(secs(86_400)))
        .unwrap();
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let id = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    store.close().unwrap();
    let store = builder(&clock).open(&path).unwrap();
    clock.advance(secs(86_400));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.8
#[test]
fn a_timeout_of_its_own_can_be_taken_back() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    for timeout in [Some(secs(86_400)), None] {
        let txn = store.begin().unwrap();
        txn.session(&id).unwrap().set_timeout(timeout).unwrap();
        txn.commit().unwrap();
    }
    clock.advance(secs(3600) + MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.8: set by the transaction that founds the session.
#[test]
fn a_timeout_of_its_own_can_be_given_at_the_founding() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.set_timeout(Some(secs(10))).unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    txn.commit().unwrap();
    clock.advance(secs(10) + MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2: the client lives on in one container while its data in another has expired.
#[test]
fn founding_over_what_has_expired_removes_all_its_rows() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("short", settings(60, 0)).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    for pkg in ["a", "b", "c"] {
        short.pkg(pkg).insert("old", 1).unwrap();
    }
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().packages, 4);
    clock.advance(secs(61));
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    assert_eq!(short.pkg("a").get::<i64>("old").unwrap(), None);
    short.pkg("a").insert("new", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().packages, 2);
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    assert_eq!(short.pkg("a").keys().unwrap(), ["new"]);
    assert_eq!(short.pkg("b").keys().unwrap(), Vec::<String>::new());
    assert_eq!(short.created_at().unwrap(), Some(clock.now()));
}

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

// C1.2, C1.9, C3.2
#[test]
fn containers_of_one_session_expire_by_their_own_policies() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("short", settings(60, 0)).unwrap();
    store.register("long", settings(86_400, 600)).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for pkg in ["short", "long", "other"] {
        txn.session(&id).unwrap().pkg(pkg).insert("n", 1).unwrap();
    }
    txn.commit().unwrap();
    let seen = || ["short", "other", "long"].map(|pkg| peek(&store, &id, pkg, "n").is_some());
    assert_eq!(seen(), [true, true, true]);
    clock.advance(secs(61));
    assert_eq!(seen(), [false, true, true]);
    clock.advance(secs(3600));
    assert_eq!(seen(), [false, false, true]);
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(secs(86_400));
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
}

// C1.9
#[test]
fn an_access_counts_for_the_containers_used() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("other", settings(3600, 600)).unwrap();
    let id = visitor(&store);
    put(&store, &id, "other", "n", 1);
    for _ in 0..6 {
        clock.advance(secs(601));
        assert_eq!(click(&store, &id), Some(1));
    }
    assert_eq!(peek(&store, &id, "other", "n"), None);
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
}

// C1.8, C3.2
#[test]
fn other_settings_take_effect_at_the_next_access() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(100));
    let container = store.container("").unwrap();
    container.configure(settings(60, 10)).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    container.configure(settings(3600, 10)).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
}
