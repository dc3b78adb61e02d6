//! C4.2, C7.1, C7.2: files that are not salvaged, and verifying at the opening.

use super::{House, PAGE, SESSIONS, at_once, builder, contains, make_fifo, value};
use cloakroom::ErrorKind;
use std::ops::ControlFlow;
use std::path::PathBuf;

#[test]
fn an_existing_target_is_left_alone() {
    let house = House::new();
    let from = house.place("from", &house.image);
    std::fs::write(house.to(), b"something").unwrap();
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(std::fs::read(house.to()).unwrap(), b"something");
}

// C9.4
#[test]
fn a_salvage_that_is_broken_off_leaves_nothing() {
    let house = House::new();
    let from = house.place("from", &house.image);
    let mut told = Vec::new();
    let salvage = builder().salvage_with(&from, house.to(), |so_far| {
        told.push(so_far);
        ControlFlow::Continue(())
    });
    assert!(salvage.unwrap().is_whole());
    std::fs::remove_file(house.to()).unwrap();
    assert!(told.len() > 2 && told.iter().all(|it| it.of > 0 && it.rows <= it.of));
    let names = || {
        let entries = std::fs::read_dir(house.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = names();
    for stop in &told {
        let salvage = builder().salvage_with(&from, house.to(), |so_far| match so_far == *stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        assert_eq!(salvage.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(names(), before);
    }
    assert_eq!(std::fs::read(&from).unwrap(), house.image);
}

// C7.1
#[test]
fn an_open_store_is_not_salvaged() {
    let house = House::new();
    let from = house.place("from", &house.image);
    let store = builder().open(&from).unwrap();
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(!house.to().exists());
    store.close().unwrap();
    builder().salvage(&from, house.to()).unwrap();
}

#[test]
fn what_is_no_store_is_not_salvaged() {
    let house = House::new();
    let other = house.folder.path().join("other");
    drop(redb::Database::create(&other).unwrap());
    for from in [other, house.place("text", &[b'x'; 100_000])] {
        let error = builder().salvage(&from, house.to()).unwrap_err();
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::NotAStore | ErrorKind::Corrupt),
            "{error}"
        );
        assert!(!house.to().exists());
    }
}

// C7.2: nothing waits for the other end of a pipe.
#[test]
#[cfg(unix)]
fn what_is_no_regular_file_is_not_salvaged() {
    let house = House::new();
    let fifo = house.folder.path().join("fifo");
    make_fifo(&fifo);
    let socket = house.folder.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let folder = house.folder.path().to_owned();
    for from in [fifo, socket, folder, PathBuf::from("/dev/null")] {
        let to = house.to();
        let error = at_once(move || builder().salvage(&from, to)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAStore, "{error}");
        assert!(
            error.to_string().ends_with("it is no regular file"),
            "{error}"
        );
        assert!(!house.to().exists());
    }
}

// C4.2
#[test]
fn a_store_without_its_secrets_is_salvaged_only_under_a_given_one() {
    let house = House::new();
    let image = house.with(
        |page| contains(page, b"next-container") && page[0] == 1,
        |page| page.fill(0),
    );
    let from = house.place("from", &image);
    let error = builder().salvage(&from, house.to()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!house.to().exists());
    let report = builder()
        .secret([5; 32])
        .salvage(&from, house.to())
        .unwrap();
    assert!(report.new_identity && report.new_secrets);
    assert_eq!(report.sessions, 2 * (SESSIONS as u64 - 1));
    let store = builder().secret([5; 32]).open(house.to()).unwrap();
    assert!(store.check().unwrap().is_clean());
    assert!(store.client_ids().verify(&house.ids[0]).is_none());
    let id = store.client_ids().issue();
    store
        .transact(|txn| txn.session(&id)?.pkg("app").insert("n", 1))
        .unwrap();
}

#[test]
fn verifying_refuses_names_the_session_and_changes_nothing() {
    let house = House::new();
    let text = value(7);
    let image = house.with(
        |page| contains(page, text.as_bytes()),
        |page| {
            let at = (0..PAGE)
                .find(|at| page[*at..].starts_with(text.as_bytes()))
                .unwrap();
            page[at] ^= 1;
        },
    );
    let path = house.place("damaged", &image);
    let error = builder().verify_on_open(true).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let key = house.key(7).to_string();
    assert!(error.to_string().contains(&key), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), image);
    let check = builder().open(&path).unwrap().check().unwrap();
    assert_eq!((check.damaged, check.damaged_pages), (1, 1), "{check:?}");
    let named = |d: &cloakroom::Damage| d.client.is_some_and(|c| c.to_string() == key);
    assert!(check.findings.iter().any(named));
}
