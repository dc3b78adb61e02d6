//! C1.1, C1.2: which container a package lives in.

use super::{client_with, in_folder, in_ram, key_of, live_sessions, put, reopen};
use crate::support::clock::{HOUR, MINUTE};
use crate::support::engine::needs_files;
use crate::support::log::Warnings;
use crate::support::store::timed;
use crate::support::visitors::with;
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store};
use std::time::Duration;

fn key_in(store: &Store, container: &str, id: &ClientId, package: &str) -> Option<u32> {
    store
        .transact(|txn| {
            let data = txn.container(container)?.session_data(id)?;
            data.pkg(package).get("key")
        })
        .unwrap()
}

// C1.1
#[test]
fn what_was_committed_is_in_the_one_file() {
    needs_files!("the file is read");
    let (folder, store) = in_folder();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop", "news"], 7);
    store.close().unwrap();

    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let store = reopen(folder.path());
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), Some(7));
}

// C1.2
#[test]
fn a_package_lives_in_the_container_of_exactly_its_name() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    assert_eq!(store.container_for("shop").unwrap().name(), "shop");
    assert_eq!(key_in(&store, "shop", &id, "shop"), Some(7));
    assert_eq!(key_in(&store, "", &id, "shop"), None);
}

// C1.2
#[test]
fn a_package_without_a_container_lives_in_the_unnamed_one() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let packages = ["shop.cart", "sho", "Shop", ""];
    let id = client_with(&store, &packages, 7);
    for package in packages {
        assert_eq!(store.container_for(package).unwrap().name(), "");
        assert_eq!(key_in(&store, "", &id, package), Some(7), "{package:?}");
        assert_eq!(key_in(&store, "shop", &id, package), None, "{package:?}");
    }
}

// C1.2
#[test]
fn the_unnamed_container_always_exists() {
    let store = Store::in_memory().unwrap();
    assert_eq!(store.container("").unwrap().name(), "");
    let refused = store.unregister("").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(store.container("").unwrap().name(), "");
}

// C1.2
#[test]
fn a_container_that_is_not_registered_is_named_in_the_error() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    for error in [
        store.container("shop").map(drop).unwrap_err(),
        store.unregister("shop").unwrap_err(),
        txn.container("shop").map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoSuchContainer);
        assert_eq!(error.container(), Some("shop"));
    }
}

// C1.2
#[test]
fn packages_of_one_client_live_in_different_containers_in_one_transaction() {
    let (clock, store) = timed();
    let short = ContainerSettings::new().timeout(10 * MINUTE);
    store.register("bank", short).unwrap();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["bank", "scratch", "news"], 7);
    for container in ["bank", "scratch", ""] {
        assert_eq!(live_sessions(&store, container), 1, "{container:?}");
    }

    clock.advance(11 * MINUTE);
    assert_eq!(key_of(&store, &id, "bank"), None);
    assert_eq!(key_of(&store, &id, "scratch"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), Some(7));
}

// C1.2
#[test]
fn data_from_before_a_container_was_registered_stays_in_the_unnamed_one() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["shop"], 7);
    store.register("shop", ContainerSettings::new()).unwrap();
    assert_eq!(key_of(&store, &id, "shop"), None);
    assert_eq!(key_in(&store, "", &id, "shop"), Some(7));

    put(&store, &id, &["shop"], 8);
    assert_eq!(key_in(&store, "", &id, "shop"), Some(7));
    store.unregister("shop").unwrap();
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.2
#[test]
fn data_left_behind_expires_by_the_settings_of_the_unnamed_container() {
    let (clock, store) = timed();
    let id = client_with(&store, &["shop"], 7);
    let forever = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("shop", forever).unwrap();
    clock.advance(2 * HOUR);
    assert_eq!(key_in(&store, "", &id, "shop"), None);
}

// C1.2
#[test]
fn registering_warns_of_data_left_behind_and_only_then() {
    let store = Store::in_memory().unwrap();
    client_with(&store, &["shop"], 7);
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.counted(), || {
        store.register("news", ContainerSettings::new()).unwrap();
        assert_eq!(warnings.count(), 0);
        store.register("shop", ContainerSettings::new()).unwrap();
        assert_eq!(warnings.count(), 1);
        store.register("shop", ContainerSettings::new()).unwrap();
        assert_eq!(warnings.count(), 1, "it was registered already");
    });
}

// C1.2
#[test]
fn unregistering_ends_the_sessions_of_a_container_at_once() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop", "news"], 7);
    let only = client_with(&store, &["shop"], 7);
    let shop = store.container("shop").unwrap();
    store.unregister("shop").unwrap();
    assert_eq!(key_of(&store, &id, "shop"), None);
    assert_eq!(key_of(&store, &id, "news"), Some(7));
    assert!(!with(&store, &only, Session::exists));
    let gone = shop.settings().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NoSuchContainer);
}

// C1.2
#[test]
fn a_container_registered_again_never_shows_old_data() {
    for settings in [ContainerSettings::new(), in_ram()] {
        let (folder, store) = in_folder();
        store.register("shop", settings.clone()).unwrap();
        let id = client_with(&store, &["shop"], 7);
        with(&store, &id, |session| session.set_owner(Some("ann")));
        store.unregister("shop").unwrap();
        store.register("shop", settings.clone()).unwrap();
        assert_eq!(key_of(&store, &id, "shop"), None);
        assert!(store.sessions_of("ann").unwrap().is_empty());

        store.unregister("shop").unwrap();
        store.close().unwrap();
        let store = reopen(folder.path());
        store.register("shop", settings).unwrap();
        assert_eq!(key_of(&store, &id, "shop"), None);
        assert!(store.sessions_of("ann").unwrap().is_empty());
    }
}

// C1.2, C2.7
#[test]
fn a_transaction_that_knew_other_containers_conflicts() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("shop")
        .insert("key", 7)
        .unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    assert!(txn.commit().unwrap_err().is_conflict());
}

// C1.2, C2.10
#[test]
fn transact_puts_a_package_where_it_lives_now() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let mut runs = 0;
    store
        .transact(|txn| {
            runs += 1;
            let shop = txn.session(&id)?.pkg("shop");
            if runs == 1 {
                store.register("shop", ContainerSettings::new())?;
            }
            shop.insert("key", 7)
        })
        .unwrap();
    assert_eq!(runs, 2);
    assert_eq!(key_in(&store, "shop", &id, "shop"), Some(7));
    assert_eq!(key_in(&store, "", &id, "shop"), None);
}
