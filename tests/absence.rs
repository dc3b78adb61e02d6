//! C2.7, C2.11, C4.8: what a transaction acts on as absent counts as read, and what has ended stays ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, Clock, ContainerSettings, ErrorKind, Result, Session, Store, Transaction,
};
use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;
use support::clock::{clock, secs};
use support::engine::needs_files;
use support::runtime::block_on;
use support::store::timed;
use support::visitors::{again, with};
use support::writer::HeldWriter;

fn put(store: &Store, id: &ClientId, key: &str, value: u32) {
    with(store, id, |s| s.pkg("app").insert(key, value));
}

fn get(store: &Store, id: &ClientId, key: &str) -> Option<u32> {
    with(store, id, |s| s.pkg("app").get(key))
}

/// An operation on a session that is not there.
type Act = (&'static str, fn(&Session) -> Result<()>);

const ACTS: [Act; 4] = [
    ("destroy", Session::destroy),
    ("rotate", |s| s.rotate().map(drop)),
    ("destroy and insert", |s| {
        s.destroy()?;
        s.pkg("app").insert("own", 1)
    }),
    ("destroy, after a change", |s| {
        s.pkg("app").insert("own", 1)?;
        s.destroy()
    }),
];

/// `one` acts on a session that is not there and writes y; `two`, which is committed first, founds the
/// session and writes y. No serial order of both leaves the session beside the y of `one`.
fn meets_one_that_came(store: &Store, presented: &ClientId, act: &Act, found: impl Fn()) {
    let (name, act) = act;
    let y = store.client_ids().issue();
    put(store, &y, "k", 0);
    let one = store.begin().unwrap();
    act(&one.session(presented).unwrap()).unwrap();
    let of_y = one.session(&y).unwrap();
    of_y.pkg("app").insert("k", 1).unwrap();
    found();
    put(store, &y, "k", 2);
    let error = one.commit().expect_err(name);
    assert_eq!(error.kind(), ErrorKind::Conflict, "{name}");
    assert_eq!(get(store, &y, "k"), Some(2), "{name}");
}

// C2.7
#[test]
fn what_was_acted_on_as_absent_counts_as_read() {
    for act in &ACTS {
        let store = Store::in_memory().unwrap();
        let x = store.client_ids().issue();
        meets_one_that_came(&store, &x, act, || put(&store, &x, "k", 2));
        assert_eq!(get(&store, &x, "k"), Some(2));
    }
}

// C2.7: an id that founds nothing itself, inserted under and given up again after a look.
#[test]
fn what_was_inserted_elsewhere_and_taken_back_counts_as_read() {
    let inserts_and_clears: Act = ("insert and clear", |s| {
        s.pkg("app").insert("own", 1)?;
        s.last_access()?;
        s.pkg("app").clear()
    });
    for act in ACTS.iter().chain([&inserts_and_clears]) {
        let store = Store::in_memory().unwrap();
        let x = store.client_ids().issue();
        let presented = again(&store, &x);
        meets_one_that_came(&store, &presented, act, || put(&store, &x, "k", 2));
        assert_eq!(get(&store, &x, "k"), Some(2));
    }
}

// C2.7: to act on an absent session merges with a commit that leaves it absent.
#[test]
fn what_is_absent_still_is_no_conflict() {
    for (name, act) in &ACTS {
        let store = Store::in_memory().unwrap();
        let (x, y) = (store.client_ids().issue(), store.client_ids().issue());
        let x = again(&store, &x);
        let one = store.begin().unwrap();
        act(&one.session(&x).unwrap()).unwrap();
        let of_y = one.session(&y).unwrap();
        of_y.pkg("app").insert("k", 1).unwrap();
        with(&store, &x, Session::destroy);
        one.commit().expect(name);
    }
}

// C2.11, C3.2: the session is over by the clock, and its row is still there.
#[test]
fn ending_an_expired_session_ends_it() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    put(&store, &id, "k", 1);
    clock.advance(secs(3599));
    let slow = store.begin().unwrap();
    let of_slow = slow.session(&id).unwrap();
    assert_eq!(of_slow.pkg("app").get::<u32>("k").unwrap(), Some(1));
    clock.advance(secs(2));
    with(&store, &id, Session::destroy);
    // Its touch finds nothing to revive.
    slow.commit().unwrap();
    assert_eq!(get(&store, &id, "k"), None);
    // And the id is refused like any other that was ended.
    let late = store.begin().unwrap();
    let of_late = late.session(&again(&store, &id)).unwrap();
    of_late.pkg("app").insert("k", 2).unwrap();
    assert!(late.commit().unwrap_err().is_conflict());
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C2.11: a transaction that wrote to it meanwhile conflicts.
#[test]
fn who_writes_to_a_session_that_expired_and_was_ended_conflicts() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    put(&store, &id, "k", 1);
    clock.advance(secs(3599));
    let slow = store.begin().unwrap();
    let of_slow = slow.session(&id).unwrap();
    of_slow.pkg("app").insert("k", 2).unwrap();
    clock.advance(secs(2));
    with(&store, &id, Session::destroy);
    assert!(slow.commit().unwrap_err().is_conflict());
    assert_eq!(get(&store, &id, "k"), None);
}

// C2.11: a touch between the look and the commit does not save a session from its end.
#[test]
fn an_expired_session_is_ended_although_it_was_touched_meanwhile() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    put(&store, &id, "k", 1);
    clock.advance(secs(3599));
    let slow = store.begin().unwrap();
    slow.session(&id).unwrap().exists().unwrap();
    clock.advance(secs(2));
    let ending = store.begin().unwrap();
    ending.session(&id).unwrap().destroy().unwrap();
    slow.commit().unwrap();
    ending.commit().unwrap();
    assert_eq!(get(&store, &id, "k"), None);
}

/// Founds under `id` in a commit that waits in the queue while the id founds another session, which is
/// ended. A dead id is refused for no time at all, so that nothing else hides the fault.
fn queued(found: impl Fn(&Session) -> Result<()>) {
    needs_files!("the writer's thread is held up");
    let builder = Store::builder().clock(clock());
    let store = builder
        .tombstone_lifetime(Duration::ZERO)
        .in_memory()
        .unwrap();
    let id = store.client_ids().issue();
    let one = store.begin().unwrap();
    found(&one.session(&id).unwrap()).unwrap();
    put(&store, &id, "k", 2);
    let ending = store.begin().unwrap();
    ending.session(&id).unwrap().destroy().unwrap();
    let held = HeldWriter::of(&store);
    let mut ending = pin!(ending.commit_async());
    let mut one = pin!(one.commit_async());
    let mut context = Context::from_waker(Waker::noop());
    assert!(ending.as_mut().poll(&mut context).is_pending());
    assert!(one.as_mut().poll(&mut context).is_pending());
    drop(held);
    block_on(ending).unwrap();
    let error = block_on(one).unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(get(&store, &id, "k"), None);
}

// C4.8
#[test]
fn a_dead_id_is_not_found_again_by_a_commit_that_waited() {
    queued(|session| session.pkg("app").insert("k", 1));
}

// C4.8, C8.1
#[test]
fn an_owner_founds_no_session_under_a_dead_id() {
    queued(|session| session.set_owner(Some("ann")));
}

// C4.8: an id is refused until its tombstone ends, however long ago the transaction began.
#[test]
fn the_refusal_of_an_ended_id_counts_from_the_commit() {
    for (wait, left) in [(8, Some(2)), (10, None), (60, None)] {
        let (clock, store) = timed();
        let id = store.client_ids().issue();
        put(&store, &id, "k", 1);
        with(&store, &id, Session::destroy);
        let slow = store.begin().unwrap();
        let session = slow.session(&again(&store, &id)).unwrap();
        session.pkg("app").insert("k", 2).unwrap();
        assert_eq!(session.pkg("app").get::<u32>("other").unwrap(), None);
        clock.advance(secs(wait));
        let refusal = slow.commit().err();
        let told = refusal.map(|e| (e.kind(), e.retry_after().unwrap()));
        assert_eq!(
            told,
            left.map(|left| (ErrorKind::Conflict, secs(left))),
            "{wait}"
        );
    }
}

// C3.2, C2.11: somebody was told that it is over, and left it at that.
#[test]
fn a_touch_does_not_revive_what_was_found_expired() {
    for looked in [false, true] {
        let (clock, store) = timed();
        let id = store.client_ids().issue();
        put(&store, &id, "k", 1);
        clock.advance(secs(3599));
        let slow = store.begin().unwrap();
        assert!(slow.session(&id).unwrap().exists().unwrap());
        clock.advance(secs(2));
        if looked {
            assert_eq!(get(&store, &id, "k"), None);
        }
        slow.commit().unwrap();
        // Where nobody looked, its last use is that of the slow one.
        let left = (!looked).then_some(1);
        assert_eq!(get(&store, &id, "k"), left);
        clock.advance(secs(3598));
        assert_eq!(get(&store, &id, "k"), left);
    }
}

// C3.2: the access is recorded by a commit to another session.
#[test]
fn a_touch_beside_changes_does_not_revive_what_was_found_expired() {
    for looked in [false, true] {
        let (clock, store) = timed();
        let (read, written) = (store.client_ids().issue(), store.client_ids().issue());
        put(&store, &read, "k", 1);
        clock.advance(secs(3599));
        put(&store, &written, "k", 1);
        let slow = store.begin().unwrap();
        assert!(slow.session(&read).unwrap().exists().unwrap());
        let other = slow.session(&written).unwrap();
        other.pkg("app").insert("k", 2).unwrap();
        clock.advance(secs(2));
        if looked {
            assert_eq!(get(&store, &read, "k"), None);
        }
        slow.commit().unwrap();
        assert_eq!(get(&store, &read, "k"), (!looked).then_some(1));
        assert_eq!(get(&store, &written, "k"), Some(2));
    }
}

// C3.2, C1.9: or to the same session in another container.
#[test]
fn a_touch_beside_changes_in_another_container_does_not_revive_what_was_found_expired() {
    let (clock, store) = timed();
    let day = ContainerSettings::new().timeout(secs(86_400));
    store.register("cart", day).unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |s| {
        s.pkg("app").insert("k", 1)?;
        s.pkg("cart").insert("k", 1)
    });
    clock.advance(secs(3599));
    let slow = store.begin().unwrap();
    let session = slow.session(&id).unwrap();
    assert_eq!(session.pkg("app").get::<u32>("k").unwrap(), Some(1));
    session.pkg("cart").insert("k", 2).unwrap();
    clock.advance(secs(2));
    assert_eq!(get(&store, &id, "k"), None);
    slow.commit().unwrap();
    assert_eq!(get(&store, &id, "k"), None);
    let cart = with(&store, &id, |s| s.pkg("cart").get::<u32>("k"));
    assert_eq!(cart, Some(2));
}

/// What brings a session back that has expired meanwhile.
const WRITES: [Act; 6] = [
    ("insert", |s| s.pkg("app").insert("k", 2)),
    ("read and insert", |s| {
        assert_eq!(s.pkg("app").get::<u32>("k")?, Some(1));
        s.pkg("app").insert("k", 2)
    }),
    ("add", |s| s.pkg("app").add("k", 1)),
    ("timeout", |s| s.set_timeout(Some(secs(86_400)))),
    ("rotate", |s| s.rotate().map(drop)),
    // Where the session was not before: it would go on there.
    ("insert elsewhere", |s| s.pkg("cart").insert("k", 2)),
];

/// The store, a session that `write` was done to a second before its timeout, and that transaction, a second after it.
fn written_in_time(write: &Act) -> (Clock, Store, ClientId, Transaction) {
    let (clock, store) = timed();
    store.register("cart", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "k", 1);
    clock.advance(secs(3599));
    let slow = store.begin().unwrap();
    let session = slow.session(&again(&store, &id)).unwrap();
    assert!(session.exists().unwrap());
    write.1(&session).expect(write.0);
    clock.advance(secs(2));
    (clock, store, id, slow)
}

// C2.7, C2.11, C3.2: a transaction was told that the session is over. One that saw it live commits before that, or not
// at all.
#[test]
fn a_write_begun_in_time_does_not_revive_what_was_found_expired() {
    for write in &WRITES {
        let (clock, store, id, slow) = written_in_time(write);
        assert_eq!(get(&store, &id, "k"), None);
        let error = slow.commit().expect_err(write.0);
        assert_eq!(error.kind(), ErrorKind::Conflict, "{}", write.0);
        assert!(!with(&store, &id, Session::exists), "{}", write.0);
        // It stays over.
        clock.advance(secs(10));
        assert!(!with(&store, &id, Session::exists), "{}", write.0);
        let swept = store.container("").unwrap().sweep().unwrap();
        assert_eq!(swept.removed, 1, "{}", write.0);
        assert_eq!(store.check().unwrap().sessions, 0, "{}", write.0);
    }
}

// C3.2: where nobody looked, it was used in time.
#[test]
fn a_write_begun_in_time_is_a_use_of_what_nobody_found_expired() {
    for write in &WRITES {
        let (_, store, _, slow) = written_in_time(write);
        slow.commit().expect(write.0);
        assert!(store.check().unwrap().sessions > 0, "{}", write.0);
        let swept = store.container("").unwrap().sweep().unwrap();
        // What was only looked at in the one goes on in the other.
        assert_eq!(swept.removed, 0, "{}", write.0);
    }
}

// C2.11: to end it is no conflict.
#[test]
fn what_was_found_expired_is_ended_all_the_same() {
    let (_, store, id, slow) = written_in_time(&("destroy", Session::destroy));
    assert_eq!(get(&store, &id, "k"), None);
    slow.commit().unwrap();
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C2.11, C3.2: a transaction that finds it expired before the commit is decided comes first.
#[test]
fn a_write_that_waits_in_the_queue_does_not_revive_what_was_found_expired() {
    needs_files!("the writer's thread is held up");
    let (_, store, id, slow) = written_in_time(&WRITES[0]);
    let held = HeldWriter::of(&store);
    let mut committing = pin!(slow.commit_async());
    let mut context = Context::from_waker(Waker::noop());
    assert!(committing.as_mut().poll(&mut context).is_pending());
    assert_eq!(get(&store, &id, "k"), None);
    drop(held);
    let error = block_on(committing).unwrap_err();
    assert!(error.is_conflict());
    assert!(!with(&store, &id, Session::exists));
}

// C3.2: a clock that was put right again has ended nothing, and accesses count again.
#[test]
fn what_was_found_expired_by_a_clock_that_was_ahead_is_touched_again() {
    let (clock, store) = timed();
    let id = store.client_ids().issue();
    put(&store, &id, "k", 1);
    clock.advance(secs(3601));
    assert_eq!(get(&store, &id, "k"), None);
    clock.set("2026-01-01T00:00:00Z".parse().unwrap());
    for _ in 0..3 {
        clock.advance(secs(3600));
        assert_eq!(get(&store, &id, "k"), Some(1));
    }
}

// C2.1, C2.7: a blind clear applies to the package as of the commit.
#[test]
fn what_was_cleared_blindly_is_cleared_as_of_the_commit() {
    let store = Store::in_memory().unwrap();
    let x = store.client_ids().issue();
    let presented = again(&store, &x);
    let one = store.begin().unwrap();
    let session = one.session(&presented).unwrap();
    session.pkg("app").insert("own", 1).unwrap();
    session.pkg("app").clear().unwrap();
    put(&store, &x, "k", 2);
    one.commit().unwrap();
    assert_eq!(get(&store, &x, "k"), None);
    assert!(with(&store, &x, Session::exists));
}
