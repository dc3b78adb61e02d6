//! C2.1: a transaction sees the store as of its first look. Before that it is never too old, even if it has changed
//! something.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{ClientId, Clock, ContainerSettings, ErrorKind, Result, Session, Store};
use std::time::Duration;
use support::store::{keys_of, timed};
use support::visitors::{visitor, with};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Older than any snapshot may become, and no session expires meanwhile.
const LONG: Duration = Duration::from_secs(31);

fn put(store: &Store, id: &ClientId, key: &str, value: i64) {
    with(store, id, |s| s.pkg("app").insert(key, value));
}

fn get(store: &Store, id: &ClientId, key: &str) -> Option<i64> {
    with(store, id, |s| s.pkg("app").get(key))
}

type Change = (&'static str, fn(&Session) -> Result<()>, Option<i64>);

/// All that changes without looking, and what becomes of `n` = 5.
const BLIND: [Change; 8] = [
    ("nothing", |_| Ok(()), Some(5)),
    ("insert", |s| s.pkg("app").insert("n", 7), Some(7)),
    (
        "insert and get",
        |s| {
            s.pkg("app").insert("n", 7)?;
            assert_eq!(s.pkg("app").get("n")?, Some(7));
            Ok(())
        },
        Some(7),
    ),
    ("add", |s| s.pkg("app").add("n", 2), Some(7)),
    ("max", |s| s.pkg("app").max("n", 7), Some(7)),
    ("clear", |s| s.pkg("app").clear(), None),
    ("owner", |s| s.set_owner(Some("ann")), Some(5)),
    ("timeout", |s| s.set_timeout(Some(DAY)), Some(5)),
];

// C2.1, C2.14
#[test]
fn one_that_only_changed_is_never_too_old_and_sees_the_newest_at_its_first_look() {
    for (name, change, after) in BLIND {
        let (clock, store) = timed();
        let id = visitor(&store);
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        change(&session).unwrap();
        clock.advance(LONG);
        put(&store, &id, "n", 5);
        put(&store, &id, "late", 6);
        change(&session).expect(name);
        let app = session.pkg("app");
        let late = app.get::<i64>("late").expect(name);
        assert_eq!(late, after.and(Some(6)), "{name}");
        let n = app.get::<i64>("n").unwrap();
        // Twice, where it adds.
        let twice = if name == "add" { Some(9) } else { after };
        assert_eq!(n, twice, "{name}");
        // From now on it sees the snapshot. (A blind clear is known without a look.)
        assert!(session.exists().unwrap());
        put(&store, &id, "later", 1);
        assert_eq!(app.get::<i64>("later").unwrap(), None, "{name}");
        clock.advance(LONG);
        let other = txn.session(&visitor(&store)).unwrap();
        let error = other.exists().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{name}");
    }
}

// C2.1
#[test]
fn one_that_never_looked_commits_however_old_it_is() {
    for (name, change, after) in BLIND {
        let (clock, store) = timed();
        let id = visitor(&store);
        let txn = store.begin().unwrap();
        change(&txn.session(&id).unwrap()).unwrap();
        clock.advance(LONG);
        put(&store, &id, "n", 5);
        txn.commit().expect(name);
        assert_eq!(get(&store, &id, "n"), after, "{name}");
    }
    let (_, store) = timed();
    let id = visitor(&store);
    with(&store, &id, |s| s.set_owner(Some("ann")));
    assert_eq!(store.sessions_of("ann").unwrap().len(), 1);
}

// C2.1, C3.2: the time is that of the look, or else of the commit.
#[test]
fn what_expired_before_the_first_look_is_not_there() {
    let (clock, store) = timed();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("late", 1).unwrap();
    clock.advance(Duration::from_secs(3601));
    assert_eq!(session.pkg("app").get::<i64>("n").unwrap(), None);
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    assert_eq!(session.created_at().unwrap(), Some(clock.now()));
    txn.commit().unwrap();
    assert_eq!(get(&store, &new, "late"), Some(1));
    assert_eq!(
        (get(&store, &id, "late"), get(&store, &id, "n")),
        (None, None)
    );
}

/// An id as a cookie brings it, whose session expired long ago.
fn expired(clock: &Clock, store: &Store) -> ClientId {
    let id = visitor(store);
    clock.advance(DAY);
    store.client_ids().verify(id.as_str()).unwrap()
}

// C2.5, C4.8: which id a founded session has does not depend on when that was found out.
#[test]
fn an_insert_under_a_dead_id_founds_elsewhere_whatever_is_rolled_back() {
    let (clock, store) = timed();
    let id = expired(&clock, &store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("kept", 1).unwrap();
    let savepoint = txn.savepoint().unwrap();
    session.pkg("app").insert("undone", 1).unwrap();
    let told = session.client_id().unwrap();
    assert_ne!(told, id);
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id().as_ref(), Some(&told));
    txn.rollback_to(&savepoint).unwrap();
    txn.commit().unwrap();
    assert_eq!(get(&store, &told, "kept"), Some(1));
    assert_eq!(get(&store, &told, "undone"), None);
    assert!(!with(&store, &id, Session::exists));
}

// C4.8
#[test]
fn a_blind_insert_that_was_rolled_back_founds_nothing() {
    let (clock, store) = timed();
    let id = expired(&clock, &store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let savepoint = txn.savepoint().unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id(), None);
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().sessions, 1, "the expired one");
}

// C4.8: however long ago its end is.
#[test]
fn who_began_before_the_end_of_its_session_is_given_no_other_id() {
    let ends: [fn(&Session) -> Result<()>; 2] = [Session::destroy, |s| s.rotate().map(drop)];
    for end in ends {
        let (clock, store) = timed();
        let id = visitor(&store);
        let id = store.client_ids().verify(id.as_str()).unwrap();
        let txn = store.begin().unwrap();
        txn.session(&id)
            .unwrap()
            .pkg("app")
            .insert("late", 1)
            .unwrap();
        with(&store, &id, end);
        clock.advance(LONG);
        let error = txn.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        // A transaction that begins afterwards founds a new session.
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("app").insert("late", 1).unwrap();
        let new = session.client_id().unwrap();
        txn.commit().unwrap();
        assert_eq!(get(&store, &new, "late"), Some(1));
    }
}

// C1.8, C2.1
#[test]
fn settings_are_those_of_the_first_look() {
    let (clock, store) = timed();
    let shop = store.register("app", ContainerSettings::new()).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let app = txn.session(&id).unwrap().pkg("app");
    shop.configure(ContainerSettings::new().timeout(Duration::ZERO))
        .unwrap();
    clock.advance(DAY);
    assert_eq!(app.get::<i64>("n").unwrap(), Some(1));
}

/// Has `value` under `n` in the package `app` of a container of that name.
fn registered(store: &Store, id: &ClientId, value: i64) {
    store.register("app", ContainerSettings::new()).unwrap();
    put(store, id, "n", value);
}

fn number(session: &Session) -> Result<Option<i64>> {
    session.pkg("app").get("n")
}

// C1.2, C2.7: without changes there is no conflict.
#[test]
fn containers_are_those_of_the_first_look_whenever_handles_were_made() {
    let (_, store) = timed();
    let id = visitor(&store);
    let [fresh, named] = [(); 2].map(|()| store.begin().unwrap());
    let session = named.session(&id).unwrap();
    let (app, unnamed) = (session.pkg("app"), named.container("").unwrap());
    registered(&store, &id, 5);
    assert_eq!(number(&fresh.session(&id).unwrap()).unwrap(), Some(5));
    assert_eq!(app.get::<i64>("n").unwrap(), Some(5));
    assert_eq!(number(&session).unwrap(), Some(5));
    assert_eq!(format!("{app:?}"), format!("{:?}", session.pkg("app")));
    // What a package had before stays in the unnamed container.
    let left = unnamed.session_data(&id).unwrap().pkg("app");
    assert_eq!(left.get::<i64>("n").unwrap(), Some(1));
    // One made afterwards is of the same containers.
    let data = named.container("app").unwrap().session_data(&id).unwrap();
    assert!(data.exists().unwrap());
    assert_eq!(data.pkg("app").get::<i64>("n").unwrap(), Some(5));
    app.add("n", 1).unwrap();
    assert_eq!(data.pkg("app").get::<i64>("n").unwrap(), Some(6));
    let error = app.get::<String>("n").unwrap_err();
    assert_eq!(error.container(), Some("app"));
    named.commit().unwrap();
    fresh.commit().unwrap();
    assert_eq!(get(&store, &id, "n"), Some(6));
}

// C1.2, C2.7
#[test]
fn a_container_that_is_gone_at_the_first_look_is_not_registered() {
    for is_back in [false, true] {
        let (_, store) = timed();
        let id = visitor(&store);
        registered(&store, &id, 5);
        let txn = store.begin().unwrap();
        let data = txn.container("app").unwrap().session_data(&id).unwrap();
        let package = data.session().pkg("app");
        store.unregister("app").unwrap();
        if is_back {
            // Another one of the same name.
            store.register("app", ContainerSettings::new()).unwrap();
        }
        for _ in 0..2 {
            let error = data.pkg("app").get::<i64>("n").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NoSuchContainer);
            assert_eq!(error.container(), Some("app"));
            assert_eq!(data.exists().unwrap_err().kind(), error.kind());
        }
        let left = (!is_back).then_some(1);
        assert_eq!(package.get::<i64>("n").unwrap(), left);
        assert_eq!(txn.container("app").is_ok(), is_back);
        txn.commit().unwrap();
    }
}

// C1.2: changes are recorded under the container that they were made in.
#[test]
fn a_change_before_a_registration_and_the_first_look_is_a_conflict() {
    let (_, store) = timed();
    let id = visitor(&store);
    let [blind, reading, undone, owned] = [(); 4].map(|()| store.begin().unwrap());
    let session = |txn: &cloakroom::Transaction| txn.session(&id).unwrap();
    session(&blind).pkg("app").insert("n", 2).unwrap();
    session(&reading).pkg("app").insert("n", 2).unwrap();
    let savepoint = undone.savepoint().unwrap();
    session(&undone).pkg("app").insert("n", 2).unwrap();
    let _named = session(&owned).pkg("app");
    session(&owned).set_owner(Some("ann")).unwrap();
    registered(&store, &id, 5);
    for _ in 0..2 {
        let error = session(&reading).pkg("app").get::<i64>("m").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let error = session(&undone).pkg("app").get::<i64>("m").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
    assert_eq!(blind.commit().unwrap_err().kind(), ErrorKind::Conflict);
    undone.rollback_to(&savepoint).unwrap();
    assert_eq!(number(&session(&undone)).unwrap(), Some(5));
    undone.commit().unwrap();
    owned.commit().unwrap();
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    let mut runs = 0;
    let transacted: Result<()> = store.transact(|txn| {
        txn.session(&id)?.pkg("app").add("n", 1)?;
        runs += 1;
        if runs == 1 {
            store.unregister("app")?;
        }
        Ok(())
    });
    transacted.unwrap();
    assert_eq!((runs, get(&store, &id, "n")), (2, Some(2)));
}

// C3.4, C2.5: a use is an access, whenever the transaction finds it out.
#[test]
fn a_blind_change_is_an_access_also_if_it_is_rolled_back() {
    for is_kept in [true, false] {
        let (clock, store) = timed();
        let id = visitor(&store);
        clock.advance(Duration::from_secs(1800));
        let txn = store.begin().unwrap();
        let savepoint = txn.savepoint().unwrap();
        txn.session(&id).unwrap().pkg("app").insert("n", 2).unwrap();
        if !is_kept {
            txn.rollback_to(&savepoint).unwrap();
        }
        txn.commit().unwrap();
        let last_access = with(&store, &id, Session::last_access);
        assert_eq!(last_access, Some(clock.now()));
    }
}

// C2.8, C4.8: two found one session, in two containers, without a look.
#[test]
fn who_founds_a_session_blindly_joins_one_that_another_has_founded_in_another_container() {
    let (_, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    let [one, two] = [(); 2].map(|()| store.begin().unwrap());
    let put = |txn: &cloakroom::Transaction, package: &str| {
        let session = txn.session(&id).unwrap();
        session.pkg(package).insert("n", 1).unwrap();
        assert_eq!(session.client_id().as_ref(), Some(&id));
        // This looks, so that the commit is decided on the snapshot of now.
        txn.session(&store.client_ids().issue())
            .unwrap()
            .last_access()
            .unwrap();
    };
    put(&one, "bank");
    put(&two, "app");
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(get(&store, &id, "n"), Some(1));
    assert_eq!(
        with(&store, &id, |s| s.pkg("bank").get::<i64>("n")),
        Some(1)
    );
}

// C2.7: where it is live, no other container is looked into.
#[test]
fn a_blind_insert_goes_to_its_session_whatever_becomes_of_other_containers() {
    let (clock, store) = timed();
    let short = ContainerSettings::new().timeout(Duration::from_secs(1800));
    let short = store.register("short", short).unwrap();
    let id = visitor(&store);
    put(&store, &id, "n", 1);
    with(&store, &id, |s| s.pkg("short").insert("n", 1));
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("n", 2).unwrap();
    let other = txn.session(&store.client_ids().issue()).unwrap();
    assert!(!other.exists().unwrap());
    clock.advance(Duration::from_secs(1900));
    assert_eq!(short.sweep().unwrap().removed, 1);
    txn.commit().unwrap();
    assert_eq!(get(&store, &id, "n"), Some(2));
}
