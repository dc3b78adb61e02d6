//! What happens to the other members of a group.

use super::{fault, get, open, prepare, put, queue, writing, writing_much};
use crate::support::wait::eventually;
use cloakroom::{ClientId, ErrorKind, Txn};
use cloakroom_torture::disk::{Call, EIO, Failure, Fault};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

// C2.13
#[test]
fn all_members_of_a_failed_group_are_told_and_none_leaves_a_trace() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let others: Vec<ClientId> = (0..4).map(|_| store.client_ids().issue()).collect();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    // These wait together while the first is being synced.
    let group: Vec<_> = others
        .iter()
        .map(|other| queue(writing_much(&store, other, 5).unwrap()))
        .collect();
    disk.fail(fault(|call| call == Call::Write, 0, 1, Failure::Error(EIO)));
    disk.release();
    pollster::block_on(first).unwrap();
    for member in group {
        let answer = pollster::block_on(member).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::NotWritten);
    }
    assert_eq!(eventually(|| get(&store, &id)), 2);
    let txn = store.begin().unwrap();
    for other in &others {
        assert!(!txn.session(other).unwrap().exists().unwrap());
    }
    assert_eq!(store.statistics().unwrap().reopened(), 0);
}

// C2.13
#[test]
fn a_member_that_fails_leaves_no_trace_in_its_group() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    let [before, at_fault, after] = std::array::from_fn(|_| store.client_ids().issue());
    let fill = |txn: &Txn| {
        let session = txn.session(&at_fault)?;
        session.pkg("counter").insert("n", u64::MAX)
    };
    store.transact(fill).unwrap();
    put(&store, &at_fault, 1).unwrap();
    let groups = store.statistics().unwrap().groups();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let overflow = writing(&store, &at_fault, 9).unwrap();
    let counters = overflow.session(&at_fault).unwrap();
    counters.pkg("counter").add("n", 1).unwrap();
    let group = [
        queue(writing(&store, &before, 9).unwrap()),
        queue(overflow),
        queue(writing(&store, &after, 9).unwrap()),
    ];
    disk.release();
    pollster::block_on(first).unwrap();
    let [a, b, c] = group.map(pollster::block_on);
    a.unwrap();
    assert_eq!(b.unwrap_err().kind(), ErrorKind::Overflow);
    c.unwrap();
    assert_eq!(store.statistics().unwrap().groups(), groups + 2);
    assert_eq!(get(&store, &before).unwrap(), 9);
    assert_eq!(get(&store, &at_fault).unwrap(), 1);
    assert_eq!(get(&store, &after).unwrap(), 9);
}

// C2.13
#[test]
fn a_refusal_that_rests_on_a_failed_group_is_none() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let add = |n: i64| {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("counter").add("n", n).unwrap();
        let text = "x".repeat(200_000);
        session.pkg("large").insert("text", text).unwrap();
        queue(txn)
    };
    // The second overflows only because the first of its group is there.
    let (full, more) = (add(i64::MAX), add(i64::MAX));
    let (huge, most) = (add(i64::MAX), add(i64::MAX));
    disk.fail(fault(|call| call == Call::Write, 0, 1, Failure::Error(EIO)));
    disk.release();
    pollster::block_on(first).unwrap();
    for member in [full, more, huge, most] {
        let answer = pollster::block_on(member).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::NotWritten);
    }
}

// C2.13
#[test]
fn what_waits_is_answered_when_the_store_closes() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let others: Vec<ClientId> = (0..4).map(|_| store.client_ids().issue()).collect();
    let waiting: Vec<_> = others
        .iter()
        .map(|other| queue(writing(&store, other, 5).unwrap()))
        .collect();
    let closing = std::thread::spawn({
        let store = store.clone();
        move || store.close()
    });
    disk.release();
    pollster::block_on(first).unwrap();
    for commit in waiting {
        pollster::block_on(commit).unwrap();
    }
    closing.join().unwrap().unwrap();
    assert_eq!(put(&store, &id, 3).unwrap_err().kind(), ErrorKind::Closed);
    drop(store);
    let store = open(&disk.all_kept());
    for other in &others {
        assert_eq!(get(&store, other).unwrap(), 5);
    }
}

// C2.13
#[test]
fn what_waits_is_answered_when_the_store_closes_while_the_disk_fails() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let first = queue(writing(&store, &id, 2).unwrap());
    disk.wait_until_held();
    let waiting: Vec<_> = (3..6)
        .map(|n| queue(writing(&store, &id, n).unwrap()))
        .collect();
    disk.fail(fault(|_| true, 0, Fault::FOR_GOOD, Failure::Error(EIO)));
    let closing = std::thread::spawn({
        let store = store.clone();
        move || store.close()
    });
    disk.release();
    assert_eq!(
        pollster::block_on(first).unwrap_err().kind(),
        ErrorKind::OutcomeUnknown
    );
    for commit in waiting {
        let answer = pollster::block_on(commit).unwrap_err();
        assert_eq!(answer.kind(), ErrorKind::Unavailable);
    }
    assert!(closing.join().unwrap().is_err());
    disk.heal();
    let found = prepared.found_in(&disk.all_kept());
    assert!(found == 1 || found == 2);
}

/// Panics when it is woken.
struct Startled;

impl Wake for Startled {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

// C2.13: the committer answers every waiting commit, also after its own death and after a waker that panics.
#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let prepared = prepare();
    let (disk, store, id) = prepared.open();
    disk.hold();
    let startled = writing(&store, &id, 2).unwrap().commit_async();
    let mut startled = pin!(startled);
    let waker = Waker::from(Arc::new(Startled));
    let polled = startled.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(matches!(polled, Poll::Pending));
    disk.wait_until_held();
    let other = queue(writing(&store, &id, 3).unwrap());
    disk.release();
    pollster::block_on(other).unwrap();
    put(&store, &id, 4).unwrap();
    assert_eq!(get(&store, &id).unwrap(), 4);
    store.close().unwrap();
}
