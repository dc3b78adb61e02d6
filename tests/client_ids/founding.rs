//! C4.8, C4.10: dead ids stay dead, and under which id a session is founded.

use super::{destroy, in_memory, n, put, rotate};
use crate::support::clock::{clock, secs};
use crate::support::runtime::block_on;
use crate::support::store::{builder, place};
use crate::support::visitors::{again, visitor};
use cloakroom::ErrorKind;
use std::time::Duration;

// C4.8
#[test]
fn a_late_request_with_a_rotated_id_reads_empty_and_conflicts_when_it_writes() {
    let (store, clock) = in_memory();
    let id = visitor(&store);
    rotate(&store, &id);
    clock.advance(secs(10) - Duration::from_millis(1));
    for late in [id.clone(), again(&store, &id)] {
        let txn = store.begin().unwrap();
        let session = txn.session(&late).unwrap();
        assert_eq!(session.pkg("app").keys().unwrap(), Vec::<String>::new());
        txn.commit().unwrap();
        let txn = store.begin().unwrap();
        put(&txn, &late, 2);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(store.check().unwrap().sessions, 1);
}

// C4.8
#[test]
fn a_late_request_with_a_destroyed_id_conflicts_when_it_writes() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    destroy(&store, &id);
    assert_eq!(n(&store, &id), None);
    let txn = store.begin().unwrap();
    put(&txn, &again(&store, &id), 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C4.8
#[test]
fn a_refused_id_is_refused_after_reopening() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let id = visitor(&store);
    destroy(&store, &id);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    let txn = store.begin().unwrap();
    put(&txn, &again(&store, &id), 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

// C4.8
#[test]
fn after_ten_seconds_a_dead_id_founds_a_session_under_a_fresh_one() {
    let (store, clock) = in_memory();
    let (rotated, destroyed) = (visitor(&store), visitor(&store));
    rotate(&store, &rotated);
    destroy(&store, &destroyed);
    clock.advance(secs(10));
    for dead in [&rotated, &destroyed] {
        let txn = store.begin().unwrap();
        let session = txn.session(dead).unwrap();
        assert_eq!(session.client_id(), None);
        put(&txn, dead, 7);
        let new = session.client_id().unwrap();
        assert_ne!(&new, dead);
        txn.commit().unwrap();
        assert_eq!(n(&store, &new), Some(7));
        assert_eq!(n(&store, dead), None);
    }
}

// C4.8: how long is a setting.
#[test]
fn how_long_a_dead_id_is_refused_can_be_set() {
    let clock = clock();
    let store = builder(&clock)
        .tombstone_lifetime(secs(60))
        .in_memory()
        .unwrap();
    let id = visitor(&store);
    destroy(&store, &id);
    clock.advance(secs(59));
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    clock.advance(secs(1));
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
}

// C4.8
#[test]
fn an_issued_id_founds_one_session_only_also_through_a_clone() {
    let (store, clock) = in_memory();
    let id = store.client_ids().issue();
    let clone = id.clone();
    let txn = store.begin().unwrap();
    put(&txn, &id, 1);
    txn.commit().unwrap();
    destroy(&store, &id);
    clock.advance(secs(3600));
    let txn = store.begin().unwrap();
    let session = put(&txn, &clone, 2);
    assert_ne!(session.client_id().unwrap(), clone);
    txn.commit().unwrap();
    assert_eq!(n(&store, &clone), None);
}

// C4.8: a transaction that began when the id was fresh, committed when its session had ended.
#[test]
fn a_dead_id_stays_dead_for_a_transaction_that_began_before_it_lived() {
    let (store, clock) = in_memory();
    let id = store.client_ids().issue();
    let early = store.begin().unwrap();
    put(&early, &id, 1);
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
    destroy(&store, &id);
    clock.advance(secs(20));
    assert_eq!(early.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(n(&store, &id), None);
}

// C4.8: an aborted founding has founded nothing, so the id can be used still.
#[test]
fn an_issued_id_stays_fresh_until_a_commit() {
    let (store, _) = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    put(&txn, &id, 1);
    txn.abort();
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    assert_eq!(session.client_id(), Some(id.clone()));
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C4.8: after a restart nobody can tell an id that was never used from a dead one.
#[test]
fn an_id_that_was_verified_founds_a_session_under_a_fresh_one() {
    let (store, _) = in_memory();
    let id = again(&store, &store.client_ids().issue());
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 1);
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    assert_eq!(session.pkg("app").get("n").unwrap(), Some(1));
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(1));
    assert_eq!(n(&store, &id), None);
}

// C3.2, C4.8
#[test]
fn the_id_of_an_expired_session_founds_one_under_a_fresh_id() {
    let (store, clock) = in_memory();
    let id = visitor(&store);
    clock.advance(secs(3601));
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(2));
    assert_eq!(n(&store, &id), None);
}

// C4.10 on the level of the store: two visitors without an id are two.
#[test]
fn visitors_without_an_id_are_different_ones() {
    let (store, _) = in_memory();
    let txn = store.begin().unwrap();
    let [one, two] = [1, 2].map(|n| {
        let session = block_on(txn.visit(None)).unwrap();
        assert_eq!(session.client_id(), None);
        session.pkg("app").insert("n", n).unwrap();
        session
    });
    let [one, two] = [one.client_id().unwrap(), two.client_id().unwrap()];
    txn.commit().unwrap();
    assert_eq!([n(&store, &one), n(&store, &two)], [Some(1), Some(2)]);
}
