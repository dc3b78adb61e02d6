//! C7.4: whose journal it is that lies beside a store.

use super::{NAME, assert_whole, commit_twice, follow, journals, open, refused, restored};
use crate::support::files::{image, names};
use crate::support::visitors::{get, put};
use cloakroom::{Clock, Error, ErrorKind, Store};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Says so of one of these files.
fn assert_names_one_of(error: &Error, files: &[PathBuf]) {
    let text = error.to_string();
    let named = |file: &PathBuf| text.contains(file.to_str().unwrap());
    assert!(files.iter().any(named), "{text}");
}

// C7.4: the file alone is removed; its journals lie where the new store's would.
#[test]
fn a_journal_that_is_in_use_is_left_alone_and_gives_locked() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let one = open(&path);
    let (_, ids) = commit_twice(&one, place.path());
    let removed = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let files = journals(place.path());
    for _ in 0..2 {
        let before = image(place.path());
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        assert_names_one_of(&error, &files);
        assert!(image(place.path()) == before);
        // A store that is there, and of which all this is none.
        let other = place.path().join("other");
        open(&other).close().unwrap();
        fs::rename(&other, &path).unwrap();
    }
    // Nor is a copy of it another state of it.
    fs::write(&path, removed).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    put(&one, &ids[0], 1);
    let killed = image(place.path());
    one.close().unwrap();
    assert_eq!(names(place.path()), [NAME]);
    assert_whole(&killed, &ids);
}

// C7.4: a new store makes its journals beside those of one whose file is gone, and that one may come back.
#[test]
fn journals_of_another_store_stay_where_they_are() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let one = open(&path);
    let (killed, ids) = commit_twice(&one, place.path());
    drop(one);
    let mut orphans = killed.clone();
    orphans.remove(NAME);
    let folder = restored(&orphans);
    let path = folder.path().join(NAME);
    for _ in 0..3 {
        let other = open(&path);
        let (killed, ids) = commit_twice(&other, folder.path());
        assert_whole(&killed, &ids);
        let all = image(folder.path());
        assert!(orphans.iter().all(|(name, content)| all[name] == *content));
        other.close().unwrap();
        let mut left = image(folder.path());
        left.remove(NAME);
        assert!(left == orphans);
    }
    fs::write(&path, &killed[NAME]).unwrap();
    let one = open(&path);
    assert_eq!(get(&one, &ids[1]), Some(2));
    one.close().unwrap();
    assert_eq!(names(folder.path()), [NAME]);
}

// C7.4: a file that is not this store's journal is not replaced.
#[test]
fn a_file_that_bears_the_name_of_a_journal_stays() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    for n in [1, 3, 4] {
        let name = format!("{NAME}.journal-{n}");
        fs::write(place.path().join(name), "notes").unwrap();
    }
    let mut before = image(place.path());
    let store = open(&path);
    let (killed, ids) = commit_twice(&store, place.path());
    store.close().unwrap();
    assert_whole(&killed, &ids);
    let mut after = image(place.path());
    after.remove(NAME);
    before.remove(NAME);
    assert!(after == before);
}

// C7.4
#[test]
fn a_store_has_no_name_that_a_journal_may_have() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("x");
    for name in ["x.journal-3", "x.journal-3.aside-1"] {
        let taken = place.path().join(name);
        let error = refused(&taken);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_names_one_of(&error, std::slice::from_ref(&taken));
        // Of an earlier version.
        open(&path).close().unwrap();
        fs::rename(&path, &taken).unwrap();
        assert_eq!(refused(&taken).kind(), ErrorKind::InvalidInput);
        open(&path).close().unwrap();
        assert_eq!(names(place.path()), ["x", name]);
        fs::rename(&taken, &path).unwrap();
        open(&path).close().unwrap();
        let error = Store::builder().salvage(&path, &taken).map(drop);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

// C7.4: killed under one name and opened by the other, which has no journal beside it.
#[test]
fn a_store_that_was_killed_under_one_of_its_names_opens_by_that_one_alone() {
    let place = tempfile::tempdir().unwrap();
    let [one, two] = ["1", "2"].map(|name| place.path().join(name));
    fs::create_dir(&one).unwrap();
    fs::create_dir(&two).unwrap();
    for other in [two.join(NAME), one.join("other.redb")] {
        let store = open(&one.join(NAME));
        let (killed, ids) = commit_twice(&store, &one);
        drop(store);
        for (name, content) in &killed {
            fs::write(one.join(name), content).unwrap();
        }
        fs::hard_link(one.join(NAME), &other).unwrap();
        let before = (image(&one), image(&two));
        let error = refused(&other);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_names_one_of(&error, &[one.join(NAME)]);
        assert!(before == (image(&one), image(&two)), "a file was changed");
        let store = open(&one.join(NAME));
        assert_eq!(get(&store, &ids[1]), Some(2));
        assert_eq!(refused(&other).kind(), ErrorKind::Locked);
        store.close().unwrap();
        // Closed, it opens by each.
        assert_eq!(get(&open(&other), &ids[1]), Some(2));
        fs::remove_file(&other).unwrap();
    }
}

// C7.4: without its journal it is damaged in any place, but the error says where the journal lies.
#[test]
fn a_copy_without_its_journal_says_where_the_journal_lies() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let store = open(&path);
    let (killed, _) = commit_twice(&store, place.path());
    let copy = place.path().join("copy");
    fs::write(&copy, &killed[NAME]).unwrap();
    let error = refused(&copy);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_names_one_of(&error, std::slice::from_ref(&path));
    // A second name of the copy is none of the store.
    fs::hard_link(&copy, place.path().join("second")).unwrap();
    let error = refused(&copy);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_names_one_of(&error, &[path]);
}

// C7.4: an earlier version laid journals beside the link by which a store was opened.
#[test]
fn journals_beside_a_link_are_named_with_what_to_do() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let place = tempfile::tempdir().unwrap();
    let [shared, current] = ["shared", "current"].map(|name| place.path().join(name));
    fs::create_dir(&shared).unwrap();
    fs::create_dir(&current).unwrap();
    let killed = fixtures.join("format-2-killed.redb");
    fs::copy(killed, shared.join(NAME)).unwrap();
    for n in [3, 4] {
        let journal = fixtures.join(format!("format-2-killed.redb.journal-{n}"));
        fs::copy(journal, current.join(format!("{NAME}.journal-{n}"))).unwrap();
    }
    let link = current.join(NAME);
    symlink(shared.join(NAME), &link).unwrap();
    let open = || {
        Store::builder()
            .clock(Clock::manual("2026-01-01T00:00:05Z".parse().unwrap()))
            .open(&link)
    };
    let error = open().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    follow(&error);
    open().unwrap().close().unwrap();
    assert_eq!(names(&shared), [NAME]);
}
