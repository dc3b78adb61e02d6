//! The asynchronous forms of long work do none of it on the thread that awaits them.

use super::Store;
use crate::block_on::block_on;
use crate::container::{Container, ContainerSettings};
use crate::steps;
use std::sync::{Arc, Mutex, mpsc};

fn store() -> (Store, Container) {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    for _ in 0..10 {
        let session = txn.session(&store.client_ids().issue()).unwrap();
        session.pkg("a").insert("k", 1).unwrap();
    }
    txn.commit().unwrap();
    let container = store.container("").unwrap();
    (store, container)
}

/// Keeps all threads for background work busy until the result is dropped.
fn busy(store: &Store) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    for _ in 0..crate::transaction::BACKGROUND_THREADS {
        let released = released.clone();
        store.inner.env.background.run(Box::new(move || {
            let _ = released.lock().unwrap().recv();
        }));
    }
    release
}

// C5.5
#[test]
fn a_sweep_a_count_and_a_registration_scan_on_a_thread_of_the_store() {
    let (store, container) = store();
    let swept = || assert_eq!(container.sweep().unwrap().scanned, 10);
    assert!(steps::of(swept) >= 10);
    let here = steps::of(|| {
        let swept = block_on(container.sweep_async()).unwrap();
        assert_eq!((swept.scanned, swept.removed), (10, 0));
        let counts = block_on(container.statistics_async()).unwrap();
        assert_eq!((counts.live, counts.packages), (10, 10));
        let settings = ContainerSettings::new();
        let registered = block_on(store.register_async("b", settings)).unwrap();
        assert_eq!(registered.name(), "b");
    });
    assert_eq!(here, 0);
}

// C1.7: between the steps of a move, a session may come into the place that is left.
#[test]
fn a_move_of_the_unnamed_container_ends_although_its_future_is_dropped() {
    let store = Store::in_memory().unwrap();
    let unnamed = store.container("").unwrap();
    let in_memory = ContainerSettings::new().in_memory();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let begin = |store: &Store| {
        let id = store.client_ids().issue();
        let insert = |txn: &crate::Txn| txn.session(&id)?.pkg("a").insert("k", 1);
        store.transact(insert).unwrap();
        id
    };

    let release = busy(&store);
    let mut moving = Box::pin(store.register_async("", in_memory.clone()));
    assert!(moving.as_mut().poll(&mut context).is_pending());
    let id = begin(&store);
    assert!(moving.as_mut().poll(&mut context).is_pending());
    drop(moving);
    drop(release);
    // Each of these moves is refused, whichever is first.
    assert!(block_on(unnamed.configure_async(in_memory.clone())).is_err());
    let exists = |txn: &crate::Txn| txn.session(&id)?.exists();
    assert!(store.transact(exists).unwrap());

    store.transact(|txn| txn.session(&id)?.destroy()).unwrap();
    let release = busy(&store);
    let mut moving = Box::pin(unnamed.configure_async(in_memory.clone()));
    assert!(moving.as_mut().poll(&mut context).is_pending());
    drop(moving);
    drop(release);
    while unnamed.settings().unwrap() != in_memory {
        std::thread::yield_now();
    }
}

#[test]
fn work_that_is_asked_of_a_closed_store_is_refused() {
    let (store, container) = store();
    block_on(store.clone().close_async()).unwrap();
    let swept = block_on(container.sweep_async()).unwrap_err();
    let checked = block_on(store.check_async()).unwrap_err();
    assert_eq!(
        [swept.kind(), checked.kind()],
        [crate::ErrorKind::Closed; 2]
    );
}

#[test]
fn a_check_waits_for_a_thread_of_the_store_and_not_on_the_one_that_polls() {
    let (store, container) = store();
    let release = busy(&store);
    let mut check = std::pin::pin!(store.check_async());
    let mut count = std::pin::pin!(container.statistics_async());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(check.as_mut().poll(&mut context).is_pending());
    assert!(count.as_mut().poll(&mut context).is_pending());
    drop(release);
    assert!(block_on(check).unwrap().is_clean());
    assert_eq!(block_on(count).unwrap().live, 10);
}

#[test]
fn a_list_that_nobody_waits_for_any_more_is_not_read() {
    let (store, container) = store();
    let env = &store.inner.env;
    let release = busy(&store);
    let ran = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let ran = ran.clone();
        move |_: &_| {
            ran.lock().unwrap().push(what);
            Ok(())
        }
    };
    let polled = |future: std::pin::Pin<Box<dyn Future<Output = _>>>| {
        let mut future = future;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _: std::task::Poll<crate::Result<()>> = future.as_mut().poll(&mut context);
    };
    polled(Box::pin(env.read_in_background(note("a list"))));
    polled(Box::pin(env.in_background(note("a sweep"))));
    drop(release);
    let filter = crate::SessionFilter::new();
    let list = block_on(container.sessions_async(&filter, None, 5)).unwrap();
    assert_eq!(list.sessions.len(), 5);
    // The threads take the work in order, and the last of it may still run.
    block_on(env.in_background(|_| Ok(()))).unwrap();
    for _ in 0..1000 {
        if !ran.lock().unwrap().is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(*ran.lock().unwrap(), ["a sweep"]);
}

/// A writer that takes nothing until it is released.
struct Stuck(mpsc::Receiver<()>);

impl std::io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn readers_of_backups_that_read_nothing_hold_nothing_else_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("store")).unwrap();
    let container = store.container("").unwrap();
    let mut releases = Vec::new();
    let mut backups = Vec::new();
    for _ in 0..crate::transaction::BACKGROUND_THREADS {
        let (release, released) = mpsc::channel();
        let backup =
            store.backup_to_async(Stuck(released), |_| std::ops::ControlFlow::Continue(()));
        let mut backup = Box::pin(backup);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(backup.as_mut().poll(&mut context).is_pending());
        releases.push(release);
        backups.push(backup);
    }
    block_on(container.sweep_async()).unwrap();
    assert!(block_on(store.check_async()).unwrap().is_clean());
    block_on(store.close_async()).unwrap();
    drop(releases);
    for backup in backups {
        let _ = block_on(backup);
    }
}
