//! C2.2, C7.3: what a power loss leaves at any moment. The images that it can leave are rebuilt from
//! the calls that reached the disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, Clock, Error, Store, StoreBuilder, Txn};
use cloakroom_torture::disk::{Call, Change, Disk, EIO, Failure, Fault, apply};

fn builder() -> StoreBuilder {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    Store::builder()
        .clock(clock)
        .secret([7; 32])
        .implicit_sweeps(false)
        .cache_size(1 << 20)
}

fn open(disk: &Disk) -> Store {
    builder().open_in(disk.folder(), "store").unwrap()
}

/// One change in two packages and two sessions, and a package that comes and goes.
fn put(store: &Store, ids: &[ClientId; 2], n: u64) {
    let change = |txn: &Txn| {
        for id in ids {
            let session = txn.session(id)?;
            session.pkg("a").insert("n", n)?;
            session.pkg("b").insert("n", n)?;
            let coming = session.pkg("coming and going");
            if n.is_multiple_of(2) {
                coming.insert("bytes", vec![0_u8; 3000 * n as usize])?;
            } else {
                coming.clear()?;
            }
        }
        Ok::<_, Error>(())
    };
    store.transact(change).unwrap();
}

/// The number of the change that is there as a whole.
fn found(store: &Store, ids: &[ClientId; 2]) -> u64 {
    assert!(store.check().unwrap().is_clean());
    let txn = store.begin().unwrap();
    let numbers = ids.each_ref().map(|id| {
        let session = txn.session(id).unwrap();
        let a: u64 = session.pkg("a").get("n").unwrap().unwrap();
        let b: u64 = session.pkg("b").get("n").unwrap().unwrap();
        assert_eq!(a, b, "half a commit");
        let coming = session.pkg("coming and going").contains_key("bytes");
        assert_eq!(coming.unwrap(), a.is_multiple_of(2), "half a commit");
        a
    });
    assert_eq!(numbers[0], numbers[1], "half a commit");
    numbers[0]
}

/// What a power loss can leave when these changes were not synced: any beginning of them, any single
/// one, all but any single one, and the first half of a write.
fn losses(unsynced: &[Change]) -> Vec<Vec<Change>> {
    let mut losses = Vec::new();
    for i in 0..unsynced.len() {
        let (before, after) = (&unsynced[..i], &unsynced[i + 1..]);
        losses.push(before.to_vec());
        losses.push(vec![unsynced[i].clone()]);
        losses.push([before, after].concat());
        if let Change::Write { offset, data } = &unsynced[i] {
            let torn = Change::Write {
                offset: *offset,
                data: data[..data.len() / 2].to_vec(),
            };
            losses.push([before, &[torn]].concat());
        }
    }
    losses.push(unsynced.to_vec());
    losses
}

/// The files that a power loss at any moment of the log can leave, each with the last number told
/// before that moment, and the one then under way.
fn images(mut image: Vec<u8>, log: &[Change], mut see: impl FnMut(Vec<u8>, u64, u64)) {
    let mut told = 0;
    let mut unsynced = Vec::new();
    for change in log {
        if let Change::Write { .. } | Change::SetLen(_) = change {
            unsynced.push(change.clone());
            continue;
        }
        for loss in losses(&unsynced) {
            let mut left = image.clone();
            loss.iter().for_each(|change| apply(&mut left, change));
            see(left, told, told + 1);
        }
        match change {
            Change::Mark(number) => told = *number,
            _ => unsynced
                .drain(..)
                .for_each(|change| apply(&mut image, &change)),
        }
    }
}

// C2.2, C7.3
#[test]
fn a_power_loss_at_any_moment_leaves_every_acknowledged_commit_whole() {
    let disk = Disk::default();
    let store = open(&disk);
    let ids = std::array::from_fn(|_| store.client_ids().issue());
    put(&store, &ids, 0);
    store.close().unwrap();
    let start = disk.kept("store");
    drop(disk.take_log("store"));

    let store = open(&disk);
    for n in 1..4 {
        put(&store, &ids, n);
        disk.mark("store", n);
    }
    store.close().unwrap();
    let store = open(&disk);
    put(&store, &ids, 4);
    disk.mark("store", 4);
    drop(store);

    let mut seen = 0;
    images(start, &disk.take_log("store"), |image, told, under_way| {
        let disk = Disk::holding("store", image);
        let store = open(&disk);
        let ids = ids
            .each_ref()
            .map(|id| store.client_ids().verify(id.as_str()).unwrap());
        let n = found(&store, &ids);
        assert!(n == told || n == under_way, "{n} of {told}, image {seen}");
        put(&store, &ids, n + 1);
        assert_eq!(found(&store, &ids), n + 1);
        seen += 1;
    });
    assert!(seen > 200, "{seen} images");
}

// C2.2, C2.13: what a failed sync lost stays lost, although it can still be read.
#[test]
fn a_power_loss_after_a_failed_sync_leaves_every_acknowledged_commit_whole() {
    let disk = Disk::default();
    let store = open(&disk);
    let ids = std::array::from_fn(|_| store.client_ids().issue());
    put(&store, &ids, 0);
    store.close().unwrap();
    let start = disk.kept("store");
    for after in 0..2 {
        let disk = Disk::holding("store", start.clone());
        let store = open(&disk);
        let ids = ids
            .each_ref()
            .map(|id| store.client_ids().verify(id.as_str()).unwrap());
        disk.fail(Fault {
            on: |call| call == Call::Sync,
            after,
            times: 1,
            failure: Failure::Half(EIO),
        });
        let change = |txn: &Txn| txn.session(&ids[0])?.pkg("lost").insert("n", 1);
        store.transact(change).unwrap_err();
        assert!(disk.heal());
        while store.begin().is_err() {
            std::thread::yield_now();
        }
        for n in 1..4 {
            put(&store, &ids, n);
            let store = open(&Disk::holding("store", disk.kept("store")));
            let ids = ids
                .each_ref()
                .map(|id| store.client_ids().verify(id.as_str()).unwrap());
            assert_eq!(found(&store, &ids), n, "sync {after}");
        }
    }
}

// C2.2, C7.3: the name of a store is kept, too, although whoever made it never came to make it last.
#[test]
fn a_store_whose_maker_was_killed_keeps_its_name_through_a_power_loss() {
    let mut kept = 0;
    for n in 1.. {
        let disk = Disk::default();
        disk.crash_at(n);
        let maker = builder().open_in(disk.folder(), "store");
        let finished = maker.is_ok();
        drop(maker);
        disk.crash();
        let disk = disk.after_kill();
        let store = open(&disk);
        let ids = std::array::from_fn(|_| store.client_ids().issue());
        put(&store, &ids, 1);
        for seed in 0..8 {
            let disk = disk.after_power_loss(&mut fastrand::Rng::with_seed(seed));
            assert!(disk.names().contains(&"store".into()), "operation {n}");
            let store = open(&disk);
            let ids = ids
                .each_ref()
                .map(|id| store.client_ids().verify(id.as_str()).unwrap());
            assert_eq!(found(&store, &ids), 1, "operation {n}");
            kept += 1;
        }
        if finished {
            break;
        }
    }
    assert!(kept > 100, "{kept} images");
}
