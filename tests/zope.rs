//! The behaviour that zope.session's own documents show, in their order, told as that story: their
//! `sdc` is a container here, and a session finds the container of each package by its name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store, Transaction};
use serde::{Serialize, Serializer};
use std::time::Duration;
use support::clock::MINUTE;
use support::store::timed;

fn begin(store: &Store, id: &ClientId) -> (Transaction, Session) {
    let txn = store.begin().unwrap();
    let session = txn.session(id).unwrap();
    (txn, session)
}

/// A client with the colour of its favourite product.
fn visitor(store: &Store) -> ClientId {
    let id = store.client_ids().issue();
    let (txn, session) = begin(store, &id);
    let product = session.pkg("products.foo");
    product.insert("color", "red").unwrap();
    txn.commit().unwrap();
    id
}

fn color(session: &Session, package: &str) -> Option<String> {
    session.pkg(package).get("color").unwrap()
}

// C1.3: "Sessions are stored per client id, and data per package id."
#[test]
fn two_packages_use_one_key_name_and_do_not_meet() {
    let (_, store) = timed();
    let id = visitor(&store);
    let (txn, session) = begin(&store, &id);
    session.pkg("products.bar").insert("color", "blue").unwrap();
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
    assert_eq!(color(&session, "products.bar").as_deref(), Some("blue"));
}

// C1.4: `ISession.get` gives nothing where `__getitem__` would create.
#[test]
fn looking_for_a_package_that_is_not_there_creates_none() {
    let (_, store) = timed();
    let id = store.client_ids().issue();
    let (txn, session) = begin(&store, &id);
    assert!(session.pkg("products.foo").is_empty().unwrap());
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    assert!(!session.exists().unwrap());
}

// C1.2: a container is looked up by the package id.
#[test]
fn the_container_of_a_package_is_the_one_of_its_name() {
    let (_, store) = timed();
    let settings = ContainerSettings::new;
    store.register("products.foo", settings()).unwrap();
    let id = visitor(&store);
    let (_txn, session) = begin(&store, &id);
    let sdc = session.txn().container("products.foo").unwrap();
    let data = sdc.session_data(&id).unwrap();
    assert!(data.exists().unwrap());
    let unnamed = session.txn().container("").unwrap();
    assert!(!unnamed.session_data(&id).unwrap().exists().unwrap());
}

// C1.2: an unknown package id falls back to the unnamed container.
#[test]
fn an_unknown_package_falls_back_to_the_unnamed_container() {
    let (_, store) = timed();
    assert_eq!(store.container_for("unknown").unwrap().name(), "");
    let id = store.client_ids().issue();
    let (txn, session) = begin(&store, &id);
    session.pkg("unknown").insert("color", "green").unwrap();
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    let unnamed = session.txn().container("").unwrap();
    let data = unnamed.session_data(&id).unwrap();
    let color: Option<String> = data.pkg("unknown").get("color").unwrap();
    assert_eq!(color.as_deref(), Some("green"));
}

// C1.2, C1.5: `sdc[client][pkg]` is the same data as `session[pkg]`.
#[test]
fn the_containers_data_is_the_sessions_data() {
    let (_, store) = timed();
    let id = visitor(&store);
    let (txn, session) = begin(&store, &id);
    let sdc = txn.container("").unwrap().session_data(&id).unwrap();
    let by_container = sdc.pkg("products.foo");
    let found: Option<String> = by_container.get("color").unwrap();
    assert_eq!(found.as_deref(), Some("red"));
    by_container.insert("color", "pink").unwrap();
    assert_eq!(color(&session, "products.foo").as_deref(), Some("pink"));
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("pink"));
}

struct NoPickle;

impl Serialize for NoPickle {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("can't pickle NoPickle objects"))
    }
}

// C2.3, C2.4: "oops" goes in, the commit fails, the transaction is aborted, and a clean one commits.
#[test]
fn a_value_that_cannot_be_stored_fails_the_commit_and_the_next_one_is_clean() {
    let (_, store) = timed();
    let id = visitor(&store);
    let (txn, session) = begin(&store, &id);
    let product = session.pkg("products.foo");
    product.insert("color", "yellow").unwrap();
    product.insert("oops", NoPickle).unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSerializable);
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("products.foo"), Some("oops")));

    let (txn, session) = begin(&store, &id);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
    assert!(!session.pkg("products.foo").contains_key("oops").unwrap());
    txn.abort();

    let (txn, session) = begin(&store, &id);
    let product = session.pkg("products.foo");
    product.insert("color", "yellow").unwrap();
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("yellow"));
}

// C3.1: "timeout is one hour, resolution ten minutes."
#[test]
fn a_container_times_out_after_an_hour_with_a_resolution_of_ten_minutes() {
    let (_, store) = timed();
    let settings = store.container("").unwrap().settings().unwrap();
    assert_eq!(settings.timeout, 60 * MINUTE);
    assert_eq!(settings.resolution, 10 * MINUTE);
}

// C3.4: within the resolution, an access is not recorded; beyond it, it is.
#[test]
fn an_access_is_recorded_only_when_the_last_is_older_than_the_resolution() {
    let (clock, store) = timed();
    let id = visitor(&store);
    let minute_of_last_access = || {
        let (txn, session) = begin(&store, &id);
        color(&session, "products.foo").unwrap();
        txn.commit().unwrap();
        let (_txn, session) = begin(&store, &id);
        let accessed = session.last_access().unwrap().unwrap();
        accessed.format("%H:%M").to_string()
    };
    clock.advance(10 * MINUTE);
    assert_eq!(minute_of_last_access(), "00:00");
    clock.advance(MINUTE);
    assert_eq!(minute_of_last_access(), "00:11");
}

// C3.2: data without an access for the timeout is gone; a visitor who keeps clicking stays.
#[test]
fn idle_data_goes_after_the_timeout_and_used_data_stays() {
    let (clock, store) = timed();
    let (idle, busy) = (visitor(&store), visitor(&store));
    for _ in 0..5 {
        clock.advance(15 * MINUTE);
        let (txn, session) = begin(&store, &busy);
        assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
        txn.commit().unwrap();
    }
    let (_txn, session) = begin(&store, &idle);
    assert_eq!(color(&session, "products.foo"), None);
}

// C3.3: "a timeout of 0 never expires."
#[test]
fn a_timeout_of_zero_keeps_data_for_ever() {
    let (clock, store) = timed();
    let never = ContainerSettings::new().timeout(Duration::ZERO);
    store.container("").unwrap().configure(never).unwrap();
    let id = visitor(&store);
    clock.advance(365 * 24 * 60 * MINUTE);
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 0);
    let (_txn, session) = begin(&store, &id);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
}

// C3.7: a sweep removes stale data only.
#[test]
fn a_sweep_removes_stale_data_alone() {
    let (clock, store) = timed();
    visitor(&store);
    clock.advance(50 * MINUTE);
    let fresh = visitor(&store);
    clock.advance(11 * MINUTE);
    let unnamed = store.container("").unwrap();
    assert_eq!(unnamed.sweep().unwrap().removed, 1);
    let left = unnamed.statistics().unwrap();
    assert_eq!((left.live, left.expired), (1, 0));
    let (_txn, session) = begin(&store, &fresh);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
}

// C3.5: `SessionData`'s last access time resolves its conflicts to the later time.
#[test]
fn simultaneous_accesses_in_two_transactions_both_commit() {
    for changes in [false, true] {
        let (clock, store) = timed();
        let id = visitor(&store);
        clock.advance(20 * MINUTE);
        let (one, first) = begin(&store, &id);
        clock.advance(Duration::from_secs(5));
        let (two, second) = begin(&store, &id);
        for (session, key) in [(&first, "one"), (&second, "two")] {
            color(session, "products.foo").unwrap();
            if changes {
                session.pkg("products.foo").insert(key, 1).unwrap();
            }
        }
        two.commit().unwrap();
        one.commit().unwrap();
        let (_txn, session) = begin(&store, &id);
        let accessed = session.last_access().unwrap().unwrap();
        assert_eq!(accessed.to_rfc3339(), "2026-01-01T00:20:05+00:00");
    }
}

// C3.7, C2.4: a transaction in which a sweep ran is aborted, and the stale data still goes at the
// next look.
#[test]
fn stale_data_goes_although_the_transaction_it_was_swept_in_is_aborted() {
    let (clock, store) = timed();
    let stale = visitor(&store);
    clock.advance(61 * MINUTE);
    let other = visitor(&store);
    let (txn, session) = begin(&store, &other);
    session.pkg("products.foo").insert("color", "blue").unwrap();
    let unnamed = store.container("").unwrap();
    assert_eq!(unnamed.sweep().unwrap().removed, 1);
    txn.abort();

    assert_eq!(unnamed.statistics().unwrap().expired, 0);
    let (_txn, session) = begin(&store, &stale);
    assert!(!session.exists().unwrap());
    assert_eq!(color(&session, "products.foo"), None);
    let (_txn, session) = begin(&store, &other);
    assert_eq!(color(&session, "products.foo").as_deref(), Some("red"));
}

// C4.7: logging out: the data of the client is gone from the container.
#[test]
fn deleting_the_data_of_a_client_ends_its_session() {
    let (_, store) = timed();
    let id = visitor(&store);
    let (txn, session) = begin(&store, &id);
    session.destroy().unwrap();
    txn.commit().unwrap();
    let (_txn, session) = begin(&store, &id);
    assert!(!session.exists().unwrap());
    assert_eq!(store.container("").unwrap().statistics().unwrap().live, 0);
}
