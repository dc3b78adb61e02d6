//! C2.1 to C2.6, C2.12 and C2.14: all or nothing, and what a transaction sees until then.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, ContainerSettings, Error, ErrorKind, PkgData, Result, Session, Store, Transaction,
};
use serde::{Serialize, Serializer};
use std::cell::RefCell;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::{Duration, SystemTime};
use support::clock::{MINUTE, clock};
use support::engine::needs_files;
use support::store::{builder, place, timed};
use support::visitors::visitor_with;
use tempfile::TempDir;

/// A store in a file, on a clock that stands still: no sweep and no touch writes behind the tests.
fn in_file() -> (TempDir, Store) {
    let (folder, path) = place();
    let store = builder(&clock()).open(path).unwrap();
    (folder, store)
}

fn client(store: &Store) -> ClientId {
    visitor_with(store, "shop", "key", 1)
}

/// Another transaction's write.
fn put(store: &Store, id: &ClientId, key: &str, value: u32) {
    store
        .transact(|txn| txn.session(id)?.pkg("shop").insert(key, value))
        .unwrap();
}

fn stored(store: &Store, id: &ClientId, key: &str) -> Option<u32> {
    let txn = store.begin().unwrap();
    shop(&txn, id).get(key).unwrap()
}

fn shop(txn: &Transaction, id: &ClientId) -> PkgData {
    txn.session(id).unwrap().pkg("shop")
}

fn poll_once<F: Future>(future: F) -> (std::pin::Pin<Box<F>>, Poll<F::Output>) {
    let mut future = Box::pin(future);
    let polled = future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    (future, polled)
}

// C2.1
#[test]
fn a_transaction_sees_the_store_as_it_was_at_its_first_look() {
    let store = Store::in_memory().unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    let (ann, bob) = (client(&store), client(&store));
    let txn = store.begin().unwrap();
    put(&store, &ann, "early", 1);
    assert!(txn.session(&ann).unwrap().exists().unwrap());
    put(&store, &ann, "key", 2);
    put(&store, &ann, "other", 2);
    store
        .transact(|txn| txn.session(&bob)?.pkg("bank").insert("key", 2))
        .unwrap();
    store.transact(|txn| txn.session(&bob)?.destroy()).unwrap();
    let late = client(&store);

    assert_eq!(shop(&txn, &ann).get::<u32>("key").unwrap(), Some(1));
    assert_eq!(shop(&txn, &ann).keys().unwrap(), ["early", "key"]);
    assert_eq!(shop(&txn, &bob).get::<u32>("key").unwrap(), Some(1));
    assert!(txn.session(&bob).unwrap().pkg("bank").is_empty().unwrap());
    assert!(!txn.session(&late).unwrap().exists().unwrap());
    txn.commit().unwrap();
}

// C2.1
#[test]
fn a_transaction_sees_its_own_changes_and_nobody_else_does_before_the_commit() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    put(&store, &id, "sum", 5);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.insert("new", 2).unwrap();
    mine.remove("key").unwrap();
    mine.add("sum", 3).unwrap();
    mine.commute("list", |l: Option<u32>| l.unwrap_or(0) + 7)
        .unwrap();
    assert_eq!(mine.get::<u32>("new").unwrap(), Some(2));
    assert_eq!(mine.get::<u32>("key").unwrap(), None);
    assert_eq!(mine.get::<u32>("sum").unwrap(), Some(8));
    assert_eq!(mine.get::<u32>("list").unwrap(), Some(7));
    assert_eq!(mine.keys().unwrap(), ["list", "new", "sum"]);

    let other = store.begin().unwrap();
    assert_eq!(shop(&other, &id).keys().unwrap(), ["key", "sum"]);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "sum"), Some(8));
    assert_eq!(stored(&store, &id, "key"), None);
}

// C2.1
#[test]
fn take_and_clear_are_changes_like_others() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    put(&store, &id, "other", 2);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    assert_eq!(mine.take::<u32>("key").unwrap(), Some(1));
    assert_eq!(mine.take::<u32>("key").unwrap(), None);
    mine.clear().unwrap();
    assert!(mine.is_empty().unwrap());
    mine.insert("left", 3).unwrap();
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    assert_eq!(shop(&txn, &id).keys().unwrap(), ["left"]);
}

// C2.2
#[test]
fn what_was_committed_is_there_after_reopening() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let store = Store::open(&file).unwrap();
    let id = client(&store);
    store.close().unwrap();
    let store = Store::open(&file).unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.2
#[test]
fn a_commit_over_packages_clients_and_containers_is_all_or_nothing() {
    let (_folder, store) = in_file();
    store.register("bank", ContainerSettings::new()).unwrap();
    let scratch = ContainerSettings::new().in_memory();
    store.register("scratch", scratch).unwrap();
    let (ann, bob, eve) = (client(&store), client(&store), client(&store));
    let everywhere = |value: u32| {
        let txn = store.begin().unwrap();
        for id in [&ann, &bob, &eve] {
            for package in ["shop", "news", "bank", "scratch"] {
                let package = txn.session(id).unwrap().pkg(package);
                package.insert("n", value).unwrap();
            }
        }
        txn
    };
    let seen = || {
        let txn = store.begin().unwrap();
        let mut values = Vec::new();
        for id in [&ann, &bob, &eve] {
            for package in ["shop", "news", "bank", "scratch"] {
                let package = txn.session(id).unwrap().pkg(package);
                values.push(package.get::<u32>("n").unwrap());
            }
        }
        values.dedup();
        values
    };
    everywhere(1).commit().unwrap();
    assert_eq!(seen(), [Some(1)]);

    let txn = everywhere(2);
    shop(&txn, &eve).get::<u32>("key").unwrap();
    put(&store, &eve, "key", 9);
    assert!(txn.commit().unwrap_err().is_conflict());
    assert_eq!(seen(), [Some(1)]);

    let txn = everywhere(3);
    txn.session(&eve)
        .unwrap()
        .pkg("scratch")
        .insert("no", Refuses)
        .unwrap();
    txn.commit().unwrap_err();
    assert_eq!(seen(), [Some(1)]);
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> std::result::Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("the coat is on fire"))
    }
}

/// Says no after half of it was written.
#[derive(Serialize)]
struct Half {
    fine: u32,
    refuses: Refuses,
}

fn texts(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Inserting `value` is accepted, `get` and the commit refuse it, and nothing else of the
/// transaction is written; the serializer's own words are in the error's source.
fn is_refused(value: impl Serialize, words: &str) {
    let (_folder, store) = in_file();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client(&store);
    let before = store.statistics().unwrap().bytes_written();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("news").insert("good", 1).unwrap();
    session.pkg("shop").insert("key", 2).unwrap();
    session.pkg("shop").insert("oops", value).unwrap();
    session.pkg("shop").insert("zebra", 3).unwrap();
    let got = session.pkg("shop").get::<u32>("oops").unwrap_err();
    let failed = txn.commit().unwrap_err();
    for error in [got, failed] {
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
        let place = (error.container(), error.package(), error.key());
        assert_eq!(place, (Some("shop"), Some("shop"), Some("oops")));
        assert!(texts(&error).contains(words), "{error:?}");
    }
    assert_eq!(store.statistics().unwrap().bytes_written(), before);
    assert_eq!(stored(&store, &id, "key"), Some(1));
    assert_eq!(stored(&store, &id, "zebra"), None);
}

// C2.3
#[test]
fn commit_fails_on_a_value_whose_serialize_says_no() {
    is_refused(Refuses, "the coat is on fire");
    is_refused(
        Half {
            fine: 1,
            refuses: Refuses,
        },
        "the coat is on fire",
    );
    is_refused(vec![Some(Refuses)], "the coat is on fire");
}

// C2.3
#[test]
fn commit_fails_on_a_borrowed_ref_cell() {
    let cell = RefCell::new(7);
    let _borrowed = cell.borrow_mut();
    is_refused(&cell, "already mutably borrowed");
}

// C2.3
#[test]
fn commit_fails_on_a_poisoned_mutex() {
    let mutex = Mutex::new(7);
    std::thread::scope(|scope| {
        let poisoner = scope.spawn(|| {
            let _held = mutex.lock().unwrap();
            panic!("poison");
        });
        poisoner.join().unwrap_err();
    });
    is_refused(&mutex, "poison");
}

// C2.3
#[test]
#[cfg(unix)]
fn commit_fails_on_a_path_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff"));
    is_refused(path, "UTF-8");
}

// C2.3
#[test]
fn commit_fails_on_a_time_before_the_epoch() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    is_refused(before, "UNIX_EPOCH");
}

// C2.3
#[test]
fn commit_fails_on_what_update_and_commute_make_if_it_refuses() {
    #[derive(serde::Deserialize)]
    struct Picky(u32);
    impl Serialize for Picky {
        fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
            match self.0 {
                1 => Err(serde::ser::Error::custom("never 1")),
                n => s.serialize_u32(n),
            }
        }
    }
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let updates = |p: &PkgData| p.update("oops", |_| Picky(1)).map(drop);
    let commutes = |p: &PkgData| p.commute("oops", |_| Picky(1));
    for change in [&updates as &dyn Fn(&PkgData) -> Result<()>, &commutes] {
        let txn = store.begin().unwrap();
        change(&shop(&txn, &id)).unwrap();
        let error = txn.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
        assert_eq!(error.key(), Some("oops"));
    }
    // It refuses only on the value that is current at commit.
    put(&store, &id, "n", 5);
    let txn = store.begin().unwrap();
    let decrement = |n: Option<Picky>| Picky(n.map_or(0, |n| n.0 - 1));
    shop(&txn, &id).commute("n", decrement).unwrap();
    put(&store, &id, "n", 2);
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSerializable);
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("shop"), Some("n")));
    assert_eq!(stored(&store, &id, "n"), Some(2));
}

/// A refusal that `cure` has dealt with does not fail the commit.
fn is_cured_by(cure: impl Fn(&PkgData) -> Result<()>) -> Option<u32> {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.insert("good", 1).unwrap();
    mine.insert("key", Refuses).unwrap();
    cure(&mine).unwrap();
    mine.insert("good", 1).unwrap();
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "good"), Some(1));
    stored(&store, &id, "key")
}

// C2.3
#[test]
fn overwriting_a_value_that_refuses_clears_the_refusal() {
    assert_eq!(is_cured_by(|mine| mine.insert("key", 7)), Some(7));
}

// C2.3
#[test]
fn removing_a_value_that_refuses_clears_the_refusal() {
    let remove = |mine: &PkgData| mine.remove("key").map(|there| assert!(there));
    assert_eq!(is_cured_by(remove), None);
}

// C2.3
#[test]
fn clearing_the_package_clears_the_refusal() {
    assert_eq!(is_cured_by(PkgData::clear), None);
}

// C2.3, C2.5
#[test]
fn rolling_back_clears_the_refusal() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.insert("good", 7).unwrap();
    let savepoint = txn.savepoint().unwrap();
    mine.insert("key", Refuses).unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(mine.get::<u32>("key").unwrap(), Some(1));
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "good"), Some(7));
}

// C2.3
#[test]
fn a_value_that_refuses_counts_as_there() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &store.client_ids().issue());
    mine.insert("oops", Refuses).unwrap();
    assert!(mine.contains_key("oops").unwrap());
    assert_eq!(mine.keys().unwrap(), ["oops"]);
    let update = mine.update("oops", |n: Option<u32>| n.unwrap_or(0));
    assert_eq!(update.unwrap_err().kind(), ErrorKind::NotSerializable);
    mine.add("oops", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().key(), Some("oops"));
}

// C2.3
#[test]
fn borrowed_values_can_be_inserted() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    {
        let name = String::from("Ann");
        shop(&txn, &id).insert("name", name.as_str()).unwrap();
        shop(&txn, &id).insert("names", &[&name][..]).unwrap();
    }
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let name: Option<String> = shop(&txn, &id).get("name").unwrap();
    assert_eq!(name.as_deref(), Some("Ann"));
}

/// What is left of a transaction that `end` has ended without a commit: nothing.
fn leaves_no_trace(end: impl Fn(Transaction)) {
    let folder = TempDir::new().unwrap();
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let store = builder
        .implicit_sweeps(false)
        .open(folder.path().join("store.redb"))
        .unwrap();
    let id = client(&store);
    clock.advance(20 * MINUTE);
    let before = store.statistics().unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").get::<u32>("key").unwrap();
    session.pkg("shop").insert("key", 2).unwrap();
    session.set_owner(Some("ann")).unwrap();
    let rotated = session.rotate().unwrap();
    let new = store.client_ids().issue();
    shop(&txn, &new).insert("key", 2).unwrap();
    end(txn);

    let after = store.statistics().unwrap();
    assert_eq!(after.bytes_written(), before.bytes_written());
    assert_eq!(after.touches(), before.touches());
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let accessed = session.last_access().unwrap().expect("a session");
    assert_eq!(accessed.to_rfc3339(), "2026-01-01T00:00:00+00:00");
    assert_eq!(session.pkg("shop").get::<u32>("key").unwrap(), Some(1));
    assert!(store.sessions_of("ann").unwrap().is_empty());
    for id in [&new, &rotated] {
        assert!(!txn.session(id).unwrap().exists().unwrap());
    }
    clock.advance(41 * MINUTE);
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
}

// C2.4
#[test]
fn abort_leaves_no_trace() {
    leaves_no_trace(Transaction::abort);
}

// C2.4
#[test]
fn dropping_a_transaction_leaves_no_trace() {
    leaves_no_trace(drop);
}

// C2.4
#[test]
fn a_commit_future_dropped_before_its_first_poll_aborts() {
    leaves_no_trace(|txn| drop(txn.commit_async()));
}

// C2.4
#[test]
fn a_transaction_whose_closure_fails_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let failed: Result<(), Box<dyn std::error::Error>> = store.transact(|txn| {
        txn.session(&id)?.pkg("shop").insert("key", 2)?;
        Err("the application says no".into())
    });
    assert_eq!(failed.unwrap_err().to_string(), "the application says no");
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.4
#[test]
fn a_transaction_whose_closure_panics_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.transact::<(), Error>(|txn| {
            txn.session(&id)?.pkg("shop").insert("key", 2)?;
            panic!("the application panics");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.4
#[test]
fn a_commit_future_dropped_once_its_changes_are_queued_commits() {
    needs_files!("the changes are queued at the first poll");
    let (_folder, store) = in_file();
    let id = client(&store);
    let (told, outcome) = mpsc::channel();
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    txn.after_commit(move || told.send(()).unwrap());
    let (future, _) = poll_once(txn.commit_async());
    drop(future);
    outcome.recv().expect("the hook runs once it is committed");
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

/// Asserts that every method of every handle gives `Closed`.
fn all_is_closed(txn: &cloakroom::Txn, session: &Session, mine: &PkgData, id: &ClientId) {
    let savepoint = store_of_savepoints();
    let data = |txn: &cloakroom::Txn| {
        let container = txn.container("").unwrap();
        container.session_data(id).map(drop)
    };
    let results: Vec<(&str, Result<()>)> = vec![
        ("get", mine.get::<u32>("key").map(drop)),
        ("take", mine.take::<u32>("key").map(drop)),
        ("insert", mine.insert("key", 1)),
        ("update", mine.update("key", |_: Option<u32>| 1).map(drop)),
        ("commute", mine.commute("key", |_: Option<u32>| 1)),
        ("add", mine.add("key", 1)),
        ("max", mine.max("key", 1)),
        ("min", mine.min("key", 1)),
        ("remove", mine.remove("key").map(drop)),
        ("clear", mine.clear()),
        ("contains_key", mine.contains_key("key").map(drop)),
        ("keys", mine.keys().map(drop)),
        ("len", mine.len().map(drop)),
        ("is_empty", mine.is_empty().map(drop)),
        ("exists", session.exists().map(drop)),
        ("last_access", session.last_access().map(drop)),
        ("created_at", session.created_at().map(drop)),
        ("rotate", session.rotate().map(drop)),
        ("destroy", session.destroy()),
        ("set_timeout", session.set_timeout(None)),
        ("set_owner", session.set_owner(None)),
        ("pkg", session.pkg("news").len().map(drop)),
        ("session", txn.session(id).map(drop)),
        (
            "session_async",
            pollster::block_on(txn.session_async(id)).map(drop),
        ),
        ("visit", pollster::block_on(txn.visit(None)).map(drop)),
        ("session_data", data(txn)),
        ("savepoint", txn.savepoint().map(drop)),
        ("rollback_to", txn.rollback_to(&savepoint)),
    ];
    for (method, result) in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed, "{method}");
    }
    assert_eq!(session.client_id(), None);
    txn.doom();
}

fn store_of_savepoints() -> cloakroom::Savepoint {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    txn.savepoint().unwrap()
}

/// Handles are closed once `end` was called; what it returns lives until they were tried.
fn closes_handles<T>(end: impl Fn(Transaction) -> T) {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let mine = session.pkg("shop");
    mine.get::<u32>("key").unwrap();
    let handle = (*txn).clone();
    let _ended = end(txn);
    all_is_closed(&handle, &session, &mine, &id);
    all_is_closed(session.txn(), &session.clone(), &mine.clone(), &id);
    let hook = || panic!("a hook of a transaction that has ended ran");
    handle.after_commit(hook);
    handle.after_abort(hook);
}

// C2.4
#[test]
fn every_handle_gives_closed_after_commit() {
    closes_handles(|txn| txn.commit().unwrap());
}

// C2.4
#[test]
fn every_handle_gives_closed_after_abort_and_drop() {
    closes_handles(Transaction::abort);
    closes_handles(drop);
}

// C2.4
#[test]
fn every_handle_gives_closed_from_the_moment_commit_is_called() {
    closes_handles(Transaction::commit_async);
}

// C2.4
#[test]
fn every_handle_gives_closed_after_a_commit_that_failed() {
    closes_handles(|txn| {
        txn.doom();
        txn.commit().unwrap_err()
    });
}

// C2.5
#[test]
fn rolling_back_restores_exactly_the_changes_at_the_savepoint() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    put(&store, &id, "removed", 1);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let mine = session.pkg("shop");
    mine.insert("before", 1).unwrap();
    mine.add("sum", 1).unwrap();
    mine.remove("removed").unwrap();
    let savepoint = txn.savepoint().unwrap();
    mine.insert("before", 2).unwrap();
    mine.insert("after", 2).unwrap();
    mine.insert("removed", 2).unwrap();
    mine.add("sum", 5).unwrap();
    mine.commute("sum", |n: Option<i64>| n.unwrap_or(0) * 100)
        .unwrap();
    session.pkg("news").insert("after", 2).unwrap();
    session.set_owner(Some("ann")).unwrap();
    session.destroy().unwrap();
    txn.rollback_to(&savepoint).unwrap();

    assert!(session.exists().unwrap());
    assert_eq!(session.client_id().as_ref(), Some(&id));
    assert_eq!(mine.keys().unwrap(), ["before", "key", "sum"]);
    assert!(session.pkg("news").is_empty().unwrap());
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    assert_eq!(mine.keys().unwrap(), ["before", "key", "sum"]);
    assert_eq!(mine.get::<u32>("before").unwrap(), Some(1));
    assert_eq!(mine.get::<i64>("sum").unwrap(), Some(1));
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C2.5, C4.7
#[test]
fn rolling_back_undoes_a_rotation() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let savepoint = txn.savepoint().unwrap();
    let rotated = txn.session(&id).unwrap().rotate().unwrap();
    txn.rollback_to(&savepoint).unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
    assert_eq!(stored(&store, &rotated, "key"), None);
}

// C2.5, C1.4
#[test]
fn rolling_back_the_only_insert_founds_nothing() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let session = pollster::block_on(txn.visit(None)).unwrap();
    let savepoint = txn.savepoint().unwrap();
    session.pkg("shop").insert("key", 1).unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id(), None);
    assert!(!session.exists().unwrap());
    txn.commit().unwrap();
    let unnamed = store.container("").unwrap();
    assert_eq!(unnamed.statistics().unwrap().live, 0);
}

// C2.5
#[test]
fn savepoints_nest_and_can_be_rolled_back_to_again() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let value = || mine.get::<u32>("key").unwrap();
    let outer = txn.savepoint().unwrap();
    mine.insert("key", 2).unwrap();
    let inner = txn.savepoint().unwrap();
    for n in 3..6 {
        mine.insert("key", n).unwrap();
        txn.rollback_to(&inner).unwrap();
        assert_eq!(value(), Some(2));
    }
    mine.insert("key", 9).unwrap();
    txn.rollback_to(&outer).unwrap();
    assert_eq!(value(), Some(1));
    mine.insert("key", 10).unwrap();
    txn.rollback_to(&outer).unwrap();
    assert_eq!(value(), Some(1));
}

// C2.5
#[test]
fn a_savepoint_rolled_past_is_an_error() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let outer = txn.savepoint().unwrap();
    let inner = txn.savepoint().unwrap();
    txn.rollback_to(&outer).unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    let error = txn.rollback_to(&inner).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchSavepoint);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

// C2.5
#[test]
fn a_savepoint_of_another_transaction_is_an_error() {
    let store = Store::in_memory().unwrap();
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    let of_one = one.savepoint().unwrap();
    two.savepoint().unwrap();
    let error = two.rollback_to(&of_one).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchSavepoint);
}

// C2.5, C2.7
#[test]
fn what_was_read_before_rolling_back_still_counts_as_read() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let savepoint = txn.savepoint().unwrap();
    mine.get::<u32>("key").unwrap();
    txn.rollback_to(&savepoint).unwrap();
    mine.insert("other", 1).unwrap();
    put(&store, &id, "key", 2);
    let error = txn.commit().unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.key(), Some("key"));
}

// C2.6
#[test]
fn a_doomed_transaction_never_commits() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let savepoint = txn.savepoint().unwrap();
    txn.doom();
    shop(&txn, &id).insert("key", 2).unwrap();
    assert_eq!(shop(&txn, &id).get::<u32>("key").unwrap(), Some(2));
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Doomed);
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.6
#[test]
fn a_doomed_transaction_without_changes_does_not_commit_either() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    txn.doom();
    let error = pollster::block_on(txn.commit_async()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Doomed);
}

// C2.6, C2.10
#[test]
fn a_doomed_closure_is_not_run_again() {
    let store = Store::in_memory().unwrap();
    let mut runs = 0;
    let doomed = store.transact::<(), Error>(|txn| {
        runs += 1;
        txn.doom();
        Ok(())
    });
    assert_eq!(doomed.unwrap_err().kind(), ErrorKind::Doomed);
    assert_eq!(runs, 1);
}

/// What the hooks of a transaction did: which ran, and where.
struct Heard {
    told: mpsc::Sender<(&'static str, ThreadId, Option<String>)>,
    heard: mpsc::Receiver<(&'static str, ThreadId, Option<String>)>,
}

impl Heard {
    fn listen(txn: &Transaction) -> Self {
        let (told, heard) = mpsc::channel();
        let tell = |what: &'static str| {
            let told = told.clone();
            move || {
                let thread = std::thread::current();
                let name = thread.name().map(str::to_owned);
                told.send((what, thread.id(), name)).unwrap();
            }
        };
        txn.after_commit(tell("commit"));
        txn.after_abort(tell("abort"));
        Self { told, heard }
    }

    /// The hook that ran. That the hooks are gone when the channel ends shows that none ran twice.
    fn only(self) -> &'static str {
        let Self { told, heard } = self;
        drop(told);
        let all: Vec<_> = heard.iter().collect();
        assert_eq!(all.len(), 1, "{all:?}");
        let (what, thread, name) = &all[0];
        assert_ne!(*thread, std::thread::current().id());
        assert_ne!(name.as_deref(), Some("cloakroom-commit"));
        what
    }
}

// C2.6
#[test]
fn after_commit_runs_once_on_neither_the_callers_nor_the_committing_thread() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let heard = Heard::listen(&txn);
    shop(&txn, &store.client_ids().issue())
        .insert("key", 1)
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(heard.only(), "commit");
}

// C2.6
#[test]
fn after_commit_runs_after_a_commit_without_changes() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let heard = Heard::listen(&txn);
    txn.commit().unwrap();
    assert_eq!(heard.only(), "commit");
}

// C2.6
#[test]
fn after_abort_runs_once_however_the_transaction_failed() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let conflicts = |txn: Transaction| {
        shop(&txn, &id).add("runs", 1).unwrap();
        shop(&txn, &id).get::<u32>("key").unwrap();
        let now = stored(&store, &id, "key").unwrap();
        put(&store, &id, "key", now + 1);
        assert!(txn.commit().unwrap_err().is_conflict());
    };
    let refuses = |txn: Transaction| {
        shop(&txn, &id).insert("oops", Refuses).unwrap();
        txn.commit().unwrap_err();
    };
    let dooms = |txn: Transaction| {
        txn.doom();
        txn.commit().unwrap_err();
    };
    let forgets = |txn: Transaction| drop(txn.commit_async());
    let ends: [&dyn Fn(Transaction); 6] = [
        &Transaction::abort,
        &drop,
        &conflicts,
        &refuses,
        &dooms,
        &forgets,
    ];
    for (n, end) in ends.iter().enumerate() {
        let txn = store.begin().unwrap();
        let heard = Heard::listen(&txn);
        end(txn);
        assert_eq!(heard.only(), "abort", "{n}");
    }
}

// C2.6
#[test]
fn a_hook_sees_the_outcome() {
    let (_folder, store) = in_file();
    let id = client(&store);
    let (told, heard) = mpsc::channel();
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    let (later, of) = (store.clone(), id.clone());
    txn.after_commit(move || told.send(stored(&later, &of, "key")).unwrap());
    txn.commit().unwrap();
    assert_eq!(heard.recv().unwrap(), Some(2));
}

// C2.6
#[test]
fn hooks_of_one_transaction_all_run_in_order() {
    let store = Store::in_memory().unwrap();
    let (told, heard) = mpsc::channel();
    let txn = store.begin().unwrap();
    for n in 0..5 {
        let told = told.clone();
        txn.after_commit(move || told.send(n).unwrap());
    }
    drop(told);
    txn.commit().unwrap();
    assert_eq!(heard.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

// C2.6
#[test]
fn a_panic_in_a_hook_harms_nobody() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    txn.after_commit(|| panic!("a hook panics"));
    let heard = Heard::listen(&txn);
    shop(&txn, &id).insert("key", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(heard.only(), "commit");

    let txn = store.begin().unwrap();
    txn.after_abort(|| panic!("a hook panics"));
    let heard = Heard::listen(&txn);
    txn.abort();
    assert_eq!(heard.only(), "abort");
    put(&store, &id, "key", 3);
    assert_eq!(stored(&store, &id, "key"), Some(3));
}

/// Tells on which thread it was dropped, and panics.
struct Bomb(mpsc::Sender<Option<String>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let name = std::thread::current().name().map(str::to_owned);
        let _ = self.0.send(name);
        if !std::thread::panicking() {
            panic!("a bomb goes off");
        }
    }
}

/// Commits a sum that holds a bomb, with hooks that hold one each, after `meanwhile`; the bombs go
/// off somewhere else than on the committing thread, and the store goes on.
fn bombs_harm_nobody(meanwhile: impl Fn(&Store, &ClientId, &PkgData)) -> Result<()> {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let (told, heard) = mpsc::channel();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let [one, two, three] = [0; 3].map(|_| Bomb(told.clone()));
    drop(told);
    txn.after_abort(move || drop(one));
    txn.after_commit(move || drop(two));
    let add = move |n: Option<u32>| {
        let _held = &three;
        n.unwrap_or(0) + 1
    };
    mine.commute("key", add).unwrap();
    meanwhile(&store, &id, &mine);
    let outcome = txn.commit();
    let threads: Vec<_> = heard.iter().collect();
    assert_eq!(threads.len(), 3);
    for thread in threads {
        assert_ne!(thread.as_deref(), Some("cloakroom-commit"));
    }
    put(&store, &id, "key", 7);
    assert_eq!(stored(&store, &id, "key"), Some(7));
    outcome
}

// C2.6, C6.3
#[test]
fn what_hooks_and_closures_hold_is_dropped_off_the_committing_thread() {
    bombs_harm_nobody(|_, _, _| {}).unwrap();
    bombs_harm_nobody(|store, id, _| put(store, id, "key", 5)).unwrap();
    let conflict = bombs_harm_nobody(|store, id, mine| {
        mine.get::<u32>("key").unwrap();
        put(store, id, "key", 5);
    });
    assert!(conflict.unwrap_err().is_conflict());
}

// C2.6
#[test]
fn a_hook_may_begin_and_commit_transactions() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let (told, heard) = mpsc::channel();
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("key", 2).unwrap();
    let (later, of) = (store.clone(), id.clone());
    txn.after_commit(move || {
        put(&later, &of, "hook", 1);
        told.send(()).unwrap();
    });
    txn.commit().unwrap();
    heard.recv().unwrap();
    assert_eq!(stored(&store, &id, "hook"), Some(1));
}

/// `change` of a client that has `key` = 1 and nothing else writes and syncs nothing.
fn writes_nothing(what: &str, change: impl Fn(&Session) -> Result<()>) {
    let (_folder, store) = in_file();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client(&store);
    store
        .transact(|txn| {
            let session = txn.session(&id)?;
            session.set_owner(Some("ann"))?;
            session.set_timeout(Some(90 * MINUTE))
        })
        .unwrap();
    let before = store.statistics().unwrap();
    let txn = store.begin().unwrap();
    change(&txn.session(&id).unwrap()).unwrap();
    txn.commit().unwrap();
    let after = store.statistics().unwrap();
    assert_eq!(after.syncs(), before.syncs(), "{what}");
    assert_eq!(after.bytes_written(), before.bytes_written(), "{what}");
    assert_eq!(after.commits(), before.commits(), "{what}");
}

// C2.12
#[test]
fn changes_equal_to_the_snapshot_write_and_sync_nothing() {
    writes_nothing("nothing", |_| Ok(()));
    writes_nothing("reading", |s| s.pkg("shop").len().map(drop));
    writes_nothing("the same value", |s| s.pkg("shop").insert("key", 1));
    writes_nothing("the same update", |s| {
        s.pkg("shop")
            .update("key", |n: Option<u32>| n.unwrap())
            .map(drop)
    });
    writes_nothing("there and back", |s| {
        s.pkg("shop").insert("key", 2)?;
        s.pkg("shop").insert("key", 1)
    });
    writes_nothing("inserted and removed", |s| {
        s.pkg("bank").insert("key", 2)?;
        s.pkg("bank").remove("key").map(drop)
    });
    writes_nothing("cleared and put back", |s| {
        s.pkg("shop").clear()?;
        s.pkg("shop").insert("key", 1)
    });
    writes_nothing("clearing what is empty", |s| s.pkg("news").clear());
    writes_nothing("removing what is not there", |s| {
        s.pkg("shop").remove("none").map(drop)
    });
    writes_nothing("adding nothing", |s| s.pkg("shop").add("key", 0));
    writes_nothing("there and back by sums", |s| {
        s.pkg("shop").add("key", 5)?;
        s.pkg("shop").add("key", -5)
    });
    writes_nothing("a maximum below", |s| s.pkg("shop").max("key", 0));
    writes_nothing("a minimum above", |s| s.pkg("shop").min("key", 2));
    writes_nothing("a commute to the same", |s| {
        s.pkg("shop")
            .commute("key", |n: Option<u32>| n.unwrap_or(1))
    });
    writes_nothing("the same owner", |s| s.set_owner(Some("ann")));
    writes_nothing("the same timeout", |s| s.set_timeout(Some(90 * MINUTE)));
    writes_nothing("rolled back", |s| {
        let savepoint = s.txn().savepoint()?;
        s.destroy()?;
        s.txn().rollback_to(&savepoint)
    });
}

// C2.12
#[test]
fn an_equal_insert_beside_another_change_is_still_a_blind_write() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("key", 1).unwrap();
    shop(&txn, &id).insert("other", 1).unwrap();
    put(&store, &id, "key", 9);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(1));
}

// C2.12, C2.2
#[test]
fn a_change_is_synced_before_the_commit_returns() {
    needs_files!("syncs are counted");
    let (_folder, store) = in_file();
    let id = client(&store);
    let before = store.statistics().unwrap();
    put(&store, &id, "key", 2);
    let after = store.statistics().unwrap();
    assert!(after.syncs() > before.syncs());
    assert!(after.bytes_written() > before.bytes_written());
    assert_eq!(after.commits(), before.commits() + 1);
}

// C2.14
#[test]
fn a_transaction_reads_what_it_has_not_read_for_thirty_seconds() {
    let (clock, store) = timed();
    let id = client(&store);
    let txn = store.begin().unwrap();
    clock.advance(Duration::from_secs(60));
    assert!(txn.session(&id).unwrap().exists().unwrap());
    put(&store, &id, "key", 2);
    clock.advance(Duration::from_secs(30));
    assert_eq!(shop(&txn, &id).get::<u32>("key").unwrap(), Some(1));
}

// C2.14
#[test]
fn after_thirty_seconds_reading_what_was_not_read_gives_snapshot_too_old() {
    let (clock, store) = timed();
    let (id, other) = (client(&store), client(&store));
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").get::<u32>("key").unwrap();
    session.pkg("news").insert("key", 1).unwrap();
    clock.advance(Duration::from_millis(30_001));
    store
        .transact(|txn| txn.session(&id)?.pkg("late").insert("key", 1))
        .unwrap();
    let too_old = [
        shop(&txn, &other).get::<u32>("key").map(drop),
        txn.session(&other).unwrap().exists().map(drop),
        shop(&txn, &other).len().map(drop),
        shop(&txn, &other)
            .update("key", |n: Option<u32>| n.unwrap())
            .map(drop),
    ];
    for (n, result) in too_old.into_iter().enumerate() {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{n}");
    }
}

// C2.14
#[test]
fn what_was_read_stays_when_the_snapshot_is_too_old_and_the_commit_works() {
    let (clock, store) = timed();
    let id = client(&store);
    put(&store, &id, "sum", 5);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let mine = session.pkg("shop");
    mine.get::<u32>("key").unwrap();
    mine.insert("early", 1).unwrap();
    session.pkg("blind").insert("early", 1).unwrap();
    clock.advance(Duration::from_secs(31));
    put(&store, &id, "other", 1);

    assert_eq!(mine.get::<u32>("key").unwrap(), Some(1));
    assert_eq!(mine.get::<u32>("early").unwrap(), Some(1));
    assert_eq!(session.client_id().as_ref(), Some(&id));
    mine.insert("late", 1).unwrap();
    mine.add("sum", 1).unwrap();
    txn.commit().unwrap();
    for (key, value) in [("early", 1), ("late", 1), ("other", 1), ("sum", 6)] {
        assert_eq!(stored(&store, &id, key), Some(value), "{key}");
    }
}

// C2.14
#[test]
fn the_id_of_a_session_that_was_read_stays_known_when_the_snapshot_is_too_old() {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("shop").get::<u32>("key").unwrap();
    clock.advance(Duration::from_secs(31));
    assert_eq!(session.client_id().as_ref(), Some(&id));
}

// C2.14, C2.7
#[test]
fn an_old_transaction_still_conflicts_over_what_it_read() {
    let (clock, store) = timed();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let n: Option<u32> = mine.get("key").unwrap();
    mine.insert("key", n.unwrap() + 1).unwrap();
    put(&store, &id, "key", 7);
    clock.advance(Duration::from_secs(3000));
    assert!(txn.commit().unwrap_err().is_conflict());
}

// C2.14
#[test]
fn the_greatest_age_of_a_snapshot_is_a_setting() {
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let store = builder.snapshot_max_age(5 * MINUTE).in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(5 * MINUTE);
    assert_eq!(shop(&txn, &id).get::<u32>("key").unwrap(), Some(1));
    let late = client(&store);
    clock.advance(Duration::from_secs(1));
    let error = shop(&txn, &late).get::<u32>("key").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotTooOld);
}

// C2.14
#[test]
fn a_forgotten_transaction_does_not_make_the_file_grow() {
    let folder = TempDir::new().unwrap();
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let store = builder.open(folder.path().join("store.redb")).unwrap();
    let id = client(&store);
    let forgotten = Arc::new(store.begin().unwrap());
    let write = |times: u8| {
        for n in 0..times {
            let big = vec![n; 60_000];
            store
                .transact(|txn| txn.session(&id)?.pkg("big").insert("big", &big))
                .unwrap();
        }
        store.statistics().unwrap().file_len()
    };
    write(2);
    clock.advance(MINUTE);
    let start = write(4);
    let end = write(24);
    assert!(end <= start, "grown from {start} to {end} bytes");
    drop(forgotten);
}
