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

use cloakroom::{
    ClientId, Clock, ContainerSettings, Error, ErrorKind, Store, StoreBuilder, Transaction, Txn,
};
use fork::Fork;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How long a child that should answer at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn builder() -> StoreBuilder {
    Store::builder()
        .clock(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()))
        .secret([7; 32])
        .cache_size(1 << 20)
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

fn put(store: &Store, id: &ClientId, n: u64) {
    let put = |txn: &Txn| txn.session(id)?.pkg("p").insert("n", n);
    store.transact(put).unwrap();
}

fn get(store: &Store, id: &ClientId) -> Option<u64> {
    let id = store.client_ids().verify(id.as_str()).unwrap();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").get("n").unwrap()
}

fn writing(store: &Store, id: &ClientId) -> Transaction {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("p").insert("n", 99).unwrap();
    txn
}

/// All files of a folder, by their names.
fn image(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
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
        assert!(["None", "Some(OtherProcess)"].contains(&&*said), "{said}");
        pollster::block_on(committing).unwrap();
    }
    assert_eq!(get(&store, &id), Some(99));
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
