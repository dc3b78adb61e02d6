//! C2.3: values that cannot be serialized fail the commit.

use super::{Refuses, client, in_file, put, shop, stored};
use cloakroom::{ContainerSettings, ErrorKind, PkgData, Result, Store};
use serde::{Serialize, Serializer};
use std::cell::RefCell;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Says no after half of it was written.
#[derive(Serialize)]
struct Half {
    fine: u32,
    refuses: Refuses,
}

fn texts(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// Inserting `value` is accepted, `get` and the commit refuse it, and nothing else of the
/// transaction is written; the serializer's own words are in the error's source.
fn is_refused(value: impl Serialize, words: &str) {
    let (_folder, store) = in_file();
    store.register("shop", ContainerSettings::new()).unwrap();
    let id = client(&store);
    let before = store.statistics().unwrap().bytes_written();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("news").insert("good", 1).unwrap();
    session.pkg("shop").insert("key", 2).unwrap();
    session.pkg("shop").insert("oops", value).unwrap();
    session.pkg("shop").insert("zebra", 3).unwrap();
    let got = session.pkg("shop").get::<u32>("oops").unwrap_err();
    let failed = txn.commit().unwrap_err();
    for error in [got, failed] {
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
        let place = (error.container(), error.package(), error.key());
        assert_eq!(place, (Some("shop"), Some("shop"), Some("oops")));
        assert!(texts(&error).contains(words), "{error:?}");
    }
    assert_eq!(store.statistics().unwrap().bytes_written(), before);
    assert_eq!(stored(&store, &id, "key"), Some(1));
    assert_eq!(stored(&store, &id, "zebra"), None);
}

// C2.3
#[test]
fn commit_fails_on_a_value_whose_serialize_says_no() {
    is_refused(Refuses, "the coat is on fire");
    is_refused(
        Half {
            fine: 1,
            refuses: Refuses,
        },
        "the coat is on fire",
    );
    is_refused(vec![Some(Refuses)], "the coat is on fire");
}

// C2.3
#[test]
fn commit_fails_on_a_borrowed_ref_cell() {
    let cell = RefCell::new(7);
    let _borrowed = cell.borrow_mut();
    is_refused(&cell, "already mutably borrowed");
}

// C2.3
#[test]
fn commit_fails_on_a_poisoned_mutex() {
    let mutex = Mutex::new(7);
    std::thread::scope(|scope| {
        let poisoner = scope.spawn(|| {
            let _held = mutex.lock().unwrap();
            panic!("poison");
        });
        poisoner.join().unwrap_err();
    });
    is_refused(&mutex, "poison");
}

// C2.3
#[test]
#[cfg(unix)]
fn commit_fails_on_a_path_that_is_not_utf8() {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff"));
    is_refused(path, "UTF-8");
}

// C2.3
#[test]
fn commit_fails_on_a_time_before_the_epoch() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    is_refused(before, "UNIX_EPOCH");
}

// C2.3
#[test]
fn commit_fails_on_what_update_and_commute_make_if_it_refuses() {
    #[derive(serde::Deserialize)]
    struct Picky(u32);
    impl Serialize for Picky {
        fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
            match self.0 {
                1 => Err(serde::ser::Error::custom("never 1")),
                n => s.serialize_u32(n),
            }
        }
    }
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let updates = |p: &PkgData| p.update("oops", |_| Picky(1)).map(drop);
    let commutes = |p: &PkgData| p.commute("oops", |_| Picky(1));
    for change in [&updates as &dyn Fn(&PkgData) -> Result<()>, &commutes] {
        let txn = store.begin().unwrap();
        change(&shop(&txn, &id)).unwrap();
        let error = txn.commit().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotSerializable);
        assert_eq!(error.key(), Some("oops"));
    }
    // It refuses only on the value that is current at commit.
    put(&store, &id, "n", 5);
    let txn = store.begin().unwrap();
    let decrement = |n: Option<Picky>| Picky(n.map_or(0, |n| n.0 - 1));
    shop(&txn, &id).commute("n", decrement).unwrap();
    put(&store, &id, "n", 2);
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSerializable);
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("shop"), Some("n")));
    assert_eq!(stored(&store, &id, "n"), Some(2));
}

/// A refusal that `cure` has dealt with does not fail the commit.
fn is_cured_by(cure: impl Fn(&PkgData) -> Result<()>) -> Option<u32> {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.insert("good", 1).unwrap();
    mine.insert("key", Refuses).unwrap();
    cure(&mine).unwrap();
    mine.insert("good", 1).unwrap();
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "good"), Some(1));
    stored(&store, &id, "key")
}

// C2.3
#[test]
fn overwriting_a_value_that_refuses_clears_the_refusal() {
    assert_eq!(is_cured_by(|mine| mine.insert("key", 7)), Some(7));
}

// C2.3
#[test]
fn removing_a_value_that_refuses_clears_the_refusal() {
    let remove = |mine: &PkgData| mine.remove("key").map(|there| assert!(there));
    assert_eq!(is_cured_by(remove), None);
}

// C2.3
#[test]
fn clearing_the_package_clears_the_refusal() {
    assert_eq!(is_cured_by(PkgData::clear), None);
}

// C2.3, C2.5
#[test]
fn rolling_back_clears_the_refusal() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.insert("good", 7).unwrap();
    let savepoint = txn.savepoint().unwrap();
    mine.insert("key", Refuses).unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(mine.get::<u32>("key").unwrap(), Some(1));
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "good"), Some(7));
}

// C2.3
#[test]
fn a_value_that_refuses_counts_as_there() {
    let store = Store::in_memory().unwrap();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &store.client_ids().issue());
    mine.insert("oops", Refuses).unwrap();
    assert!(mine.contains_key("oops").unwrap());
    assert_eq!(mine.keys().unwrap(), ["oops"]);
    let update = mine.update("oops", |n: Option<u32>| n.unwrap_or(0));
    assert_eq!(update.unwrap_err().kind(), ErrorKind::NotSerializable);
    mine.add("oops", 1).unwrap();
    assert_eq!(txn.commit().unwrap_err().key(), Some("oops"));
}

// C2.3
#[test]
fn borrowed_values_can_be_inserted() {
    let store = Store::in_memory().unwrap();
    let id = client(&store);
    let txn = store.begin().unwrap();
    {
        let name = String::from("Ann");
        shop(&txn, &id).insert("name", name.as_str()).unwrap();
        shop(&txn, &id).insert("names", &[&name][..]).unwrap();
    }
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let name: Option<String> = shop(&txn, &id).get("name").unwrap();
    assert_eq!(name.as_deref(), Some("Ann"));
}
