//! C3.2, C3.7: a touch that still waits to be written counts.

use super::{click, get, in_memory, peek, touches};
use crate::support::clock::{MOMENT, clock, secs};
use crate::support::engine::needs_files;
use crate::support::store::keys_of;
use crate::support::visitors::visitor;
use crate::support::wait::until;
use crate::support::writer::HeldWriter;
use cloakroom::ErrorKind;

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

// C2.7, C3.2: a transaction that saw it over goes on; one that saw it live and wrote conflicts.
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
