//! C2.1, C2.2, C2.12: what a transaction sees, and what its commit writes.

use super::{Refuses, client, in_file, put, shop, stored};
use crate::support::clock::MINUTE;
use crate::support::engine::{looks_move, needs_files};
use cloakroom::{ContainerSettings, ErrorKind, Result, Session, Store};
use tempfile::TempDir;

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

    if looks_move() {
        // The second session conflicts instead, because the first has changed, and so does the commit.
        assert_eq!(shop(&txn, &ann).get::<u32>("key").unwrap(), Some(1));
        assert_eq!(shop(&txn, &ann).keys().unwrap(), ["early", "key"]);
        let error = shop(&txn, &bob).get::<u32>("key").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
        return;
    }
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
