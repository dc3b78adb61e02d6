//! C7.3: what a killed store leaves, and how a store is made.

use super::{CHILD, META, Other, get, make, make_killed, open, place};
use crate::support::files::names;
use crate::support::process;
use crate::support::visitors::put;
use cloakroom::ErrorKind;
use redb::{Database, ReadableDatabase};
use std::fs;
use std::process::Stdio;
use std::sync::Barrier;

// C7.3
#[test]
fn a_killed_store_opens_with_everything_acknowledged() {
    let (_folder, path) = place();
    let id = make_killed(&path);
    let store = open(&path).unwrap();
    assert_eq!(get(&store, &id), Some(2));
    assert!(store.check().unwrap().is_clean());
    let id = store.client_ids().verify(&id).unwrap();
    put(&store, &id, 3);
    store.close().unwrap();
    assert_eq!(get(&open(&path).unwrap(), id.as_str()), Some(3));
}

// C7.3
#[test]
fn what_a_killed_maker_left_is_in_nobodys_way() {
    let (folder, path) = place();
    // As it stands while a store is made: nothing, or half a store, under a name that is not its own.
    let half = {
        let (_folder, whole) = place();
        make(&whole);
        fs::read(&whole).unwrap()[..5000].to_vec()
    };
    for (name, content) in [
        (".sessions.redb.a1b2c3.new", Vec::new()),
        (".cloakroom-a1b2c3.new", half),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let before = names(folder.path());
    let id = make(&path);
    assert_eq!(get(&open(&path).unwrap(), &id), Some(1));
    let after = names(folder.path());
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
}

// C7.3
#[test]
fn a_crowd_that_makes_one_store_gets_one_store() {
    for round in 0..16 {
        let (folder, path) = place();
        if round % 2 == 1 {
            fs::write(&path, "").unwrap();
        }
        let crowd = 8;
        let (start, done) = (Barrier::new(crowd), Barrier::new(crowd));
        let answers: Vec<Option<ErrorKind>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..crowd)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let store = open(&path);
                        // Nobody lets go before all were answered.
                        done.wait();
                        store.map(drop).err().map(|e| e.kind())
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let won = answers.iter().filter(|answer| answer.is_none()).count();
        let locked = answers.iter().filter(|a| **a == Some(ErrorKind::Locked));
        assert_eq!((won, locked.count()), (1, crowd - 1), "{answers:?}");
        assert_eq!(names(folder.path()), ["sessions.redb"]);
        open(&path).unwrap();
    }
}

// C7.3
#[test]
fn processes_that_make_one_store_get_one_store() {
    let (folder, path) = place();
    let others: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Other::open(&path))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut answers: Vec<_> = others.iter().map(|other| other.answer.as_str()).collect();
    answers.sort_unstable();
    assert_eq!(
        answers,
        ["None", "Some(Locked)", "Some(Locked)", "Some(Locked)"]
    );
    others.into_iter().for_each(Other::close);
    assert_eq!(names(folder.path()), ["sessions.redb"]);
    open(&path).unwrap();
}

// C7.3: killed at any moment of its making, there is a store or there is none.
#[test]
fn a_maker_that_is_killed_leaves_a_store_or_none() {
    for round in 0..8 {
        let (_folder, path) = place();
        if round % 2 == 1 {
            fs::write(&path, "").unwrap();
        }
        let mut process = process::child(CHILD, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // As soon as anything of it can be seen.
        let is_seen = || match names(path.parent().unwrap()).as_slice() {
            [] => false,
            [_] if round % 2 == 1 => fs::metadata(&path).unwrap().len() > 0,
            _ => true,
        };
        while !is_seen() {
            std::thread::yield_now();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let id = make(&path);
        assert_eq!(get(&open(&path).unwrap(), &id), Some(1));
    }
}

// C7.2: the row that `age` writes is the one that counts.
#[test]
fn a_store_of_this_format_says_so() {
    let (_folder, path) = place();
    make(&path);
    let database = Database::open(&path).unwrap();
    let txn = database.begin_read().unwrap();
    let meta = txn.open_table(META).unwrap();
    let format = meta.get("format").unwrap().unwrap();
    assert_eq!(format.value(), b"cloakroom\x02\0\0\0");
}
