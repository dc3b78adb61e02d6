//! C2.7: what a transaction has read must still be so when it commits.

use super::{LONG, conflict, meet, put, shop, stored, usual, write};
use crate::support::visitors::with;
use cloakroom::{Clock, ContainerSettings, ErrorKind, PkgData, Result, Session, Store};
use std::time::Duration;

fn read(key: &'static str) -> impl Fn(&Session) -> Result<()> {
    move |s| s.pkg("shop").get::<u32>(key).map(drop)
}

// C2.7
#[test]
fn a_lost_update_is_a_conflict_that_names_the_key() {
    let error = conflict(
        |s| {
            let n: Option<u32> = s.pkg("shop").get("key")?;
            s.pkg("shop").insert("key", n.unwrap() + 1)
        },
        write("key", 7),
    );
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("shop"), Some("key")));
}

// C2.7
#[test]
fn every_way_to_read_a_key_is_an_observation() {
    conflict(read("key"), write("key", 7));
    conflict(
        |s| s.pkg("shop").take::<u32>("key").map(drop),
        write("key", 7),
    );
    conflict(|s| s.pkg("shop").remove("key").map(drop), write("key", 7));
    conflict(
        |s| s.pkg("shop").contains_key("key").map(drop),
        write("key", 7),
    );
    conflict(
        |s| s.pkg("shop").update("key", |_: Option<u32>| 5).map(drop),
        write("key", 7),
    );
    // Asked for as the wrong type, it was read all the same.
    conflict(
        |s| {
            s.pkg("shop").get::<String>("key").unwrap_err();
            Ok(())
        },
        write("key", 7),
    );
    conflict(
        |s| {
            s.pkg("shop").add("key", 1)?;
            read("key")(s)
        },
        write("key", 7),
    );
}

// C2.7
#[test]
fn every_way_to_change_a_key_is_seen_by_its_readers() {
    conflict(read("key"), |s| s.pkg("shop").remove("key").map(drop));
    conflict(read("key"), |s| s.pkg("shop").clear());
    conflict(read("key"), |s| s.pkg("shop").add("key", 1));
    conflict(read("key"), |s| s.pkg("shop").max("key", 5));
    conflict(read("key"), |s| {
        s.pkg("shop").commute("key", |_: Option<u32>| 9)
    });
    conflict(read("key"), Session::destroy);
    conflict(read("key"), |s| s.rotate().map(drop));
}

// C2.7, C5.5
#[test]
fn very_many_keys_that_are_not_there_can_be_read_in_any_order() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let put = |key: &str| {
        let txn = store.begin().unwrap();
        let package = txn.session(&id).unwrap().pkg("p");
        package.insert(key, 1).unwrap();
        txn.commit()
    };
    put("there").unwrap();
    for (key, is_read) in [("k000077", true), ("unread", false)] {
        let txn = store.begin().unwrap();
        let package = txn.session(&id).unwrap().pkg("p");
        for n in (0..200_000).rev() {
            let read = package.get::<u32>(&format!("k{n:06}")).unwrap();
            assert_eq!(read.is_some(), n == 77 && !is_read);
        }
        package.insert("mine", 1).unwrap();
        put(key).unwrap();
        let result = txn.commit();
        if is_read {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert_eq!(error.key(), Some(key));
        } else {
            result.unwrap();
        }
    }
}

// C2.7
#[test]
fn an_absent_key_that_appears_is_a_conflict() {
    let error = conflict(read("new"), write("new", 7));
    assert_eq!(error.key(), Some("new"));
    conflict(
        |s| s.pkg("empty").get::<u32>("new").map(drop),
        |s| s.pkg("empty").insert("new", 7),
    );
}

// C2.7
#[test]
fn a_phantom_is_a_conflict_that_names_the_package() {
    let ways: [fn(&Session) -> Result<()>; 3] = [
        |s| s.pkg("shop").len().map(drop),
        |s| s.pkg("shop").keys().map(drop),
        |s| s.pkg("shop").is_empty().map(drop),
    ];
    for list in ways {
        for change in [write("new", 7), write("key", 7)] {
            let error = conflict(list, change);
            let place = (error.container(), error.package());
            assert_eq!(place, (Some(""), Some("shop")));
        }
        conflict(list, |s| s.pkg("shop").remove("other").map(drop));
    }
    conflict(
        |s| s.pkg("empty").keys().map(drop),
        |s| s.pkg("empty").insert("new", 7),
    );
}

// C2.7
#[test]
fn write_skew_is_a_conflict() {
    let (store, id) = usual();
    let withdraw = |from: &'static str| {
        let txn = store.begin().unwrap();
        let mine = shop(&txn, &id);
        let sum: u32 = ["key", "other"]
            .iter()
            .map(|k| mine.get::<u32>(k).unwrap().unwrap())
            .sum();
        assert_eq!(sum, 2, "both see enough");
        mine.insert(from, 0).unwrap();
        txn
    };
    let (one, two) = (withdraw("key"), withdraw("other"));
    one.commit().unwrap();
    assert!(two.commit().unwrap_err().is_conflict());
    assert_eq!(stored(&store, &id, "other"), Some(1));
}

// C2.7
#[test]
fn write_skew_over_packages_containers_and_clients_is_a_conflict() {
    let (store, ann) = usual();
    let bob = store.client_ids().issue();
    put(&store, &bob, "key", 1);
    let places = [(&ann, "bank"), (&bob, "shop")];
    let reads_one_and_writes_the_other = |n: usize| {
        let txn = store.begin().unwrap();
        let (id, package) = places[n];
        let there = txn.session(id).unwrap().pkg(package);
        there.get::<u32>("key").unwrap();
        let (id, package) = places[1 - n];
        let here = txn.session(id).unwrap().pkg(package);
        here.insert("key", 0).unwrap();
        txn
    };
    let (one, two) = (
        reads_one_and_writes_the_other(0),
        reads_one_and_writes_the_other(1),
    );
    one.commit().unwrap();
    assert!(two.commit().unwrap_err().is_conflict());
}

// C2.7, C2.1
#[test]
fn there_is_no_read_skew() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    assert_eq!(shop(&txn, &id).get::<u32>("key").unwrap(), Some(1));
    with(&store, &id, |s| {
        s.pkg("shop").insert("key", 2)?;
        s.pkg("shop").insert("other", 2)?;
        s.pkg("bank").insert("key", 2)
    });
    assert_eq!(shop(&txn, &id).get::<u32>("other").unwrap(), Some(1));
    let bank = txn.session(&id).unwrap().pkg("bank");
    assert_eq!(bank.get::<u32>("key").unwrap(), Some(1));
}

// C2.7
#[test]
fn a_transaction_without_changes_never_conflicts() {
    let (store, id) = usual();
    for change in [None, Some(1)] {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("shop").keys().unwrap();
        session.pkg("shop").get::<u32>("key").unwrap();
        assert!(session.exists().unwrap());
        if let Some(same) = change {
            session.pkg("bank").insert("key", same).unwrap();
        }
        with(&store, &id, |s| s.pkg("shop").add("key", 1));
        txn.commit().unwrap();
    }
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    with(&store, &id, Session::destroy);
    txn.commit().unwrap();
}

// C2.7
#[test]
fn a_value_changed_and_changed_back_is_no_conflict() {
    let (store, id) = usual();
    for list in [false, true] {
        let txn = store.begin().unwrap();
        let mine = shop(&txn, &id);
        mine.get::<u32>("key").unwrap();
        if list {
            mine.keys().unwrap();
        }
        mine.insert("mark", 1).unwrap();
        put(&store, &id, "key", 7);
        put(&store, &id, "key", 1);
        txn.commit().unwrap();
        with(&store, &id, |s| s.pkg("shop").remove("mark").map(drop));
    }
}

// C2.7
#[test]
fn existence_that_was_read_is_an_observation() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let other = store.client_ids().issue();
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
    shop(&txn, &other).insert("key", 1).unwrap();
    put(&store, &id, "key", 1);
    assert!(txn.commit().unwrap_err().is_conflict());

    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    shop(&txn, &other).insert("key", 1).unwrap();
    with(&store, &id, Session::destroy);
    assert!(txn.commit().unwrap_err().is_conflict());
}

// C2.7, C1.9
#[test]
fn existence_in_one_container_is_an_observation_of_that_one() {
    let (store, id) = usual();
    let bare = store.client_ids().issue();
    let asks = |container: &str| {
        let txn = store.begin().unwrap();
        let data = txn.container(container).unwrap().session_data(&bare);
        assert!(!data.unwrap().exists().unwrap());
        shop(&txn, &id).insert("mark", 1).unwrap();
        txn
    };
    let (of_unnamed, of_bank) = (asks(""), asks("bank"));
    put(&store, &bare, "key", 1);
    of_bank.commit().unwrap();
    assert!(of_unnamed.commit().unwrap_err().is_conflict());
}

// C2.7
#[test]
fn times_settings_and_owners_are_no_observations() {
    meet(
        |s| {
            s.last_access()?;
            s.created_at()?;
            assert!(s.client_id().is_some());
            s.set_owner(Some("ann"))
        },
        |s| {
            s.set_owner(Some("bob"))?;
            s.set_timeout(Some(LONG))?;
            s.pkg("shop").insert("key", 7)
        },
    )
    .unwrap();
}

// C2.7: an insert into one container does not look into another, where the session may be over meanwhile.
#[test]
fn an_insert_is_no_observation_of_the_session_in_other_containers() {
    type Put = fn(&PkgData) -> Result<()>;
    let puts: [Put; 3] = [
        |bank| bank.insert("key", 2),
        |bank| bank.add("key", 1),
        |bank| bank.commute("key", |now: Option<u32>| now.unwrap_or(0) + 1),
    ];
    for put in puts {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let builder = Store::builder().clock(clock.clone());
        let store = builder.implicit_sweeps(false).in_memory().unwrap();
        let endless = ContainerSettings::new().timeout(Duration::ZERO);
        store.register("bank", endless).unwrap();
        let id = store.client_ids().issue();
        with(&store, &id, |session| {
            session.pkg("bank").insert("key", 1)?;
            session.pkg("shop").insert("key", 1)
        });
        let txn = store.begin().unwrap();
        // It looks at another session first, and so knows where its inserts go.
        let other = txn.session(&store.client_ids().issue()).unwrap();
        assert!(!other.exists().unwrap());
        put(&txn.session(&id).unwrap().pkg("bank")).unwrap();
        clock.advance(Duration::from_secs(3601));
        let swept = store.container("").unwrap().sweep().unwrap();
        assert_eq!(swept.removed, 1);
        txn.commit().unwrap();
        let there = with(&store, &id, |s| s.pkg("bank").get::<u32>("key"));
        assert_eq!(there, Some(2));
    }
}
