//! C1.7: the unnamed container in memory.

use super::{client_with, in_folder, in_ram, key_of, live_sessions, put, reopen};
use crate::support::clock::HOUR;
use crate::support::engine::needs_files;
use crate::support::log::Warnings;
use crate::support::store::timed;
use crate::support::visitors::with;
use cloakroom::{ContainerSettings, ErrorKind, Residence, Session, Store};
use std::time::Duration;

fn residence(store: &Store) -> Residence {
    let unnamed = store.container("").unwrap();
    unnamed.settings().unwrap().residence
}

fn file() -> ContainerSettings {
    ContainerSettings::new()
}

// C1.8
#[test]
fn its_content_is_gone_after_a_restart_and_the_setting_stays() {
    let (folder, store) = in_folder();
    store.register("bank", file()).unwrap();
    store.register("", in_ram().timeout(2 * HOUR)).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    let only = client_with(&store, &["news"], 7);
    assert_eq!(key_of(&store, &id, "news"), Some(7));
    assert_eq!(
        (live_sessions(&store, ""), live_sessions(&store, "bank")),
        (2, 1)
    );
    let found = store.check().unwrap();
    assert!(found.is_clean(), "{found:?}");
    store.close().unwrap();

    let store = reopen(folder.path());
    assert_eq!(residence(&store), Residence::Memory);
    let unnamed = store.container("").unwrap();
    assert_eq!(unnamed.settings().unwrap().timeout, 2 * HOUR);
    assert_eq!(live_sessions(&store, ""), 0);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), None);
    assert!(!with(&store, &only, Session::exists));
    put(&store, &id, &["news"], 8);
    assert_eq!(key_of(&store, &id, "news"), Some(8));
    let found = store.check().unwrap();
    assert!(found.is_clean(), "{found:?}");
}

#[test]
fn a_commit_to_it_touches_no_file() {
    needs_files!("bytes of files are counted");
    let (_folder, store) = in_folder();
    store.register("", in_ram()).unwrap();
    let syncs = || store.statistics().unwrap().syncs();
    let before = syncs();
    let id = client_with(&store, &["news"], 7);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    assert_eq!(syncs(), before);
    let id = with(&store, &id, Session::rotate);
    assert_eq!(store.sessions_of("ann").unwrap().len(), 1);
    with(&store, &id, Session::destroy);
    assert_eq!(syncs(), before);
    assert!(!with(&store, &id, Session::exists));
}

// A session in the file is neither lost nor served a second time after a log-out.
#[test]
fn it_does_not_move_while_it_holds_a_session() {
    let (clock, store) = timed();
    let id = client_with(&store, &["news"], 7);
    let unnamed = store.container("").unwrap();
    let refused = |settings: ContainerSettings| {
        let error = unnamed.configure(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(error.container(), Some(""));
        assert!(error.to_string().contains("swept"), "{error}");
    };
    refused(in_ram());
    assert_eq!(residence(&store), Residence::File);
    assert_eq!(key_of(&store, &id, "news"), Some(7));

    // What the documentation advises.
    let ending = file().max_lifetime(Some(Duration::from_millis(1)));
    unnamed.configure(ending).unwrap();
    clock.advance(HOUR);
    assert_eq!(unnamed.sweep().unwrap().removed, 1);
    unnamed.configure(in_ram()).unwrap();
    assert_eq!(residence(&store), Residence::Memory);

    put(&store, &client_with(&store, &["news"], 7), &["news"], 8);
    refused(file());
    clock.advance(2 * HOUR);
    assert_eq!(unnamed.sweep().unwrap().removed, 1);
    unnamed.configure(file()).unwrap();
    assert_eq!(residence(&store), Residence::File);
    let id = client_with(&store, &["news"], 9);
    assert_eq!(key_of(&store, &id, "news"), Some(9));
}

#[test]
fn it_is_checked_and_salvaged_after_moves() {
    needs_files!("a file is salvaged");
    let (folder, store) = in_folder();
    store.register("bank", file()).unwrap();
    store.register("", in_ram()).unwrap();
    store.register("", file()).unwrap();
    store.register("", in_ram()).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    store.close().unwrap();
    let copy = folder.path().join("copy.redb");
    let from = folder.path().join("store.redb");
    let salvaged = Store::builder().salvage(from, &copy).unwrap();
    assert!(salvaged.is_whole(), "{salvaged:?}");
    let store = Store::open(copy).unwrap();
    assert_eq!(residence(&store), Residence::Memory);
    assert_eq!(store.containers().len(), 2);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), None);
}

// C2.7
#[test]
fn a_transaction_that_knew_its_former_place_conflicts() {
    for (from, to) in [(file(), in_ram()), (in_ram(), file())] {
        let store = Store::in_memory().unwrap();
        store.register("", from).unwrap();
        let id = store.client_ids().issue();
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        assert!(!session.exists().unwrap());
        session.pkg("news").insert("key", 7).unwrap();
        store.register("", to).unwrap();
        assert!(txn.commit().unwrap_err().is_conflict());
        assert!(!with(&store, &id, Session::exists));
        put(&store, &id, &["news"], 8);
        assert_eq!(key_of(&store, &id, "news"), Some(8));
    }
}

// C1.2
#[test]
fn a_new_container_warns_of_data_left_behind_there() {
    let store = Store::in_memory().unwrap();
    store.register("", in_ram()).unwrap();
    client_with(&store, &["shop"], 7);
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.counted(), || {
        store.register("shop", file()).unwrap();
    });
    assert_eq!(warnings.count(), 1);
}

#[test]
fn a_named_container_does_not_move_and_the_unnamed_one_stays_out_of_cookies() {
    let store = Store::in_memory().unwrap();
    store.register("shop", file()).unwrap();
    let moved = store.register("shop", in_ram()).unwrap_err();
    assert_eq!(moved.kind(), ErrorKind::InvalidInput);
    assert_eq!(moved.container(), Some("shop"));
    #[cfg(feature = "cookie-containers")]
    {
        let refused = store.register("", file().cookie()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
}
