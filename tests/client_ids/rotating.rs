//! C4.7: a new id for a session.

use super::{in_memory, n, put, rotate};
use crate::support::clock::secs;
use crate::support::store::keys_of;
use crate::support::visitors::visitor;
use cloakroom::{ContainerSettings, ErrorKind};
use std::time::Duration;

// C4.7
#[test]
fn rotating_carries_everything_over() {
    let (store, clock) = in_memory();
    store.register("cart", ContainerSettings::new()).unwrap();
    store
        .register("ram", ContainerSettings::new().in_memory())
        .unwrap();
    let short = ContainerSettings::new().timeout(secs(60));
    store.register("short", short).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    for (pkg, n) in [("app", 1), ("cart", 2), ("ram", 3)] {
        session.pkg(pkg).insert("n", n).unwrap();
        session.pkg(pkg).insert("more", n).unwrap();
    }
    session.set_owner(Some("ann")).unwrap();
    session.set_timeout(Some(secs(7200))).unwrap();
    txn.commit().unwrap();
    let created = clock.now();
    clock.advance(secs(100));

    let new = rotate(&store, &id);
    assert_ne!(new, id);
    assert_eq!(keys_of(&store, "ann"), [new.key()]);
    clock.advance(secs(7100));
    let txn = store.begin().unwrap();
    let session = txn.session(&new).unwrap();
    for (pkg, n) in [("app", 1), ("cart", 2), ("ram", 3)] {
        assert_eq!(session.pkg(pkg).get("n").unwrap(), Some(n));
        assert_eq!(session.pkg(pkg).keys().unwrap(), ["more", "n"]);
    }
    assert_eq!(session.created_at().unwrap(), Some(created));
    assert_eq!(session.last_access().unwrap(), Some(created));
    drop(txn);
    clock.advance(Duration::from_millis(1));
    assert_eq!(n(&store, &new), None);
}

// C4.7
#[test]
fn rotating_carries_the_changes_of_its_own_transaction_over() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let new = session.rotate().unwrap();
    assert_eq!(session.client_id(), Some(new.clone()));
    session.pkg("app").insert("m", 3).unwrap();
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(2));
    let txn = store.begin().unwrap();
    assert_eq!(
        txn.session(&new).unwrap().pkg("app").get("m").unwrap(),
        Some(3)
    );
}

// C1.9, C4.7
#[test]
fn rotating_carries_nothing_over_that_has_expired() {
    let (store, clock) = in_memory();
    let short = ContainerSettings::new().timeout(secs(60));
    store.register("short", short).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("short")
        .insert("n", 1)
        .unwrap();
    txn.commit().unwrap();
    clock.advance(secs(61));
    let new = rotate(&store, &id);
    // Nothing of the old one is left either.
    let check = store.check().unwrap();
    assert_eq!((check.sessions, check.packages), (1, 1));
    let generous = ContainerSettings::new().timeout(secs(3600));
    store.register("short", generous).unwrap();
    let txn = store.begin().unwrap();
    let n: Option<i64> = txn.session(&new).unwrap().pkg("short").get("n").unwrap();
    assert_eq!(n, None);
}

// C4.7
#[test]
fn the_old_id_is_worth_nothing_once_it_is_rotated() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let new = rotate(&store, &id);
    assert_eq!(n(&store, &id), None);
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
    assert_eq!(txn.session(&id).unwrap().client_id(), None);
    assert_eq!(n(&store, &new), Some(1));
}

// C4.7, C2.4
#[test]
fn rotating_in_an_aborted_transaction_rotates_nothing() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.abort();
    assert_eq!(n(&store, &id), Some(1));
    assert_eq!(n(&store, &new), None);
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C2.5, C4.7
#[test]
fn rolling_back_takes_a_rotation_back() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let savepoint = txn.savepoint().unwrap();
    let session = txn.session(&id).unwrap();
    session.rotate().unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id(), Some(id.clone()));
    put(&txn, &id, 2);
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C2.11, C4.7
#[test]
fn of_two_rotations_of_one_session_one_conflicts() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    let first = one.session(&id).unwrap().rotate().unwrap();
    let second = two.session(&id).unwrap().rotate().unwrap();
    one.commit().unwrap();
    assert_eq!(two.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(n(&store, &first), Some(1));
    assert_eq!(n(&store, &second), None);
}

// C4.7: a visitor who uses the new id before it is valid founds a session there.
#[test]
fn a_rotation_does_not_overwrite_a_session_under_its_new_id() {
    for checkpoint in [false, true] {
        let (store, _) = in_memory();
        let id = visitor(&store);
        let rotating = store.begin().unwrap();
        let new = rotating.session(&id).unwrap().rotate().unwrap();
        let txn = store.begin().unwrap();
        put(&txn, &new, 2);
        txn.commit().unwrap();
        if checkpoint {
            store.checkpoint().unwrap();
        }
        assert_eq!(rotating.commit().unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(n(&store, &new), Some(2));
        assert_eq!(n(&store, &id), Some(1));
    }
}
