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

mod support;

use cloakroom::{ClientId, Clock, Error, ErrorKind, Store, StoreBuilder};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::files::{Image, image, names, restore};
use support::process;
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
    let status = process::child(CHILD, other.path())
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

/// The paths of the journals in a folder.
fn journals(folder: &Path) -> Vec<PathBuf> {
    let names = names(folder).into_iter();
    let journals = names.filter(|name| name.contains(".journal-"));
    journals.map(|name| folder.join(name)).collect()
}

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

// C7.4: what is no journal of this store's is not replaced.
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

// C7.4: without its journal it is damaged wherever it lies, but who reads that is told where it was.
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

/// Does what the text of an error says is to be done.
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

// C7.4: a copy says the same of itself as what it was copied from.
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
    // What was closed is whole where it was moved to.
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

// C7.4: nobody knows what it is, and the store needs it not.
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
