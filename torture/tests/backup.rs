//! C9.1, C9.4: a backup, or a restore, that crashes, or whose disk fails, leaves a whole target or none, and never
//! changes what it reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, ErrorKind, Store, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use fastrand::Rng;
use support::store::file_builder;

const SESSIONS: usize = 30;
const STORE: &str = "store";
const WHOLE: &str = "whole.backup";
const NEXT: &str = "next.backup";
const RESTORED: &str = "restored";

fn open(disk: &Disk, name: &str) -> cloakroom::Result<Store> {
    file_builder()
        .checkpoints_in_the_foreground(64 << 10)
        .open_in(disk.folder(), name)
}

fn put(store: &Store, ids: &[ClientId], value: &str) -> cloakroom::Result<()> {
    store.transact(|txn: &Txn| {
        for id in ids {
            txn.session(id)?.pkg("a").insert("text", value)?;
            txn.session(id)?.set_owner(Some("ann"))?;
        }
        Ok(())
    })
}

/// An open store, of which a part is in its journal alone, and a whole backup of an earlier state.
struct Base {
    disk: Disk,
    store: Option<Store>,
    ids: Vec<ClientId>,
}

impl Base {
    fn new() -> Self {
        let disk = Disk::default();
        let store = open(&disk, STORE).unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        put(&store, &ids, "old").unwrap();
        store.checkpoint().unwrap();
        store.backup_in(&disk.folder(), &[], WHOLE).unwrap();
        put(&store, &ids, "new").unwrap();
        let store = Some(store);
        Self { disk, store, ids }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Takes the next backup.
    fn back_up(&self, chain: &[&str]) -> cloakroom::Result<()> {
        let backup = self.store().backup_in(&self.disk.folder(), chain, NEXT);
        backup.map(drop)
    }

    /// What the sessions of a store say. It is a clean one.
    fn said(&self, disk: &Disk, name: &str, trial: &str) -> Vec<String> {
        let opened = file_builder()
            .verify_on_open(true)
            .open_in(disk.folder(), name);
        let store = opened.unwrap_or_else(|error| panic!("{trial}: {error:?}"));
        assert!(store.check().unwrap().is_clean(), "{trial}");
        assert_eq!(store.sessions_of("ann").unwrap().len(), SESSIONS);
        let txn = store.begin().unwrap();
        let said = |id: &ClientId| {
            let id = store.client_ids().verify(id.as_str()).unwrap();
            let value = txn.session(&id).unwrap().pkg("a").get("text").unwrap();
            value.unwrap()
        };
        self.ids.iter().map(said).collect()
    }

    /// The next backup is whole, or not there. Tells which. All else is as it was.
    fn judge(&self, disk: &Disk, chain: &[&str], trial: &str) -> bool {
        let is_there = has(disk, NEXT);
        if is_there {
            let all = [chain, &[NEXT]].concat();
            Store::restore_in(&disk.folder(), &all, RESTORED).unwrap();
            let said = self.said(disk, RESTORED, trial);
            assert!(said.iter().all(|it| it == "new"), "{trial}: {said:?}");
        }
        Store::restore_in(&disk.folder(), &[WHOLE], "old").unwrap();
        let said = self.said(disk, "old", trial);
        assert!(said.iter().all(|it| it == "old"), "{trial}: {said:?}");
        // The store has all that was acknowledged.
        let said = self.said(disk, STORE, trial);
        assert!(said.iter().all(|it| it == "new"), "{trial}: {said:?}");
        is_there
    }

    fn judge_what_is_left(&self, chain: &[&str], seed: u64, trial: &str) -> [bool; 2] {
        let mut chance = Rng::with_seed(seed);
        let left = [
            self.disk.after_kill(),
            self.disk.after_power_loss(&mut chance),
        ];
        left.map(|left| self.judge(&left, chain, trial))
    }
}

fn has(disk: &Disk, name: &str) -> bool {
    disk.names().iter().any(|it| it == name)
}

/// Whole and incremental.
const CHAINS: [&[&str]; 2] = [&[], &[WHOLE]];

#[test]
fn a_backup_that_crashes_at_any_operation_is_whole_or_not_there() {
    for chain in CHAINS {
        let (mut crashes, mut whole) = (0, 0);
        for n in 1.. {
            let mut base = Base::new();
            base.disk.crash_at(n);
            let taken = base.back_up(chain);
            let trial = format!("{chain:?}, operation {n}");
            let left = base.judge_what_is_left(chain, n, &trial);
            whole += left.iter().filter(|is_there| **is_there).count();
            if !base.disk.has_crashed() {
                taken.unwrap();
                assert_eq!(left, [true; 2], "it was told that it is there");
                break;
            }
            crashes += 1;
            taken.unwrap_err();
            base.store.take();
        }
        assert!(crashes > 5 && whole > 2, "{chain:?}: {crashes}, {whole}");
    }
}

#[test]
fn a_backup_whose_disk_does_not_write_leaves_nothing_and_commits_go_on() {
    for chain in CHAINS {
        let mut faults = 0;
        for failure in [Failure::Error(ENOSPC), Failure::Half(EIO)] {
            for after in 0.. {
                let base = Base::new();
                base.disk.fail(Fault {
                    on: Call::changes,
                    after,
                    times: 1,
                    failure,
                });
                let taken = base.back_up(chain);
                let trial = format!("{chain:?}, {failure:?} after {after}");
                let has_failed = base.disk.heal();
                let left = base.judge_what_is_left(chain, after as u64, &trial);
                if taken.is_ok() {
                    assert_eq!(left, [true; 2], "{trial}");
                }
                if !has_failed {
                    taken.unwrap();
                    break;
                }
                faults += 1;
                put(base.store(), &base.ids[..1], "new").unwrap();
                if !has(&base.disk, NEXT) {
                    base.back_up(chain).unwrap();
                }
            }
        }
        assert!(faults > 8, "{chain:?}: {faults}");
    }
}

#[test]
fn a_backup_on_a_full_disk_leaves_nothing() {
    let base = Base::new();
    let before = base.disk.names();
    base.disk.fill();
    let error = base.back_up(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(base.disk.names(), before);
    base.disk.free();
    base.back_up(&[]).unwrap();
    assert!(base.judge(&base.disk.after_kill(), &[], "free again"));
}

#[test]
fn a_restore_that_crashes_at_any_operation_makes_a_whole_store_or_none() {
    let mut base = Base::new();
    base.back_up(&[WHOLE]).unwrap();
    base.store.take().unwrap().close().unwrap();
    let chain = [WHOLE, NEXT];
    let (mut crashes, mut whole) = (0, 0);
    for n in 1.. {
        let disk = base.disk.after_kill();
        let backups = chain.map(|name| disk.seen(name));
        disk.crash_at(n);
        let restored = Store::restore_in(&disk.folder(), &chain, RESTORED);
        let mut chance = Rng::with_seed(n);
        let left = [disk.after_kill(), disk.after_power_loss(&mut chance)];
        let left = left.map(|left| {
            assert!(chain.map(|name| left.seen(name)) == backups);
            let is_there = has(&left, RESTORED);
            if is_there {
                let said = base.said(&left, RESTORED, &format!("operation {n}"));
                assert!(said.iter().all(|it| it == "new"));
            }
            is_there
        });
        whole += left.iter().filter(|is_there| **is_there).count();
        if !disk.has_crashed() {
            restored.unwrap();
            assert_eq!(left, [true; 2], "it was told that it is there");
            break;
        }
        crashes += 1;
        restored.unwrap_err();
    }
    assert!(crashes > 15 && whole > 2, "{crashes}, {whole}");
}

// C7.3, C9.4
#[test]
fn a_compaction_that_crashes_at_any_operation_leaves_the_store() {
    let mut base = Base::new();
    // A part is in the journal alone.
    base.store.take();
    let killed = Base::new();
    for (of_a_killed_store, disk) in [(false, &base.disk), (true, &killed.disk)] {
        let (base, mut crashes) = (if of_a_killed_store { &killed } else { &base }, 0);
        for n in 1.. {
            let disk = disk.after_kill();
            disk.crash_at(n);
            let compacted = file_builder().compact_in(&disk.folder(), STORE);
            let mut chance = Rng::with_seed(n);
            for left in [disk.after_kill(), disk.after_power_loss(&mut chance)] {
                let said = base.said(&left, STORE, &format!("operation {n}"));
                assert!(said.iter().all(|it| it == "new"), "operation {n}");
            }
            if !disk.has_crashed() {
                compacted.unwrap();
                break;
            }
            crashes += 1;
            compacted.unwrap_err();
        }
        assert!(crashes > 15, "{crashes}");
    }
}

/// C5.4: a backup is never taken of what the disk does not read right.
#[test]
fn a_backup_of_a_store_with_a_bad_sector_is_refused_or_right() {
    let mut base = Base::new();
    // More pages than those of which the store keeps copies.
    let more = |txn: &Txn| {
        for id in &base.ids {
            txn.session(id)?.pkg("b").insert("long", "x".repeat(9000))?;
        }
        Ok::<_, cloakroom::Error>(())
    };
    base.store().transact(more).unwrap();
    base.store().checkpoint().unwrap();
    base.store.take().unwrap().close().unwrap();
    let len = base.disk.seen(STORE).len() as u64;
    let (mut taken, mut refused) = (0, 0);
    for start in (8192..len).step_by(4096) {
        let disk = base.disk.after_kill();
        // Without a cache, it reads from the disk.
        let uncached = file_builder().cache_size(0);
        let store = uncached.open_in(disk.folder(), STORE).unwrap();
        disk.spoil(STORE, start..start + 4096);
        let trial = format!("{start}");
        match store.backup_in(&disk.folder(), &[], NEXT) {
            Ok(_) => {
                taken += 1;
                Store::restore_in(&disk.folder(), &[NEXT], RESTORED).unwrap();
                let said = base.said(&disk, RESTORED, &trial);
                assert!(said.iter().all(|it| it == "new"), "{trial}");
            }
            Err(error) => {
                refused += 1;
                let kinds = [ErrorKind::Corrupt, ErrorKind::Unavailable];
                assert!(kinds.contains(&error.kind()), "{trial}: {error}");
                assert!(!has(&disk, NEXT), "{trial}");
            }
        }
    }
    assert!(taken > 0 && refused > 0, "{taken}, {refused}");
}
