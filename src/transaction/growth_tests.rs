//! The cost of a transaction is proportional to the data that it touches (C5.5): twice the data takes no more than
//! about twice the steps.

use crate::steps::Counted;
use crate::transaction::registry::ContainerIndex;
use crate::{ClientId, ContainerSettings, ErrorKind, PkgData, Session, Store, Transaction};
use std::collections::HashMap;
use std::sync::Arc;

fn store() -> Store {
    Store::builder().implicit_sweeps(false).in_memory().unwrap()
}

/// A transaction on a session that is there, with one value.
fn begin(store: &Store) -> (Transaction, Session) {
    let id = visitor(store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    (txn, session)
}

fn visitor(store: &Store) -> ClientId {
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").insert("k", 1).unwrap();
    txn.commit().unwrap();
    id
}

/// `work` takes the size, and is counted as a whole.
fn assert_grows_with_what_is_touched(work: impl Fn(usize)) {
    let steps = |n| crate::steps::of(|| work(n));
    let (small, large) = (steps(250), steps(1000));
    assert!(small > 0, "nothing was counted");
    assert!(large <= 6 * small, "{small} steps, for four times {large}");
}

#[test]
fn a_chain_of_steps_on_one_key() {
    assert_grows_with_what_is_touched(|n| {
        let store = store();
        let (txn, session) = begin(&store);
        let package = session.pkg("p");
        for _ in 0..n {
            package.add("k", 1).unwrap();
            package.max("k", 1).unwrap();
            package
                .commute("k", |n: Option<u64>| n.unwrap_or(0) + 1)
                .unwrap();
        }
        assert_eq!(package.get::<usize>("k").unwrap(), Some(2 * n + 1));
        txn.commit().unwrap();
    });
}

/// Where each key that was read of the package "p" lies in memory, by what it is.
fn places_of_read_keys(session: &Session) -> HashMap<*const u8, usize> {
    let place = |key: &Counted<Arc<str>>| (key.0.as_ptr(), std::ptr::from_ref(key).addr());
    let places = session.txn().with(|state| {
        let view = state
            .subject(0)?
            .package(ContainerIndex::UNNAMED, "p")
            .unwrap();
        Ok(view.read.iter().map(place).collect())
    });
    places.unwrap()
}

/// A key that is moved in memory to make room for another one is a step, too: comparisons do not tell.
#[test]
fn keys_that_are_read_in_descending_order() {
    assert_grows_with_what_is_touched(|n| {
        let store = store();
        let (txn, session) = begin(&store);
        let package = session.pkg("p");
        let mut places = HashMap::new();
        for i in (0..n).rev() {
            assert_eq!(package.get::<u8>(&format!("{i:05}")).unwrap(), None);
            let before = std::mem::replace(&mut places, places_of_read_keys(&session));
            let is_moved = |(key, place)| before.get(key).is_some_and(|was| was != place);
            let moved = places.iter().filter(|it| is_moved(*it)).count();
            crate::steps::count(moved);
        }
        assert_eq!(places.len(), n);
        package.insert("k", 2).unwrap();
        txn.commit().unwrap();
    });
}

#[test]
fn sessions_of_an_owner() {
    let steps = |n: usize| {
        let store = store();
        let txn = store.begin().unwrap();
        for _ in 0..n {
            let session = txn.session(&store.client_ids().issue()).unwrap();
            session.set_owner(Some("ann")).unwrap();
        }
        txn.commit().unwrap();
        crate::steps::of(|| assert_eq!(store.sessions_of("ann").unwrap().len(), n))
    };
    let (few, many) = (steps(250), steps(1000));
    assert!(few >= 250, "not all were counted");
    assert!(many <= 6 * few, "{few} steps, for four times {many}");
}

// C8.2
#[test]
fn sessions_that_are_ended_by_their_owner() {
    let steps = |ended: usize, others: usize| {
        let store = store();
        let txn = store.begin().unwrap();
        for n in 0..ended + others {
            let session = txn.session(&store.client_ids().issue()).unwrap();
            let owner = if n < ended { "ann" } else { "bob" };
            session.set_owner(Some(owner)).unwrap();
        }
        txn.commit().unwrap();
        let ended = u64::try_from(ended).unwrap();
        crate::steps::of(|| assert_eq!(store.end_all_of("ann").unwrap(), ended))
    };
    let (few, many) = (steps(250, 0), steps(1000, 0));
    assert!(few >= 250, "not all were counted");
    assert!(many <= 6 * few, "{few} steps, for four times {many}");
    assert_eq!(steps(250, 1000), few, "other owners' sessions cost");
}

// C2.5
#[test]
fn a_savepoint_before_each_change_and_back_to_each() {
    assert_grows_with_what_is_touched(|n| {
        let store = store();
        let (txn, session) = begin(&store);
        let package = session.pkg("p");
        let mut savepoints = Vec::new();
        for i in 0..n {
            savepoints.push(txn.savepoint().unwrap());
            package.insert(&format!("{i:05}"), i).unwrap();
            package.add("k", 1).unwrap();
        }
        for (i, savepoint) in savepoints.iter().enumerate().rev() {
            txn.rollback_to(savepoint).unwrap();
            assert!(!package.contains_key(&format!("{i:05}")).unwrap());
        }
    });
}

#[test]
fn packages_that_are_read_and_written() {
    assert_grows_with_what_is_touched(|n| {
        let store = Store::builder().max_packages(n + 1).in_memory().unwrap();
        let (txn, session) = begin(&store);
        for i in 0..n {
            let package = session.pkg(&format!("{i:05}"));
            assert_eq!(package.get::<usize>("k").unwrap(), None);
            package.insert("k", i).unwrap();
        }
        txn.commit().unwrap();
    });
}

#[test]
fn the_commit_of_a_small_change_to_a_package_of_many_keys() {
    let steps = |keys: usize| {
        let store = Store::builder().max_keys(keys).in_memory().unwrap();
        let id = visitor(&store);
        let begin = || {
            let txn = store.begin().unwrap();
            let package = txn.session(&id).unwrap().pkg("p");
            (txn, package)
        };
        let (txn, package) = begin();
        for n in 1..keys {
            package.insert(&n.to_string(), n).unwrap();
        }
        txn.commit().unwrap();
        let (txn, package) = begin();
        package.insert("k", 2).unwrap();
        assert_eq!(package.get::<usize>("1").unwrap(), Some(1));
        crate::steps::of(|| txn.commit().unwrap())
    };
    let (many, few) = (steps(4000), steps(40));
    // This thread takes part in the commit, or does not.
    assert!(many <= few + 10, "{many} steps, {few} for few");
}

#[test]
fn sessions_of_one_transaction() {
    assert_grows_with_what_is_touched(|n| {
        let store = store();
        let txn = store.begin().unwrap();
        for _ in 0..n {
            let id = store.client_ids().issue();
            txn.session(&id).unwrap().pkg("p").insert("k", 1).unwrap();
        }
        txn.commit().unwrap();
    });
}

#[test]
fn inserts_into_a_new_session_beside_many_containers() {
    let steps = |containers: usize| {
        let store = store();
        for n in 0..containers {
            let name = format!("c{n}");
            let ram = ContainerSettings::new().in_memory();
            store.register(&name, ram).unwrap();
        }
        let txn = store.begin().unwrap();
        let session = txn.session(&store.client_ids().issue()).unwrap();
        crate::steps::of(|| {
            for n in 0..1000 {
                session.pkg("p").insert(&n.to_string(), n).unwrap();
            }
        })
    };
    let (few, many) = (steps(10), steps(40));
    assert!(many <= 2 * few, "{few} steps, with four times {many}");
}

// C4.8
#[cfg(feature = "http")]
#[test]
fn whether_an_id_is_dead_is_told_without_a_look() {
    let store = store();
    for n in 0..10 {
        let name = format!("c{n}");
        store.register(&name, ContainerSettings::new()).unwrap();
    }
    let id = visitor(&store);
    let ended = store.client_ids().issue();
    let ended = store.client_ids().verify(ended.as_str()).unwrap();
    for (id, dead) in [(&id, false), (&ended, true)] {
        let txn = store.begin().unwrap();
        let session = txn.session(id).unwrap();
        assert_eq!(session.pkg("c3").get::<u8>("k").unwrap(), None);
        let steps = crate::steps::of(|| {
            session.look_before_commit();
            assert!(!session.presents_dead_id());
        });
        assert_eq!(steps, 0);
        session.exists().unwrap();
        let steps = crate::steps::of(|| assert_eq!(session.presents_dead_id(), dead));
        assert_eq!(steps, 0);
    }
}

// C5.3
#[test]
fn too_many_keys_are_refused_before_others_wait_for_them() {
    let store = Store::builder().max_keys(3).in_memory().unwrap();
    let changes: [fn(&PkgData, &str); 6] = [
        |p, key| p.insert(key, 1).unwrap(),
        |p, key| p.add(key, 1).unwrap(),
        |p, key| p.max(key, 1).unwrap(),
        |p, key| p.min(key, 1).unwrap(),
        |p, key| p.commute(key, |_: Option<u8>| 1).unwrap(),
        |p, key| {
            p.remove(key).unwrap();
            p.add(key, 1).unwrap();
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        for package in ["p", "q"] {
            let (txn, session) = begin(&store);
            // It tells alone that there is something to commit.
            session.pkg("p").insert("k", 2).unwrap();
            for key in ["1", "2", "3", "4"] {
                change(&session.pkg(package), key);
            }
            let packed = txn.end().unwrap().pack(None);
            let kind = packed.err().map(|error| error.kind());
            assert_eq!(kind, Some(ErrorKind::TooLarge), "{n} in {package}");
        }
    }
}
