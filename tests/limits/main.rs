//! The bounds: of the commits that wait, of the sessions that are founded, of the cost of an open reader (C2.9, C2.14,
//! C4.8).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod admission;
mod computing;
mod sessions;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, Result, Store};
use std::task::{Context, Waker};
use support::runtime::block_on;
use support::wait;

/// Founds a session.
fn visitor(store: &Store) -> Result<ClientId> {
    let id = store.client_ids().issue();
    put(store, &id, "shop", 1)?;
    Ok(id)
}

fn put(store: &Store, id: &ClientId, package: &str, n: u32) -> Result<()> {
    let txn = store.begin()?;
    txn.session(id)?.pkg(package).insert("n", n)?;
    txn.commit()
}

fn get(store: &Store, id: &ClientId) -> Option<u32> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("shop").get("n").unwrap()
}

fn poll_once<F: Future>(future: F) -> std::pin::Pin<Box<F>> {
    let mut future = Box::pin(future);
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut nobody).is_pending());
    future
}

fn until(done: impl FnMut() -> bool) {
    wait::until("it never came", done);
}
