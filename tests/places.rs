//! C7.4: a store knows its files by what they are: whatever becomes of the working folder, of links and of
//! names while it is open, it goes on with what it opened, and touches no file of another store.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::{ClientId, Clock, Error, Store, StoreBuilder, Txn};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Set for a copy of this test binary that opens a store by a relative path and then changes its folder.
const CHILD: &str = "CLOAKROOM_TEST_RELATIVE";

const NAME: &str = "sessions.redb";

fn builder() -> StoreBuilder {
    Store::builder()
        .clock(Clock::manual("2026-01-01T00:00:00Z".parse().unwrap()))
        .secret([7; 32])
        .implicit_sweeps(false)
        .cache_size(1 << 20)
        .checkpoint_interval(Duration::from_secs(1 << 30))
}

fn open(path: &Path) -> Store {
    builder().open(path).unwrap()
}

fn refused(path: &Path) -> Error {
    builder().open(path).map(drop).unwrap_err()
}

fn put(store: &Store, id: &ClientId, n: u64) {
    let put = |txn: &Txn| txn.session(id)?.pkg("p").insert("n", n);
    store.transact(put).unwrap();
}

fn get(store: &Store, id: &ClientId) -> Option<u64> {
    let id = store.client_ids().verify(id.as_str()).unwrap();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().pkg("p").get("n").unwrap()
}

/// All files of a folder, by their names.
type Image = BTreeMap<String, Vec<u8>>;

/// What is in a folder. Of an open store where nothing is under way, it is what the kernel keeps of a process
/// that is killed now.
fn image(folder: &Path) -> Image {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    image(folder).into_keys().collect()
}

/// A folder that holds the image.
fn restored(image: &Image) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in image {
        fs::write(folder.path().join(name), content).unwrap();
    }
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

/// One store is open at a path; what is there becomes something else, and another store is made under the
/// same path. Neither harms the other.
fn two_stores_under_one_path(path: &Path, change: impl FnOnce() -> PathBuf) {
    let one = open(path);
    let id = one.client_ids().issue();
    put(&one, &id, 1);
    // Where the first one lies now.
    let moved_to = change();
    let other = open(path);
    let folder = path.parent().unwrap();
    let (_, ids) = commit_twice(&other, folder);
    put(&one, &id, 2);
    one.checkpoint().unwrap();
    put(&one, &id, 3);
    let killed = image(&moved_to);
    one.close().unwrap();
    assert_whole(&image(folder), &ids);
    other.close().unwrap();

    // The first one has all its commits, closed and killed.
    assert_eq!(names(&moved_to), [NAME]);
    assert_eq!(get(&open(&moved_to.join(NAME)), &id), Some(3));
    let killed = restored(&killed);
    assert_eq!(get(&open(&killed.path().join(NAME)), &id), Some(3));
}

// C7.4
#[test]
fn a_store_whose_folder_is_moved_leaves_the_one_that_is_made_there_alone() {
    let place = tempfile::tempdir().unwrap();
    let [folder, aside] = ["data", "aside"].map(|name| place.path().join(name));
    fs::create_dir(&folder).unwrap();
    two_stores_under_one_path(&folder.join(NAME), || {
        fs::rename(&folder, &aside).unwrap();
        fs::create_dir(&folder).unwrap();
        aside.clone()
    });
}

// C7.4: as overlapping deployments do.
#[test]
fn a_store_whose_link_is_switched_leaves_the_one_that_is_made_there_alone() {
    let place = tempfile::tempdir().unwrap();
    let [link, first, second] = ["current", "1", "2"].map(|name| place.path().join(name));
    fs::create_dir(&first).unwrap();
    fs::create_dir(&second).unwrap();
    symlink(&first, &link).unwrap();
    two_stores_under_one_path(&link.join(NAME), || {
        fs::remove_file(&link).unwrap();
        symlink(&second, &link).unwrap();
        first.clone()
    });
}

// C7.4
#[test]
fn a_store_whose_folder_is_removed_leaves_the_one_that_is_made_there_alone() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data");
    let path = folder.join(NAME);
    fs::create_dir(&folder).unwrap();
    let one = open(&path);
    put(&one, &one.client_ids().issue(), 1);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let other = open(&path);
    let (_, ids) = commit_twice(&other, &folder);
    put(&one, &one.client_ids().issue(), 2);
    one.close().unwrap();
    assert_whole(&image(&folder), &ids);
}

// C7.4
#[test]
fn a_store_opened_by_a_relative_path_is_found_after_the_working_folder_changed() {
    let place = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, other.path())
        .current_dir(place.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(names(place.path()), [NAME]);
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

// C7.4
#[test]
fn a_link_to_a_store_may_go_while_it_is_open() {
    let place = tempfile::tempdir().unwrap();
    let [real, link] = ["real", "link"].map(|name| place.path().join(name));
    open(&real).close().unwrap();
    symlink(&real, &link).unwrap();
    let store = open(&link);
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    assert!(names(place.path()).contains(&"real.journal-1".to_owned()));
    fs::remove_file(&link).unwrap();
    store.close().unwrap();
    assert_eq!(names(place.path()), ["real"]);
    assert_eq!(get(&open(&real), &id), Some(1));
}

// C7.4
#[test]
fn a_store_killed_under_a_link_opens_by_its_own_path() {
    let place = tempfile::tempdir().unwrap();
    let links = place.path().join("links");
    fs::create_dir(&links).unwrap();
    let [real, link] = [place.path().join(NAME), links.join("link")];
    symlink(&real, &link).unwrap();
    let text = refused(&link).to_string();
    assert!(text.contains("link"), "{text}");
    open(&real).close().unwrap();
    let store = open(&link);
    assert_eq!(fs::read_dir(&links).unwrap().count(), 1);
    fs::remove_file(&link).unwrap();
    fs::remove_dir(&links).unwrap();
    let (killed, ids) = commit_twice(&store, place.path());
    assert_whole(&killed, &ids);
}
