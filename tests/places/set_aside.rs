//! C7.4: journals that were set aside, and copies of a store.

use super::{NAME, assert_whole, commit_twice, count, follow, journals, open, refused, restored};
use crate::support::files::{Image, image, names};
use crate::support::visitors::{get, put};
use cloakroom::ErrorKind;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

// C7.4: an earlier version set aside up to a thousand.
#[test]
fn a_journal_that_was_set_aside_is_named_whatever_its_number() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let store = open(&path);
    let (killed, ids) = commit_twice(&store, place.path());
    drop(store);
    let folder = restored(&killed);
    for journal in journals(folder.path()) {
        let aside = format!("{}.aside-777", journal.display());
        fs::rename(journal, aside).unwrap();
    }
    let path = folder.path().join(NAME);
    follow(&refused(&path));
    assert_eq!(get(&open(&path), &ids[1]), Some(2));
}

// C7.4: an older copy of a store is put in its place, and then the store itself again.
#[test]
fn a_store_whose_journals_were_set_aside_is_restored_as_its_error_says() {
    for is_killed in [false, true] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        open(&path).close().unwrap();
        let older = fs::read(&path).unwrap();
        let store = open(&path);
        let (killed, ids) = commit_twice(&store, place.path());
        drop(store);
        let folder = restored(&killed);
        let path = folder.path().join(NAME);
        fs::write(&path, older).unwrap();
        let store = open(&path);
        put(&store, &store.client_ids().issue(), 1);
        // Its own journals lie there then.
        let left = image(folder.path());
        store.close().unwrap();
        if is_killed {
            for (name, content) in &left {
                fs::write(folder.path().join(name), content).unwrap();
            }
        }
        fs::write(&path, &killed[NAME]).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        follow(&error);
        let store = open(&path);
        let found = ids.each_ref().map(|id| get(&store, id));
        assert_eq!(found, [Some(1), Some(2)]);
    }
}

// C7.4: copies that are put back again and again leave no more files than so many, and the store opens.
#[test]
fn no_more_than_so_many_files_are_set_aside() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let store = open(&path);
    let id = store.client_ids().issue();
    store.close().unwrap();
    let older = fs::read(&path).unwrap();
    // Not one that was set aside.
    symlink(NAME, place.path().join(format!("{NAME}.journal-1.aside-7"))).unwrap();
    let mut newest = Vec::new();
    for n in 0..30 {
        let store = open(&path);
        put(&store, &id, n);
        let killed = image(place.path());
        store.close().unwrap();
        newest = killed[&format!("{NAME}.journal-1")].clone();
        for (name, content) in killed.iter().filter(|(name, _)| name.contains(".journal-")) {
            fs::write(place.path().join(name), content).unwrap();
        }
        fs::write(&path, &older).unwrap();
    }
    open(&path).close().unwrap();
    let left = image(place.path());
    let asides: Vec<_> = left.keys().filter(|name| name.contains("aside")).collect();
    assert!(asides.len() <= 40, "{asides:?}");
    let last = left.get(&format!("{NAME}.journal-1.aside-20"));
    assert!(last == Some(&newest), "the newest is kept");
}

// C7.4: each is killed and removed without its journals, also by a version that set them aside.
#[test]
fn a_file_may_be_removed_and_made_anew_very_often_and_then_it_is_said() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(NAME);
    let leave = |name: String| fs::write(place.path().join(name), "left by another store").unwrap();
    for n in 1..=4 {
        (1..=1000).for_each(|m| leave(format!("{NAME}.journal-{n}.aside-{m}")));
    }
    (1..=2010).for_each(|n| leave(format!("{NAME}.journal-{n}")));
    let store = open(&path);
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    let store = open(&path);
    assert_eq!(get(&store, &id), Some(1));
    store.close().unwrap();
    (2011..=4000).for_each(|n| leave(format!("{NAME}.journal-{n}")));
    let before = count(place.path());
    let text = refused(&path).to_string();
    assert!(text.contains("remove those whose store is gone"), "{text}");
    assert_eq!(count(place.path()), before);
    fs::remove_file(place.path().join(format!("{NAME}.journal-7"))).unwrap();
    fs::remove_file(place.path().join(format!("{NAME}.journal-8"))).unwrap();
    assert_eq!(get(&open(&path), &id), Some(1));
}

/// Puts other files with these contents in the place of those of a folder, which get a folder of their own.
fn put_in_place(copy: &Image, folder: &Path, old: &Path) {
    let staged = tempfile::tempdir_in(folder).unwrap();
    fs::create_dir(old).unwrap();
    for (name, content) in copy {
        fs::write(staged.path().join(name), content).unwrap();
        fs::rename(folder.join(name), old.join(name)).unwrap();
        fs::rename(staged.path().join(name), folder.join(name)).unwrap();
    }
}

// C7.4: a copy has the identity of its original.
#[test]
fn a_store_that_is_closed_leaves_the_journals_of_its_own_copy_alone() {
    let place = tempfile::tempdir().unwrap();
    let old = tempfile::tempdir().unwrap();
    let old = old.path().join("old");
    let path = place.path().join(NAME);
    let store = open(&path);
    let (copy, ids) = commit_twice(&store, place.path());
    put_in_place(&copy, place.path(), &old);
    put(&store, &ids[0], 3);
    store.close().unwrap();
    assert_whole(&image(place.path()), &ids);
    assert_eq!(get(&open(&path), &ids[1]), Some(2));
    // The closed store is whole at its new place.
    assert_eq!(get(&open(&old.join(NAME)), &ids[0]), Some(3));
    assert_eq!(names(&old), [NAME]);
}

// C7.4: a copy was opened, and went another way than the store itself.
#[test]
fn commits_that_a_journal_holds_beyond_what_was_copied_from_it_are_set_aside() {
    let one = tempfile::tempdir().unwrap();
    let store = open(&one.path().join(NAME));
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let early = image(one.path());
    put(&store, &id, 2);
    let killed = image(one.path());
    drop(store);
    let two = restored(&early);
    let store = open(&two.path().join(NAME));
    put(&store, &store.client_ids().issue(), 3);
    store.close().unwrap();

    let three = restored(&killed);
    let path = three.path().join(NAME);
    fs::copy(two.path().join(NAME), &path).unwrap();
    let store = open(&path);
    assert_eq!(get(&store, &id), Some(1));
    store.close().unwrap();
    fs::write(&path, &killed[NAME]).unwrap();
    let error = refused(&path);
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    follow(&error);
    assert_eq!(get(&open(&path), &id), Some(2));
}

// C7.4: its kind is unknown, and the store does not need it.
#[test]
fn what_bears_the_name_of_a_journal_and_cannot_be_opened_as_one_stays() {
    for what in ["link", "broken link", "folder", "fifo", "empty"] {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(NAME);
        let journal = place.path().join(format!("{NAME}.journal-1"));
        let lay = || match what {
            "link" => symlink("t", &journal).unwrap(),
            "broken link" => symlink("nowhere", &journal).unwrap(),
            "folder" => fs::create_dir(&journal).unwrap(),
            "fifo" => {
                let made = Command::new("mkfifo").arg(&journal).status().unwrap();
                assert!(made.success());
            }
            _ => fs::write(&journal, "").unwrap(),
        };
        fs::write(place.path().join("t"), "x").unwrap();
        lay();
        let kind = fs::symlink_metadata(&journal).unwrap().file_type();
        let id = {
            let store = open(&path);
            let id = store.client_ids().issue();
            put(&store, &id, 1);
            store.close().unwrap();
            id
        };
        assert_eq!(get(&open(&path), &id), Some(1), "{what}");
        assert_eq!(fs::symlink_metadata(&journal).unwrap().file_type(), kind);
        assert_eq!(fs::read(place.path().join("t")).unwrap(), b"x");
    }
}
