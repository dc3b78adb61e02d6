//! C2.6: doomed transactions, and what runs after the outcome.

use super::{Refuses, client, in_file, put, shop, stored};
use crate::support::runtime::block_on;
use cloakroom::{ClientId, Error, ErrorKind, PkgData, Result, Store, Transaction};
use std::sync::mpsc;
use std::thread::ThreadId;

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
    let error = block_on(txn.commit_async()).unwrap_err();
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
