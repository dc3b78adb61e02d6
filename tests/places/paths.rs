//! C7.4: folders, links and the working folder change under an open store.

use super::{CHILD, NAME, assert_whole, commit_twice, open, refused, restored};
use crate::support::files::{image, names};
use crate::support::process;
use crate::support::visitors::{get, put};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// One store is open at a path. The path then leads elsewhere, and another store is made under it. Neither harms the
/// other.
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
    let status = process::child(CHILD, other.path())
        .current_dir(place.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(names(place.path()), [NAME]);
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
