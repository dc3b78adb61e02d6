//! C2.2, C2.4, C3.4 and C7.1: how a store is closed, let go and opened again in one process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, Clock, Container, ContainerSettings, Error, ErrorKind, Result, Store, Txn,
};
use std::path::PathBuf;
use std::task::{Context, Waker};
use support::clock::{MINUTE, clock};
use support::engine::{is_postgres, needs_files};
use support::runtime::block_on;
use support::store::builder;
use support::visitors::visitor_with;
use tempfile::TempDir;

struct TempStore {
    _folder: TempDir,
    file: PathBuf,
    clock: Clock,
}

impl TempStore {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self {
            file: folder.path().join("store.redb"),
            _folder: folder,
            clock: clock(),
        }
    }

    fn try_open(&self) -> Result<Store> {
        builder(&self.clock).open(&self.file)
    }

    fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    fn is_locked(&self) -> bool {
        match self.try_open() {
            Ok(_) => false,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Locked, "{e:?}");
                true
            }
        }
    }
}

fn client(store: &Store) -> ClientId {
    visitor_with(store, "shop", "key", 1)
}

fn put(store: &Store, id: &ClientId, value: u32) {
    store
        .transact(|txn| txn.session(id)?.pkg("shop").insert("key", value))
        .unwrap();
}

fn stored(store: &Store, id: &ClientId) -> Option<u32> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("shop").get("key").unwrap()
}

// C7.1
#[test]
fn a_store_that_is_open_is_locked() {
    needs_files!("an open store is locked");
    let place = TempStore::new();
    let store = place.open();
    assert!(place.is_locked());
    drop(store);
    assert!(!place.is_locked());
}

/// The store opens again at once after `end`, while handles of every kind are in scope.
fn reopens_after(end: impl Fn(Store)) {
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    let named: Container = store.register("bank", ContainerSettings::new()).unwrap();
    let unnamed = store.container("").unwrap();
    let txn = store.begin().unwrap();
    let handle: Txn = (*txn).clone();
    let session = txn.session(&id).unwrap();
    let (shop, bank) = (session.pkg("shop"), session.pkg("bank"));
    shop.insert("key", 2).unwrap();
    let data = txn.container("bank").unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.commit().unwrap();
    let aborted = store.begin().unwrap();
    let late = aborted.session(&id).unwrap();
    aborted.abort();
    end(store);

    let store = place.open();
    assert_eq!(stored(&store, &id), Some(2));
    put(&store, &id, 3);
    for error in [
        shop.get::<u32>("key").map(drop).unwrap_err(),
        bank.insert("key", 1).unwrap_err(),
        session.exists().map(drop).unwrap_err(),
        late.destroy().unwrap_err(),
        data.session_data(&id).map(drop).unwrap_err(),
        handle.rollback_to(&savepoint).unwrap_err(),
        named.sweep().map(drop).unwrap_err(),
        unnamed.statistics().map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert_eq!(stored(&store, &id), Some(3));
}

// C2.2
#[test]
fn a_store_that_was_closed_opens_again_while_its_handles_are_in_scope() {
    reopens_after(|store| store.close().unwrap());
}

// C2.2
#[test]
fn a_store_that_was_dropped_opens_again_while_its_handles_are_in_scope() {
    reopens_after(drop);
}

// C2.2
#[test]
fn a_store_closes_although_clones_of_it_are_alive() {
    let place = TempStore::new();
    let store = place.open();
    let (clone, other) = (store.clone(), store.clone());
    let id = client(&store);
    clone.close().unwrap();
    let again = place.open();
    assert_eq!(stored(&again, &id), Some(1));
    assert_eq!(store.begin().unwrap_err().kind(), ErrorKind::Closed);
    other.close().expect("closing twice is no error");
    drop(store);
    assert_eq!(stored(&again, &id), Some(1));
}

// C2.2
#[test]
fn a_store_is_open_until_its_last_clone_is_dropped() {
    needs_files!("an open store is locked");
    let place = TempStore::new();
    let store = place.open();
    let clone = store.clone();
    let id = client(&store);
    drop(store);
    assert_eq!(stored(&clone, &id), Some(1));
    assert!(place.is_locked());
    drop(clone);
    assert!(!place.is_locked());
}

// C2.4
#[test]
fn a_transaction_keeps_the_store_open() {
    needs_files!("an open store is locked");
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    let txn = store.begin().unwrap();
    drop(store);
    assert!(place.is_locked());
    let shop = txn.session(&id).unwrap().pkg("shop");
    assert_eq!(shop.get::<u32>("key").unwrap(), Some(1));
    shop.insert("key", 2).unwrap();
    txn.commit().unwrap();
    let store = place.open();
    assert_eq!(stored(&store, &id), Some(2));
}

// C2.4
#[test]
fn a_transaction_that_is_dropped_lets_the_store_go() {
    needs_files!("an open store is locked");
    let place = TempStore::new();
    let store = place.open();
    let txn = store.begin().unwrap();
    let handle = (*txn).clone();
    drop(store);
    assert!(place.is_locked());
    drop(txn);
    assert!(!place.is_locked());
    assert_eq!(handle.savepoint().unwrap_err().kind(), ErrorKind::Closed);
}

// C2.4
#[test]
fn a_commit_that_waits_keeps_the_store_open() {
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("shop")
        .insert("key", 2)
        .unwrap();
    let commit = txn.commit_async();
    drop(store);
    if is_postgres() {
        // The thread on which the last handle is dropped waits for the server.
        pollster::block_on(commit).unwrap();
    } else {
        block_on(commit).unwrap();
    }
    let store = place.open();
    assert_eq!(stored(&store, &id), Some(2));
}

// C2.2, C2.4
#[test]
fn close_commits_what_was_queued() {
    needs_files!("the changes are queued at the first poll");
    let place = TempStore::new();
    let store = place.open();
    let ids: Vec<ClientId> = (0..20).map(|_| client(&store)).collect();
    for id in &ids {
        let txn = store.begin().unwrap();
        let shop = txn.session(id).unwrap().pkg("shop");
        shop.insert("key", 2).unwrap();
        let mut commit = Box::pin(txn.commit_async());
        let _ = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    store.close().unwrap();
    let store = place.open();
    for id in &ids {
        assert_eq!(stored(&store, id), Some(2));
    }
}

/// An access time that waits to be written is in the file after `end`.
fn flushes(end: impl Fn(Store)) {
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    place.clock.advance(30 * MINUTE);
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("shop").len().unwrap();
    txn.commit().unwrap();
    end(store);
    let store = place.open();
    let txn = store.begin().unwrap();
    let accessed = txn.session(&id).unwrap().last_access().unwrap().unwrap();
    assert_eq!(accessed.to_rfc3339(), "2026-01-01T00:30:00+00:00");
}

// C3.4
#[test]
fn closing_writes_the_access_times_that_wait() {
    flushes(|store| store.close().unwrap());
    flushes(drop);
}

// C2.4
#[test]
fn after_close_everything_gives_closed() {
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    let bank = store.register("bank", ContainerSettings::new()).unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").insert("key", 2).unwrap();
    store.clone().close().unwrap();

    let transact = |f: fn(&Txn) -> Result<()>| store.transact::<_, Error>(f);
    let later = |_: Txn| async { Ok::<_, Error>(()) };
    let results: Vec<(&str, Result<()>)> = vec![
        ("begin", store.begin().map(drop)),
        ("begin_async", block_on(store.begin_async()).map(drop)),
        ("transact", transact(|_| Ok(()))),
        ("transact_async", block_on(store.transact_async(later))),
        (
            "register",
            store.register("new", ContainerSettings::new()).map(drop),
        ),
        ("unregister", store.unregister("bank")),
        ("configure", bank.configure(ContainerSettings::new())),
        ("sweep", bank.sweep().map(drop)),
        ("statistics", bank.statistics().map(drop)),
        ("sessions_of", store.sessions_of("ann").map(drop)),
        ("check", store.check().map(drop)),
        ("rotate_secret", store.rotate_secret().map(drop)),
        ("get", session.pkg("bank").get::<u32>("key").map(drop)),
        ("keys", session.pkg("bank").keys().map(drop)),
        ("exists", session.exists().map(drop)),
        ("commit", txn.commit()),
    ];
    for (what, result) in results {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error:?}");
    }
    drop(store);
    let store = place.open();
    assert_eq!(stored(&store, &id), Some(1));
}

// C2.2
#[test]
fn a_store_in_memory_can_be_closed_too() {
    let store = Store::in_memory().unwrap();
    client(&store);
    let clone = store.clone();
    store.close().unwrap();
    assert_eq!(clone.begin().unwrap_err().kind(), ErrorKind::Closed);
}

// C2.6
#[test]
fn a_hook_may_hold_the_last_handle_of_a_store() {
    let place = TempStore::new();
    let store = place.open();
    let (told, heard) = std::sync::mpsc::channel();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let txn = store.begin().unwrap();
    let last = store.clone();
    txn.after_commit(move || {
        wait.recv().unwrap();
        drop(last);
        told.send(()).unwrap();
    });
    txn.commit().unwrap();
    drop(store);
    go.send(()).unwrap();
    heard.recv().unwrap();
    assert!(!place.is_locked());
}

// C10.1
#[test]
fn the_asynchronous_forms_do_what_the_others_do_on_a_runtime_of_one_thread() {
    let place = TempStore::new();
    let store = place.open();
    let id = client(&store);
    block_on(async {
        let settings = ContainerSettings::new();
        let carts = store
            .register_async("cart", settings.clone())
            .await
            .unwrap();
        let configured = carts.configure_async(settings.timeout(MINUTE)).await;
        configured.unwrap();
        assert_eq!(carts.settings().unwrap().timeout, MINUTE);

        let txn = store.begin_async().await.unwrap();
        let session = txn.session_async(&id).await.unwrap();
        session.set_owner(Some("ann")).unwrap();
        txn.commit_async().await.unwrap();
        let owned = store.sessions_of_async("ann").await.unwrap();
        assert!(owned.len() == 1 && owned[0].client == id.key());

        let all = store.container("").unwrap();
        assert_eq!(all.statistics_async().await.unwrap().live, 1);
        place.clock.advance(100 * MINUTE);
        assert_eq!(all.sweep_async().await.unwrap().removed, 1);
        assert!(store.sessions_of_async("ann").await.unwrap().is_empty());

        assert_eq!(store.rotate_secret_async().await.unwrap(), 1);
        assert!(store.client_ids().verify(id.as_str()).is_some());
        store.retire_secret_async(0).await.unwrap();
        assert!(store.client_ids().verify(id.as_str()).is_none());

        assert!(store.check_async().await.unwrap().is_clean());
        store.checkpoint_async().await.unwrap();
        store.unregister_async("cart").await.unwrap();
        let gone = store.container("cart").unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NoSuchContainer);
        store.clone().close_async().await.unwrap();
        let closed = all.sweep_async().await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
    });
    assert!(!place.is_locked());
}
