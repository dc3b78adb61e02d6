//! C2.13: the answer of a commit when storage fails, the content of the disk then, and that the store recovers by
//! itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod answers;
mod groups;
mod memory;
mod reads;
mod reopening;
mod space;
#[path = "../support/mod.rs"]
mod support;
mod sweeps;

use cloakroom::{ClientId, Result, Store, Transaction};
use cloakroom_torture::disk::{Call, Disk, Failure, Fault};
use std::task::{Context, Waker};
use support::store::file_builder;

/// A disk that holds a store with one session, in which "a" and "b" hold the number 1.
struct Prepared {
    image: Vec<u8>,
    id: String,
}

fn open(disk: &Disk) -> Store {
    file_builder().open_in(disk.folder(), "store").unwrap()
}

fn prepare() -> Prepared {
    let disk = Disk::default();
    let store = open(&disk);
    let id = store.client_ids().issue();
    put(&store, &id, 1).unwrap();
    store.close().unwrap();
    Prepared {
        image: disk.kept("store"),
        id: id.as_str().to_owned(),
    }
}

impl Prepared {
    fn open(&self) -> (Disk, Store, ClientId) {
        let disk = Disk::holding("store", self.image.clone());
        let store = open(&disk);
        let id = self.id(&store);
        (disk, store, id)
    }

    fn id(&self, store: &Store) -> ClientId {
        store.client_ids().verify(&self.id).unwrap()
    }

    /// What a store on this disk serves.
    fn found_in(&self, disk: &Disk) -> u64 {
        let store = open(disk);
        let found = get(&store, &self.id(&store)).unwrap();
        assert!(store.check().unwrap().is_clean());
        found
    }
}

/// One change in two packages.
fn put(store: &Store, id: &ClientId, n: u64) -> Result<()> {
    writing(store, id, n)?.commit()
}

fn writing(store: &Store, id: &ClientId, n: u64) -> Result<Transaction> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    session.pkg("a").insert("n", n)?;
    session.pkg("b").insert("n", n)?;
    Ok(txn)
}

/// One that the journal has to grow for.
fn writing_much(store: &Store, id: &ClientId, n: u64) -> Result<Transaction> {
    let txn = writing(store, id, n)?;
    let package = txn.session(id)?.pkg("large");
    package.insert("text", "x".repeat(200_000))?;
    Ok(txn)
}

/// The number that both packages hold.
fn get(store: &Store, id: &ClientId) -> Result<u64> {
    let txn = store.begin()?;
    let session = txn.session(id)?;
    let a: Option<u64> = session.pkg("a").get("n")?;
    let b: Option<u64> = session.pkg("b").get("n")?;
    assert_eq!(a, b, "half a commit");
    Ok(a.unwrap())
}

fn fault(on: fn(Call) -> bool, after: usize, times: usize, failure: Failure) -> Fault {
    Fault {
        on,
        after,
        times,
        failure,
    }
}

/// Polls a commit a few times without a waker.
fn queue(txn: Transaction) -> std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> {
    let mut committing: std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send>> =
        Box::pin(txn.commit_async());
    let polled = committing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    committing
}
