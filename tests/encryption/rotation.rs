//! Keys that change, and stores that had none before.

use crate::support::files::{image, restore};
use crate::support::process::child as process;
use crate::{STORE, builder, check_all, key, open, place, read, reseal, ring, sessions, write};
use cloakroom::{ErrorKind, KeyRing};
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::Stdio;

/// The older key, and a newer one.
pub(crate) fn both() -> KeyRing {
    ring(2).with_older(1, key(1))
}

#[test]
fn what_is_written_after_a_rotation_is_under_the_new_key() {
    let (_folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let mut all = sessions(&store, 4);
    store.close().unwrap();
    let store = open(&path, both()).unwrap();
    check_all(&store, &all);
    write(&store, &all["name0"], "name0");
    let id = store.client_ids().issue();
    write(&store, &id, "new");
    all.insert("new".to_owned(), id);
    check_all(&store, &all);
    store.close().unwrap();
    // The older rows still need the older key.
    let error = open(&path, ring(2)).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let store = open(&path, both()).unwrap();
    let done = reseal(&store);
    // Each of the three has a session and two packages; of the other, what the write left as it was is among them.
    assert!(done.is_complete && done.records >= 9, "{done:?}");
    assert_eq!(done.sessions, 5);
    assert_eq!(done.unreadable, 0);
    assert_eq!(reseal(&store).records, 0);
    check_all(&store, &all);
    store.close().unwrap();
    let error = open(&path, ring(1)).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let store = open(&path, ring(2)).unwrap();
    check_all(&store, &all);
    store.close().unwrap();
}

#[test]
fn a_plain_store_is_encrypted_from_the_first_opening_with_keys() {
    let (_folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, 4);
    let error = store.reseal(|_| unreachable!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    check_all(&store, &all);
    store.close().unwrap();
    let error = builder().open(&path).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongKey);
    let store = open(&path, ring(1)).unwrap();
    let done = reseal(&store);
    assert!(done.is_complete);
    assert_eq!((done.sessions, done.records), (4, 12));
    check_all(&store, &all);
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    check_all(&store, &all);
    store.close().unwrap();
}

/// More sessions than a step looks at.
const MANY: usize = 700;

#[test]
fn resealing_tells_its_progress_and_can_be_broken_off() {
    let (folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, MANY);
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    let mut told = Vec::new();
    let done = store.reseal(|so_far| {
        told.push(so_far);
        ControlFlow::Break(())
    });
    let done = done.unwrap();
    assert_eq!(told, [done]);
    assert!(!done.is_complete && done.sessions < MANY as u64 && done.records > 0);
    assert_eq!(done.of, MANY as u64);
    check_all(&store, &all);
    // A process that is killed between two steps.
    told.clear();
    let mut killed = Vec::new();
    let done = store.reseal(|so_far| {
        told.push(so_far);
        killed.push(image(folder.path()));
        ControlFlow::Continue(())
    });
    assert!(done.unwrap().is_complete);
    assert!(told.len() >= 3 && told.is_sorted_by_key(|it| it.sessions));
    store.close().unwrap();
    for image in killed {
        restore(folder.path(), &image);
        let store = open(&path, ring(1)).unwrap();
        check_all(&store, &all);
        assert!(reseal(&store).is_complete);
        check_all(&store, &all);
        store.close().unwrap();
    }
}

/// A commit that leaves a session's row as it is makes a copy of it in memory. The row in the file is encrypted all the same.
#[test]
fn a_session_whose_packages_are_written_meanwhile_is_resealed_too() {
    for was_plain in [false, true] {
        let (_folder, path) = place();
        let before = match was_plain {
            true => builder(),
            false => builder().encryption(ring(1)),
        };
        let store = before.open(&path).unwrap();
        let all = sessions(&store, MANY);
        store.close().unwrap();
        let keys = || if was_plain { ring(2) } else { both() };
        let store = open(&path, keys()).unwrap();
        let done = store.reseal(|_| {
            for id in all.values() {
                let txn = store.begin().unwrap();
                let package = txn.session(id).unwrap().pkg("cart");
                package.add("looked", 1).unwrap();
                txn.commit().unwrap();
            }
            ControlFlow::Continue(())
        });
        assert!(done.unwrap().is_complete);
        store.close().unwrap();
        let store = open(&path, ring(2)).unwrap();
        check_all(&store, &all);
        store.close().unwrap();
    }
}

#[test]
fn commits_go_on_while_a_store_is_resealed() {
    let (_folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let mut all = sessions(&store, MANY);
    store.close().unwrap();
    let store = open(&path, both()).unwrap();
    let ids: Vec<_> = all.clone().into_iter().collect();
    let mut steps = 0;
    let rotated = std::cell::RefCell::new(Vec::new());
    let done = store.reseal(|_| {
        // Written, rotated and ended, in front of the search and behind it.
        for (name, id) in ids.iter().skip(steps * 7).step_by(150) {
            write(&store, id, name);
        }
        let (name, id) = &ids[500 + steps];
        let txn = store.begin().unwrap();
        let session = txn.session(id).unwrap();
        session.rotate().unwrap();
        let new = session.client_id().unwrap();
        txn.commit().unwrap();
        rotated.borrow_mut().push((name.clone(), new));
        steps += 1;
        ControlFlow::Continue(())
    });
    assert!(done.unwrap().is_complete);
    all.extend(rotated.into_inner());
    check_all(&store, &all);
    store.close().unwrap();
    let store = open(&path, ring(2)).unwrap();
    check_all(&store, &all);
    store.close().unwrap();
}

#[test]
fn resealing_as_a_future() {
    let (_folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, 3);
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    let done = pollster::block_on(store.reseal_async(|_| ControlFlow::Continue(())));
    assert!(done.unwrap().is_complete);
    check_all(&store, &all);
    store.close().unwrap();
}

#[test]
fn a_process_that_is_killed_while_it_reseals_loses_nothing() {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let all = sessions(&store, MANY);
    store.close().unwrap();
    let before = image(folder.path());
    // It is killed after so many steps, while it does the next; the last time when it is done.
    for steps in 0..5 {
        restore(folder.path(), &before);
        let mut child = process(STORE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines
            .map(Result::unwrap)
            .filter(|line| line.contains("resealing"));
        assert_eq!(told.take(steps + 1).count(), steps + 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = open(&path, both()).unwrap();
        check_all(&store, &all);
        assert!(reseal(&store).is_complete);
        store.close().unwrap();
        let store = open(&path, ring(2)).unwrap();
        check_all(&store, &all);
        assert_eq!(read(&store, &all["name3"], "none", "none").unwrap(), None);
        store.close().unwrap();
    }
}
