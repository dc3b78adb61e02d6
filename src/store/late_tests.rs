//! On an engine whose answers come late, asynchronous code blocks no thread.

use super::*;
use crate::block_on::times_blocked;
use crate::client_id::{ClientIds, Secret};
use crate::{ClientId, Clock, ContainerSettings, Error, ErrorKind, Txn, WhenFull};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

fn store(clock: &Clock) -> Store {
    let builder = Store::builder().clock(clock.clone());
    drive(builder.implicit_sweeps(false).on_a_remote_engine(None, 7)).unwrap()
}

fn clock() -> Clock {
    Clock::manual("2026-11-28T12:00:00Z".parse().unwrap())
}

/// Runs a future to its end on this thread, which must not block meanwhile.
#[track_caller]
fn drive<F: Future>(future: F) -> F::Output {
    let before = times_blocked();
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let output = loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => break output,
            Poll::Pending => thread::yield_now(),
        }
    };
    assert_eq!(times_blocked(), before, "the thread was blocked");
    output
}

/// The id of a session with one value.
fn visitor(store: &Store) -> ClientId {
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.pkg("app").insert("n", 1);
    store.transact(put).unwrap();
    id
}

fn number(store: &Store, id: &ClientId) -> Option<u64> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("app").get("n").unwrap()
}

#[test]
fn a_store_is_opened_without_blocking() {
    let store = drive(Store::builder().on_a_remote_engine(None, 7)).unwrap();
    assert_eq!(number(&store, &visitor(&store)), Some(1));
}

// C4.2
#[test]
fn a_secret_of_another_process_is_learned_without_blocking() {
    let store = store(&clock());
    store.add_secret_elsewhere(77, [77; 32]);
    let ids = ClientIds::new(Secret::from_key(77, [77; 32]), Vec::new());
    let id = ids.issue();
    let verified = drive(store.verify_async(id.as_str())).unwrap();
    assert_eq!(verified, Some(id));
}

// C8.2
#[test]
fn a_login_with_a_limit_of_sessions_reads_the_list_of_the_owner_without_blocking() {
    for when_full in [WhenFull::EndOldest, WhenFull::Refuse] {
        let clock = clock();
        let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
        let builder = builder.max_sessions_per_owner(1, when_full);
        let store = drive(builder.on_a_remote_engine(None, 7)).unwrap();
        let log_in = async |wait: Duration| {
            let txn = store.begin_async().await?;
            let session = txn.visit(None).await?;
            // The fetched data has become too old, as after a long upload.
            clock.advance(wait);
            let id = session.log_in_async("ann").await?;
            txn.commit_async().await?;
            Ok::<_, Error>(id)
        };
        let first = drive(log_in(Duration::ZERO)).unwrap();
        let second = drive(log_in(Duration::from_secs(31)));
        let lives = match (when_full, second) {
            (WhenFull::EndOldest, second) => second.unwrap(),
            (WhenFull::Refuse, second) => {
                assert_eq!(second.unwrap_err().kind(), ErrorKind::NotAdmitted);
                first
            }
        };
        let known = drive(store.sessions_of_async("ann")).unwrap();
        let known: Vec<_> = known.iter().map(|info| info.client).collect();
        assert_eq!(known, [lives.key()]);
    }
}

#[test]
fn a_session_that_is_loaded_is_read_and_written_without_blocking() {
    let store = store(&clock());
    store.register("cart", ContainerSettings::new()).unwrap();
    let id = visitor(&store);
    drive(async {
        let txn = store.begin_async().await.unwrap();
        let session = txn.session_async(&id).await.unwrap();
        assert!(session.exists().unwrap());
        assert!(session.created_at().unwrap().is_some());
        let n: Option<u64> = session.pkg("app").get("n").unwrap();
        session.pkg("app").insert("n", n.unwrap() + 1).unwrap();
        session.pkg("cart").insert("k", 1).unwrap();
        txn.commit_async().await.unwrap();
    });
    assert_eq!(number(&store, &id), Some(2));
}

#[test]
fn what_is_not_loaded_blocks_a_call_that_is_not_asynchronous() {
    let store = store(&clock());
    let id = visitor(&store);
    let before = times_blocked();
    assert_eq!(number(&store, &id), Some(1));
    assert!(times_blocked() > before);
}

#[test]
fn changes_before_the_first_look_are_packed_without_blocking() {
    let store = store(&clock());
    let (id, new) = (visitor(&store), store.client_ids().issue());
    let before = times_blocked();
    let txn = store.begin().unwrap();
    for id in [&id, &new] {
        let session = txn.session(id).unwrap();
        session.pkg("app").insert("n", 5).unwrap();
        session.set_owner(Some("ann")).unwrap();
    }
    drive(txn.commit_async()).unwrap();
    assert_eq!(times_blocked(), before);
    assert_eq!(number(&store, &id), Some(5));
    assert_eq!(number(&store, &new), Some(5));
}

// C4.7
#[test]
fn other_sessions_are_rotated_and_destroyed_once_they_are_loaded() {
    let store = store(&clock());
    let ids = [visitor(&store), visitor(&store)];
    let rotated = drive(store.transact_async(async |txn: Txn| {
        for id in &ids {
            txn.load(id).await?;
        }
        txn.session(&ids[1])?.destroy()?;
        txn.session(&ids[0])?.rotate()
    }));
    assert_eq!(number(&store, &rotated.unwrap()), Some(1));
    assert_eq!(number(&store, &ids[0]), None);
    assert_eq!(number(&store, &ids[1]), None);
}

#[test]
fn the_handle_of_a_session_loads_it() {
    let store = store(&clock());
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let handle = txn.session(&id).unwrap().handle().unwrap();
    drop(txn);
    let add = drive(handle.transact_async(async |session| {
        let n: Option<u64> = session.pkg("app").get("n")?;
        session.pkg("app").insert("n", n.unwrap_or(0) + 1)
    }));
    add.unwrap();
    assert_eq!(number(&store, &id), Some(2));
}

// C3.2, C3.4
#[test]
fn due_accesses_and_expired_sessions_are_found_without_blocking() {
    let clock = clock();
    let store = store(&clock);
    let id = visitor(&store);
    let read = async |id: &ClientId| {
        let txn = store.begin_async().await.unwrap();
        let session = txn.session_async(id).await.unwrap();
        let n: Option<u64> = session.pkg("app").get("n").unwrap();
        txn.commit_async().await.unwrap();
        n
    };
    let minutes = |n: u64| Duration::from_secs(60 * n);
    for _ in 0..3 {
        clock.advance(minutes(50));
        assert_eq!(drive(read(&id)), Some(1), "each access is recorded");
    }
    clock.advance(minutes(61));
    assert_eq!(drive(read(&id)), None);
}
