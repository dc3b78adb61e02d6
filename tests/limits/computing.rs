//! C2.6, C2.9: commutes that run again, and hooks, wait within bounds.

use super::{block_on, get, poll_once, put, until, visitor};
use crate::support::clock::MINUTE;
use crate::support::engine::needs_files;
use cloakroom::{ClientId, ErrorKind, Store, Transaction};
use std::sync::mpsc;

// C2.9
#[test]
fn commutes_that_are_computed_again_never_wait_for_room() {
    let store = Store::builder().max_waiting_commits(1).in_memory().unwrap();
    let id = visitor(&store).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let txn = store.begin().unwrap();
                    let package = txn.session(&id).unwrap().pkg("shop");
                    let next = |n: Option<u32>| n.unwrap_or(0) + 1;
                    package.commute("n", next).unwrap();
                    txn.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(get(&store, &id), Some(101));
}

/// A commit whose closure runs again, and calls `again` then.
fn stale(store: &Store, id: &ClientId, again: impl Fn() + Send + 'static) -> Transaction {
    let txn = store.begin().unwrap();
    let package = txn.session(id).unwrap().pkg("shop");
    let mut runs = 0;
    let closure = move |n: Option<u32>| {
        runs += 1;
        if runs > 1 {
            again();
        }
        n.unwrap() + 10
    };
    package.commute("n", closure).unwrap();
    put(store, id, "shop", 2).unwrap();
    txn
}

// C2.9
#[test]
fn a_commit_keeps_its_room_while_it_is_computed_again() {
    needs_files!("the changes are queued at the first poll");
    let store = Store::builder().max_waiting_commits(1).in_memory().unwrap();
    let id = visitor(&store).unwrap();
    let (tell, told) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let txn = stale(&store, &id, move || {
        tell.send(()).unwrap();
        wait.recv().unwrap();
    });
    let first = poll_once(txn.commit_async());
    told.recv().unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").insert("other", 1).unwrap();
    let second = poll_once(txn.commit_async());
    let statistics = store.statistics().unwrap();
    assert_eq!(statistics.waiting_commits(), 1);
    assert_eq!(statistics.commits_held_back(), 1);
    go_on.send(()).unwrap();
    block_on(first).unwrap();
    block_on(second).unwrap();
    assert_eq!(get(&store, &id), Some(12));
}

// C2.9
#[test]
fn a_closure_that_commits_while_it_runs_again_does_not_wait_for_its_own_room() {
    let store = Store::builder().max_waiting_commits(1).in_memory().unwrap();
    let id = visitor(&store).unwrap();
    let (inner, inner_id) = (store.clone(), id.clone());
    let txn = stale(&store, &id, move || {
        put(&inner, &inner_id, "log", 1).unwrap();
    });
    txn.commit().unwrap();
    assert_eq!(get(&store, &id), Some(12));
}

// C2.9
#[test]
fn a_closure_that_commits_a_commute_which_would_run_again_gets_an_error() {
    let store = Store::in_memory().unwrap();
    let (id, other) = (visitor(&store).unwrap(), visitor(&store).unwrap());
    let (tell, told) = mpsc::channel();
    let (inner, inner_id) = (store.clone(), other.clone());
    let txn = stale(&store, &id, move || {
        let txn = stale(&inner, &inner_id, || panic!("nobody is there to run it"));
        tell.send(txn.commit().unwrap_err().kind()).unwrap();
    });
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(txn.commit()).unwrap());
    ended.recv_timeout(MINUTE).unwrap().unwrap();
    assert_eq!(told.recv(), Ok(ErrorKind::Unsupported));
    assert_eq!((get(&store, &id), get(&store, &other)), (Some(12), Some(2)));

    // Closures of others still run again.
    let again = stale(&store, &other, || ());
    again.commit().unwrap();
    assert_eq!(get(&store, &other), Some(12));
}

// C2.9, C2.13
#[test]
fn a_closure_that_waits_for_a_commute_of_another_thread_keeps_no_session_waiting() {
    let store = Store::in_memory().unwrap();
    let visitors = [(); 4].map(|()| visitor(&store).unwrap());
    let [slow, outer, nested, last] = &visitors;
    let (tell, told) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let slowed = stale(&store, slow, move || {
        tell.send(()).unwrap();
        wait.recv().unwrap();
    });
    let slowed = std::thread::spawn(move || slowed.commit());
    told.recv().unwrap();

    // The threads for closures wait for each other in turn.
    let (inner, ids) = (store.clone(), [nested.clone(), last.clone()]);
    let waiting = stale(&store, outer, move || {
        let (innermost, [nested, last]) = (inner.clone(), ids.clone());
        let nested = stale(&inner, &nested, move || {
            let last = stale(&innermost, &last, || ());
            let committed = std::thread::spawn(move || last.commit());
            committed.join().unwrap().unwrap();
        });
        let committed = std::thread::spawn(move || nested.commit());
        committed.join().unwrap().unwrap();
    });
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(waiting.commit()).unwrap());
    ended.recv_timeout(MINUTE).unwrap().unwrap();
    for id in [outer, nested, last] {
        assert_eq!(get(&store, id), Some(12));
    }
    assert_eq!(get(&store, slow), Some(2));
    go_on.send(()).unwrap();
    slowed.join().unwrap().unwrap();
    assert_eq!(get(&store, slow), Some(12));
    store.close().unwrap();
}

// C2.9: of two that came together, the first waits for the second.
#[test]
fn a_closure_may_wait_for_one_that_waits_behind_it() {
    let store = Store::in_memory().unwrap();
    let visitors = [(); 3].map(|()| visitor(&store).unwrap());
    let [slow, first, second] = &visitors;
    let (tell, told) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let slowed = stale(&store, slow, move || {
        tell.send(()).unwrap();
        wait.recv().unwrap();
    });
    let slowed = std::thread::spawn(move || slowed.commit());
    told.recv().unwrap();
    let (second_is_done, second_done) = mpsc::channel();
    let first_commit = stale(&store, first, move || second_done.recv().unwrap());
    let second_commit = stale(&store, second, || ());
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(first_commit.commit()).unwrap());
    std::thread::spawn(move || {
        second_commit.commit().unwrap();
        second_is_done.send(()).unwrap();
    });
    ended.recv_timeout(MINUTE).unwrap().unwrap();
    assert_eq!(
        (get(&store, first), get(&store, second)),
        (Some(12), Some(12))
    );
    go_on.send(()).unwrap();
    slowed.join().unwrap().unwrap();
}

// C2.6
#[test]
fn hooks_that_do_not_keep_up_turn_commits_away_that_would_add_to_them() {
    let store = Store::in_memory().unwrap();
    let id = visitor(&store).unwrap();
    let (go_on, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let begin = |n: u32| {
        let txn = store.begin().unwrap();
        txn.session(&id)
            .unwrap()
            .pkg("shop")
            .insert("n", n)
            .unwrap();
        txn
    };
    let slow = begin(2);
    slow.after_commit(move || wait.recv().unwrap());
    for _ in 0..65_536 {
        slow.after_commit(|| ());
    }
    slow.commit().unwrap();
    until(|| store.statistics().unwrap().waiting_hooks() == 65_536);

    let more = begin(3);
    let aborted = tell.clone();
    more.after_commit(|| panic!("nothing was committed"));
    more.after_abort(move || aborted.send("aborted").unwrap());
    let error = more.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("hooks"), "{error}");
    assert_eq!(get(&store, &id), Some(2));
    // Those without a hook go on.
    begin(4).commit().unwrap();

    go_on.send(()).unwrap();
    assert_eq!(told.recv().unwrap(), "aborted");
    until(|| store.statistics().unwrap().waiting_hooks() == 0);
    let last = begin(5);
    last.after_commit(move || tell.send("committed").unwrap());
    last.commit().unwrap();
    assert_eq!(told.recv().unwrap(), "committed");
}
