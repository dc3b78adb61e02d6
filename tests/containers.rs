//! C1: containers, sessions, packages and values, and which of them sees what.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use chrono::{DateTime, Utc};
use cloakroom::{ClientId, Clock, ContainerSettings, ErrorKind, Residence, Session, Store, Txn};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use support::clock::{HOUR, MINUTE};
use support::engine::needs_files;
use support::log::Warnings;
use support::store::{keys_of, timed};
use support::visitors::with;
use tempfile::TempDir;

fn in_folder() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path().join("store.redb")).unwrap();
    (folder, store)
}

fn reopen(folder: &Path) -> Store {
    Store::open(folder.join("store.redb")).unwrap()
}

/// A client whose session holds `value` at `key` of each of the packages.
fn client_with(store: &Store, packages: &[&str], value: u32) -> ClientId {
    let id = store.client_ids().issue();
    put(store, &id, packages, value);
    id
}

fn put(store: &Store, id: &ClientId, packages: &[&str], value: u32) {
    store
        .transact(|txn| {
            let session = txn.session(id)?;
            packages
                .iter()
                .try_for_each(|p| session.pkg(p).insert("key", value))
        })
        .unwrap();
}

fn key_of(store: &Store, id: &ClientId, package: &str) -> Option<u32> {
    with(store, id, |session| session.pkg(package).get("key"))
}

fn key_in(store: &Store, container: &str, id: &ClientId, package: &str) -> Option<u32> {
    store
        .transact(|txn| {
            let data = txn.container(container)?.session_data(id)?;
            data.pkg(package).get("key")
        })
        .unwrap()
}

fn live_sessions(store: &Store, container: &str) -> u64 {
    let container = store.container(container).unwrap();
    container.statistics().unwrap().live
}

fn in_ram() -> ContainerSettings {
    ContainerSettings::new().in_memory()
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

// C1.3
#[test]
fn package_ids_never_share_a_namespace() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let packages = [
        "products.foo",
        "products.bar",
        "products.fo",
        "products.foo\0",
        "",
    ];
    with(&store, &id, |session| {
        for (n, package) in packages.iter().enumerate() {
            session.pkg(package).insert("color", n)?;
        }
        Ok(())
    });
    with(&store, &id, |session| {
        for (n, package) in packages.iter().enumerate() {
            assert_eq!(session.pkg(package).get("color")?, Some(n), "{package:?}");
            assert_eq!(session.pkg(package).keys()?, ["color"]);
        }
        session.pkg("products.foo").clear()
    });
    with(&store, &id, |session| {
        assert!(session.pkg("products.foo").is_empty()?);
        assert_eq!(session.pkg("products.fo").len()?, 1);
        Ok(())
    });
}

// C1.3
#[test]
fn clients_share_nothing() {
    let store = Store::in_memory().unwrap();
    let (ann, bob) = (
        client_with(&store, &["shop"], 1),
        client_with(&store, &["shop"], 2),
    );
    assert_eq!(key_of(&store, &ann, "shop"), Some(1));
    with(&store, &ann, Session::destroy);
    assert_eq!(key_of(&store, &bob, "shop"), Some(2));
}

// C1.4
#[test]
fn reading_never_creates() {
    let (_folder, store) = in_folder();
    let id = store.client_ids().issue();
    let before = store.statistics().unwrap();
    with(&store, &id, |session| {
        let shop = session.pkg("shop");
        assert_eq!(shop.get::<u32>("key")?, None);
        assert_eq!(shop.take::<u32>("key")?, None);
        assert!(!shop.remove("key")?);
        assert!(!shop.contains_key("key")?);
        assert!(shop.keys()?.is_empty() && shop.is_empty()?);
        shop.clear()?;
        assert!(!session.exists()?);
        assert_eq!(session.created_at()?, None);
        assert_eq!(session.last_access()?, None);
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(HOUR))?;
        session.destroy()
    });
    assert_eq!(live_sessions(&store, ""), 0);
    let after = store.statistics().unwrap();
    assert_eq!(after.bytes_written(), before.bytes_written());
    assert!(!with(&store, &id, Session::exists));
}

// C1.4
#[test]
fn a_new_visitor_has_no_id_before_the_first_insert() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let session = pollster::block_on(txn.visit(None)).unwrap();
    assert_eq!(session.pkg("shop").get::<u32>("key").unwrap(), None);
    assert_eq!(session.client_id(), None);
    session.pkg("shop").insert("key", 7).unwrap();
    let id = session.client_id().expect("an id with the first insert");
    assert_eq!(live_sessions(&store, ""), 0);
    txn.commit().unwrap();
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.4
#[test]
fn a_session_exists_for_its_transaction_from_the_first_insert_on() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let session = txn.session(&store.client_ids().issue()).unwrap();
    assert!(!session.exists().unwrap());
    session.pkg("shop").insert("key", 7).unwrap();
    assert!(session.exists().unwrap());
    txn.abort();
    assert_eq!(live_sessions(&store, ""), 0);
}

// C1.5
#[test]
fn two_handles_to_one_package_see_the_same_state() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    let txn = store.begin().unwrap();
    let one = txn.session(&id).unwrap().pkg("shop");
    let verified = store.client_ids().verify(id.as_str()).unwrap();
    let two = txn.session(&verified).unwrap().pkg("shop");
    let data = txn.container("shop").unwrap().session_data(&id).unwrap();
    let three = data.pkg("shop");
    one.insert("key", 8).unwrap();
    two.insert("other", 9).unwrap();
    for handle in [&one, &two, &three, &one.clone()] {
        assert_eq!(handle.get::<u32>("key").unwrap(), Some(8));
        assert_eq!(handle.keys().unwrap(), ["key", "other"]);
    }
    three.remove("key").unwrap();
    assert!(!one.contains_key("key").unwrap());
}

// C1.5
#[test]
fn handles_of_one_transaction_work_from_several_threads() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let shop = txn.session(&id).unwrap().pkg("shop");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let shop = shop.clone();
            scope.spawn(move || {
                for _ in 0..100 {
                    shop.update("count", |c: Option<u32>| c.unwrap_or(0) + 1)
                        .unwrap();
                }
                shop.insert(&n.to_string(), n).unwrap();
            });
        }
    });
    txn.commit().unwrap();
    with(&store, &id, |session| {
        let shop = session.pkg("shop");
        assert_eq!(shop.get::<u32>("count")?, Some(400));
        assert_eq!(shop.len()?, 5);
        Ok(())
    });
}

// C1.6
#[test]
fn debug_shows_no_id() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["shop"], 7);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let data = txn.container("").unwrap().session_data(&id).unwrap();
    session
        .pkg("shop")
        .insert("refused", Path::new(&not_utf8()))
        .unwrap();
    let error = session.pkg("shop").get::<String>("refused").unwrap_err();
    let shown = [
        format!("{id:?}"),
        format!("{:?}", Some(&id)),
        format!("{txn:?}"),
        format!("{:?}", *txn),
        format!("{session:?}"),
        format!("{data:?}"),
        format!("{:?}", session.pkg("shop")),
        format!("{:?}", txn.container("").unwrap()),
        format!("{store:?}"),
        format!("{:?}", store.client_ids()),
        format!("{:?}", store.container("")),
        format!("{:?}", store.statistics()),
        format!("{error:?} {error}"),
    ];
    for text in shown {
        assert!(!text.contains(id.as_str()), "{text}");
        assert!(!text.contains(&id.as_str()[..12]), "{text}");
    }
}

// C1.6, C4.2
#[test]
fn debug_shows_no_secret() {
    let builder = Store::builder().secret([231; 32]).older_secret([239; 32]);
    let shown = format!("{builder:?}");
    assert!(!shown.contains("231") && !shown.contains("239"), "{shown}");
}

// C1.6
#[test]
fn the_file_holds_the_key_of_a_client_and_never_its_id() {
    needs_files!("the file is read");
    let (folder, store) = in_folder();
    let id = client_with(&store, &["shop"], 7);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    let rotated = with(&store, &id, Session::rotate);
    store.close().unwrap();
    let file = std::fs::read(folder.path().join("store.redb")).unwrap();
    let holds = |needle: &[u8]| file.windows(needle.len()).any(|w| w == needle);
    assert!(holds(rotated.key().as_bytes()));
    for id in [&id, &rotated] {
        assert!(!holds(&id.as_str().as_bytes()[..24]));
    }
}

fn not_utf8() -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    std::ffi::OsString::from_vec(vec![0xff])
}

// C1.7
#[test]
fn a_container_in_memory_is_gone_after_a_restart_and_the_file_is_not() {
    let (folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 7);
    store.close().unwrap();
    let store = reopen(folder.path());
    assert_eq!(key_of(&store, &id, "scratch"), None);
    assert_eq!(key_of(&store, &id, "news"), Some(7));
    put(&store, &id, &["scratch"], 8);
    assert_eq!(key_of(&store, &id, "scratch"), Some(8));
}

// C1.7
#[test]
fn a_commit_to_memory_alone_touches_no_file() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let before = store.statistics().unwrap();
    let id = client_with(&store, &["scratch"], 7);
    with(&store, &id, Session::rotate);
    let after = store.statistics().unwrap();
    assert_eq!(after.commits(), before.commits() + 2);
    assert_eq!(after.syncs(), before.syncs());
    assert_eq!(after.bytes_written(), before.bytes_written());
}

// C1.7
#[test]
fn a_transaction_over_file_and_memory_is_all_or_nothing() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 1);
    for (read, other) in [("scratch", "news"), ("news", "scratch")] {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg(read).get::<u32>("key").unwrap();
        session.pkg(read).insert("key", 2).unwrap();
        session.pkg(other).insert("key", 2).unwrap();
        put(&store, &id, &[read], 3);
        let error = txn.commit().unwrap_err();
        assert!(error.is_conflict());
        assert_eq!(error.package(), Some(read));
        assert_eq!(key_of(&store, &id, read), Some(3));
        assert_ne!(key_of(&store, &id, other), Some(2));
    }
}

// C1.7, C2.1
#[test]
fn both_halves_of_a_transaction_are_seen_at_once() {
    let (_folder, store) = in_folder();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch", "news"], 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=50 {
                put(&store, &id, &["scratch", "news"], n);
            }
        });
        while !writer.is_finished() {
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            let one: Option<u32> = session.pkg("scratch").get("key").unwrap();
            let two: Option<u32> = session.pkg("news").get("key").unwrap();
            assert_eq!(one, two);
        }
    });
}

// C1.7
#[test]
fn a_whole_store_can_live_in_memory() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop", "news"], 7);
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
    assert_eq!(store.statistics().unwrap().file_len(), 0);
}

// C1.8
#[test]
fn settings_survive_reopening() {
    let (folder, store) = in_folder();
    let shop = ContainerSettings::new()
        .timeout(30 * MINUTE)
        .resolution(5 * MINUTE)
        .max_lifetime(Some(HOUR))
        .implicit_sweeps(false);
    let unnamed = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("shop", shop.clone()).unwrap();
    store.register("scratch", in_ram()).unwrap();
    store
        .container("")
        .unwrap()
        .configure(unnamed.clone())
        .unwrap();
    store.close().unwrap();

    let store = reopen(folder.path());
    let settings = |name: &str| store.container(name).unwrap().settings().unwrap();
    assert_eq!(settings("shop"), shop);
    assert_eq!(settings(""), unnamed);
    assert_eq!(settings("scratch").residence, Residence::Memory);
}

// C1.8
#[test]
fn an_unregistered_container_stays_unregistered_after_reopening() {
    let (folder, store) = in_folder();
    store.register("shop", ContainerSettings::new()).unwrap();
    store.unregister("shop").unwrap();
    store.close().unwrap();
    let error = reopen(folder.path())
        .container("shop")
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSuchContainer);
}

// C1.8
#[test]
fn settings_change_while_the_store_runs_and_keep_the_data() {
    let (clock, store) = timed();
    let shop = store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    clock.advance(20 * MINUTE);
    let begun_before = store.begin().unwrap();
    assert!(begun_before.session(&id).unwrap().exists().unwrap());
    shop.configure(ContainerSettings::new().timeout(10 * MINUTE))
        .unwrap();
    let session = begun_before.session(&id).unwrap();
    assert_eq!(session.pkg("shop").get::<u32>("key").unwrap(), Some(7));
    drop(begun_before);
    assert_eq!(key_of(&store, &id, "shop"), None);

    store
        .register("shop", ContainerSettings::new().timeout(30 * MINUTE))
        .unwrap();
    assert_eq!(shop.settings().unwrap().timeout, 30 * MINUTE);
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.8
#[test]
fn changing_settings_is_no_conflict() {
    let store = Store::in_memory().unwrap();
    let shop = store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    let txn = store.begin().unwrap();
    let pkg = txn.session(&id).unwrap().pkg("shop");
    pkg.update("key", |n: Option<u32>| n.unwrap_or(0) + 1)
        .unwrap();
    shop.configure(ContainerSettings::new().timeout(2 * HOUR))
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(key_of(&store, &id, "shop"), Some(8));
}

// C1.7, C1.8
#[test]
fn a_container_cannot_move_between_file_and_memory() {
    let store = Store::in_memory().unwrap();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["shop"], 7);
    let refused = store.register("shop", in_ram()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(refused.container(), Some("shop"));
    assert_eq!(key_of(&store, &id, "shop"), Some(7));
}

// C1.8, C5.3
#[test]
fn a_container_name_beyond_the_limit_is_refused() {
    let store = Store::in_memory().unwrap();
    let settings = ContainerSettings::new;
    store.register(&"n".repeat(255), settings()).unwrap();
    let refused = store.register(&"n".repeat(256), settings()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
}

/// A client with a session in the unnamed container since 00:00, in "bank" since 00:20, both used
/// then, and in the RAM container "scratch" since 00:40.
fn spread() -> (Clock, Store, ClientId) {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["news"], 1);
    clock.advance(20 * MINUTE);
    put(&store, &id, &["news", "bank"], 2);
    clock.advance(20 * MINUTE);
    put(&store, &id, &["scratch"], 3);
    (clock, store, id)
}

fn at(text: &str) -> Option<DateTime<Utc>> {
    Some(format!("2026-01-01T{text}Z").parse().unwrap())
}

// C1.9
#[test]
fn a_session_was_created_with_its_earliest_and_last_used_with_its_latest_container() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| {
        assert_eq!(session.created_at()?, at("00:00:00"));
        assert_eq!(session.last_access()?, at("00:40:00"));
        Ok(())
    });
}

// C1.9
#[test]
fn session_data_is_one_container_alone() {
    let (_clock, store, id) = spread();
    let times = |container: &str| {
        let look = |txn: &Txn| {
            let data = txn.container(container)?.session_data(&id)?;
            Ok((data.exists()?, data.created_at()?, data.last_access()?))
        };
        store.transact::<_, cloakroom::Error>(look).unwrap()
    };
    store.register("empty", ContainerSettings::new()).unwrap();
    assert_eq!(times("bank"), (true, at("00:20:00"), at("00:20:00")));
    assert_eq!(times("scratch"), (true, at("00:40:00"), at("00:40:00")));
    assert_eq!(times("empty"), (false, None, None));
}

// C1.9
#[test]
fn a_session_exists_if_it_does_in_any_container() {
    let (_clock, store) = timed();
    store.register("scratch", in_ram()).unwrap();
    let id = client_with(&store, &["scratch"], 7);
    let unknown = store.client_ids().issue();
    assert!(with(&store, &id, Session::exists));
    assert!(!with(&store, &unknown, Session::exists));
}

// C1.9
#[test]
fn an_access_is_recorded_in_the_containers_used_alone() {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    clock.advance(30 * MINUTE);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    clock.advance(31 * MINUTE);
    assert_eq!(key_of(&store, &id, "bank"), Some(7));
    assert_eq!(key_of(&store, &id, "news"), None);
}

// C1.9, C4.7
#[test]
fn rotate_carries_everything_over_in_all_containers_in_one_commit() {
    let (clock, store, id) = spread();
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(3 * HOUR))
    });
    let commits = store.statistics().unwrap().commits();
    let new = with(&store, &id, Session::rotate);
    assert_eq!(store.statistics().unwrap().commits(), commits + 1);

    assert_ne!(new, id);
    assert!(!with(&store, &id, Session::exists));
    for package in ["news", "bank", "scratch"] {
        assert_eq!(key_of(&store, &id, package), None, "{package}");
    }
    with(&store, &new, |session| {
        assert_eq!(session.created_at()?, at("00:00:00"));
        assert_eq!(session.last_access()?, at("00:40:00"));
        Ok(())
    });
    assert_eq!(keys_of(&store, "ann"), [new.key()]);
    assert_eq!(key_of(&store, &new, "news"), Some(2));
    clock.advance(2 * HOUR);
    assert_eq!(key_of(&store, &new, "bank"), Some(2));
    assert_eq!(key_of(&store, &new, "scratch"), Some(3));
}

// C1.9
#[test]
fn rotate_carries_nothing_expired_over() {
    let (clock, store) = timed();
    let short = ContainerSettings::new().timeout(10 * MINUTE);
    store.register("bank", short).unwrap();
    let id = client_with(&store, &["bank", "news"], 7);
    clock.advance(11 * MINUTE);
    let new = with(&store, &id, Session::rotate);
    let forever = ContainerSettings::new().timeout(Duration::ZERO);
    store.register("bank", forever).unwrap();
    assert_eq!(key_of(&store, &new, "bank"), None);
    assert_eq!(key_of(&store, &id, "bank"), None);
    assert_eq!(key_of(&store, &new, "news"), Some(7));
}

// C1.9, C2.8
#[test]
fn rotate_carries_over_what_another_transaction_put_there_meanwhile() {
    let (_clock, store, id) = spread();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("bank").insert("mine", 1).unwrap();
    let new = session.rotate().unwrap();
    put(&store, &id, &["bank", "scratch", "late"], 9);
    txn.commit().unwrap();
    for package in ["bank", "scratch", "late"] {
        assert_eq!(key_of(&store, &new, package), Some(9), "{package}");
    }
    with(&store, &new, |session| {
        assert_eq!(session.pkg("bank").get::<u32>("mine")?, Some(1));
        Ok(())
    });
}

// C1.9
#[test]
fn rotating_twice_leaves_the_last_id_alone() {
    let (_clock, store, id) = spread();
    let (first, last) = with(&store, &id, |session| {
        Ok((session.rotate()?, session.rotate()?))
    });
    assert_eq!(key_of(&store, &last, "bank"), Some(2));
    for dead in [&id, &first] {
        assert_eq!(key_of(&store, dead, "bank"), None);
    }
}

// C1.9, C4.7
#[test]
fn destroy_ends_the_session_in_all_containers_in_one_commit() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| session.set_owner(Some("ann")));
    let commits = store.statistics().unwrap().commits();
    with(&store, &id, |session| {
        session.destroy()?;
        assert!(!session.exists()?);
        assert_eq!(session.created_at()?, None);
        assert_eq!(session.client_id(), None);
        assert_eq!(session.pkg("bank").get::<u32>("key")?, None);
        Ok(())
    });
    assert_eq!(store.statistics().unwrap().commits(), commits + 1);
    for container in ["", "bank", "scratch"] {
        let left = store.container(container).unwrap().statistics().unwrap();
        assert_eq!((left.live, left.expired), (0, 0), "{container:?}");
    }
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9
#[test]
fn what_is_inserted_after_destroy_founds_another_session() {
    let (_clock, store, id) = spread();
    with(&store, &id, |session| session.set_owner(Some("ann")));
    let new = with(&store, &id, |session| {
        session.destroy()?;
        session.pkg("bank").insert("key", 9)?;
        Ok(session.client_id().expect("a new id"))
    });
    assert_ne!(new, id);
    assert_eq!(key_of(&store, &new, "bank"), Some(9));
    assert_eq!(key_of(&store, &new, "news"), None);
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert!(!with(&store, &id, Session::exists));
}

// C1.9
#[test]
fn set_timeout_acts_on_all_containers() {
    let (clock, store, id) = spread();
    with(&store, &id, |session| session.set_timeout(Some(2 * HOUR)));
    clock.advance(90 * MINUTE);
    for container in ["", "bank", "scratch"] {
        assert_eq!(live_sessions(&store, container), 1, "{container:?}");
    }
    with(&store, &id, |session| session.set_timeout(None));
    assert!(!with(&store, &id, Session::exists));
}

// C1.9
#[test]
fn a_container_that_the_session_comes_to_later_gets_its_timeout_and_owner() {
    let (clock, store) = timed();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| {
        session.set_owner(Some("ann"))?;
        session.set_timeout(Some(3 * HOUR))
    });
    put(&store, &id, &["bank"], 2);
    clock.advance(2 * HOUR);
    assert_eq!(key_of(&store, &id, "bank"), Some(2));
    store.container("").unwrap().sweep().unwrap();
    clock.advance(2 * HOUR);
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert_eq!(live_sessions(&store, ""), 0);
}

// C1.9
#[test]
fn set_owner_finds_each_session_of_a_user_once() {
    let (_clock, store, id) = spread();
    let other = client_with(&store, &["bank"], 1);
    let stranger = client_with(&store, &["bank"], 1);
    for (id, owner) in [(&id, "ann"), (&other, "ann"), (&stranger, "bob")] {
        with(&store, id, |session| session.set_owner(Some(owner)));
    }
    let mut expected = [id.key(), other.key()];
    expected.sort();
    let mut found = keys_of(&store, "ann");
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(keys_of(&store, "bob"), [stranger.key()]);
    assert!(store.sessions_of("an").unwrap().is_empty());

    with(&store, &id, |session| session.set_owner(Some("bob")));
    assert_eq!(keys_of(&store, "ann"), [other.key()]);
    with(&store, &other, |session| session.set_owner(None));
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9, C3.2
#[test]
fn sessions_of_leaves_expired_ones_out() {
    let (clock, store) = timed();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    clock.advance(61 * MINUTE);
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C1.9
#[test]
fn sessions_of_survives_reopening() {
    let (folder, store) = in_folder();
    let id = client_with(&store, &["news"], 1);
    with(&store, &id, |session| session.set_owner(Some("ann")));
    store.close().unwrap();
    let store = reopen(folder.path());
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
}

// C1.9, C2.7
#[test]
fn settings_of_a_session_merge_with_changes_of_its_values() {
    let (_clock, store, id) = spread();
    let owned = store.begin().unwrap();
    let session = owned.session(&id).unwrap();
    session.set_owner(Some("ann")).unwrap();
    session.created_at().unwrap();
    put(&store, &id, &["bank", "late"], 9);
    owned.commit().unwrap();
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert_eq!(key_of(&store, &id, "late"), Some(9));
}

// C1.9
#[test]
fn a_session_of_many_threads_is_counted_once_per_container() {
    let store = Store::in_memory().unwrap();
    let id = client_with(&store, &["news"], 0);
    let errors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (store, id, errors) = (&store, &id, &errors);
            scope.spawn(move || {
                let put = |txn: &Txn| txn.session(id)?.pkg(&format!("p{n}")).insert("key", n);
                if let Err(e) = store.transact::<_, cloakroom::Error>(put) {
                    errors.lock().unwrap().push(e);
                }
            });
        }
    });
    assert!(errors.into_inner().unwrap().is_empty());
    let counted = store.container("").unwrap().statistics().unwrap();
    assert_eq!((counted.live, counted.packages), (1, 5));
}
