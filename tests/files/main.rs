//! C7: which process owns a file, which files are refused and left as they are, and what a killed store leaves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod locking;
mod making;
mod refusals;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{Error, Store};
use redb::TableDefinition;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use support::files::{image, restore};
use support::process;
use support::store::file_builder;
use support::visitors::put;
use tempfile::TempDir;

/// Set for a copy of this test binary that only opens the store there.
const CHILD: &str = "CLOAKROOM_TEST_OPEN";

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

fn open(path: &Path) -> Result<Store, Error> {
    file_builder().open(path)
}

fn refused(path: &Path) -> Error {
    open(path).map(drop).unwrap_err()
}

/// A folder of its own, and a path in it.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    (folder, path)
}

fn get(store: &Store, id: &str) -> Option<u64> {
    let id = store.client_ids().verify(id).unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("p").get("n").unwrap()
}

/// A store at `path`, closed in order; returns an id under which it holds the number 1.
fn make(path: &Path) -> String {
    let store = open(path).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    id.as_str().to_owned()
}

/// Writes the files of a process that was killed in the middle of its work. Returns an id under which they hold the
/// number 2.
fn make_killed(path: &Path) -> String {
    let (folder, alive) = place();
    let store = open(&alive).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    put(&store, &id, 2);
    // Nothing is under way, so this is what the kernel keeps of a process killed now.
    let left = image(folder.path());
    assert_eq!(left.len(), 3, "a store and its journal");
    restore(path.parent().unwrap(), &left);
    id.as_str().to_owned()
}

/// Another process that has the store open, or was refused.
struct Other {
    process: Child,
    /// Its output; without a reader it could not end.
    out: Lines<BufReader<ChildStdout>>,
    answer: String,
}

impl Other {
    fn open(path: &Path) -> Self {
        let mut process = process::child(CHILD, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        let answer = out
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("opened: ")?.1.to_owned()))
            .unwrap();
        Self {
            process,
            out,
            answer,
        }
    }

    /// SIGKILL: it gets no chance to do anything.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn close(mut self) {
        drop(self.process.stdin.take());
        self.out.by_ref().for_each(drop);
        assert!(self.process.wait().unwrap().success());
    }
}

/// Not a test, but what the other process runs: opens the store and keeps it until its input ends.
#[test]
fn child() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let store = open(Path::new(&path));
    println!("\nopened: {:?}", store.as_ref().err().map(Error::kind));
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().lines().next();
    if let Ok(store) = store {
        store.close().unwrap();
    }
}
