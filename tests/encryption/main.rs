//! What the files of a store with keys show, and what becomes of changes to them: nothing that was encrypted is readable,
//! no other keys open it, and what somebody else wrote is damage.

#![cfg(feature = "encryption")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod keys;
mod rotation;
mod tampering;
mod traces;

use cloakroom::{ClientId, KeyRing, Reseal, Result, Store, StoreBuilder, Transaction};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A key that is never given twice for different numbers.
fn key(number: u32) -> [u8; 32] {
    [number as u8 + 100; 32]
}

fn ring(number: u32) -> KeyRing {
    KeyRing::new(number, key(number))
}

/// A store's file, in a folder of its own.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    (folder, path)
}

fn builder() -> StoreBuilder {
    Store::builder().implicit_sweeps(false)
}

fn open(path: &Path, keys: KeyRing) -> Result<Store> {
    builder().encryption(keys).open(path)
}

/// What a session is to hold; the owner and the label follow from the name.
fn write(store: &Store, id: &ClientId, name: &str) {
    let txn = store.begin().unwrap();
    write_in(&txn, id, name);
    txn.commit().unwrap();
}

fn write_in(txn: &Transaction, id: &ClientId, name: &str) {
    let session = txn.session(id).unwrap();
    session.set_owner(Some(&format!("owner-{name}"))).unwrap();
    session.set_label(&format!("label-{name}")).unwrap();
    session.pkg("cart").insert("item", name).unwrap();
    session.pkg("page").insert("last", name).unwrap();
}

fn read(store: &Store, id: &ClientId, package: &str, key: &str) -> Result<Option<String>> {
    let txn = store.begin()?;
    txn.session(id)?.pkg(package).get(key)
}

/// All that [`write`] wrote is there.
fn check(store: &Store, id: &ClientId, name: &str) {
    let value = Some(name.to_owned());
    assert_eq!(read(store, id, "cart", "item").unwrap(), value);
    assert_eq!(read(store, id, "page", "last").unwrap(), value);
    let found = store.sessions_of(&format!("owner-{name}")).unwrap();
    assert_eq!(found.len(), 1, "{name}");
    assert_eq!(found[0].label.as_deref(), Some(&*format!("label-{name}")));
    assert_eq!(found[0].client, id.key());
}

/// Some sessions in a store, each with a name of its own.
fn sessions(store: &Store, count: usize) -> BTreeMap<String, ClientId> {
    let txn = store.begin().unwrap();
    let founded = (0..count).map(|n| {
        let id = store.client_ids().issue();
        let name = format!("name{n}");
        write_in(&txn, &id, &name);
        (name, id)
    });
    let founded = founded.collect();
    txn.commit().unwrap();
    founded
}

fn check_all(store: &Store, sessions: &BTreeMap<String, ClientId>) {
    for (name, id) in sessions {
        check(store, id, name);
    }
    let report = store.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.sessions, sessions.len() as u64);
}

fn reseal(store: &Store) -> Reseal {
    store.reseal(|_| ControlFlow::Continue(())).unwrap()
}

/// Names a store to the child below.
pub(crate) const STORE: &str = "CLOAKROOM_RESEALED";

/// The child of the test that kills a process. Does nothing alone.
#[test]
fn child() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let store = open(path.as_ref(), rotation::both()).unwrap();
    println!("resealing begins");
    let done = store.reseal(|so_far| {
        println!("resealing {so_far:?}");
        ControlFlow::Continue(())
    });
    println!("resealing ends {:?}", done.unwrap());
    std::thread::park();
}
