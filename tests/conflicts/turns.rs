//! C2.10: `transact` runs again, and every writer of a session gets its turn.

use super::{LONG, put, shop, stored, usual};
use crate::support::runtime::{block_on, without_blocking};
use crate::support::visitors::with;
use cloakroom::{ClientId, Error, ErrorKind, Result, Store, Txn};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

// C2.10
#[test]
fn transact_runs_again_on_a_conflict() {
    let (store, id) = usual();
    let mut runs = 0;
    let seen = store
        .transact::<_, Error>(|txn| {
            runs += 1;
            let mine = txn.session(&id)?.pkg("shop");
            let n: Option<u32> = mine.get("key")?;
            if runs == 1 {
                put(&store, &id, "key", 7);
            }
            mine.insert("key", n.unwrap() + 1)?;
            Ok(n)
        })
        .unwrap();
    assert_eq!((runs, seen), (2, Some(7)));
    assert_eq!(stored(&store, &id, "key"), Some(8));
}

// C2.10
#[test]
fn transact_does_not_run_again_on_other_errors() {
    let (store, id) = usual();
    let mut runs = 0;
    let failed = store.transact::<(), Error>(|txn| {
        runs += 1;
        let mine = txn.session(&id)?.pkg("shop");
        mine.insert("key", "text")?;
        mine.add("key", 1)
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(runs, 1);
}

// C2.10
#[test]
fn transact_gives_the_last_conflict_after_bounded_attempts() {
    let builder = Store::builder().max_attempts(3).turn_wait(Duration::ZERO);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 0);
    let mut runs = 0;
    let failed = store.transact::<(), Error>(|txn| {
        runs += 1;
        let mine = txn.session(&id)?.pkg("shop");
        let key = format!("key{runs}");
        mine.get::<u32>(&key)?;
        put(&store, &id, &key, runs);
        mine.insert("key", runs)
    });
    let error = failed.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.key(), Some("key3"));
    assert_eq!(runs, 3);
    assert_eq!(stored(&store, &id, "key"), Some(0));
}

fn increment(txn: &Txn, id: &ClientId) -> Result<u32> {
    let mine = txn.session(id)?.pkg("shop");
    let n = mine.get::<u32>("count")?.unwrap_or(0) + 1;
    mine.insert("count", n)?;
    Ok(n)
}

// C2.10
#[test]
fn sixteen_threads_that_increment_one_key_all_get_through() {
    // In line from the second attempt on, nobody needs a third.
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let start = Barrier::new(16);
    let mut numbers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let mut mine = Vec::new();
                    for _ in 0..20 {
                        mine.push(store.transact(|txn| increment(txn, &id)).unwrap());
                    }
                    mine
                })
            })
            .collect();
        let joined = threads.into_iter().flat_map(|t| t.join().unwrap());
        joined.collect::<Vec<_>>()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=320).collect::<Vec<_>>());
}

// C2.10
#[test]
fn sixteen_tasks_that_increment_one_key_all_get_through() {
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (store, id) = (store.clone(), id.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let one = |txn: Txn| {
                            let id = id.clone();
                            async move {
                                let n = increment(&txn, &id)?;
                                tokio::task::yield_now().await;
                                Ok::<_, Error>(n)
                            }
                        };
                        store.transact_async(one).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(stored(&store, &id, "count"), Some(320));
}

// C2.10
#[test]
fn waiting_for_a_turn_needs_no_thread() {
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let all = async {
        let started = Arc::new(tokio::sync::Barrier::new(16));
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (store, id, started) = (store.clone(), id.clone(), started.clone());
                let first = Arc::new(AtomicUsize::new(0));
                tokio::task::spawn_local(async move {
                    let one = |txn: Txn| {
                        let (id, started) = (id.clone(), started.clone());
                        let run = first.fetch_add(1, Ordering::SeqCst);
                        async move {
                            txn.load(&id).await?;
                            increment(&txn, &id)?;
                            if run == 0 {
                                // All have read before anyone commits.
                                started.wait().await;
                            }
                            Ok::<_, Error>(())
                        }
                    };
                    store.transact_async(one).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    without_blocking(|| local.block_on(&runtime, all));
    assert_eq!(stored(&store, &id, "count"), Some(16));
}

/// A transact that holds the turn of `id` in its second attempt; `meanwhile` runs then, after the
/// key was read. Gives how many attempts it took.
fn holding_the_turn(store: &Store, id: &ClientId, meanwhile: impl Fn()) -> u32 {
    let mut runs = 0;
    store
        .transact::<_, Error>(|txn| {
            runs += 1;
            increment(txn, id)?;
            match runs {
                1 => with(store, id, |s| s.pkg("shop").add("count", 100)),
                2 => meanwhile(),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    runs
}

// C2.10
#[test]
fn while_a_turn_is_held_other_commits_to_that_session_wait_behind_it() {
    let (store, id) = usual();
    let waiting = std::cell::RefCell::new(None);
    let runs = holding_the_turn(&store, &id, || {
        let other = store.begin().unwrap();
        shop(&other, &id).insert("count", 1000).unwrap();
        let mut commit = Box::pin(other.commit_async());
        let polled = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        waiting.replace(Some(commit));
    });
    assert_eq!(runs, 2, "the other commit overtook the turn");
    assert_eq!(stored(&store, &id, "count"), Some(101));
    let commit = waiting.take().unwrap();
    block_on(commit).unwrap();
    assert_eq!(stored(&store, &id, "count"), Some(1000));
}

// C2.10
#[test]
fn a_held_turn_keeps_no_other_session_waiting() {
    let (store, id) = usual();
    let other = store.client_ids().issue();
    let runs = holding_the_turn(&store, &id, || {
        put(&store, &other, "key", 1);
        assert_eq!(stored(&store, &id, "key"), Some(1));
    });
    assert_eq!(runs, 2);
}

// C2.10
#[test]
fn a_commit_dropped_in_line_leaves_it() {
    let (store, id) = usual();
    let (told, heard) = mpsc::channel();
    let runs = holding_the_turn(&store, &id, || {
        let other = store.begin().unwrap();
        shop(&other, &id).insert("count", 1000).unwrap();
        let told = told.clone();
        other.after_abort(move || told.send(()).unwrap());
        let mut commit = Box::pin(other.commit_async());
        let polled = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        drop(commit);
    });
    heard.recv().expect("it was aborted");
    assert_eq!(runs, 2);
    put(&store, &id, "after", 1);
    assert_eq!(stored(&store, &id, "count"), Some(101));
}

// C2.10
#[test]
fn a_wait_for_a_turn_ends_after_turn_wait_and_goes_on_optimistically() {
    let builder = Store::builder().turn_wait(Duration::from_millis(1));
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runs = holding_the_turn(&store, &id, || put(&store, &id, "count", 1000));
    assert_eq!(runs, 3);
    assert_eq!(stored(&store, &id, "count"), Some(1001));
}

// C2.10
#[test]
fn a_nested_transact_on_one_session_ends() {
    let builder = Store::builder()
        .max_attempts(4)
        .turn_wait(Duration::from_millis(1));
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    // The inner one changes what the outer one has read, each time.
    let outer = store.transact(|txn| {
        increment(txn, &id)?;
        store.transact(|txn| increment(txn, &id))
    });
    assert!(outer.unwrap_err().is_conflict());
    assert_eq!(stored(&store, &id, "count"), Some(4));

    let outer = store.transact(|txn| {
        store.transact(|txn| txn.session(&id)?.pkg("shop").add("inner", 1))?;
        txn.session(&id)?.pkg("shop").add("outer", 1)
    });
    outer.unwrap();
    assert_eq!(stored(&store, &id, "inner"), Some(1));
    assert_eq!(stored(&store, &id, "outer"), Some(1));
}

// C2.10
#[test]
fn crossed_writers_over_two_sessions_all_get_through() {
    let builder = Store::builder().max_attempts(1000).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let (ann, bob) = (store.client_ids().issue(), store.client_ids().issue());
    put(&store, &ann, "key", 1);
    put(&store, &bob, "key", 1);
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (first, second) = if n % 2 == 0 {
                (&ann, &bob)
            } else {
                (&bob, &ann)
            };
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..10 {
                    store
                        .transact::<_, Error>(|txn| {
                            increment(txn, first)?;
                            increment(txn, second)
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(stored(&store, &ann, "count"), Some(80));
    assert_eq!(stored(&store, &bob, "count"), Some(80));
}

// C2.10
#[test]
fn blind_writers_and_readers_in_turn_never_stop_each_other() {
    let (store, id) = usual();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                store.transact(|txn| increment(txn, &id)).unwrap();
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut n = 0;
            while done.load(Ordering::SeqCst) == 0 {
                n += 1;
                put(&store, &id, "blind", n);
                with(&store, &id, |s| s.pkg("shop").add("count", 0));
            }
        });
    });
    assert_eq!(stored(&store, &id, "count"), Some(50));
}
