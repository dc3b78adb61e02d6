//! C1.3 to C1.6: packages share nothing, reading creates nothing, and nothing shows an id.

use super::{client_with, in_folder, key_of, live_sessions};
use crate::support::clock::HOUR;
use crate::support::engine::needs_files;
use crate::support::runtime::block_on;
use crate::support::visitors::with;
use cloakroom::{ContainerSettings, Session, Store};
use std::path::Path;

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
    let session = block_on(txn.visit(None)).unwrap();
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
