//! C1.7, C1.8: containers in memory, and the settings of a container.

use super::{client_with, in_folder, in_ram, key_of, put, reopen};
use crate::support::clock::{HOUR, MINUTE};
use crate::support::store::timed;
use crate::support::visitors::with;
use cloakroom::{ContainerSettings, ErrorKind, Residence, Session, Store};
use std::time::Duration;

// C1.7
#[test]
fn a_container_in_memory_is_gone_after_a_restart_and_the_file_is_not() {
    let (folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 7);
    store.close().unwrap();
    let store = reopen(folder.path());
    assert_eq!(key_of(&store, &id, "scratch"), None);
    assert_eq!(key_of(&store, &id, "news"), Some(7));
    put(&store, &id, &["scratch"], 8);
    assert_eq!(key_of(&store, &id, "scratch"), Some(8));
}

// C1.7
#[test]
fn a_commit_to_memory_alone_touches_no_file() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let before = store.statistics().unwrap();
    let id = client_with(&store, &["scratch"], 7);
    with(&store, &id, Session::rotate);
    let after = store.statistics().unwrap();
    assert_eq!(after.commits(), before.commits() + 2);
    assert_eq!(after.syncs(), before.syncs());
    assert_eq!(after.bytes_written(), before.bytes_written());
}

// C1.7
#[test]
fn a_transaction_over_file_and_memory_is_all_or_nothing() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 1);
    for (read, other) in [("scratch", "news"), ("news", "scratch")] {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg(read).get::<u32>("key").unwrap();
        session.pkg(read).insert("key", 2).unwrap();
        session.pkg(other).insert("key", 2).unwrap();
        put(&store, &id, &[read], 3);
        let error = txn.commit().unwrap_err();
        assert!(error.is_conflict());
        assert_eq!(error.package(), Some(read));
        assert_eq!(key_of(&store, &id, read), Some(3));
        assert_ne!(key_of(&store, &id, other), Some(2));
    }
}

// C1.7, C2.1
#[test]
fn both_halves_of_a_transaction_are_seen_at_once() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=50 {
                put(&store, &id, &["scratch", "news"], n);
            }
        });
        while !writer.is_finished() {
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            let one: Option<u32> = session.pkg("scratch").get("key").unwrap();
            let two: Option<u32> = session.pkg("news").get("key").unwrap();
            assert_eq!(one, two);
        }
    });
}

// C1.7
#[test]
fn a_whole_store_can_live_in_memory() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop", "news"], 7);
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
    assert_eq!(store.statistics().unwrap().file_len(), 0);
}

// C1.8
#[test]
fn settings_survive_reopening() {
    let (folder, store) = in_folder();
    let shop = ContainerSettings::new()
        .timeout(30 * MINUTE)
        .resolution(5 * MINUTE)
        .max_lifetime(Some(HOUR))
        .implicit_sweeps(false);
    let unnamed = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("shop", shop.clone()).unwrap();
    store.register("scratch", in_ram()).unwrap();
    store
        .container("")
        .unwrap()
        .configure(unnamed.clone())
        .unwrap();
    store.close().unwrap();

    let store = reopen(folder.path());
    let settings = |name: &str| store.container(name).unwrap().settings().unwrap();
    assert_eq!(settings("shop"), shop);
    assert_eq!(settings(""), unnamed);
    assert_eq!(settings("scratch").residence, Residence::Memory);
}

// C1.8
#[test]
fn an_unregistered_container_stays_unregistered_after_reopening() {
    let (folder, store) = in_folder();
    store.register("shop", ContainerSettings::new()).unwrap();
    store.unregister("shop").unwrap();
    store.close().unwrap();
    let error = reopen(folder.path())
        .container("shop")
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchContainer);
}

// C1.8
#[test]
fn settings_change_while_the_store_runs_and_keep_the_data() {
    let (clock, store) = timed();
    let shop = store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    clock.advance(20 * MINUTE);
    let begun_before = store.begin().unwrap();
    assert!(begun_before.session(&id).unwrap().exists().unwrap());
    shop.configure(ContainerSettings::new().timeout(10 * MINUTE))
        .unwrap();
    let session = begun_before.session(&id).unwrap();
    assert_eq!(session.pkg("shop").get::<u32>("key").unwrap(), Some(7));
    drop(begun_before);
    assert_eq!(key_of(&store, &id, "shop"), None);

    store
        .register("shop", ContainerSettings::new().timeout(30 * MINUTE))
        .unwrap();
    assert_eq!(shop.settings().unwrap().timeout, 30 * MINUTE);
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.8
#[test]
fn changing_settings_is_no_conflict() {
    let store = Store::in_memory().unwrap();
    let shop = store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    let txn = store.begin().unwrap();
    let pkg = txn.session(&id).unwrap().pkg("shop");
    pkg.update("key", |n: Option<u32>| n.unwrap_or(0) + 1)
        .unwrap();
    shop.configure(ContainerSettings::new().timeout(2 * HOUR))
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(key_of(&store, &id, "shop"), Some(8));
}

// C1.7, C1.8
#[test]
fn a_container_cannot_move_between_file_and_memory() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    let refused = store.register("shop", in_ram()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.container(), Some("shop"));
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.8, C5.3
#[test]
fn a_container_name_beyond_the_limit_is_refused() {
    let store = Store::in_memory().unwrap();
    let settings = ContainerSettings::new;
    store.register(&"n".repeat(255), settings()).unwrap();
    let refused = store.register(&"n".repeat(256), settings()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
}
