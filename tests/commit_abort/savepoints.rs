//! C2.5: rolling back to a savepoint.

use super::{client, put, shop, stored};
use crate::support::runtime::block_on;
use cloakroom::{ErrorKind, Store};

// C2.5
#[test]
fn rolling_back_restores_exactly_the_changes_at_the_savepoint() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    put(&store, &id, "removed", 1);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let mine = session.pkg("shop");
    mine.insert("before", 1).unwrap();
    mine.add("sum", 1).unwrap();
    mine.remove("removed").unwrap();
    let savepoint = txn.savepoint().unwrap();
    mine.insert("before", 2).unwrap();
    mine.insert("after", 2).unwrap();
    mine.insert("removed", 2).unwrap();
    mine.add("sum", 5).unwrap();
    mine.commute("sum", |n: Option<i64>| n.unwrap_or(0) * 100)
        .unwrap();
    session.pkg("news").insert("after", 2).unwrap();
    session.set_owner(Some("ann")).unwrap();
    session.destroy().unwrap();
    txn.rollback_to(&savepoint).unwrap();

    assert!(session.exists().unwrap());
    assert_eq!(session.client_id().as_ref(), Some(&id));
    assert_eq!(mine.keys().unwrap(), ["before", "key", "sum"]);
    assert!(session.pkg("news").is_empty().unwrap());
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    assert_eq!(mine.keys().unwrap(), ["before", "key", "sum"]);
    assert_eq!(mine.get::<u32>("before").unwrap(), Some(1));
    assert_eq!(mine.get::<i64>("sum").unwrap(), Some(1));
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C2.5, C4.7
#[test]
fn rolling_back_undoes_a_rotation() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let savepoint = txn.savepoint().unwrap();
    let rotated = txn.session(&id).unwrap().rotate().unwrap();
    txn.rollback_to(&savepoint).unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
    assert_eq!(stored(&store, &rotated, "key"), None);
}

// C2.5, C1.4
#[test]
fn rolling_back_the_only_insert_founds_nothing() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let session = block_on(txn.visit(None)).unwrap();
    let savepoint = txn.savepoint().unwrap();
    session.pkg("shop").insert("key", 1).unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id(), None);
    assert!(!session.exists().unwrap());
    txn.commit().unwrap();
    let unnamed = store.container("").unwrap();
    assert_eq!(unnamed.statistics().unwrap().live, 0);
}

// C2.5
#[test]
fn savepoints_nest_and_can_be_rolled_back_to_again() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let value = || mine.get::<u32>("key").unwrap();
    let outer = txn.savepoint().unwrap();
    mine.insert("key", 2).unwrap();
    let inner = txn.savepoint().unwrap();
    for n in 3..6 {
        mine.insert("key", n).unwrap();
        txn.rollback_to(&inner).unwrap();
        assert_eq!(value(), Some(2));
    }
    mine.insert("key", 9).unwrap();
    txn.rollback_to(&outer).unwrap();
    assert_eq!(value(), Some(1));
    mine.insert("key", 10).unwrap();
    txn.rollback_to(&outer).unwrap();
    assert_eq!(value(), Some(1));
}

// C2.5
#[test]
fn a_savepoint_rolled_past_is_an_error() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let outer = txn.savepoint().unwrap();
    let inner = txn.savepoint().unwrap();
    txn.rollback_to(&outer).unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    let error = txn.rollback_to(&inner).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchSavepoint);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

// C2.5
#[test]
fn a_savepoint_of_another_transaction_is_an_error() {
    let store = Store::in_memory().unwrap();
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    let of_one = one.savepoint().unwrap();
    two.savepoint().unwrap();
    let error = two.rollback_to(&of_one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchSavepoint);
}

// C2.5, C2.7
#[test]
fn what_was_read_before_rolling_back_still_counts_as_read() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let savepoint = txn.savepoint().unwrap();
    mine.get::<u32>("key").unwrap();
    txn.rollback_to(&savepoint).unwrap();
    mine.insert("other", 1).unwrap();
    put(&store, &id, "key", 2);
    let error = txn.commit().unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.key(), Some("key"));
}
