//! C7.5: a handle in a process that was forked from the one that opened the store gives an error at once, and
//! dropping it does nothing to the files.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, Store, StoreBuilder, Transaction, Txn,
};
use fork::Fork;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::files::image;
use support::store::file_builder;
use support::visitors::{get, put};

/// How long a child that should answer at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn builder() -> StoreBuilder {
    file_builder().implicit_sweeps(true)
}

/// Runs this in a process of its own, which has all memory and one thread; gives what it says.
fn in_a_child(work: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let child = match fork::fork().unwrap() {
        Fork::Child => {
            let said = catch_unwind(AssertUnwindSafe(work));
            let said = said.unwrap_or_else(|_| "it panicked".to_owned());
            writer.write_all(said.as_bytes()).unwrap();
            drop(writer);
            std::process::exit(0);
        }
        Fork::Parent(child) => Pid::from_raw(child).unwrap(),
    };
    drop(writer);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        tell.send(said).unwrap();
    });
    let said = told.recv_timeout(PATIENCE);
    if said.is_err() {
        kill_process(child, Signal::KILL).unwrap();
    }
    waitpid(Some(child), WaitOptions::empty()).unwrap();
    said.expect("the child hangs")
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.map(drop).map_err(|e| e.kind()).err()
}

fn writing(store: &Store, id: &ClientId) -> Transaction {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("p").insert("n", 99).unwrap();
    txn
}

/// Polls it once; whether it is still on its way.
fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context).is_pending()
}

/// What calls in a child give that are not [`OtherProcess`](ErrorKind::OtherProcess).
fn others(results: &[(&str, Option<ErrorKind>)]) -> String {
    let other = |(_, kind): &&(&str, Option<ErrorKind>)| *kind != Some(ErrorKind::OtherProcess);
    format!("{:?}", results.iter().filter(other).collect::<Vec<_>>())
}

// C7.5
#[test]
fn in_a_child_begin_commit_and_close_give_an_error_and_dropping_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let container = store.container("").unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let before = image(folder.path());
    let [sync, later, dropped] = [(); 3].map(|()| writing(&store, &id));
    let read = store.begin().unwrap();
    read.session(&id).unwrap().exists().unwrap();
    let hooked = writing(&store, &id);
    hooked.after_abort(|| ());
    let committing = writing(&store, &id).commit_async();
    let mut kept = Some((
        store, container, sync, later, dropped, read, hooked, committing,
    ));

    let said = in_a_child(|| {
        let (store, container, sync, later, dropped, read, hooked, committing) =
            kept.take().unwrap();
        let results = [
            ("begin", kind(store.begin())),
            ("begin_async", kind(pollster::block_on(store.begin_async()))),
            ("commit", kind(sync.commit())),
            (
                "commit_async",
                kind(pollster::block_on(later.commit_async())),
            ),
            ("begun before", kind(pollster::block_on(committing))),
            ("commit of nothing", kind(read.commit())),
            ("transact", kind(store.transact(|_| Ok::<_, Error>(())))),
            ("checkpoint", kind(store.checkpoint())),
            ("check", kind(store.check())),
            ("sessions_of", kind(store.sessions_of("ann"))),
            ("statistics", kind(store.statistics())),
            ("sweep", kind(container.sweep())),
            (
                "register",
                kind(store.register("other", ContainerSettings::new())),
            ),
            ("close", kind(store.clone().close())),
        ];
        let locked = kind(builder().open(&path));
        let text = store.begin().map(drop).unwrap_err().to_string();
        drop((dropped, hooked));
        drop((store, container));
        format!("{}, {locked:?}, {text}", others(&results))
    });
    let (results, text) = said.split_once(", Some(Locked), ").unwrap();
    assert_eq!(results, "[]");
    assert!(text.contains("daemonize before opening"), "{said}");

    // All is as it was, and goes on.
    let (store, container, sync, later, ..) = kept.unwrap();
    assert!(image(folder.path()) == before, "a file was changed");
    assert_eq!(kind(builder().open(&path)), Some(ErrorKind::Locked));
    assert_eq!(get(&store, &id), Some(1));
    sync.commit().unwrap();
    pollster::block_on(later.commit_async()).unwrap();
    put(&store, &id, 2);
    container.sweep().unwrap();
    store.close().unwrap();
    assert_eq!(image(folder.path()).len(), 1);
    let store = builder().open(&path).unwrap();
    assert_eq!(get(&store, &id), Some(2));
    assert!(store.check().unwrap().is_clean());
}

// C7.5: what other threads held at the moment of the fork stays locked in the child.
#[test]
fn a_child_of_a_busy_process_answers_at_once_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let committed = std::thread::scope(|scope| {
        let busy: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let id = store.client_ids().issue();
                    let mut n = 0;
                    while n == 0 || !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        put(&store, &id, n);
                    }
                    (id, n)
                })
            })
            .collect();
        for _ in 0..25 {
            let id = store.client_ids().issue();
            let mut txn = Some(writing(&store, &id));
            let mut clone = Some(store.clone());
            let said = in_a_child(|| {
                let clone = clone.take().unwrap();
                let results = [
                    ("begin", kind(clone.begin())),
                    ("commit", kind(txn.take().unwrap().commit())),
                    ("close", kind(clone.close())),
                ];
                others(&results)
            });
            assert_eq!(said, "[]");
        }
        is_over.store(true, Ordering::Relaxed);
        let busy = busy.into_iter().map(|thread| thread.join().unwrap());
        busy.collect::<Vec<_>>()
    });
    let reopened = store.statistics().unwrap().reopened();
    assert_eq!(reopened, 0);
    store.close().unwrap();
    let store = builder().open(&path).unwrap();
    for (id, n) in committed {
        assert_eq!(get(&store, &id), Some(n));
    }
    assert!(store.check().unwrap().is_clean());
}

// C7.5: a commit that was queued before is answered in the process that queued it alone.
#[test]
fn a_future_that_comes_into_a_child_gives_an_error() {
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
            is_over.store(true, Ordering::Relaxed);
            pending
        });
        assert!(pending > 0, "no commit was on its way");
    }
}

// C2.13, C7.5: a commit that waits for room, in the process of the store and in a child.
#[test]
fn commits_that_wait_for_room_give_an_error_in_a_child_and_are_dropped_there() {
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

// C7.1, C7.5: opened before daemonizing, and not closed by the process that opened it.
#[cfg(target_os = "linux")]
#[test]
fn who_inherited_a_lock_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let (mut end, mut ended) = std::io::pipe().map(|(r, w)| (r, Some(w))).unwrap();
    let first = match fork::fork().unwrap() {
        Fork::Child => {
            drop(ended);
            let store = builder().open(&path).unwrap();
            if let Fork::Parent(_) = fork::fork().unwrap() {
                // As one that daemonizes: nothing is dropped.
                std::process::exit(0);
            }
            // Until that one is gone.
            end.read_exact(&mut [0]).unwrap();
            let said = kind(store.begin());
            drop(store);
            let again = builder().open(&path).unwrap_err();
            let said = format!("{}\n{said:?}\n{again}", std::process::id());
            writer.write_all(said.as_bytes()).unwrap();
            drop(writer);
            // Until the test is done.
            let _ = end.read(&mut [0]);
            std::process::exit(0);
        }
        Fork::Parent(child) => Pid::from_raw(child).unwrap(),
    };
    drop((writer, end));
    waitpid(Some(first), WaitOptions::empty()).unwrap();
    ended.as_mut().unwrap().write_all(&[0]).unwrap();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let outside = builder().open(&path).unwrap_err();
    drop(ended.take());

    let lines: Vec<_> = said.lines().collect();
    let [second, begin, again] = lines[..] else {
        panic!("{said}");
    };
    assert_eq!(begin, "Some(OtherProcess)");
    let first = first.as_raw_nonzero();
    assert!(again.contains("by this process itself"), "{again}");
    assert_eq!(outside.kind(), ErrorKind::Locked);
    let outside = outside.to_string();
    assert!(
        outside.contains(&format!("by process {second} (")),
        "{outside}"
    );
    // Where the system shows processes that have ended.
    let origin = format!("forked from process {first}, which took the lock");
    let is_shown = outside.contains("forked");
    assert!(!is_shown || outside.contains(&origin), "{outside}");
    // Once nobody has it, it opens.
    let waiting = builder().wait_for_lock(PATIENCE);
    waiting.open(&path).unwrap().close().unwrap();
}

// C7.5: what is opened after the fork works.
#[test]
fn a_child_may_open_a_store_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    let said = in_a_child(|| {
        let store = builder().open(&path).unwrap();
        put(&store, &id, 2);
        store.close().unwrap();
        "done".to_owned()
    });
    assert_eq!(said, "done");
    assert_eq!(get(&builder().open(&path).unwrap(), &id), Some(2));
}
