//! C2.9: what becomes of a commit when its closure cannot be run again, or panics.

use super::Store;
use crate::error::{ErrorKind, Result};
use crate::{ClientId, Txn};

fn put(store: &Store, id: &ClientId, n: u64) {
    let change = |txn: &Txn| txn.session(id)?.pkg("a").insert("n", n);
    store.transact(change).unwrap();
}

/// Commits an addition by closure to a number that changed since; returns the commit's answer.
fn add_by_closure(
    store: &Store,
    id: &ClientId,
    closure: impl FnMut(Option<u64>) -> u64 + Send + 'static,
) -> Result<()> {
    let txn = store.begin().unwrap();
    let package = txn.session(id).unwrap().pkg("a");
    package.commute("n", closure).unwrap();
    put(store, id, number(store, id) + 1);
    txn.commit()
}

fn number(store: &Store, id: &ClientId) -> u64 {
    let txn = store.begin().unwrap();
    let package = txn.session(id).unwrap().pkg("a");
    package.get("n").unwrap().unwrap()
}

// C2.9
#[test]
fn a_commute_that_no_thread_can_run_again_fails_and_writes_nothing() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let no_threads = &store.inner.env.recomputer.worker().no_threads;
    no_threads.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = add_by_closure(&store, &id, |n| n.unwrap() + 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotWritten);
    assert_eq!(number(&store, &id), 2);
    no_threads.store(false, std::sync::atomic::Ordering::SeqCst);
    add_by_closure(&store, &id, |n| n.unwrap() + 10).unwrap();
    assert_eq!(number(&store, &id), 13);
}

// C2.6, C2.9
#[test]
fn a_closure_whose_panic_panics_when_dropped_fails_its_own_commit_only() {
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let mut again = false;
    let error = add_by_closure(&store, &id, move |n| {
        if std::mem::replace(&mut again, true) {
            std::panic::panic_any(Payload);
        }
        n.unwrap() + 10
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Panicked);
    add_by_closure(&store, &id, |n| n.unwrap() + 10).unwrap();
    assert_eq!(number(&store, &id), 13);
}

#[test]
fn attempts_that_run_again_are_counted() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let mut meets_another = true;
    let change = |txn: &Txn| {
        let package = txn.session(&id)?.pkg("a");
        let n: u64 = package.get("n")?.unwrap();
        if std::mem::take(&mut meets_another) {
            put(&store, &id, 10);
        }
        package.insert("n", n + 1)
    };
    store.transact(change).unwrap();
    assert_eq!(number(&store, &id), 11);
    assert_eq!(store.statistics().unwrap().reruns(), 1);
}
