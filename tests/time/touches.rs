//! C3.4: what an access writes, and when.

use super::{builder, click, get, in_file, in_memory, last_access, peek, put, touches, written};
use crate::support::clock::{clock, secs};
use crate::support::engine::needs_files;
use crate::support::store::place;
use crate::support::visitors::visitor;
use crate::support::wait::until;
use crate::support::writer::HeldWriter;
use cloakroom::{ContainerSettings, ErrorKind};

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
    // The commit's own write is not counted as a touch; this one came later, by itself.
    until("the touch is written", || touches(&store) == 1);
    assert_eq!(last_access(&store, &id), Some(clock.now()));
}

// C2.9, C3.4: a commit in memory that is computed again keeps the touch beside it.
#[test]
fn a_touch_beside_a_commit_in_memory_outlasts_that_it_is_computed_again() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let ram = ContainerSettings::new().in_memory();
    store.register("ram", ram).unwrap();
    let id = visitor(&store);
    put(&store, &id, "ram", "n", 1);
    clock.advance(secs(601));
    let txn = store.begin().unwrap();
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    let ram = txn.session(&id).unwrap().pkg("ram");
    ram.commute("n", |n: Option<i64>| n.unwrap_or(0) + 1)
        .unwrap();
    put(&store, &id, "ram", "n", 10);
    let before = touches(&store);
    txn.commit().unwrap();
    assert_eq!(peek(&store, &id, "ram", "n"), Some(11));
    until("the touch is recorded", || touches(&store) > before);
    let txn = store.begin().unwrap();
    let app = txn.container("").unwrap().session_data(&id).unwrap();
    assert_eq!(app.last_access().unwrap(), Some(clock.now()));
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
