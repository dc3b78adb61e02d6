//! C2.14: a snapshot has a greatest age.

use super::{client, put, shop, stored};
use crate::support::clock::{MINUTE, clock};
use crate::support::store::timed;
use cloakroom::{ContainerSettings, ErrorKind, Store};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

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
