//! C5.4: a half-made checkpoint of several steps is not damage. The content of the store is its file together with the
//! journal and the memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Error, ErrorKind, Store, StoreBuilder, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use support::store::file_builder;
use support::wait::eventually;

/// Without a cache, each row is a step of a checkpoint.
fn builder() -> StoreBuilder {
    file_builder().cache_size(0)
}

fn open(disk: &Disk) -> Store {
    builder().open_in(disk.folder(), "store").unwrap()
}

const SESSIONS: usize = 2;

/// A store with sessions, all of which [`change`] changes.
fn prepare() -> (Vec<u8>, Vec<String>) {
    let disk = Disk::default();
    let store = open(&disk);
    let ids: Vec<ClientId> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
    for id in &ids {
        let found = |txn: &Txn| {
            let session = txn.session(id)?;
            session.pkg("a").insert("n", 1)?;
            session.set_owner(Some("ann"))
        };
        store.transact(found).unwrap();
    }
    store.close().unwrap();
    let ids = ids.iter().map(|id| id.as_str().to_owned()).collect();
    (disk.kept("store"), ids)
}

fn change(store: &Store, ids: &[String]) {
    let ids: Vec<_> = ids
        .iter()
        .map(|id| store.client_ids().verify(id).unwrap())
        .collect();
    store
        .transact(|txn| {
            txn.session(&ids[0])?.destroy()?;
            for id in &ids[1..] {
                let session = txn.session(id)?;
                session.pkg("a").insert("n", 2)?;
                session.pkg("b").insert("large", "x".repeat(5_000))?;
                session.set_owner(Some("bob"))?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
}

fn assert_changed(store: &Store, ids: &[String]) {
    let txn = store.begin().unwrap();
    for (n, id) in ids.iter().enumerate() {
        let session = txn
            .session(&store.client_ids().verify(id).unwrap())
            .unwrap();
        assert_eq!(session.exists().unwrap(), n > 0, "session {n}");
        let value: Option<u64> = session.pkg("a").get("n").unwrap();
        assert_eq!(value, (n > 0).then_some(2), "session {n}");
    }
}

// C5.4, C7.3
#[test]
fn a_store_killed_at_any_step_of_a_checkpoint_is_verified_and_opens() {
    let (image, ids) = prepare();
    let mut steps = 0;
    for n in 1.. {
        let disk = Disk::holding("store", image.clone());
        let store = open(&disk);
        change(&store, &ids);
        disk.crash_at(n);
        let answer = store.checkpoint();
        if !disk.has_crashed() {
            answer.unwrap();
            break;
        }
        steps += 1;
        let mut chance = fastrand::Rng::with_seed(n);
        let power_loss = n
            .is_multiple_of(4)
            .then(|| disk.after_power_loss(&mut chance));
        for left in power_loss.into_iter().chain([disk.after_kill()]) {
            let verified = builder()
                .verify_on_open(true)
                .open_in(left.folder(), "store");
            let store = verified.unwrap_or_else(|e| panic!("operation {n}: {e:?}"));
            assert_changed(&store, &ids);
            assert!(store.check().unwrap().is_clean());
        }
    }
    assert!(steps > 20, "{steps}");
}

// C5.4: damage is still found, though the journal has newer rows.
#[test]
fn what_is_damaged_in_a_half_made_checkpoint_is_found() {
    let (image, ids) = prepare();
    let disk = Disk::holding("store", image);
    let store = open(&disk);
    change(&store, &ids);
    disk.crash_at(20);
    store.checkpoint().unwrap_err();
    let left = disk.after_kill();
    let verify = |disk: &Disk| {
        let opened = builder()
            .verify_on_open(true)
            .open_in(disk.folder(), "store");
        opened.map(drop).map_err(|e| e.kind())
    };
    verify(&left.after_kill()).unwrap();
    // The text of a package that the journal does not have newer: the store's own record of its identity.
    let seen = left.seen("store");
    let at = seen
        .windows(8)
        .rposition(|bytes| bytes == b"identity")
        .unwrap();
    let damaged = left.after_kill();
    damaged.flip("store", 8 * at);
    assert_eq!(verify(&damaged), Err(ErrorKind::Corrupt));
}

// C5.4, C2.13
#[test]
fn a_check_while_a_checkpoint_cannot_be_made_finds_nothing() {
    let (image, ids) = prepare();
    let mut failed = 0;
    for after in 0.. {
        let disk = Disk::holding("store", image.clone());
        let store = open(&disk);
        change(&store, &ids);
        disk.fail(Fault {
            on: |call| call == Call::Sync,
            after,
            times: 1,
            failure: Failure::Error(if after % 2 == 0 { EIO } else { ENOSPC }),
        });
        let made = store.checkpoint();
        if !disk.heal() {
            made.unwrap();
            break;
        }
        failed += 1;
        // At once, before it is made again.
        let check = eventually(|| store.check());
        assert!(check.is_clean(), "sync {after}: {check:?}");
        assert_eq!(check.sessions, SESSIONS as u64 - 1);
    }
    assert!(failed > 10, "{failed}");
}
