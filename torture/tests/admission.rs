//! C2.4, C2.13: how much may wait to be committed, and what becomes of those that wait for room; what
//! a limit of new sessions counts when storage fails. On a disk that can be held still.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, ErrorKind, Result, Store, StoreBuilder, Transaction};
use cloakroom_torture::disk::{Call, Disk, EIO, Failure, Fault};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::store::file_builder;
use support::wait::until;

type Committing = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A store with one session, `n` = 0.
fn open(builder: StoreBuilder) -> (Disk, Store, ClientId) {
    let disk = Disk::default();
    let store = builder.open_in(disk.folder(), "store").unwrap();
    let id = store.client_ids().issue();
    putting(&store, &id, 0).commit().unwrap();
    (disk, store, id)
}

fn putting(store: &Store, id: &ClientId, n: u64) -> Transaction {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("a").insert("n", n).unwrap();
    txn
}

fn get(store: &Store, id: &ClientId) -> Result<u64> {
    let txn = store.begin()?;
    let n: Option<u64> = txn.session(id)?.pkg("a").get("n")?;
    Ok(n.unwrap())
}

fn poll(committing: &mut Committing) -> Poll<Result<()>> {
    let mut nobody = Context::from_waker(Waker::noop());
    committing.as_mut().poll(&mut nobody)
}

/// Goes as far as possible without a waker.
fn start(txn: Transaction) -> Committing {
    let mut committing: Committing = Box::pin(txn.commit_async());
    assert!(poll(&mut committing).is_pending());
    committing
}

/// A commit that is being made durable and stays so until the disk is released.
fn start_held(disk: &Disk, txn: Transaction) -> Committing {
    disk.hold();
    let committing = start(txn);
    disk.wait_until_held();
    committing
}

fn waiting(store: &Store) -> (usize, usize) {
    let statistics = store.statistics().unwrap();
    (statistics.waiting_commits(), statistics.commits_held_back())
}

// C2.2
#[test]
fn commits_beyond_the_bound_wait_and_are_made_in_the_order_of_coming() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(2));
    let first = start_held(&disk, putting(&store, &id, 1));
    let queued = start(putting(&store, &id, 2));
    let outside = [3, 4, 5].map(|n| start(putting(&store, &id, n)));
    assert_eq!(waiting(&store), (2, 3));
    disk.release();
    for committing in [first, queued].into_iter().chain(outside) {
        pollster::block_on(committing).unwrap();
    }
    assert_eq!(get(&store, &id).unwrap(), 5);
    assert_eq!(waiting(&store), (0, 0));
    assert_eq!(store.statistics().unwrap().waiting_bytes(), 0);
}

// C2.2
#[test]
fn commits_that_wait_for_room_need_nobody_to_poll_them() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(1));
    let first = start_held(&disk, putting(&store, &id, 1));
    let never_polled = start(putting(&store, &id, 2));
    let last = start(putting(&store, &id, 3));
    disk.release();
    pollster::block_on(last).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 3);
    drop((first, never_polled));
}

// C2.4
#[test]
fn a_commit_dropped_while_it_waits_for_room_is_aborted_and_a_queued_one_is_not() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(2));
    let (tell, told) = mpsc::channel();
    let begin = |n| {
        let txn = putting(&store, &id, n);
        let key = format!("also {n}");
        let package = txn.session(&id).unwrap().pkg("a");
        package.insert(&key, n).unwrap();
        let (committed, aborted) = (tell.clone(), tell.clone());
        txn.after_commit(move || committed.send((n, "committed")).unwrap());
        txn.after_abort(move || aborted.send((n, "aborted")).unwrap());
        txn
    };
    let first = start_held(&disk, begin(1));
    let [queued, outside, behind] = [2, 3, 4].map(|n| start(begin(n)));
    drop(outside);
    assert_eq!(told.recv().unwrap(), (3, "aborted"));
    assert_eq!(waiting(&store), (2, 1));
    drop(queued);
    assert_eq!(waiting(&store), (2, 1));
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(behind).unwrap();
    let rest: Vec<_> = told.iter().take(3).collect();
    assert_eq!(rest, [1, 2, 4].map(|n| (n, "committed")));
    let txn = store.begin().unwrap();
    let keys = txn.session(&id).unwrap().pkg("a").keys().unwrap();
    assert_eq!(keys, ["also 1", "also 2", "also 4", "n"]);
}

// C2.2
#[test]
fn a_blocking_commit_waits_for_room() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(1));
    let first = start_held(&disk, putting(&store, &id, 1));
    let second = putting(&store, &id, 2);
    let thread = std::thread::spawn(move || second.commit());
    until("it never came", || waiting(&store) == (1, 1));
    disk.release();
    thread.join().unwrap().unwrap();
    pollster::block_on(first).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 2);
}

// C2.2
#[test]
fn bytes_are_bounded_too_and_what_is_larger_than_the_bound_gets_through_alone() {
    let (disk, store, id) = open(file_builder().max_waiting_bytes(20_000));
    let first = start_held(&disk, putting(&store, &id, 1));
    let small = store.statistics().unwrap().waiting_bytes();
    assert!((100..5000).contains(&small), "{small}");
    let large = store.begin().unwrap();
    let package = large.session(&id).unwrap().pkg("large");
    package.insert("text", "x".repeat(500_000)).unwrap();
    let large = start(large);
    assert_eq!(waiting(&store), (1, 1));
    // There were room for it, but not before its turn.
    let behind = start(putting(&store, &id, 2));
    assert_eq!(waiting(&store), (1, 2));
    disk.release();
    for committing in [first, large, behind] {
        pollster::block_on(committing).unwrap();
    }
    assert_eq!(get(&store, &id).unwrap(), 2);
    assert_eq!(store.statistics().unwrap().groups(), 4);
}

// C2.4
#[test]
fn a_large_commit_that_is_dropped_while_it_waits_lets_those_behind_it_in() {
    let (disk, store, id) = open(file_builder().max_waiting_bytes(20_000));
    let first = start_held(&disk, putting(&store, &id, 1));
    let large = store.begin().unwrap();
    let package = large.session(&id).unwrap().pkg("large");
    package.insert("text", "x".repeat(500_000)).unwrap();
    let large = start(large);
    let behind = start(putting(&store, &id, 2));
    assert_eq!(waiting(&store), (1, 2));
    drop(large);
    assert_eq!(waiting(&store), (2, 0));
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(behind).unwrap();
}

// C2.2
#[test]
fn what_was_read_counts_among_the_bytes() {
    let (disk, store, id) = open(file_builder().max_waiting_bytes(20_000));
    let fill = store.begin().unwrap();
    let package = fill.session(&id).unwrap().pkg("large");
    package.insert("text", "x".repeat(50_000)).unwrap();
    fill.commit().unwrap();
    let first = start_held(&disk, putting(&store, &id, 1));
    let reader = putting(&store, &id, 2);
    let large = reader.session(&id).unwrap().pkg("large");
    assert!(large.contains_key("text").unwrap());
    let reader = start(reader);
    assert_eq!(waiting(&store), (1, 1));
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(reader).unwrap();
}

// C2.4
#[test]
fn closing_answers_those_that_wait_for_room_and_commits_those_that_are_queued() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(2));
    let first = start_held(&disk, putting(&store, &id, 1));
    let queued = start(putting(&store, &id, 2));
    let mut outside = start(putting(&store, &id, 3));
    let closing = store.clone();
    let closing = std::thread::spawn(move || closing.close());
    let mut answer = Poll::Pending;
    until("it never came", || {
        answer = poll(&mut outside);
        answer.is_ready()
    });
    let Poll::Ready(answer) = answer else {
        unreachable!()
    };
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Closed);
    disk.release();
    pollster::block_on(first).unwrap();
    pollster::block_on(queued).unwrap();
    closing.join().unwrap().unwrap();
    drop(store);
    let store = file_builder().open_in(disk.folder(), "store").unwrap();
    let id = store.client_ids().verify(id.as_str()).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 2);
}

// C2.13
#[test]
fn those_that_wait_for_room_are_told_while_the_store_reopens() {
    let (disk, store, id) = open(file_builder().max_waiting_commits(1));
    let first = start_held(&disk, putting(&store, &id, 1));
    let outside = [2, 3, 4].map(|n| start(putting(&store, &id, n)));
    disk.fail(Fault {
        on: Call::changes,
        after: 0,
        times: Fault::FOR_GOOD,
        failure: Failure::Error(EIO),
    });
    disk.release();
    let error = pollster::block_on(first).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    for committing in outside {
        let error = pollster::block_on(committing).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(waiting(&store), (0, 0));
    disk.heal();
    until("it never came", || get(&store, &id).is_ok());
    putting(&store, &id, 5).commit().unwrap();
    assert_eq!(get(&store, &id).unwrap(), 5);
}

fn founding(store: &Store) -> Result<()> {
    putting(store, &store.client_ids().issue(), 1).commit()
}

// C2.13, C4.8
#[test]
fn a_session_that_was_not_written_does_not_count_as_founded() {
    let day = Duration::from_secs(86_400);
    let (disk, store, _) = open(file_builder().max_new_sessions(2, day));
    disk.fail(Fault {
        on: Call::changes,
        after: 0,
        times: 1,
        failure: Failure::Error(EIO),
    });
    // The journal cannot grow for it.
    let id = store.client_ids().issue();
    let large = putting(&store, &id, 1);
    let package = large.session(&id).unwrap().pkg("a");
    package.insert("text", "x".repeat(200_000)).unwrap();
    let error = large.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotWritten);
    assert!(disk.heal());
    founding(&store).unwrap();
    let error = founding(&store).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
