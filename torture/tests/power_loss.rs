//! C2.2, C7.3: what a power loss leaves at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Error, Store, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, Failure, Fault};
use support::store::file_builder;

fn open(disk: &Disk) -> Store {
    file_builder().open_in(disk.folder(), "store").unwrap()
}

/// The same ids, as this store knows them.
fn known(store: &Store, ids: &[ClientId; 2]) -> [ClientId; 2] {
    ids.each_ref()
        .map(|id| store.client_ids().verify(id.as_str()).unwrap())
}

fn put(store: &Store, ids: &[ClientId; 2], n: u64) {
    change(store, ids, n).unwrap();
}

/// One change in two packages and two sessions, and a package that comes and goes.
fn change(store: &Store, ids: &[ClientId; 2], n: u64) -> cloakroom::Result<()> {
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
    store.transact(change)
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

/// Changes, a checkpoint, a clean end and a new beginning; tells how many changes were acknowledged, until
/// the disk crashes.
fn live(disk: &Disk, ids: &[ClientId; 2]) -> u64 {
    let mut told = 0;
    let mut part =
        |changes: std::ops::RangeInclusive<u64>, closes: bool| -> cloakroom::Result<()> {
            let store = file_builder().open_in(disk.folder(), "store")?;
            let ids = known(&store, ids);
            for n in changes {
                change(&store, &ids, n)?;
                told = n;
                if n.is_multiple_of(2) {
                    store.checkpoint()?;
                }
            }
            if closes { store.close() } else { Ok(()) }
        };
    let _ = part(1..=3, true).and_then(|()| part(4..=5, false));
    told
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
    let mut seen = 0;
    for n in 1.. {
        let disk = Disk::holding("store", start.clone());
        disk.crash_at(n);
        let told = live(&disk, &ids);
        for seed in 0..6 {
            let disk = disk.after_power_loss(&mut fastrand::Rng::with_seed(n << 8 | seed));
            let store = open(&disk);
            let ids = known(&store, &ids);
            let served = found(&store, &ids);
            assert!(
                served == told || served == told + 1,
                "{served} of {told}, operation {n}, seed {seed}"
            );
            put(&store, &ids, served + 1);
            assert_eq!(found(&store, &ids), served + 1);
            seen += 1;
        }
        if !disk.has_crashed() {
            assert_eq!(told, 5);
            break;
        }
    }
    assert!(seen > 300, "{seen} images");
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
    for after in 0.. {
        let disk = Disk::holding("store", start.clone());
        let store = open(&disk);
        let ids = known(&store, &ids);
        disk.fail(Fault {
            on: |call| call == Call::Sync,
            after,
            times: 1,
            failure: Failure::Half(EIO),
        });
        let change = |txn: &Txn| txn.session(&ids[0])?.pkg("lost").insert("n", 1);
        let answer = store.transact(change).and_then(|()| store.checkpoint());
        let struck = disk.heal();
        while store.begin().is_err() {
            std::thread::yield_now();
        }
        for n in 1..4 {
            put(&store, &ids, n);
            let store = open(&disk.all_kept());
            let ids = known(&store, &ids);
            assert_eq!(found(&store, &ids), n, "sync {after}");
        }
        if !struck {
            answer.unwrap();
            assert!(after > 3, "{after} syncs");
            break;
        }
    }
}

// C2.2, C7.3: a store keeps its name although its maker was killed before it synced the folder.
#[test]
fn a_store_whose_maker_was_killed_keeps_its_name_through_a_power_loss() {
    let mut kept = 0;
    for n in 1.. {
        let disk = Disk::default();
        disk.crash_at(n);
        let maker = file_builder().open_in(disk.folder(), "store");
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
            let ids = known(&store, &ids);
            assert_eq!(found(&store, &ids), 1, "operation {n}");
            kept += 1;
        }
        if finished {
            break;
        }
    }
    assert!(kept > 100, "{kept} images");
}

// C7.2, C7.3: whenever the power goes, there is an empty file or a store.
#[test]
fn a_power_loss_while_an_empty_file_becomes_a_store_leaves_one_of_the_two() {
    let mut seen = [0, 0];
    for n in 1.. {
        let disk = Disk::holding("store", Vec::new());
        disk.crash_at(n);
        let opened = file_builder().open_in(disk.folder(), "store");
        if opened.is_ok_and(|store| store.close().is_ok()) {
            break;
        }
        for seed in 0..4 {
            let disk = disk.after_power_loss(&mut fastrand::Rng::with_seed(n << 8 | seed));
            let is_empty = disk.kept("store").is_empty();
            seen[usize::from(is_empty)] += 1;
            let store = open(&disk);
            let ids = std::array::from_fn(|_| store.client_ids().issue());
            put(&store, &ids, 1);
            assert_eq!(found(&store, &ids), 1);
            store.close().unwrap();
        }
    }
    assert!(seen.iter().all(|seen| *seen > 8), "{seen:?}");
}
