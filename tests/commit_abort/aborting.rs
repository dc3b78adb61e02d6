//! C2.4: a transaction that is not committed leaves no trace, and its handles are closed.

use super::{client, in_file, shop, stored};
use crate::support::clock::{MINUTE, clock};
use crate::support::engine::needs_files;
use crate::support::runtime::block_on;
use cloakroom::{ClientId, Error, ErrorKind, PkgData, Result, Session, Store, Transaction};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

fn poll_once<F: Future>(future: F) -> (std::pin::Pin<Box<F>>, Poll<F::Output>) {
    let mut future = Box::pin(future);
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    (future, polled)
}

/// Asserts that a transaction which `end` ends without a commit leaves no trace.
fn leaves_no_trace(end: impl Fn(Transaction)) {
    let folder = TempDir::new().unwrap();
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let store = builder
        .implicit_sweeps(false)
        .open(folder.path().join("store.redb"))
        .unwrap();
    let id = client(&store);
    clock.advance(20 * MINUTE);
    let before = store.statistics().unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").get::<u32>("key").unwrap();
    session.pkg("shop").insert("key", 2).unwrap();
    session.set_owner(Some("ann")).unwrap();
    let rotated = session.rotate().unwrap();
    let new = store.client_ids().issue();
    shop(&txn, &new).insert("key", 2).unwrap();
    end(txn);

    let after = store.statistics().unwrap();
    assert_eq!(after.bytes_written(), before.bytes_written());
    assert_eq!(after.touches(), before.touches());
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let accessed = session.last_access().unwrap().expect("a session");
    assert_eq!(accessed.to_rfc3339(), "2026-01-01T00:00:00+00:00");
    assert_eq!(session.pkg("shop").get::<u32>("key").unwrap(), Some(1));
    assert!(store.sessions_of("ann").unwrap().is_empty());
    for id in [&new, &rotated] {
        assert!(!txn.session(id).unwrap().exists().unwrap());
    }
    clock.advance(41 * MINUTE);
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
}

// C2.4
#[test]
fn abort_leaves_no_trace() {
    leaves_no_trace(Transaction::abort);
}

// C2.4
#[test]
fn dropping_a_transaction_leaves_no_trace() {
    leaves_no_trace(drop);
}

// C2.4
#[test]
fn a_commit_future_dropped_before_its_first_poll_aborts() {
    leaves_no_trace(|txn| drop(txn.commit_async()));
}

// C2.4
#[test]
fn a_transaction_whose_closure_fails_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let failed: Result<(), Box<dyn std::error::Error>> = store.transact(|txn| {
        txn.session(&id)?.pkg("shop").insert("key", 2)?;
        Err("the application says no".into())
    });
    assert_eq!(failed.unwrap_err().to_string(), "the application says no");
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.4
#[test]
fn a_transaction_whose_closure_panics_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.transact::<(), Error>(|txn| {
            txn.session(&id)?.pkg("shop").insert("key", 2)?;
            panic!("the application panics");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.4
#[test]
fn a_commit_future_dropped_once_its_changes_are_queued_commits() {
    needs_files!("the changes are queued at the first poll");
    let (_folder, store) = in_file();
    let id = client(&store);
    let (told, outcome) = mpsc::channel();
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    txn.after_commit(move || told.send(()).unwrap());
    let (future, _) = poll_once(txn.commit_async());
    drop(future);
    outcome.recv().expect("the hook runs once it is committed");
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

/// Asserts that every method of every handle gives `Closed`.
fn all_is_closed(txn: &cloakroom::Txn, session: &Session, mine: &PkgData, id: &ClientId) {
    let savepoint = store_of_savepoints();
    let data = |txn: &cloakroom::Txn| {
        let container = txn.container("").unwrap();
        container.session_data(id).map(drop)
    };
    let results: Vec<(&str, Result<()>)> = vec![
        ("get", mine.get::<u32>("key").map(drop)),
        ("take", mine.take::<u32>("key").map(drop)),
        ("insert", mine.insert("key", 1)),
        ("update", mine.update("key", |_: Option<u32>| 1).map(drop)),
        ("commute", mine.commute("key", |_: Option<u32>| 1)),
        ("add", mine.add("key", 1)),
        ("max", mine.max("key", 1)),
        ("min", mine.min("key", 1)),
        ("remove", mine.remove("key").map(drop)),
        ("clear", mine.clear()),
        ("contains_key", mine.contains_key("key").map(drop)),
        ("keys", mine.keys().map(drop)),
        ("len", mine.len().map(drop)),
        ("is_empty", mine.is_empty().map(drop)),
        ("exists", session.exists().map(drop)),
        ("last_access", session.last_access().map(drop)),
        ("created_at", session.created_at().map(drop)),
        ("rotate", session.rotate().map(drop)),
        ("destroy", session.destroy()),
        ("set_timeout", session.set_timeout(None)),
        ("set_owner", session.set_owner(None)),
        ("pkg", session.pkg("news").len().map(drop)),
        ("session", txn.session(id).map(drop)),
        ("session_async", block_on(txn.session_async(id)).map(drop)),
        ("visit", block_on(txn.visit(None)).map(drop)),
        ("session_data", data(txn)),
        ("savepoint", txn.savepoint().map(drop)),
        ("rollback_to", txn.rollback_to(&savepoint)),
    ];
    for (method, result) in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed, "{method}");
    }
    assert_eq!(session.client_id(), None);
    txn.doom();
}

fn store_of_savepoints() -> cloakroom::Savepoint {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    txn.savepoint().unwrap()
}

/// Handles are closed once `end` was called. Its result lives until they were tried.
fn closes_handles<T>(end: impl Fn(Transaction) -> T) {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let mine = session.pkg("shop");
    mine.get::<u32>("key").unwrap();
    let handle = (*txn).clone();
    let _ended = end(txn);
    all_is_closed(&handle, &session, &mine, &id);
    all_is_closed(session.txn(), &session.clone(), &mine.clone(), &id);
    let hook = || panic!("a hook of a transaction that has ended ran");
    handle.after_commit(hook);
    handle.after_abort(hook);
}

// C2.4
#[test]
fn every_handle_gives_closed_after_commit() {
    closes_handles(|txn| txn.commit().unwrap());
}

// C2.4
#[test]
fn every_handle_gives_closed_after_abort_and_drop() {
    closes_handles(Transaction::abort);
    closes_handles(drop);
}

// C2.4
#[test]
fn every_handle_gives_closed_from_the_moment_commit_is_called() {
    closes_handles(Transaction::commit_async);
}

// C2.4
#[test]
fn every_handle_gives_closed_after_a_commit_that_failed() {
    closes_handles(|txn| {
        txn.doom();
        txn.commit().unwrap_err()
    });
}
