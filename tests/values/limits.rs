//! C5.3: limits hold after merging.

use super::{get, in_memory, pkg, put, stored};
use cloakroom::{ClientId, Error, ErrorKind, PkgData, Store};
use std::path::Path;

// C5.3
#[test]
fn names_of_255_bytes_are_allowed_and_of_256_are_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for len in [254, 255] {
        let name = "n".repeat(len);
        pkg(&txn, &id, &name).insert(&name, len).unwrap();
    }
    let long = "n".repeat(256);
    let key = pkg(&txn, &id, "app").insert(&long, 1).unwrap_err();
    let package = pkg(&txn, &id, &long).insert("n", 1).unwrap_err();
    for (error, what) in [(key, "key"), (package, "package id")] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(text.contains(what), "{text}");
        assert!(
            text.contains("256 bytes") && text.contains("255 bytes"),
            "{text}"
        );
    }
    txn.commit().unwrap();
    let name = "n".repeat(255);
    assert_eq!(get(&store, &id, &name, &name).unwrap(), Some(255));
    assert_eq!(get::<i64>(&store, &id, &long, &long).unwrap(), None);
}

// C5.3
#[test]
fn names_are_measured_in_bytes() {
    let store = Store::builder().max_name_len(4).in_memory().unwrap();
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &store.client_ids().issue(), "app");
    app.insert("\u{e9}\u{e9}", 1).unwrap();
    let refused = [
        app.insert("\u{e9}\u{e9}n", 1),
        app.add("\u{e9}\u{e9}n", 1),
        app.commute("\u{e9}\u{e9}n", |_: Option<i64>| 1),
        app.update("\u{e9}\u{e9}n", |_: Option<i64>| 1).map(drop),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
    }
    txn.commit().unwrap();
}

/// Both sizes in the text of an error: what it would be, and what it may be.
fn sizes(error: &Error) -> (usize, usize) {
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let text = error.to_string();
    let digits = |c: char| !c.is_ascii_digit();
    let mut numbers = text.split(digits).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

const LIMIT: usize = 1000;

fn small() -> Store {
    Store::builder()
        .max_package_size(LIMIT)
        .in_memory()
        .unwrap()
}

/// How many bytes of text fill a package exactly to the limit.
fn fill() -> usize {
    let store = small();
    let txn = store.begin().unwrap();
    let id = store.client_ids().issue();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(LIMIT))
        .unwrap();
    let (size, limit) = sizes(&txn.commit().unwrap_err());
    assert_eq!(limit, LIMIT);
    LIMIT - (size - LIMIT)
}

// C5.3
#[test]
fn a_package_at_its_limit_is_allowed_and_one_byte_more_is_not() {
    let store = small();
    let fill = fill();
    for len in [fill - 1, fill] {
        let id = stored(&store, "x".repeat(len));
        assert_eq!(get(&store, &id, "app", "n").unwrap(), Some("x".repeat(len)));
    }
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(fill + 1))
        .unwrap();
    pkg(&txn, &id, "other").insert("n", 1).unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(sizes(&error), (LIMIT + 1, LIMIT));
    assert_eq!(
        (error.container(), error.package()),
        (Some(""), Some("app"))
    );
    // Nothing of that transaction is there.
    assert_eq!(get::<i64>(&store, &id, "other", "n").unwrap(), None);
}

// C5.3: each of them is small enough alone.
#[test]
fn a_package_that_grows_beyond_its_limit_by_merging_is_refused() {
    let store = small();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app")
        .insert("a", "x".repeat(fill() / 2))
        .unwrap();
    pkg(&two, &id, "app")
        .insert("b", "x".repeat(fill() / 2))
        .unwrap();
    one.commit().unwrap();
    let error = two.commit().unwrap_err();
    assert!(sizes(&error).0 > LIMIT);
    let txn = store.begin().unwrap();
    assert_eq!(pkg(&txn, &id, "app").keys().unwrap(), ["a", "n"]);
}

// C5.3: the package is too large in the snapshot, and has shrunk by the commit.
#[test]
fn a_package_that_fits_after_merging_is_allowed() {
    let store = small();
    let id = stored(&store, "x".repeat(fill()));
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app").insert("n", 0).unwrap();
    pkg(&two, &id, "app")
        .insert("b", "x".repeat(fill() / 2))
        .unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(get(&store, &id, "app", "n").unwrap(), Some(0));
}

// C5.3
#[test]
fn a_package_of_a_mebibyte_is_the_default_limit() {
    let store = in_memory();
    let id = stored(&store, "x".repeat((1 << 20) - 100));
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(1 << 20))
        .unwrap();
    assert_eq!(sizes(&txn.commit().unwrap_err()).1, 1 << 20);
}

// C5.3
#[test]
fn sixty_four_packages_are_allowed_and_one_more_is_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for n in 0..64 {
        pkg(&txn, &id, &format!("p{n}")).insert("n", n).unwrap();
    }
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "one-more").insert("n", 64).unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(sizes(&error), (65, 64));
    assert_eq!(error.package(), Some("one-more"));
    // In place of another one it may come.
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "p0").clear().unwrap();
    pkg(&txn, &id, "one-more").insert("n", 64).unwrap();
    txn.commit().unwrap();
}

/// A package of keys `0` to `keys - 1` in a store in `folder` that allows as many.
fn with_keys(folder: &Path, keys: usize) -> ClientId {
    let store = Store::builder().max_keys(keys).open(folder.join("store"));
    let store = store.unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &id, "app");
    for n in 0..keys {
        app.insert(&n.to_string(), n).unwrap();
    }
    txn.commit().unwrap();
    store.close().unwrap();
    id
}

// C5.3
#[test]
fn a_thousand_and_twenty_four_keys_are_allowed_and_one_more_is_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let fill = |from: usize, to: usize| {
        let txn = store.begin().unwrap();
        for n in from..to {
            pkg(&txn, &id, "app").insert(&n.to_string(), n).unwrap();
        }
        txn.commit()
    };
    let error = fill(0, 1025).unwrap_err();
    assert_eq!(sizes(&error), (1025, 1024));
    fill(0, 1024).unwrap();
    let error = fill(1024, 1026).unwrap_err();
    assert_eq!(sizes(&error), (1026, 1024));
    assert_eq!(error.package(), Some("app"));
    assert_eq!(error.container(), Some(""));
    let error = fill(1, 1026).unwrap_err();
    assert_eq!(sizes(&error), (1026, 1024));
    // In place of another one it may come.
    let txn = store.begin().unwrap();
    assert!(pkg(&txn, &id, "app").remove("7").unwrap());
    pkg(&txn, &id, "app").add("one-more", 1).unwrap();
    txn.commit().unwrap();
}

// C5.3
#[test]
fn keys_that_become_too_many_by_merging_are_refused() {
    let store = Store::builder().max_keys(2).in_memory().unwrap();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app").insert("one", 1).unwrap();
    pkg(&two, &id, "app").insert("two", 2).unwrap();
    one.commit().unwrap();
    assert_eq!(sizes(&two.commit().unwrap_err()), (3, 2));
    assert_eq!(get::<i64>(&store, &id, "app", "two").unwrap(), None);
}

// C5.3
#[test]
fn a_package_with_more_keys_than_allowed_now_may_change_and_shrink_but_not_grow() {
    let folder = tempfile::TempDir::new().unwrap();
    let id = with_keys(folder.path(), 9);
    let store = Store::builder()
        .max_keys(4)
        .open(folder.path().join("store"));
    let store = store.unwrap();
    assert_eq!(get(&store, &id, "app", "8").unwrap(), Some(8));
    let change = |change: &dyn Fn(&PkgData)| {
        let txn = store.begin().unwrap();
        change(&pkg(&txn, &id, "app"));
        txn.commit()
    };
    let all = |app: &PkgData| {
        for n in 0..9 {
            app.insert(&n.to_string(), n + 1).unwrap();
        }
    };
    let more = |app: &PkgData| app.insert("more", 1).unwrap();
    let fewer = |app: &PkgData| assert!(app.remove("0").unwrap());
    change(&all).unwrap();
    assert_eq!(sizes(&change(&more).unwrap_err()), (10, 4));
    let one_for_two = |app: &PkgData| {
        app.remove("1").unwrap();
        app.remove("2").unwrap();
        app.insert("more", 1).unwrap();
    };
    change(&one_for_two).unwrap();
    change(&fewer).unwrap();
    let error = change(&|app| app.insert("0", 0).unwrap()).unwrap_err();
    assert_eq!(sizes(&error), (8, 4));
    // A login carries it over.
    let txn = store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    assert_eq!(pkg(&txn, &new, "app").len().unwrap(), 7);
    pkg(&txn, &new, "app").clear().unwrap();
    for n in 0..4 {
        pkg(&txn, &new, "app").insert(&n.to_string(), n).unwrap();
    }
    txn.commit().unwrap();
}

// C5.3: the order in which a transaction made its changes does not matter.
#[test]
fn packages_are_counted_after_all_changes() {
    let store = Store::builder().max_packages(1).in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "old", "n", 1);
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "new").insert("n", 2).unwrap();
    pkg(&txn, &id, "old").remove("n").unwrap();
    txn.commit().unwrap();
    assert_eq!(get(&store, &id, "new", "n").unwrap(), Some(2));
}

// C5.3
#[test]
fn packages_that_become_too_many_by_merging_are_refused() {
    let store = Store::builder().max_packages(2).in_memory().unwrap();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "one").insert("n", 1).unwrap();
    pkg(&two, &id, "two").insert("n", 2).unwrap();
    one.commit().unwrap();
    assert_eq!(sizes(&two.commit().unwrap_err()), (3, 2));
    assert_eq!(get::<i64>(&store, &id, "two", "n").unwrap(), None);
}

// C5.3
#[test]
fn a_value_that_is_nested_too_deeply_is_too_large_until_it_is_overwritten() {
    let nested =
        |levels| (1..levels).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
    let store = in_memory();
    let id = store.client_ids().issue();
    put(&store, &id, "cart", "deep", nested(128));

    let txn = store.begin().unwrap();
    let cart = pkg(&txn, &id, "cart");
    cart.insert("deeper", nested(129)).unwrap();
    assert!(cart.contains_key("deeper").unwrap());
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        (error.package(), error.key()),
        (Some("cart"), Some("deeper"))
    );
    assert!(error.to_string().contains("more than 128 lists"), "{error}");

    let txn = store.begin().unwrap();
    let cart = pkg(&txn, &id, "cart");
    cart.insert("deeper", nested(129)).unwrap();
    cart.insert("deeper", nested(1)).unwrap();
    txn.commit().unwrap();
}
