//! What a session holds and when it ends: listed, cleared and set (C2.7, C3.8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use chrono::{DateTime, TimeDelta, Utc};
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store, Txn};
use std::time::Duration;
use support::clock::{HOUR, MINUTE, secs};
use support::engine::needs_files;
use support::store::{builder, file_builder, keys_of, place, timed};
use support::visitors::{put, with};

/// A session with three values in two packages.
fn filled(store: &Store) -> ClientId {
    let id = store.client_ids().issue();
    with(store, &id, |session| {
        session.pkg("cart").insert("tea", 2)?;
        session.pkg("cart").insert("milk", 1)?;
        session.pkg("seen").insert("tea", 7)?;
        session.set_owner(Some("ann"))
    });
    id
}

fn minutes(n: i64) -> TimeDelta {
    TimeDelta::minutes(n)
}

#[test]
fn the_packages_that_have_a_key_are_listed_as_the_transaction_sees_them() {
    let (_clock, store) = timed();
    let id = filled(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert_eq!(session.packages().unwrap(), ["cart", "seen"]);
    session.pkg("seen").remove("tea").unwrap();
    session.pkg("new").add("n", 1).unwrap();
    session.pkg("gone").insert("n", 1).unwrap();
    session.pkg("gone").clear().unwrap();
    session.pkg("cart").remove("tea").unwrap();
    assert_eq!(session.packages().unwrap(), ["cart", "new"]);
    let keys = session.keys().unwrap();
    let keys: Vec<_> = keys.iter().map(|(p, k)| (&**p, &**k)).collect();
    assert_eq!(keys, [("cart", "milk"), ("new", "n")]);
    txn.commit().unwrap();
    assert_eq!(with(&store, &id, Session::packages), ["cart", "new"]);
    let nobody = store.client_ids().issue();
    with(&store, &nobody, |session| {
        assert!(session.packages()?.is_empty() && session.keys()?.is_empty());
        session.clear()
    });
    assert_eq!(store.check().unwrap().sessions, 1);
}

#[test]
fn entries_are_keys_with_their_values_and_one_of_another_type_is_an_error() {
    let (_clock, store) = timed();
    let id = filled(&store);
    let txn = store.begin().unwrap();
    let cart = txn.session(&id).unwrap().pkg("cart");
    cart.insert("beer", 6).unwrap();
    let entries = cart.entries::<u32>().unwrap();
    let expected = [("beer", 6), ("milk", 1), ("tea", 2)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(entries, expected);
    cart.insert("beer", "six").unwrap();
    let error = cart.entries::<u32>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(error.key(), Some("beer"));
}

// C2.7, C2.12
#[test]
fn a_package_that_is_replaced_has_the_given_entries_alone() {
    let (_clock, store) = timed();
    let id = filled(&store);
    let commits = || store.statistics().unwrap().commits();
    let before = commits();
    with(&store, &id, |session| {
        session.pkg("cart").replace([("milk", 1), ("tea", 2)])
    });
    assert_eq!(commits(), before, "nothing differs");
    with(&store, &id, |session| {
        session.pkg("cart").replace([("tea", 2), ("beer", 6)])
    });
    let cart = |txn: &Txn| txn.session(&id)?.pkg("cart").entries::<u32>();
    let expected = [("beer", 6), ("tea", 2)].map(|(key, n)| (key.to_owned(), n));
    assert_eq!(store.transact(cart).unwrap(), expected);
    let seen = |txn: &Txn| txn.session(&id)?.pkg("seen").get::<u32>("tea");
    assert_eq!(store.transact(seen).unwrap(), Some(7));

    // It sees what the transaction itself has put there.
    let txn = store.begin().unwrap();
    let cart = txn.session(&id).unwrap().pkg("cart");
    cart.insert("wine", 1).unwrap();
    cart.replace([("tea", 3)]).unwrap();
    assert_eq!(cart.keys().unwrap(), ["tea"]);
    with(&store, &id, |session| session.pkg("cart").insert("milk", 9));
    let conflict = txn.commit().unwrap_err();
    assert!(conflict.is_conflict(), "a key came in between");
}

// C5.3
#[test]
fn a_key_that_is_longer_than_a_lowered_limit_is_replaced() {
    needs_files!("a store that is opened again with another limit");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |it| it.pkg("cart").insert("a long key", 1));
    store.close().unwrap();
    let store = file_builder().max_name_len(4).open(&path).unwrap();
    with(&store, &id, |it| it.pkg("cart").replace([("tea", 2)]));
    assert_eq!(with(&store, &id, |it| it.pkg("cart").keys()), ["tea"]);
}

#[test]
fn a_package_is_listed_where_its_handle_finds_it() {
    let (_clock, store) = timed();
    let id = filled(&store);
    store.register("cart", ContainerSettings::new()).unwrap();
    assert_eq!(with(&store, &id, Session::packages), ["seen"]);
    with(&store, &id, |s| s.pkg("cart").insert("rum", 1));
    let packages_in = |name: &str| {
        let listed = |txn: &Txn| txn.container(name)?.session_data(&id)?.packages();
        store.transact(listed).unwrap()
    };
    assert_eq!(packages_in("cart"), ["cart"]);
    assert_eq!(packages_in(""), ["cart", "seen"]);
    assert_eq!(with(&store, &id, Session::keys).len(), 2);
    let containers = store.containers();
    let names: Vec<_> = containers
        .iter()
        .map(|container| container.name())
        .collect();
    assert_eq!(names, ["", "cart"]);
    // Where no handle leads, too.
    with(&store, &id, Session::clear);
    assert!(packages_in("cart").is_empty() && packages_in("").is_empty());
}

// C2.7
#[test]
fn a_list_of_packages_is_an_observation_of_which_there_are() {
    let (_clock, store) = timed();
    let id = filled(&store);
    for (other, expected) in [("cart", Ok(())), ("more", Err(ErrorKind::Conflict))] {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.packages().unwrap();
        session.pkg("notes").insert("n", other).unwrap();
        with(&store, &id, |s| s.pkg(other).insert("n", 9));
        let committed = txn.commit().map_err(|error| error.kind());
        assert_eq!(committed, expected, "{other}");
    }
    // One that is gone was listed, too.
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.clear().unwrap();
    with(&store, &id, |s| s.pkg("more").clear());
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn clearing_removes_all_values_and_keeps_the_session() {
    let (_clock, store) = timed();
    let id = filled(&store);
    with(&store, &id, |session| {
        session.clear()?;
        assert!(session.packages()?.is_empty());
        session.pkg("cart").insert("rum", 1)
    });
    with(&store, &id, |session| {
        assert_eq!(session.keys()?, [("cart".to_owned(), "rum".to_owned())]);
        assert_eq!(session.client_id(), Some(id.clone()));
        Ok(())
    });
    with(&store, &id, Session::clear);
    assert!(with(&store, &id, Session::exists));
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert_eq!(store.check().unwrap().packages, 0);
}

fn expires(store: &Store, id: &ClientId) -> Option<DateTime<Utc>> {
    store
        .begin()
        .unwrap()
        .session(id)
        .unwrap()
        .expires_at()
        .unwrap()
}

// C3.8
#[test]
fn a_fixed_end_ends_a_session_however_often_it_is_used() {
    let (clock, store) = timed();
    let id = filled(&store);
    let start = clock.now();
    assert_eq!(
        expires(&store, &id),
        Some(start + minutes(60) + TimeDelta::milliseconds(1))
    );
    with(&store, &id, |s| s.set_expires_at(Some(start + minutes(90))));
    for _ in 0..3 {
        clock.advance(25 * MINUTE);
        with(&store, &id, |s| s.pkg("cart").get::<u32>("tea"));
    }
    assert_eq!(expires(&store, &id), Some(start + minutes(90)));
    // A new id has the same end.
    let id = with(&store, &id, Session::rotate);
    clock.advance(15 * MINUTE - secs(1));
    assert!(with(&store, &id, Session::exists));
    clock.advance(secs(1));
    assert!(!with(&store, &id, Session::exists));
    store.container("").unwrap().sweep().unwrap();
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C3.8, C3.2
#[test]
fn a_fixed_end_lengthens_no_timeout_and_can_be_moved_and_removed() {
    let (clock, store) = timed();
    let id = filled(&store);
    let start = clock.now();
    let never = |session: &Session| {
        session.set_timeout(Some(Duration::ZERO))?;
        session.set_expires_at(Some(start + minutes(10)))?;
        assert_eq!(session.expires_at()?, Some(start + minutes(10)));
        assert_eq!(session.timeout()?, Some(Duration::ZERO));
        Ok(())
    };
    with(&store, &id, never);
    with(&store, &id, |s| s.set_expires_at(Some(start + minutes(20))));
    clock.advance(15 * MINUTE);
    assert!(with(&store, &id, Session::exists));
    with(&store, &id, |s| s.set_expires_at(None));
    assert_eq!(expires(&store, &id), None);
    clock.advance(1000 * HOUR);
    assert!(with(&store, &id, Session::exists));

    let idle = filled(&store);
    let end = clock.now() + minutes(600);
    with(&store, &idle, |s| s.set_expires_at(Some(end)));
    clock.advance(61 * MINUTE);
    assert!(!with(&store, &idle, Session::exists));
    // A transaction that found the session expired does not write to it after it was lengthened. An end that has passed
    // ends the session.
    let now = clock.now();
    with(&store, &id, |s| s.set_expires_at(Some(now)));
    assert!(!with(&store, &id, Session::exists));
}

// C8.1
#[test]
fn a_fixed_end_founds_a_session_and_is_stored() {
    needs_files!("it reopens a file");
    let (_folder, path) = place();
    let clock = support::clock::clock();
    let end = clock.now() + minutes(5);
    let id = {
        let store = builder(&clock).open(&path).unwrap();
        let id = store.client_ids().issue();
        with(&store, &id, |session| {
            session.set_expires_at(Some(end))?;
            assert_eq!(session.expires_at()?, Some(end));
            Ok(())
        });
        id
    };
    let store = builder(&clock).open(&path).unwrap();
    assert_eq!(expires(&store, &id), Some(end));
    let info = store.session_info(id.key()).unwrap().unwrap();
    assert_eq!(info.expires, Some(end));
}

// C3.4
#[test]
fn a_touch_that_is_asked_for_is_recorded_although_none_is_due() {
    let (clock, store) = timed();
    let id = filled(&store);
    clock.advance(9 * MINUTE);
    with(&store, &id, Session::touch);
    clock.advance(59 * MINUTE);
    assert!(
        with(&store, &id, Session::exists),
        "an hour after it was founded"
    );
    // It is no read, and creates nothing.
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.touch().unwrap();
    session.pkg("p").insert("m", 1).unwrap();
    put(&store, &id, 5);
    txn.commit().unwrap();
    let nobody = store.client_ids().issue();
    with(&store, &nobody, Session::touch);
    assert!(!with(&store, &nobody, Session::exists));
}

// C1.9, C3.8
#[test]
fn the_end_of_a_session_in_one_container_is_told() {
    let (clock, store) = timed();
    let brief = ContainerSettings::new().timeout(10 * MINUTE);
    store.register("seen", brief).unwrap();
    let id = filled(&store);
    let start = clock.now();
    let idle = |n| Some(start + minutes(n) + TimeDelta::milliseconds(1));
    let in_each = |session: &Session| -> cloakroom::Result<_> {
        let of = |name: &str| session.data(name)?.expires_at();
        Ok((of("seen")?, of("")?, session.expires_at()?))
    };
    assert_eq!(with(&store, &id, in_each), (idle(10), idle(60), idle(60)));
    let end = start + minutes(40);
    let ends = with(&store, &id, |session| {
        session.set_expires_at(Some(end))?;
        in_each(session)
    });
    assert_eq!(ends, (idle(10), Some(end), Some(end)));
    assert_eq!(with(&store, &id, in_each), ends);
    clock.advance(20 * MINUTE);
    let (seen, unnamed, _) = with(&store, &id, in_each);
    assert_eq!((seen, unnamed), (None, Some(end)));
    // It comes back to the container with the end that it has.
    let ends = with(&store, &id, |session| {
        session.pkg("seen").insert("tea", 1)?;
        in_each(session)
    });
    assert_eq!(
        ends,
        (
            Some(start + minutes(30) + TimeDelta::milliseconds(1)),
            Some(end),
            Some(end)
        )
    );
    let gone = with(&store, &id, |session| {
        session.destroy()?;
        in_each(session)
    });
    assert_eq!(gone, (None, None, None));
}
