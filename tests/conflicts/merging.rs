//! C2.8: changes to different keys merge, and so do blind ones.

use super::{meet, put, shop, stored, usual, write};
use crate::support::visitors::with;
use cloakroom::{Session, Store, Transaction};

// C2.8
#[test]
fn changes_to_different_keys_of_one_package_merge() {
    let (store, id) = usual();
    let txns: Vec<Transaction> = (0..10_u32)
        .map(|n| {
            let txn = store.begin().unwrap();
            let key = format!("k{n}");
            assert_eq!(shop(&txn, &id).get::<u32>(&key).unwrap(), None);
            shop(&txn, &id).insert(&key, n).unwrap();
            txn
        })
        .collect();
    let removes = store.begin().unwrap();
    assert!(shop(&removes, &id).remove("other").unwrap());
    txns.into_iter().for_each(|txn| txn.commit().unwrap());
    removes.commit().unwrap();
    for n in 0..10 {
        assert_eq!(stored(&store, &id, &format!("k{n}")), Some(n));
    }
    assert_eq!(stored(&store, &id, "key"), Some(1));
    assert_eq!(stored(&store, &id, "other"), None);
}

// C2.8
#[test]
fn of_two_blind_inserts_the_later_commit_wins() {
    let (store, id) = usual();
    let insert = |value: u32| {
        let txn = store.begin().unwrap();
        shop(&txn, &id).insert("key", value).unwrap();
        txn
    };
    let (one, two) = (insert(2), insert(3));
    two.commit().unwrap();
    one.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

// C2.8
#[test]
fn reading_ones_own_insert_is_no_observation() {
    let own = |s: &Session| {
        s.pkg("shop").insert("key", 5)?;
        assert_eq!(s.pkg("shop").get::<u32>("key")?, Some(5));
        s.pkg("shop")
            .update("key", |n: Option<u32>| n.unwrap() + 1)?;
        Ok(())
    };
    meet(own, write("key", 7)).unwrap();
}

// C2.8
#[test]
fn clearing_a_package_blindly_takes_later_keys_along() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    shop(&txn, &id).clear().unwrap();
    shop(&txn, &id).insert("left", 1).unwrap();
    put(&store, &id, "late", 1);
    txn.commit().unwrap();
    let keys = with(&store, &id, |s| s.pkg("shop").keys());
    assert_eq!(keys, ["left"]);
}

// C2.8
#[test]
fn two_that_found_one_session_merge() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let insert = |key: &str| {
        let txn = store.begin().unwrap();
        shop(&txn, &id).insert(key, 1).unwrap();
        txn
    };
    let (one, two) = (insert("one"), insert("two"));
    one.commit().unwrap();
    two.commit().unwrap();
    let keys = with(&store, &id, |s| s.pkg("shop").keys());
    assert_eq!(keys, ["one", "two"]);
}
