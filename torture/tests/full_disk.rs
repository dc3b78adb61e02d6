//! C2.13, C2.14: a checkpoint that cannot be made costs nobody the snapshot that he reads, and reading goes on
//! while the store's file cannot be written.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Error, ErrorKind, Result, Store, StoreBuilder, Transaction, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, ENOSPC, Failure, Fault};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use support::log::Lines;
use support::store::file_builder;
use support::wait::eventually;

/// Without a cache: a snapshot reads from the disk again.
fn builder() -> StoreBuilder {
    file_builder().cache_size(0)
}

const SESSIONS: usize = 20;

struct House {
    disk: Disk,
    store: Store,
    ids: Vec<ClientId>,
}

impl House {
    /// All is in the file, and the number of every session 1.
    fn new() -> Self {
        let disk = Disk::default();
        let store = builder().open_in(disk.folder(), "store").unwrap();
        let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        let house = Self { disk, store, ids };
        house.put(1);
        house.store.checkpoint().unwrap();
        house
    }

    /// One commit over all sessions.
    fn put(&self, n: u64) {
        self.try_put(n).unwrap();
    }

    fn try_put(&self, n: u64) -> Result<()> {
        self.store.transact(|txn: &Txn| {
            for id in &self.ids {
                let session = txn.session(id)?;
                session.pkg("app").insert("n", n)?;
                session.pkg("app").insert("text", "x".repeat(600))?;
                session.set_owner(Some("ann"))?;
            }
            Ok::<_, Error>(())
        })
    }

    fn begin(&self) -> Transaction {
        let txn = self.store.begin().unwrap();
        // Its first look.
        let n: Option<u64> = txn
            .session(&self.ids[0])
            .unwrap()
            .pkg("app")
            .get("n")
            .unwrap();
        assert!(n.is_some());
        txn
    }

    fn read(&self, txn: &Transaction) -> Result<Vec<u64>> {
        let numbers = self.ids.iter().map(|id| {
            let n: Option<u64> = txn.session(id)?.pkg("app").get("n")?;
            Ok(n.unwrap())
        });
        numbers.collect()
    }

    fn assert_reads(&self, txn: &Transaction, n: u64) {
        assert_eq!(self.read(txn).unwrap(), [n; SESSIONS]);
    }
}

fn fault(after: usize, times: usize, failure: Failure) -> Fault {
    Fault {
        on: Call::changes,
        after,
        times,
        failure,
    }
}

/// Snapshots of several ages, before a checkpoint.
fn with_snapshots() -> (House, Vec<Transaction>) {
    let house = House::new();
    let mut snapshots = vec![house.begin()];
    house.put(2);
    house.store.checkpoint().unwrap();
    snapshots.push(house.begin());
    house.put(3);
    snapshots.push(house.begin());
    house.put(4);
    (house, snapshots)
}

fn operations_of_the_checkpoint() -> u64 {
    let (house, _snapshots) = with_snapshots();
    let before = house.disk.counts().operations();
    house.store.checkpoint().unwrap();
    house.disk.counts().operations() - before
}

// C2.13, C2.14
#[test]
fn snapshots_outlive_a_checkpoint_that_fails() {
    // It begins with a frame in the journal, and in the end the journal's other file is made ready to be used
    // again. If that fails, the journal is read anew, and no snapshot outlives that.
    let (first, most) = (4, operations_of_the_checkpoint() as usize - 10);
    let mut failed = 0;
    for failure in [Failure::Error(ENOSPC), Failure::Half(EIO), Failure::Panic] {
        let points = std::iter::successors(Some(first), |after| Some(after * 2 + 1));
        for after in points.take_while(|after| *after < most) {
            let (house, mut snapshots) = with_snapshots();
            house.disk.fail(fault(after, 1, failure));
            let made = house.store.checkpoint();
            assert!(house.disk.heal());
            failed += usize::from(made.is_err());
            snapshots.push(house.begin());
            for (txn, n) in snapshots.iter().zip(1..) {
                house.assert_reads(txn, n);
            }
            eventually(|| house.try_put(5));
            snapshots.push(house.begin());
            for (txn, n) in snapshots.iter().zip(1..) {
                house.assert_reads(txn, n);
            }
            drop(snapshots);
            house.store.checkpoint().unwrap();
            house.assert_reads(&house.begin(), 5);
            assert!(house.store.check().unwrap().is_clean());
        }
    }
    assert!(failed > 9, "{failed}");
}

// C2.14: redb knows nothing of a snapshot from before it was opened again, and uses its pages.
#[test]
fn a_snapshot_that_the_next_checkpoint_cannot_wait_for_is_too_old_and_nothing_worse() {
    let house = House::new();
    let txn = house.begin();
    house.put(2);
    house.disk.fail(fault(10, 1, Failure::Error(ENOSPC)));
    house.store.checkpoint().unwrap_err();
    assert!(house.disk.heal());
    for n in 3..6 {
        eventually(|| house.try_put(n));
        eventually(|| house.store.checkpoint());
    }
    let read = house.read(&txn).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::SnapshotTooOld);
    house.assert_reads(&house.begin(), 5);
}

// C2.13
#[test]
fn reading_goes_on_while_the_file_cannot_be_written() {
    let house = House::new();
    let older = house.begin();
    house.put(2);
    house
        .disk
        .fail(fault(10, Fault::FOR_GOOD, Failure::Error(ENOSPC)));
    house.store.checkpoint().unwrap_err();
    for _ in 0..3 {
        house.assert_reads(&house.begin(), 2);
        house.assert_reads(&older, 1);
        let owned = house.store.sessions_of("ann").unwrap();
        assert_eq!(owned.len(), SESSIONS);
        let counts = house.store.container("").unwrap().statistics().unwrap();
        assert_eq!(counts.live, SESSIONS as u64);
        let refused = house.try_put(3).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
    }
    house.disk.heal();
    eventually(|| house.try_put(3));
    house.assert_reads(&house.begin(), 3);
    house.assert_reads(&older, 1);
    drop(older);
    house.store.checkpoint().unwrap();
    assert!(house.store.check().unwrap().is_clean());
}

/// A process was killed with commits in the journal alone, and another one opens the store on a full disk.
fn on_a_full_disk() -> House {
    let house = House::new();
    house.put(2);
    let disk = house.disk.after_kill();
    disk.fill();
    opened(disk, &house.ids)
}

fn opened(disk: Disk, ids: &[ClientId]) -> House {
    let store = builder().open_in(disk.folder(), "store").unwrap();
    let ids = ids
        .iter()
        .map(|id| store.client_ids().verify(id.as_str()).unwrap());
    House {
        ids: ids.collect(),
        disk,
        store,
    }
}

// C2.13
#[test]
fn a_store_opened_on_a_full_disk_is_read_and_goes_on_once_there_is_room() {
    let house = on_a_full_disk();
    assert!(house.store.statistics().unwrap().is_read_only());
    let older = house.begin();
    for _ in 0..3 {
        house.assert_reads(&house.begin(), 2);
        assert_eq!(house.store.sessions_of("ann").unwrap().len(), SESSIONS);
        let counts = house.store.container("").unwrap().statistics().unwrap();
        assert_eq!(counts.live, SESSIONS as u64);
        let refused = house.try_put(3).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("full"), "{refused}");
    }
    // A process that is killed meanwhile has changed nothing.
    let other = opened(house.disk.after_kill(), &house.ids);
    other.assert_reads(&other.begin(), 2);
    other.put(9);

    house.disk.free();
    eventually(|| house.try_put(3));
    assert!(!house.store.statistics().unwrap().is_read_only());
    house.assert_reads(&older, 2);
    house.assert_reads(&house.begin(), 3);
    drop(older);
    house.store.checkpoint().unwrap();
    assert!(house.store.check().unwrap().is_clean());
    house.store.close().unwrap();
    assert_eq!(house.disk.names(), ["store"]);
    let again = opened(house.disk.after_kill(), &house.ids);
    again.assert_reads(&again.begin(), 3);
}

// C7.4: another process must not take them for left over.
#[test]
fn a_store_opened_on_a_full_disk_holds_the_journals_that_it_was_read_from() {
    let house = on_a_full_disk();
    let journals = || {
        let names = house.disk.names().into_iter();
        names.filter(|name| name.to_str().unwrap().contains(".journal-"))
    };
    assert_eq!(journals().count(), 2);
    for name in journals() {
        let journal = house.disk.folder().open(&name).unwrap();
        let locked = journal.try_lock_range(Bound::Unbounded, Bound::Unbounded);
        assert!(!locked.unwrap(), "{name:?} can be locked");
    }
    house.disk.free();
    eventually(|| house.try_put(3));
    house.store.close().unwrap();
    assert_eq!(house.disk.names(), ["store"]);
}

// C2.13
#[test]
fn a_store_that_was_only_read_is_closed_without_a_loss() {
    let house = on_a_full_disk();
    house.store.clone().close().unwrap();
    let refused = house.try_put(3).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let again = opened(house.disk.after_kill(), &house.ids);
    again.assert_reads(&again.begin(), 2);
}

// C2.13: visitors decide how often a commit is tried.
#[test]
fn a_full_disk_does_not_fill_the_log() {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    let counts = Lines::of(
        |metadata| *metadata.level() == tracing::Level::ERROR,
        |_, line| {
            let is_one = line.contains("the journal cannot grow");
            LINES.fetch_add(usize::from(is_one), Ordering::SeqCst);
        },
    );
    tracing::subscriber::set_global_default(counts).unwrap();
    let begun = Instant::now();
    let house = House::new();
    house.disk.fill();
    let mut refused = 0;
    // As much as the file of the journal takes as it is.
    for n in 0..1000 {
        refused += usize::from(house.try_put(n).is_err());
    }
    let most = begun.elapsed().as_secs() as usize + 1;
    let lines = LINES.load(Ordering::SeqCst);
    assert!(refused > 500, "{refused}");
    assert!((1..=most).contains(&lines), "{lines} lines");
    house.disk.free();
    eventually(|| house.try_put(1));
}
