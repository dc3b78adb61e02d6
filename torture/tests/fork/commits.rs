//! The fate of commits under way, and of their hooks, in a child.

use super::{OTHER_TESTS, PATIENCE, beside_others, builder, in_a_child, kind, others, writing};
use crate::support::files::image;
use crate::support::visitors::{get, put};
use crate::support::wait::SetOnDrop;
use cloakroom::Txn;
use fork::Fork;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Polls it once; whether it is still on its way.
fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context).is_pending()
}

// C7.5: a commit that was queued before is answered in the process that queued it alone.
#[test]
fn a_future_that_comes_into_a_child_gives_an_error() {
    let _beside = beside_others();
    let store = builder().in_memory().unwrap();
    let id = store.client_ids().issue();
    let mut committing = pin!(writing(&store, &id).commit_async());
    let polled = committing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    // The writer thread may have been quicker.
    if polled.is_pending() {
        let said = in_a_child(|| {
            let mut context = Context::from_waker(Waker::noop());
            match committing.as_mut().poll(&mut context) {
                Poll::Ready(answer) => format!("{:?}", kind(answer)),
                Poll::Pending => "pending".to_owned(),
            }
        });
        assert_eq!(said, "Some(OtherProcess)");
        pollster::block_on(committing).unwrap();
    }
    assert_eq!(get(&store, &id), Some(99));
}

// C7.5: in a child there is neither a holder of the turn nor a thread for deadlines.
#[test]
fn commits_that_wait_in_a_line_give_an_error_in_a_child_and_are_dropped_there() {
    let _beside = beside_others();
    let store = builder()
        .turn_wait(Duration::from_secs(3600))
        .in_memory()
        .unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let mut attempt = 0;
    let mut left = None;
    let contended = |txn: &Txn| {
        attempt += 1;
        let pkg = txn.session(&id)?.pkg("p");
        let n: Option<u64> = pkg.get("n")?;
        if attempt == 1 {
            put(&store, &id, 2);
        } else {
            // This attempt holds the turn.
            let waiting = || {
                let mut commit = Box::pin(writing(&store, &id).commit_async());
                assert!(is_pending(&mut commit));
                Some(commit)
            };
            let (mut awaited, mut dropped) = (waiting(), waiting());
            let beginning = store.transact_async(|txn| {
                let first = txn.session(&id).and_then(|it| it.pkg("p").insert("n", 98));
                let again = first.and_then(|()| txn.session(&id)?.pkg("p").get::<u64>("n"));
                std::future::ready(again)
            });
            let mut beginning = Some(Box::pin(beginning));
            assert!(is_pending(beginning.as_mut().unwrap()));
            let said = in_a_child(|| {
                drop(dropped.take());
                let results = [
                    ("awaited", kind(pollster::block_on(awaited.take().unwrap()))),
                    (
                        "transact_async",
                        kind(pollster::block_on(beginning.take().unwrap())),
                    ),
                ];
                others(&results)
            });
            assert_eq!(said, "[]");
            left = Some((awaited, dropped, beginning));
        }
        pkg.insert("n", n.unwrap_or(0) + 5)
    };
    store.transact(contended).unwrap();
    assert_eq!(attempt, 2);
    // They are still in line in the process of the store.
    let (awaited, dropped, beginning) = left.unwrap();
    assert_eq!(get(&store, &id), Some(7));
    pollster::block_on(awaited.unwrap()).unwrap();
    assert_eq!(get(&store, &id), Some(99));
    drop(dropped);
    pollster::block_on(beginning.unwrap()).unwrap();
    assert_eq!(get(&store, &id), Some(98));
}

/// Writes down that it was called or dropped, and in which process.
struct Mark<'a>(&'a Path, &'static str);

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let name = format!("{} in {}", self.1, std::process::id());
        let _ = fs::write(self.0.join(name), "");
    }
}

// C2.6, C7.5: the hooks and closures of a commit belong to the process of the store.
#[test]
fn a_commit_that_was_never_polled_leaves_its_hooks_alone_in_a_child() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let marks: &'static Path = Box::leak(folder.path().to_owned().into_boxed_path());
    let store = builder().in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let commit = || {
        let txn = store.begin().unwrap();
        let [aborted, committed, computed] =
            ["abort", "commit", "commute"].map(|what| Mark(marks, what));
        txn.after_abort(move || drop(aborted));
        txn.after_commit(move || drop(committed));
        let pkg = txn.session(&id).unwrap().pkg("p");
        let add = move |n: Option<u64>| {
            let _ = &computed;
            n.unwrap_or(0) + 1
        };
        pkg.commute("n", add).unwrap();
        Some(Box::pin(txn.commit_async()))
    };
    let (mut awaited, mut dropped) = (commit(), commit());
    let said = in_a_child(|| {
        drop(dropped.take());
        let result = [("awaited", kind(pollster::block_on(awaited.take().unwrap())))];
        // Were there a thread for hooks in here, it would have run them by now.
        std::thread::sleep(Duration::from_millis(50));
        others(&result)
    });
    assert_eq!(said, "[]");
    assert_eq!(image(marks), BTreeMap::new());
    pollster::block_on(awaited.unwrap()).unwrap();
    drop(dropped);
    assert_eq!(get(&store, &id), Some(2));
}

// C2.6, C7.5: the thread for hooks is the only one of a child that a hook forks.
#[test]
fn a_hook_that_forks_leaves_the_hooks_behind_it_to_the_process_of_the_store() {
    let _alone = OTHER_TESTS.write().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let marks: &'static Path = Box::leak(folder.path().to_owned().into_boxed_path());
    let store = builder().in_memory().unwrap();
    let txn = writing(&store, &store.client_ids().issue());
    let (tell, told) = mpsc::channel();
    txn.after_commit(move || {
        if let Fork::Parent(child) = fork::fork().unwrap() {
            let child = Pid::from_raw(child).unwrap();
            tell.send(child).unwrap();
            // Until it has ended, no hook of the parent's runs.
            waitpid(Some(child), WaitOptions::empty()).unwrap();
        }
    });
    let behind = Mark(marks, "hook");
    let (done, ended) = mpsc::channel();
    txn.after_commit(move || {
        drop(behind);
        done.send(()).unwrap();
    });
    txn.commit().unwrap();
    let child = told.recv().unwrap();
    if ended.recv_timeout(PATIENCE).is_err() {
        kill_process(child, Signal::KILL).unwrap();
        panic!("the child waits for hooks");
    }
    let expected = format!("hook in {}", std::process::id());
    assert_eq!(image(marks).into_keys().collect::<Vec<_>>(), [expected]);
}

// C7.5: what other threads held at the moment of the fork stays locked in the child.
#[test]
fn commits_of_a_busy_process_are_dropped_and_awaited_in_a_child_without_a_wait() {
    let _beside = beside_others();
    for room in [1, 8192] {
        let store = builder().max_waiting_commits(room).in_memory().unwrap();
        let is_over = AtomicBool::new(false);
        let pending = std::thread::scope(|scope| {
            for commits in [true, true, false, false] {
                let (store, is_over) = (&store, &is_over);
                scope.spawn(move || {
                    let id = store.client_ids().issue();
                    while !is_over.load(Ordering::Relaxed) {
                        if commits {
                            put(store, &id, 1);
                        }
                        let aborted = writing(store, &id);
                        aborted.after_abort(|| ());
                    }
                });
            }
            let _over = SetOnDrop(&is_over);
            let mut pending = 0;
            for round in 0..60 {
                let txn = writing(&store, &store.client_ids().issue());
                txn.after_abort(|| ());
                let mut commit = Some(Box::pin(txn.commit_async()));
                // Of those that are polled, some wait for room, and some for their answer.
                let is_polled = round % 3 > 0;
                if is_polled && !is_pending(commit.as_mut().unwrap()) {
                    continue;
                }
                pending += usize::from(is_polled);
                let said = in_a_child(|| {
                    let commit = commit.take().unwrap();
                    if round % 2 == 0 {
                        return format!("{:?}", kind(pollster::block_on(commit)));
                    }
                    drop(commit);
                    "dropped".to_owned()
                });
                let expected = ["Some(OtherProcess)", "dropped"][round % 2];
                assert_eq!(said, expected, "room {room}, round {round}");
                pollster::block_on(commit.unwrap()).unwrap();
            }
            pending
        });
        assert!(pending > 0, "no commit was on its way");
    }
}

// C2.13, C7.5: a commit that waits for room, in the process of the store and in a child.
#[test]
fn commits_that_wait_for_room_give_an_error_in_a_child_and_are_dropped_there() {
    let _beside = beside_others();
    let store = builder().max_waiting_commits(1).in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    // A stale commute keeps the only room while its closure runs again.
    let (enter, entered) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let gate = std::sync::Mutex::new(may_go);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let txn = store.begin().unwrap();
    let add = move |n: Option<u64>| {
        if counted.fetch_add(1, Ordering::SeqCst) > 0 {
            enter.send(()).unwrap();
            gate.lock().unwrap().recv().unwrap();
        }
        n.unwrap_or(0) + 1
    };
    txn.session(&id)
        .unwrap()
        .pkg("p")
        .commute("n", add)
        .unwrap();
    put(&store, &id, 10);
    let commuting = std::thread::spawn(move || txn.commit());
    entered.recv().unwrap();
    let outside = || {
        let other = store.client_ids().issue();
        let mut commit = Box::pin(writing(&store, &other).commit_async());
        assert!(is_pending(&mut commit));
        Some(commit)
    };
    let (mut awaited, mut dropped) = (outside(), outside());
    assert_eq!(store.statistics().unwrap().commits_held_back(), 2);
    let said = in_a_child(|| {
        drop(dropped.take());
        let result = [("awaited", kind(pollster::block_on(awaited.take().unwrap())))];
        others(&result)
    });
    assert_eq!(said, "[]");
    go.send(()).unwrap();
    commuting.join().unwrap().unwrap();
    pollster::block_on(awaited.unwrap()).unwrap();
    pollster::block_on(dropped.unwrap()).unwrap();
    assert_eq!(get(&store, &id), Some(11));
}
