//! C7.1: one process owns a file.

use super::{Other, get, make, open, place, refused};
use cloakroom::ErrorKind;
use std::fs;

// C7.1
#[test]
fn a_second_open_in_the_same_process_gives_locked() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(fs::read(&path).unwrap() == before);
    store.close().unwrap();
    open(&path).unwrap();
}

// C7.1
#[test]
fn dropping_the_last_handle_unlocks_the_file() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let clone = store.clone();
    drop(store);
    assert_eq!(refused(&path).kind(), ErrorKind::Locked);
    drop(clone);
    open(&path).unwrap();
}

// C7.1
#[test]
fn closing_unlocks_the_file_although_handles_are_left() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let clone = store.clone();
    let txn = store.begin().unwrap();
    store.close().unwrap();
    open(&path).unwrap();
    assert_eq!(clone.begin().unwrap_err().kind(), ErrorKind::Closed);
    drop(txn);
}

// C7.1
#[test]
fn a_second_open_in_another_process_gives_locked() {
    let (_folder, path) = place();
    let store = open(&path).unwrap();
    let other = Other::open(&path);
    assert_eq!(other.answer, "Some(Locked)");
    other.close();
    store.close().unwrap();

    let other = Other::open(&path);
    assert_eq!(other.answer, "None");
    assert_eq!(refused(&path).kind(), ErrorKind::Locked);
    other.close();
    open(&path).unwrap();
}

// C7.1, C7.3
#[test]
fn the_lock_of_a_killed_process_is_gone_with_it() {
    let (_folder, path) = place();
    let other = Other::open(&path);
    assert_eq!(other.answer, "None");
    other.kill();
    open(&path).unwrap();
}

// C7.1: by another name it is the same file.
#[test]
#[cfg(unix)]
fn a_link_to_a_store_is_the_store() {
    let (folder, path) = place();
    let id = make(&path);
    let [soft, hard] = ["soft", "hard"].map(|name| folder.path().join(name));
    std::os::unix::fs::symlink(&path, &soft).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let store = open(&path).unwrap();
    assert_eq!(refused(&soft).kind(), ErrorKind::Locked);
    assert_eq!(refused(&hard).kind(), ErrorKind::Locked);
    store.close().unwrap();
    assert_eq!(get(&open(&soft).unwrap(), &id), Some(1));
}
