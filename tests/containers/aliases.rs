//! C1.2: one container under several names.

use super::{client_with, in_folder, in_ram, key_of, live_sessions, put, reopen};
use crate::support::clock::{HOUR, MINUTE};
use crate::support::engine::needs_files;
use crate::support::log::Warnings;
use crate::support::store::timed;
use crate::support::visitors::with;
use cloakroom::{Container, ContainerSettings, Error, ErrorKind, Residence, Session, Store};
use std::time::Duration;

fn names(store: &Store) -> Vec<String> {
    let containers = store.containers();
    containers.iter().map(|it| it.name().to_owned()).collect()
}

/// A container `shop` with the aliases `kiosk` and `stall`.
fn with_aliases(store: &Store, settings: ContainerSettings) -> Container {
    store.register("shop", settings).unwrap();
    store.register_alias("stall", "shop").unwrap();
    store.register_alias("kiosk", "shop").unwrap()
}

#[test]
fn packages_of_all_its_names_live_in_one_container() {
    for settings in [ContainerSettings::new(), in_ram()] {
        let store = Store::in_memory().unwrap();
        let shop = with_aliases(&store, settings);
        assert_eq!(shop.name(), "shop");
        assert_eq!(shop.names().unwrap(), ["shop", "kiosk", "stall"]);
        assert_eq!(names(&store), ["", "shop"], "listed once");
        assert_eq!(store.container_for("stall").unwrap().name(), "shop");

        let id = client_with(&store, &["shop", "kiosk", "news"], 7);
        put(&store, &id, &["kiosk"], 8);
        assert_eq!(
            key_of(&store, &id, "shop"),
            Some(7),
            "packages of their own"
        );
        assert_eq!(key_of(&store, &id, "kiosk"), Some(8));
        let counted = shop.statistics().unwrap();
        assert_eq!((counted.live, counted.packages), (1, 2));
        assert_eq!(live_sessions(&store, ""), 1);
        assert_eq!(live_sessions(&store, "stall"), 1);
    }
}

#[test]
fn in_a_transaction_an_alias_is_the_container() {
    let store = Store::in_memory().unwrap();
    with_aliases(&store, ContainerSettings::new());
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let by = |name: &str| {
        let container = txn.container(name).unwrap();
        container.session_data(&id).unwrap()
    };
    by("kiosk").pkg("stall").insert("key", 7).unwrap();
    let seen: Option<u32> = by("shop").pkg("stall").get("key").unwrap();
    assert_eq!(seen, Some(7));
    let session = txn.session(&id).unwrap();
    assert_eq!(session.pkg("stall").get("key").unwrap(), Some(7));
    assert_eq!(by("shop").packages().unwrap(), ["stall"]);
    by("stall").destroy().unwrap();
    assert!(!by("shop").exists().unwrap());
    txn.commit().unwrap();
    assert!(!with(&store, &id, Session::exists));
}

// C1.8
#[test]
fn settings_changed_through_any_name_are_in_force_for_all() {
    let (clock, store) = timed();
    let shop = with_aliases(&store, ContainerSettings::new());
    let id = client_with(&store, &["shop", "kiosk"], 7);
    let longer = |hours: u32| ContainerSettings::new().timeout(hours * HOUR);
    let timeout = || shop.settings().unwrap().timeout;
    store
        .container("kiosk")
        .unwrap()
        .configure(longer(2))
        .unwrap();
    assert_eq!(timeout(), 2 * HOUR);
    store.register("stall", longer(3)).unwrap();
    assert_eq!(timeout(), 3 * HOUR);
    assert_eq!(shop.names().unwrap(), ["shop", "kiosk", "stall"]);
    clock.advance(3 * HOUR - MINUTE);
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
    assert_eq!(key_of(&store, &id, "kiosk"), Some(7));
    let moved = store.register("kiosk", in_ram()).unwrap_err();
    assert_eq!(moved.kind(), ErrorKind::InvalidInput);
    clock.advance(4 * HOUR);
    assert_eq!(
        store.container("stall").unwrap().sweep().unwrap().removed,
        1
    );
}

// C1.8
#[test]
fn aliases_survive_a_restart() {
    let (folder, store) = in_folder();
    with_aliases(&store, ContainerSettings::new().implicit_sweeps(false));
    store.register("ram", in_ram()).unwrap();
    store.register_alias("fast", "ram").unwrap();
    let id = client_with(&store, &["kiosk", "fast"], 7);
    let found = store.check().unwrap();
    assert!(found.is_clean(), "{found:?}");
    store.close().unwrap();

    let store = reopen(folder.path());
    let shop = store.container("stall").unwrap();
    assert_eq!(shop.names().unwrap(), ["shop", "kiosk", "stall"]);
    assert!(!shop.settings().unwrap().implicit_sweeps);
    let ram = store.container("fast").unwrap().settings().unwrap();
    assert_eq!(ram.residence, Residence::Memory);
    assert_eq!(key_of(&store, &id, "kiosk"), Some(7));
    assert_eq!(key_of(&store, &id, "fast"), None, "it was in memory");
    assert_eq!(live_sessions(&store, "shop"), 1);
}

// C1.2, C10
#[test]
fn aliases_are_salvaged_with_their_container() {
    needs_files!("a file is salvaged");
    let (folder, store) = in_folder();
    with_aliases(&store, ContainerSettings::new());
    let id = client_with(&store, &["kiosk"], 7);
    store.close().unwrap();
    let copy = folder.path().join("copy.redb");
    let salvaged = Store::builder()
        .salvage(folder.path().join("store.redb"), &copy)
        .unwrap();
    assert!(salvaged.is_whole(), "{salvaged:?}");
    let store = Store::open(copy).unwrap();
    let shop = store.container("shop").unwrap();
    assert_eq!(shop.names().unwrap(), ["shop", "kiosk", "stall"]);
    assert_eq!(key_of(&store, &id, "kiosk"), Some(7));
}

#[test]
fn an_alias_goes_alone_and_the_container_takes_all_its_names_along() {
    let store = Store::in_memory().unwrap();
    let shop = with_aliases(&store, ContainerSettings::new());
    let id = client_with(&store, &["shop", "kiosk"], 7);
    store.unregister("kiosk").unwrap();
    assert_eq!(shop.names().unwrap(), ["shop", "stall"]);
    assert_eq!(store.container_for("kiosk").unwrap().name(), "");
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
    assert_eq!(key_of(&store, &id, "kiosk"), None);
    store.register_alias("kiosk", "shop").unwrap();
    assert_eq!(key_of(&store, &id, "kiosk"), Some(7), "it stayed there");

    store.unregister("shop").unwrap();
    assert_eq!(names(&store), [""]);
    assert_eq!(shop.names().unwrap_err().kind(), ErrorKind::NoSuchContainer);
    for name in ["shop", "kiosk", "stall"] {
        let gone = store.container(name).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NoSuchContainer);
        assert_eq!(store.container_for(name).unwrap().name(), "");
    }
}

#[test]
fn an_alias_of_an_alias_is_one_of_the_container() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    store.register_alias("kiosk", "shop").unwrap();
    let shop = store.register_alias("stall", "kiosk").unwrap();
    assert_eq!(shop.names().unwrap(), ["shop", "kiosk", "stall"]);
    store.unregister("kiosk").unwrap();
    assert_eq!(store.container_for("stall").unwrap().name(), "shop");
    // As at the next start of the application:
    assert_eq!(
        store.register_alias("stall", "shop").unwrap().name(),
        "shop"
    );
}

#[test]
fn circles_names_that_are_taken_and_unknown_containers_are_refused() {
    let store = Store::in_memory().unwrap();
    with_aliases(&store, ContainerSettings::new());
    store.register("news", ContainerSettings::new()).unwrap();
    let refused = |alias: &str, name: &str, kind, on: &str| {
        let error: Error = store.register_alias(alias, name).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.container(), Some(on));
    };
    let invalid = ErrorKind::InvalidInput;
    refused("shop", "shop", invalid, "shop");
    refused("shop", "kiosk", invalid, "shop");
    refused("news", "shop", invalid, "news");
    refused("kiosk", "news", invalid, "kiosk");
    refused("", "shop", invalid, "");
    refused("other", "nowhere", ErrorKind::NoSuchContainer, "nowhere");
    let long = "x".repeat(70_000);
    let too_long = store.register_alias(&long, "shop").unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::TooLarge);
    assert_eq!(names(&store), ["", "news", "shop"]);
}

#[test]
fn the_unnamed_container_takes_an_alias() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["news"], 7);
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.counted(), || {
        let unnamed = store.register_alias("news", "").unwrap();
        assert_eq!(unnamed.names().unwrap(), ["", "news"]);
    });
    assert_eq!(warnings.count(), 0, "its package moves nowhere");
    assert_eq!(key_of(&store, &id, "news"), Some(7));
    store.unregister("news").unwrap();
    assert_eq!(key_of(&store, &id, "news"), Some(7));
}

#[test]
fn registering_an_alias_warns_of_data_left_behind_and_only_then() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["kiosk"], 7);
    store.register("shop", ContainerSettings::new()).unwrap();
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.counted(), || {
        store.register_alias("stall", "shop").unwrap();
        assert_eq!(warnings.count(), 0);
        store.register_alias("kiosk", "shop").unwrap();
        assert_eq!(warnings.count(), 1);
        store.register_alias("kiosk", "shop").unwrap();
        assert_eq!(warnings.count(), 1, "it was registered already");
    });
    assert_eq!(key_of(&store, &id, "kiosk"), None);
    store.unregister("kiosk").unwrap();
    assert_eq!(key_of(&store, &id, "kiosk"), Some(7), "it stayed there");
}

// C2.7
#[test]
fn a_transaction_that_did_not_know_an_alias_conflicts() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    let begin = || {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("kiosk").insert("key", 7).unwrap();
        txn
    };
    let txn = begin();
    store.register_alias("kiosk", "shop").unwrap();
    assert!(txn.commit().unwrap_err().is_conflict());
    let txn = begin();
    store.unregister("kiosk").unwrap();
    assert!(txn.commit().unwrap_err().is_conflict());
    assert!(!with(&store, &id, Session::exists));
}

#[test]
fn futures_register_and_unregister_aliases() {
    let store = Store::in_memory().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    runtime.block_on(async {
        let short = ContainerSettings::new().timeout(Duration::from_secs(60));
        store.register_async("shop", short).await.unwrap();
        let shop = store.register_alias_async("kiosk", "shop").await.unwrap();
        assert_eq!(shop.names().unwrap(), ["shop", "kiosk"]);
        store.unregister_async("kiosk").await.unwrap();
        assert_eq!(shop.names().unwrap(), ["shop"]);
        let unknown = store.register_alias_async("kiosk", "nowhere").await;
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NoSuchContainer);
    });
}
