//! C7.4: a store knows its files by identity. If the working folder, links or names change while it is open, it goes on
//! with the files that it opened, and touches no file of another store.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod journals;
mod paths;
mod set_aside;
#[path = "../support/mod.rs"]
mod support;

use cloakroom::{ClientId, Error, Store, StoreBuilder};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::files::{Image, image, names, restore};
use support::store::file_builder;
use support::visitors::{get, put};
use tempfile::TempDir;

/// Set for a copy of this test binary that opens a store by a relative path and then changes its folder.
const CHILD: &str = "CLOAKROOM_TEST_RELATIVE";

const NAME: &str = "sessions.redb";

fn builder() -> StoreBuilder {
    file_builder().checkpoint_interval(Duration::from_secs(1 << 30))
}

fn open(path: &Path) -> Store {
    builder().open(path).unwrap()
}

fn refused(path: &Path) -> Error {
    builder().open(path).map(drop).unwrap_err()
}

/// How many files are in a folder.
fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// A folder that holds the image.
fn restored(image: &Image) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    restore(folder.path(), image);
    folder
}

/// Puts two numbers into the store at `path`, and returns what a kill leaves of it, with the ids.
fn commit_twice(store: &Store, folder: &Path) -> (Image, [ClientId; 2]) {
    let ids = [1, 2].map(|n| {
        let id = store.client_ids().issue();
        put(store, &id, n);
        id
    });
    (image(folder), ids)
}

/// A kill left all that was acknowledged.
fn assert_whole(image: &Image, ids: &[ClientId; 2]) {
    let folder = restored(image);
    let store = open(&folder.path().join(NAME));
    let found = ids.each_ref().map(|id| get(&store, id));
    assert_eq!(found, [Some(1), Some(2)]);
    assert!(store.check().unwrap().is_clean());
}

/// Not a test, but what the other process runs.
#[test]
fn child() {
    let Some(elsewhere) = std::env::var_os(CHILD) else {
        return;
    };
    let one = open(Path::new(NAME));
    let id = one.client_ids().issue();
    put(&one, &id, 1);
    let place = std::env::current_dir().unwrap();
    std::env::set_current_dir(&elsewhere).unwrap();
    let other = open(Path::new(NAME));
    let (_, ids) = commit_twice(&other, Path::new("."));
    put(&one, &id, 2);
    one.close().unwrap();
    assert_whole(&image(Path::new(".")), &ids);
    other.close().unwrap();
    assert_eq!(get(&open(&place.join(NAME)), &id), Some(2));
}

/// The paths of the journals in a folder.
fn journals(folder: &Path) -> Vec<PathBuf> {
    let names = names(folder).into_iter();
    let journals = names.filter(|name| name.contains(".journal-"));
    journals.map(|name| folder.join(name)).collect()
}

/// Follows the instruction in the text of an error.
fn follow(error: &Error) {
    let text = error.to_string();
    for step in text.split(": ").flat_map(|part| part.split(", ")) {
        if let Some(rest) = step.strip_prefix("rename ") {
            let (from, to) = rest.split_once(" to ").unwrap();
            assert!(!Path::new(to).exists(), "{text}");
            fs::rename(from, to).unwrap();
        } else if let Some(rest) = step.strip_prefix("move ") {
            let path = rest.strip_suffix(" elsewhere").unwrap();
            let elsewhere = tempfile::tempdir().unwrap().keep();
            fs::rename(path, elsewhere.join("moved")).unwrap();
        }
    }
}
