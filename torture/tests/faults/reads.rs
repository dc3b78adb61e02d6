//! Reads that fail.

use super::{Prepared, fault, get, prepare, put, queue, writing};
use crate::support::clock::clock;
use crate::support::store::file_builder;
use crate::support::wait::eventually;
use cloakroom::{ClientId, Error, ErrorKind, Store, Transaction, Txn};
use cloakroom_torture::disk::{Call, Disk, EIO, Failure, Fault};
use std::time::Duration;

/// A store that keeps only root pages in memory. All pages below them are read each time.
fn spread(prepared: &Prepared) -> (Disk, Store, ClientId) {
    let disk = Disk::holding("store", prepared.image.clone());
    let store = file_builder().cache_size(0);
    let store = store.open_in(disk.folder(), "store").unwrap();
    let id = prepared.id(&store);
    let spread = |txn: &Txn| {
        for i in 0..8 {
            let package = txn.session(&id)?.pkg(&format!("spread {i}"));
            package.insert("bytes", vec![7_u8; 3000])?;
        }
        Ok::<_, Error>(())
    };
    store.transact(spread).unwrap();
    store.checkpoint().unwrap();
    (disk, store, id)
}

/// Nothing can be read.
fn no_read() -> Fault {
    let failure = Failure::Error(EIO);
    fault(|call| call == Call::Read, 0, Fault::FOR_GOOD, failure)
}

// C2.13
#[test]
fn a_failed_read_is_cured_by_reopening() {
    let (disk, store, id) = spread(&prepare());
    disk.fail(no_read());
    assert_eq!(get(&store, &id).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(disk.heal());
    assert_eq!(eventually(|| get(&store, &id)), 1);
    eventually(|| put(&store, &id, 2));
    assert_eq!(get(&store, &id).unwrap(), 2);
}

/// A transaction that writes 2, and has read all that it is held against.
fn having_read(store: &Store, id: &ClientId) -> Transaction {
    let txn = writing(store, id, 2).unwrap();
    let session = txn.session(id).unwrap();
    for package in ["a", "b"] {
        assert_eq!(session.pkg(package).get("n").unwrap(), Some(2_u64));
        assert_eq!(session.pkg(package).len().unwrap(), 1);
    }
    txn
}

// C2.13
#[test]
fn a_commit_that_cannot_read_what_it_is_held_against_is_not_written() {
    let prepared = prepare();
    let (disk, store, id) = spread(&prepared);
    let txn = having_read(&store, &id);
    // What it has read may have been changed since.
    put(&store, &store.client_ids().issue(), 1).unwrap();
    store.checkpoint().unwrap();
    disk.fail(no_read());
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::NotWritten);
    assert!(disk.heal());
    assert_eq!(eventually(|| get(&store, &id)), 1);
    eventually(|| put(&store, &id, 3));
    assert_eq!(prepared.found_in(&disk.all_kept()), 3);
}

// C2.7
#[test]
fn what_was_read_since_the_last_checkpoint_is_not_read_again_to_be_held_against() {
    let prepared = prepare();
    let (disk, store, id) = spread(&prepared);
    let txn = having_read(&store, &id);
    disk.fail(no_read());
    txn.commit().unwrap();
    assert!(!disk.heal(), "it read");
    assert_eq!(get(&store, &id).unwrap(), 2);
    assert_eq!(prepared.found_in(&disk.all_kept()), 2);
}

// C2.11, C3.2: a write begun in time is on its way to the disk when another one looks.
#[test]
fn who_looks_while_a_write_is_synced_finds_its_session_in_use() {
    let prepared = prepare();
    let clock = clock();
    let disk = Disk::holding("store", prepared.image.clone());
    let builder = file_builder().clock(clock.clone());
    let store = builder.open_in(disk.folder(), "store").unwrap();
    let id = prepared.id(&store);
    let exists = || store.begin().unwrap().session(&id).unwrap().exists();
    clock.advance(Duration::from_secs(3599));
    let txn = writing(&store, &id, 2).unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(Duration::from_secs(2));
    disk.hold();
    let commit = queue(txn);
    disk.wait_until_held();
    assert!(exists().unwrap());
    disk.release();
    pollster::block_on(commit).unwrap();
    assert!(exists().unwrap());
    assert_eq!(get(&store, &id).unwrap(), 2);
}
