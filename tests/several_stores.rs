//! C10.3: several stores on one server, as several processes would open it. Runs only on the engine for tests whose every
//! call comes late: a file has one store.
#![cfg(feature = "torture")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, ContainerSettings, ErrorKind, Store};
use std::time::Duration;
use support::clock::clock;
use support::engine::is_remote;
use support::store::{builder, place};
use support::visitors::{again, get, put, visitor, visitor_with, with};
use support::wait::until;

/// Two stores on one server, or none where the engine is that on files.
fn two_stores() -> Option<[Store; 2]> {
    if !is_remote() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return None;
    }
    let (_folder, path) = place();
    let clock = clock();
    Some([(); 2].map(|()| builder(&clock).open(&path).unwrap()))
}

fn exists(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    let session = txn.session(&again(store, id)).unwrap();
    session.exists().unwrap()
}

/// Reads as a request would: an access.
fn get_and_commit(store: &Store, id: &ClientId) -> Option<i64> {
    with(store, &again(store, id), |session| {
        session.pkg("p").get("n")
    })
}

// C10.3, C2.7
#[test]
fn what_one_commits_the_other_reads_and_neither_overwrites_it() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    let id = visitor(&one);
    put(&one, &id, 1);
    assert_eq!(get(&other, &id), Some(1));
    let slow = one.begin().unwrap();
    let package = slow.session(&again(&one, &id)).unwrap().pkg("p");
    assert_eq!(package.get("n").unwrap(), Some(1));
    put(&other, &again(&other, &id), 2);
    package.insert("n", 3).unwrap();
    assert_eq!(slow.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(get(&one, &id), Some(2));
}

// C10.3, C2.9
#[test]
fn sums_of_two_stores_keep_every_change() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    let id = visitor(&one);
    std::thread::scope(|scope| {
        for store in [&one, &other, &one, &other] {
            let id = again(store, &id);
            scope.spawn(move || {
                for _ in 0..25 {
                    let add = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("p").add("n", 1);
                    store.transact(add).unwrap();
                    let next = |n: Option<u64>| n.unwrap_or(0) + 1;
                    let commute =
                        |txn: &cloakroom::Txn| txn.session(&id)?.pkg("p").commute("m", next);
                    store.transact(commute).unwrap();
                }
            });
        }
    });
    assert_eq!(get(&other, &id), Some(100));
    let txn = one.begin().unwrap();
    let package = txn.session(&again(&one, &id)).unwrap().pkg("p");
    assert_eq!(package.get("m").unwrap(), Some(100));
}

// C10.3, C4.8: ends are in force at once.
#[test]
fn a_session_that_one_ends_is_over_in_the_other_at_once() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    let id = visitor(&one);
    let slow = other.begin().unwrap();
    let session = slow.session(&again(&other, &id)).unwrap();
    assert!(session.exists().unwrap());
    let txn = one.begin().unwrap();
    txn.session(&again(&one, &id)).unwrap().destroy().unwrap();
    txn.commit().unwrap();
    assert!(!exists(&other, &id));
    session.pkg("p").insert("n", 1).unwrap();
    assert_eq!(slow.commit().unwrap_err().kind(), ErrorKind::Conflict);
    // The id is refused there too.
    let txn = other.begin().unwrap();
    let session = txn.session(&again(&other, &id)).unwrap();
    session.pkg("p").insert("n", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

// C10.3, C1.8
#[test]
fn containers_of_one_come_to_be_in_force_in_the_other() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    let short = ContainerSettings::new().timeout(Duration::from_secs(60));
    let carts = one.register("p", short.clone()).unwrap();
    until("it is registered there", || {
        drop(other.begin().unwrap());
        other.container("p").is_ok()
    });
    let there = other.container("p").unwrap();
    assert_eq!(there.settings().unwrap().timeout, short.timeout);
    let long = short.timeout(Duration::from_secs(120));
    carts.configure(long.clone()).unwrap();
    until("it is configured there", || {
        drop(other.begin().unwrap());
        there.settings().unwrap().timeout == long.timeout
    });
    // What the one puts in it, the other finds there.
    let id = visitor(&one);
    put(&one, &id, 7);
    assert_eq!(there.statistics().unwrap().live, 1);
    // Numbers of containers are given by the server, so two that are registered at once are two.
    one.register("a", ContainerSettings::new()).unwrap();
    other.register("b", ContainerSettings::new()).unwrap();
    one.unregister("p").unwrap();
    until("it is unregistered there", || {
        drop(other.begin().unwrap());
        other.container("p").is_err()
    });
    assert_eq!(get(&other, &id), None);
    until("the other's is registered here", || {
        drop(one.begin().unwrap());
        one.container("b").is_ok()
    });
}

// C10.3, C4.2
#[test]
fn secrets_of_one_come_to_be_in_force_in_the_other() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    let old = visitor(&one);
    let first = old.as_str().to_owned();
    one.rotate_secret().unwrap();
    let new = visitor(&one);
    until("ids of the new secret verify there", || {
        drop(other.begin().unwrap());
        other.client_ids().verify(new.as_str()).is_some()
    });
    assert!(exists(&other, &new));
    assert!(other.client_ids().verify(&first).is_some());
    // Both change the secrets at once, and neither loses the other's.
    let names = [one.rotate_secret().unwrap(), other.rotate_secret().unwrap()];
    assert_ne!(names[0], names[1]);
    one.retire_secret(names[0]).unwrap();
    until("the other has retired it", || {
        drop(other.begin().unwrap());
        other.retire_secret(names[0]).is_err()
    });
}

// C10.3, C3.2
#[test]
fn an_access_in_one_keeps_the_session_alive_in_the_other() {
    if !is_remote() {
        return;
    }
    let (_folder, path) = place();
    let clock = clock();
    let [one, other] = [(); 2].map(|()| builder(&clock).open(&path).unwrap());
    let id = visitor_with(&one, "p", "n", 1);
    for store in [&one, &other, &one, &other] {
        clock.advance(Duration::from_secs(2400));
        let recorded = |store: &Store| store.statistics().unwrap().touches();
        let before = recorded(store);
        assert_eq!(get_and_commit(store, &id), Some(1));
        // The store itself counts the access at once, the other as soon as the server has it.
        assert!(exists(store, &id));
        until("the server has the access", || recorded(store) > before);
    }
    clock.advance(Duration::from_secs(3601));
    assert!(!exists(&one, &id));
    let swept = other.container("").unwrap().sweep().unwrap();
    assert_eq!(swept.removed, 1);
}

// C7.3, C10.1
#[test]
fn a_server_outlasts_its_stores() {
    if !is_remote() {
        return;
    }
    let (_folder, path) = place();
    let clock = clock();
    let open = || builder(&clock).open(&path).unwrap();
    let store = open();
    let id = visitor(&store);
    put(&store, &id, 5);
    store.close().unwrap();
    assert_eq!(get(&open(), &id), Some(5));
}

// C1.2, C10.3
#[test]
fn an_alias_that_one_registers_the_other_knows() {
    let Some([one, other]) = two_stores() else {
        return;
    };
    one.register("shop", ContainerSettings::new()).unwrap();
    one.register_alias("kiosk", "shop").unwrap();
    let id = visitor(&one);
    let insert = |store: &Store, package: &str| {
        let insert =
            |txn: &cloakroom::Txn| txn.session(&again(store, &id))?.pkg(package).insert("n", 1);
        store.transact(insert).unwrap();
    };
    insert(&one, "kiosk");
    until("the other knows it", || {
        drop(other.begin().unwrap());
        other.container("kiosk").is_ok_and(|it| it.name() == "shop")
    });
    insert(&other, "shop");
    let packages = with(&other, &again(&other, &id), |session| session.packages());
    assert!(packages.iter().any(|it| it == "kiosk") && packages.iter().any(|it| it == "shop"));
    assert_eq!(
        other.container("shop").unwrap().statistics().unwrap().live,
        1
    );
}
