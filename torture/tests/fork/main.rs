//! C7.5: a handle in a process that was forked from the one that opened the store gives an error at once, and
//! dropping it does nothing to the files.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod commits;
mod handles;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, Error, ErrorKind, Store, StoreBuilder, Transaction};
use fork::Fork;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, mpsc};
use std::time::Duration;
use support::store::file_builder;

/// How long a child that should answer at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thread that begins or ends at the moment of a fork leaves a lock of the standard library taken in the child. A child
/// whose thread ends by itself takes it too, so its test runs alone.
static OTHER_TESTS: RwLock<()> = RwLock::new(());

/// To be held by every other test.
fn beside_others() -> RwLockReadGuard<'static, ()> {
    OTHER_TESTS.read().unwrap_or_else(PoisonError::into_inner)
}

fn builder() -> StoreBuilder {
    file_builder().implicit_sweeps(true)
}

/// Runs this in a process of its own, which has all memory and one thread; gives what it says.
fn in_a_child(work: impl FnOnce() -> String) -> String {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let child = match fork::fork().unwrap() {
        Fork::Child => {
            let said = catch_unwind(AssertUnwindSafe(work));
            let said = said.unwrap_or_else(|_| "it panicked".to_owned());
            writer.write_all(said.as_bytes()).unwrap();
            drop(writer);
            end_at_once();
        }
        Fork::Parent(child) => Pid::from_raw(child).unwrap(),
    };
    drop(writer);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        tell.send(said).unwrap();
    });
    let said = told.recv_timeout(PATIENCE);
    if said.is_err() {
        kill_process(child, Signal::KILL).unwrap();
    }
    waitpid(Some(child), WaitOptions::empty()).unwrap();
    said.expect("the child hangs")
}

/// Ends a child. `std::process::exit` takes a lock of the standard library that a thread of the parent, which began or ended
/// at the moment of the fork, holds for ever.
fn end_at_once() -> ! {
    kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
    unreachable!("killed")
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.map(drop).map_err(|e| e.kind()).err()
}

fn writing(store: &Store, id: &ClientId) -> Transaction {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("p").insert("n", 99).unwrap();
    txn
}

/// The calls in a child that do not give [`OtherProcess`](ErrorKind::OtherProcess), with their results.
fn others(results: &[(&str, Option<ErrorKind>)]) -> String {
    let other = |(_, kind): &&(&str, Option<ErrorKind>)| *kind != Some(ErrorKind::OtherProcess);
    format!("{:?}", results.iter().filter(other).collect::<Vec<_>>())
}
