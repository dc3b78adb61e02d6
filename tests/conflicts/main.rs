//! C2.7 to C2.11: what conflicts, what merges, and how everyone gets through.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod commuting;
mod endings;
mod merging;
mod observations;
#[path = "../support/mod.rs"]
mod support;
mod turns;

use cloakroom::{ClientId, ContainerSettings, Error, PkgData, Result, Session, Store, Txn};
use std::time::Duration;
use support::visitors::with;

/// Longer than any test: a wait that should end by a turn never ends by the clock.
const LONG: Duration = Duration::from_secs(3600);

/// A store and a client whose package "shop" holds `key` = 1 and `other` = 1, with another session
/// in the container "bank".
fn usual() -> (Store, ClientId) {
    let store = Store::builder().turn_wait(LONG).in_memory().unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |session| {
        session.pkg("bank").insert("key", 1)?;
        session.pkg("shop").insert("other", 1)?;
        session.pkg("shop").insert("key", 1)
    });
    (store, id)
}

fn put(store: &Store, id: &ClientId, key: &str, value: u32) {
    with(store, id, |s| s.pkg("shop").insert(key, value));
}

fn stored(store: &Store, id: &ClientId, key: &str) -> Option<u32> {
    with(store, id, |s| s.pkg("shop").get(key))
}

fn shop(txn: &Txn, id: &ClientId) -> PkgData {
    txn.session(id).unwrap().pkg("shop")
}

/// One transaction does `ours` and an unrelated write. Before it commits, another does `theirs`. Returns the outcome of
/// the first, which is the same wherever the rows are by then.
fn meet(
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Result<()> {
    let met = [[false, false], [true, false], [true, true]]
        .map(|checkpoints| meet_with(checkpoints, &ours, &theirs));
    let [first, rest @ ..] = &met;
    for other in rest {
        assert_eq!(format!("{first:?}"), format!("{other:?}"));
    }
    met.into_iter().next().unwrap()
}

/// The same with a checkpoint before, and after what the other does.
fn meet_with(
    [before, after]: [bool; 2],
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Result<()> {
    let (store, id) = usual();
    if before {
        store.checkpoint().unwrap();
    }
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    ours(&session).unwrap();
    session.pkg("mine").insert("mark", 1).unwrap();
    with(&store, &id, theirs);
    if after {
        store.checkpoint().unwrap();
    }
    let before = store.statistics().unwrap().commits();
    let outcome = txn.commit();
    let written = store.statistics().unwrap().commits() > before;
    assert_eq!(written, outcome.is_ok(), "a conflict writes nothing");
    let marked = with(&store, &id, |s| s.pkg("mine").contains_key("mark"));
    assert_eq!(marked, outcome.is_ok(), "a conflict writes nothing");
    outcome
}

fn conflict(
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Error {
    let error = meet(ours, theirs).expect_err("a conflict");
    assert!(error.is_conflict(), "{error:?}");
    error
}

fn write(key: &'static str, value: u32) -> impl Fn(&Session) -> Result<()> {
    move |s| s.pkg("shop").insert(key, value)
}
