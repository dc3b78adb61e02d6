//! What is bounded: how much waits to be committed, how many sessions are founded, what a reader that
//! is held open costs (C2.9, C2.14, C4.8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{ClientId, Clock, ContainerSettings, Error, ErrorKind, Result, Store, Transaction};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;
use support::clock::{HOUR, MINUTE, clock};
use support::engine::needs_files;
use support::store::builder;
use support::wait;
use support::writer::HeldWriter;
use tempfile::TempDir;

/// At most `count` new sessions an hour.
fn limited(count: u64) -> (Clock, Store) {
    let clock = clock();
    let builder = builder(&clock).max_new_sessions(count, HOUR);
    let store = builder.in_memory().unwrap();
    (clock, store)
}

/// Founds a session.
fn visitor(store: &Store) -> Result<ClientId> {
    let id = store.client_ids().issue();
    put(store, &id, "shop", 1)?;
    Ok(id)
}

fn put(store: &Store, id: &ClientId, package: &str, n: u32) -> Result<()> {
    let txn = store.begin()?;
    txn.session(id)?.pkg(package).insert("n", n)?;
    txn.commit()
}

fn get(store: &Store, id: &ClientId) -> Option<u32> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("shop").get("n").unwrap()
}

/// Asserts that the limit of new sessions is reached; returns what was said.
fn assert_full(result: Result<impl Sized>) -> Error {
    let error = result.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("too many new sessions"));
    error
}

fn poll_once<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut nobody).is_pending());
    future
}

fn until(done: impl FnMut() -> bool) {
    wait::until("it never came", done);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.build().unwrap().block_on(future)
}

// C4.8
#[test]
fn sessions_beyond_the_limit_are_refused_and_leave_no_trace() {
    let folder = TempDir::new().unwrap();
    let builder = builder(&clock()).max_new_sessions(2, HOUR);
    let store = builder.open(folder.path().join("store.redb")).unwrap();
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    let before = store.statistics().unwrap();
    let id = store.client_ids().issue();
    for _ in 0..3 {
        assert_full(put(&store, &id, "shop", 1));
    }
    let after = store.statistics().unwrap();
    assert_eq!(after.bytes_written(), before.bytes_written());
    assert_eq!(after.refused_sessions(), 3);
    assert_eq!(get(&store, &id), None);
    let counts = store.container("").unwrap().statistics().unwrap();
    assert_eq!((counts.live, counts.unreadable), (2, 0));
}

// C4.8
#[test]
fn existing_sessions_go_on_at_the_limit() {
    let (_, store) = limited(1);
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = visitor(&store).unwrap();
    assert_full(visitor(&store));
    put(&store, &id, "shop", 2).unwrap();
    // In another container it is the same session.
    put(&store, &id, "bank", 2).unwrap();
    let new = store.transact(|txn| txn.session(&id)?.rotate()).unwrap();
    assert_eq!(get(&store, &new), Some(2));
    store.transact(|txn| txn.session(&new)?.destroy()).unwrap();
    assert_full(visitor(&store));
}

// C4.8
#[test]
fn room_for_new_sessions_comes_back_with_time() {
    let (clock, store) = limited(3);
    visitor(&store).unwrap();
    clock.advance(HOUR / 2);
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    clock.advance(HOUR / 2 - Duration::from_millis(1));
    assert_full(visitor(&store));
    clock.advance(HOUR / 16 + Duration::from_millis(1));
    visitor(&store).unwrap();
    assert_full(visitor(&store));
    clock.advance(HOUR / 2);
    visitor(&store).unwrap();
    visitor(&store).unwrap();
    assert_full(visitor(&store));
}

// C4.8, C2.14
#[test]
fn a_clock_that_is_set_back_neither_frees_new_sessions_nor_keeps_them_off() {
    let (clock, store) = limited(1);
    visitor(&store).unwrap();
    clock.set(clock.now() - chrono::TimeDelta::days(1));
    assert_full(visitor(&store));
    clock.advance(HOUR);
    assert_full(visitor(&store));
    clock.advance(HOUR / 16 + Duration::from_millis(1));
    visitor(&store).unwrap();
}

// C4.8
#[test]
fn a_session_that_begins_in_several_containers_counts_once() {
    let (_, store) = limited(2);
    store.register("bank", ContainerSettings::new()).unwrap();
    let ram = ContainerSettings::new().in_memory();
    store.register("news", ram).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for package in ["shop", "bank", "news"] {
        let session = txn.session(&id).unwrap();
        session.pkg(package).insert("n", 1).unwrap();
    }
    txn.commit().unwrap();
    visitor(&store).unwrap();
    assert_full(visitor(&store));
}

// C4.8, C1.7
#[test]
fn sessions_in_memory_count_like_others() {
    let (_, store) = limited(1);
    let ram = ContainerSettings::new().in_memory();
    store.register("news", ram).unwrap();
    put(&store, &store.client_ids().issue(), "news", 1).unwrap();
    assert_full(put(&store, &store.client_ids().issue(), "news", 1));
}

// C4.8
#[test]
fn several_sessions_of_one_commit_count_each_and_pass_together_or_not_at_all() {
    let (_, store) = limited(3);
    let founding = |n: usize| -> Result<()> {
        let txn = store.begin()?;
        for _ in 0..n {
            let id = store.client_ids().issue();
            txn.session(&id)?.pkg("shop").insert("n", 1)?;
        }
        txn.commit()
    };
    assert_full(founding(4));
    founding(2).unwrap();
    assert_full(founding(2));
    founding(1).unwrap();
    let counts = store.container("").unwrap().statistics().unwrap();
    assert_eq!(counts.live, 3);
}

// C3.2, C4.8
#[test]
fn a_session_founded_over_an_expired_one_counts() {
    let clock = clock();
    let builder = builder(&clock).max_new_sessions(2, 100 * HOUR);
    let store = builder.in_memory().unwrap();
    let id = visitor(&store).unwrap();
    clock.advance(2 * HOUR);
    let late = store.client_ids().verify(id.as_str()).unwrap();
    put(&store, &late, "shop", 2).unwrap();
    clock.advance(2 * HOUR);
    assert_full(put(&store, &late, "shop", 3));
}

// C2.7, C4.8
#[test]
fn a_commit_that_fails_for_a_reason_of_its_own_counts_none() {
    let (_, store) = limited(2);
    let known = visitor(&store).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let read = txn.session(&known).unwrap().pkg("shop");
    assert_eq!(read.get::<u32>("n").unwrap(), Some(1));
    txn.session(&id)
        .unwrap()
        .pkg("shop")
        .insert("n", 1)
        .unwrap();
    put(&store, &known, "shop", 2).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    put(&store, &id, "shop", 1).unwrap();
    assert_full(visitor(&store));
}

// C2.10, C4.8
#[test]
fn transact_does_not_run_again_at_the_limit() {
    let (_, store) = limited(0);
    let id = store.client_ids().issue();
    let mut runs = 0;
    let founding: Result<()> = store.transact(|txn| {
        runs += 1;
        txn.session(&id)?.pkg("shop").insert("n", 1)
    });
    assert_full(founding);
    assert_eq!(runs, 1);
}

// C4.8
#[test]
fn an_id_that_was_refused_can_found_its_session_later() {
    let (clock, store) = limited(1);
    visitor(&store).unwrap();
    let id = store.client_ids().issue();
    assert_full(put(&store, &id, "shop", 1));
    clock.advance(2 * HOUR);
    put(&store, &id, "shop", 1).unwrap();
    assert_eq!(get(&store, &id), Some(1));
}

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

/// Sessions of four packages of 64 KiB each, and transactions that rotate them all at once.
fn rotations(store: &Store, sessions: usize) -> Vec<Transaction> {
    let text = "x".repeat(64 << 10);
    let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        let txn = store.begin().unwrap();
        let session = txn.session(id).unwrap();
        for package in ["a", "b", "c", "d"] {
            session.pkg(package).insert("text", &text).unwrap();
        }
        txn.commit().unwrap();
    }
    let rotating = ids.iter().map(|id| {
        let txn = store.begin().unwrap();
        txn.session(id).unwrap().rotate().unwrap();
        txn
    });
    rotating.collect()
}

// C4.7
#[test]
fn a_session_that_is_rotated_takes_the_room_of_what_it_holds_while_it_waits() {
    needs_files!("the writer's thread is held up");
    let store = Store::builder().max_waiting_bytes(1 << 20);
    let store = store.in_memory().unwrap();
    let rotating = rotations(&store, 8);
    let held = HeldWriter::of(&store);
    let waiting: Vec<_> = rotating
        .into_iter()
        .map(|txn| poll_once(txn.commit_async()))
        .collect();
    let statistics = store.statistics().unwrap();
    assert!(statistics.waiting_bytes() > 3 * (256 << 10));
    assert_eq!(statistics.commits_held_back(), 5);
    drop(held);
    for rotation in waiting {
        block_on(rotation).unwrap();
    }
}

// C4.7
#[test]
fn sessions_that_are_rotated_at_once_stay_within_the_bounds_of_the_journal() {
    needs_files!("the writer's thread is held up");
    let folder = TempDir::new().unwrap();
    let store = Store::builder().journal_size(2 << 20);
    let store = store.open(folder.path().join("store")).unwrap();
    let rotating = rotations(&store, 16);
    let held = HeldWriter::of(&store);
    let waiting: Vec<_> = rotating
        .into_iter()
        .map(|txn| poll_once(txn.commit_async()))
        .collect();
    drop(held);
    for rotation in waiting {
        block_on(rotation).unwrap();
    }
    let len = store.statistics().unwrap().journal_len();
    assert!(len <= (2 << 20) + (128 << 10), "{len} bytes");
}

// C2.14
#[test]
fn a_transaction_that_is_held_open_shows_until_its_snapshot_is_taken_back() {
    needs_files!("superseded snapshots are counted");
    let clock = clock();
    let store = builder(&clock).in_memory().unwrap();
    let id = visitor(&store).unwrap();
    let held = |store: &Store| {
        let statistics = store.statistics().unwrap();
        let oldest = statistics.oldest_held_snapshot();
        (statistics.held_snapshots(), oldest)
    };
    let looking = |store: &Store| {
        let txn = store.begin().unwrap();
        assert!(txn.session(&id).unwrap().exists().unwrap());
        txn
    };
    // One that has looked at nothing holds nothing.
    let blind = store.begin().unwrap();
    let unread = blind.session(&id).unwrap().pkg("shop");
    unread.insert("blind", 1).unwrap();
    let first = looking(&store);
    clock.advance(Duration::from_secs(7));
    // Nothing newer is there: it costs nothing.
    assert_eq!(held(&store), (0, None));
    put(&store, &id, "shop", 2).unwrap();
    assert_eq!(held(&store), (1, Some(Duration::ZERO)));
    clock.advance(Duration::from_secs(20));
    let second = looking(&store);
    put(&store, &id, "shop", 3).unwrap();
    assert_eq!(held(&store), (2, Some(Duration::from_secs(20))));
    drop(second);
    assert_eq!(held(&store), (1, Some(Duration::from_secs(20))));
    clock.advance(Duration::from_secs(10));
    assert_eq!(held(&store), (1, Some(Duration::from_secs(30))));
    clock.advance(Duration::from_millis(1));
    until(|| held(&store) == (0, None));
    drop(first);
    assert_eq!(unread.get::<u32>("n").unwrap(), Some(3));
}

// C2.14
#[test]
fn the_file_stops_growing_although_a_transaction_is_held_open_all_the_time() {
    let folder = TempDir::new().unwrap();
    let clock = clock();
    let store = builder(&clock).open(folder.path().join("store.redb"));
    let store = Arc::new(store.unwrap());
    let id = visitor(&store).unwrap();
    let held = store.begin().unwrap();
    // Each round replaces 50 KB, and a third of the greatest age passes.
    let rounds = |from: u32, to: u32| {
        for n in from..to {
            let text = n.to_string().repeat(50_000);
            let text = &text[..50_000];
            let change = |txn: &cloakroom::Txn| txn.session(&id)?.pkg("big").insert("text", text);
            store.transact(change).unwrap();
            clock.advance(Duration::from_secs(10));
            until(|| {
                let oldest = store.statistics().unwrap().oldest_held_snapshot();
                oldest.is_none_or(|age| age <= Duration::from_secs(30))
            });
        }
        store.statistics().unwrap().file_len()
    };
    let early = rounds(0, 20);
    let late = rounds(20, 300);
    assert!(late <= early * 2, "{early} bytes, later {late}");
    assert!(late < 280 * 50_000 / 4, "{late} bytes");
    drop(held);
}

/// C5.3: what a visitor sends may become a key.
#[test]
fn a_name_of_megabytes_makes_a_small_error() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let long = "\u{1}".repeat(5_000_000);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    for error in [
        session.pkg("p").insert(&long, 1).unwrap_err(),
        session.pkg(&long).insert("k", 1).unwrap_err(),
        store.register(&long, ContainerSettings::new()).unwrap_err(),
        store.container(&long).map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().len() < 1000, "{error:.200}");
        assert!(format!("{error:?}").len() < 1000);
        let names = [error.container(), error.package(), error.key()];
        assert!(names.iter().flatten().all(|name| name.len() <= 1024));
    }
}
