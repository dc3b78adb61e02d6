//! C4.7, C4.8: handles on sessions: those within a transaction, and those that outlive it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, Result, Session, SessionHandle, Store,
};
use std::time::Duration;
use support::runtime::block_on;
use support::store::timed;
use support::visitors::with;

/// A session with `app`/`n` = 1, and a handle that was made when it was founded.
fn founded(store: &Store) -> (ClientId, SessionHandle) {
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    let handle = session.handle().unwrap();
    txn.commit().unwrap();
    assert_eq!(*handle.client_id(), id);
    (id, handle)
}

fn read(handle: &SessionHandle) -> Result<Option<u32>> {
    handle.transact(|session| session.pkg("app").get("n"))
}

/// Every use of a handle says that its session has ended, and none leaves anything.
fn has_ended(store: &Store, handle: &SessionHandle) {
    let sessions = store.check().unwrap().sessions;
    let asynchronous = handle.transact_async(async |session: Session| {
        session.pkg("app").insert("n", 2)?;
        Ok::<_, Error>(())
    });
    let uses = [
        read(handle).map(drop),
        handle.transact(|session| session.exists()).map(drop),
        handle.transact(|session| session.pkg("app").insert("n", 2)),
        handle.transact(|_| Ok(())),
        block_on(asynchronous),
        handle
            .clone()
            .transact(|session| session.pkg("app").add("n", 1)),
    ];
    for (n, result) in uses.into_iter().enumerate() {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::SessionEnded, "{n}");
    }
    assert_eq!(store.check().unwrap().sessions, sessions);
}

fn assert_moves_anywhere<T: Send + Sync + Clone + 'static>(_: &T) {}

#[test]
fn a_handle_reads_and_writes_its_session_in_transactions_of_its_own() {
    let (_, store) = timed();
    let (id, handle) = founded(&store);
    assert_moves_anywhere(&handle);
    assert_eq!(read(&handle).unwrap(), Some(1));
    let next = async |session: Session| {
        let n = session
            .pkg("app")
            .update("n", |n: Option<u32>| n.unwrap() + 1)?;
        Ok::<_, Error>(n)
    };
    assert_eq!(block_on(handle.transact_async(next)).unwrap(), 2);
    handle
        .transact(|session| session.pkg("new").insert("n", 3))
        .unwrap();
    assert_eq!(with(&store, &id, |s| s.pkg("new").get("n")), Some(3));
    assert!(!format!("{handle:?}").contains(id.as_str()));
}

// C3.4: a connection that stays open must not keep its session alive.
#[test]
fn asking_whether_a_session_is_live_is_no_access() {
    let (clock, store) = timed();
    let (_, handle) = founded(&store);
    for _ in 0..5 {
        assert!(handle.is_live().unwrap());
        clock.advance(Duration::from_secs(700));
    }
    assert!(block_on(handle.is_live_async()).unwrap());
    clock.advance(Duration::from_secs(200));
    assert!(!block_on(handle.is_live_async()).unwrap());
    assert_eq!(read(&handle).unwrap_err().kind(), ErrorKind::SessionEnded);
}

// C4.7
#[test]
fn a_rotated_session_is_live_for_its_new_handle_alone() {
    let (_, store) = timed();
    let (id, handle) = founded(&store);
    let rotate = |txn: &cloakroom::Txn| {
        let session = txn.session(&id)?;
        session.rotate()?;
        session.handle()
    };
    let new = store.transact(rotate).unwrap();
    assert!(!handle.is_live().unwrap());
    assert!(new.is_live().unwrap());
}

// C4.7
#[test]
fn a_handle_says_that_its_session_was_destroyed() {
    let (_, store) = timed();
    let (id, handle) = founded(&store);
    with(&store, &id, Session::destroy);
    has_ended(&store, &handle);
}

// C4.7: the session goes on under another id.
#[test]
fn a_handle_says_that_its_session_was_rotated() {
    let (clock, store) = timed();
    let (id, handle) = founded(&store);
    let new = with(&store, &id, Session::rotate);
    has_ended(&store, &handle);
    // However long ago that is.
    clock.advance(Duration::from_secs(60));
    has_ended(&store, &handle);
    let handle = with(&store, &new, Session::handle);
    assert_eq!(read(&handle).unwrap(), Some(1));
}

// C3.2
#[test]
fn a_handle_says_that_its_session_has_expired() {
    let (clock, store) = timed();
    let (_, handle) = founded(&store);
    // Using it is an access like others.
    for _ in 0..10 {
        clock.advance(Duration::from_secs(1800));
        assert_eq!(read(&handle).unwrap(), Some(1));
    }
    clock.advance(Duration::from_secs(3601));
    has_ended(&store, &handle);
}

// C2.7, C2.10
#[test]
fn a_session_that_ends_while_a_handle_is_at_work_has_ended() {
    let (_, store) = timed();
    let (id, handle) = founded(&store);
    let mut runs = 0;
    let error = handle
        .transact(|session| {
            runs += 1;
            session.pkg("app").insert("n", 2)?;
            if runs == 1 {
                with(&store, &id, Session::destroy);
            }
            Ok::<_, Error>(())
        })
        .unwrap_err();
    assert_eq!((runs, error.kind()), (1, ErrorKind::SessionEnded));
}

#[test]
fn there_is_no_handle_on_a_session_that_is_not_there() {
    let (_, store) = timed();
    let (id, _) = founded(&store);
    with(&store, &id, Session::destroy);
    let txn = store.begin().unwrap();
    let nobody = block_on(txn.visit(None)).unwrap();
    for session in [txn.session(&id).unwrap(), nobody] {
        assert_eq!(
            session.handle().unwrap_err().kind(),
            ErrorKind::SessionEnded
        );
    }
    let session = txn.session(&store.client_ids().issue()).unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    let handle = session.handle().unwrap();
    txn.abort();
    assert_eq!(session.handle().unwrap_err().kind(), ErrorKind::Closed);
    has_ended(&store, &handle);
}

// C4.7, C1.5: in the transaction itself.
#[test]
fn handles_in_a_transaction_see_what_it_did_to_the_session() {
    let (_, store) = timed();
    store.register("cart", ContainerSettings::new()).unwrap();
    let (id, _) = founded(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let app = session.pkg("app");
    let new = session.rotate().unwrap();
    // It is one session under both ids.
    for id in [&id, &new] {
        let session = txn.session(id).unwrap();
        assert!(session.exists().unwrap());
        assert_eq!(session.client_id().as_ref(), Some(&new));
        assert_eq!(session.pkg("app").get("n").unwrap(), Some(1));
    }
    app.insert("n", 2).unwrap();
    assert_eq!(
        txn.session(&new).unwrap().pkg("app").get("n").unwrap(),
        Some(2)
    );

    session.destroy().unwrap();
    for id in [&id, &new] {
        let session = txn.session(id).unwrap();
        assert!(!session.exists().unwrap());
        assert_eq!(session.client_id(), None);
        assert_eq!(session.pkg("app").get::<u32>("n").unwrap(), None);
    }
    assert_eq!(app.get::<u32>("n").unwrap(), None);
    app.insert("n", 3).unwrap();
    assert_eq!(
        txn.session(&id).unwrap().pkg("app").get("n").unwrap(),
        Some(3)
    );
    txn.commit().unwrap();
    assert!(!with(&store, &id, Session::exists));
    assert!(!with(&store, &new, Session::exists));
}
