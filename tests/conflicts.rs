//! C2.7 to C2.11: what conflicts, what merges, and how everyone gets through.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

mod support;

use cloakroom::{
    ClientId, Clock, ContainerSettings, Error, ErrorKind, PkgData, Result, Session, Store,
    Transaction, Txn,
};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use support::visitors::with;

/// Longer than any test: a wait that should end by a turn never ends by the clock.
const LONG: Duration = Duration::from_secs(3600);

/// A store and a client whose package "shop" holds `key` = 1 and `other` = 1, with another session
/// in the container "bank".
fn usual() -> (Store, ClientId) {
    let store = Store::builder().turn_wait(LONG).in_memory().unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |session| {
        session.pkg("bank").insert("key", 1)?;
        session.pkg("shop").insert("other", 1)?;
        session.pkg("shop").insert("key", 1)
    });
    (store, id)
}

fn put(store: &Store, id: &ClientId, key: &str, value: u32) {
    with(store, id, |s| s.pkg("shop").insert(key, value));
}

fn stored(store: &Store, id: &ClientId, key: &str) -> Option<u32> {
    with(store, id, |s| s.pkg("shop").get(key))
}

fn shop(txn: &Txn, id: &ClientId) -> PkgData {
    txn.session(id).unwrap().pkg("shop")
}

/// One transaction does `ours` and writes something that nobody else does; before it commits,
/// another does `theirs`. Gives what becomes of it, which is the same wherever the rows are by then.
fn meet(
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Result<()> {
    let met = [[false, false], [true, false], [true, true]]
        .map(|checkpoints| meet_with(checkpoints, &ours, &theirs));
    let [first, rest @ ..] = &met;
    for other in rest {
        assert_eq!(format!("{first:?}"), format!("{other:?}"));
    }
    met.into_iter().next().unwrap()
}

/// The same with a checkpoint before, and after what the other does.
fn meet_with(
    [before, after]: [bool; 2],
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Result<()> {
    let (store, id) = usual();
    if before {
        store.checkpoint().unwrap();
    }
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    ours(&session).unwrap();
    session.pkg("mine").insert("mark", 1).unwrap();
    with(&store, &id, theirs);
    if after {
        store.checkpoint().unwrap();
    }
    let before = store.statistics().unwrap().commits();
    let outcome = txn.commit();
    let written = store.statistics().unwrap().commits() > before;
    assert_eq!(written, outcome.is_ok(), "a conflict writes nothing");
    let marked = with(&store, &id, |s| s.pkg("mine").contains_key("mark"));
    assert_eq!(marked, outcome.is_ok(), "a conflict writes nothing");
    outcome
}

fn conflict(
    ours: impl Fn(&Session) -> Result<()>,
    theirs: impl Fn(&Session) -> Result<()>,
) -> Error {
    let error = meet(ours, theirs).expect_err("a conflict");
    assert!(error.is_conflict(), "{error:?}");
    error
}

fn read(key: &'static str) -> impl Fn(&Session) -> Result<()> {
    move |s| s.pkg("shop").get::<u32>(key).map(drop)
}

fn write(key: &'static str, value: u32) -> impl Fn(&Session) -> Result<()> {
    move |s| s.pkg("shop").insert(key, value)
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

// C2.7: what is put into one container looks into no other, where the session may be over meanwhile.
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

// C2.8
#[test]
fn changes_to_different_keys_of_one_package_merge() {
    let (store, id) = usual();
    let txns: Vec<Transaction> = (0..10_u32)
        .map(|n| {
            let txn = store.begin().unwrap();
            let key = format!("k{n}");
            assert_eq!(shop(&txn, &id).get::<u32>(&key).unwrap(), None);
            shop(&txn, &id).insert(&key, n).unwrap();
            txn
        })
        .collect();
    let removes = store.begin().unwrap();
    assert!(shop(&removes, &id).remove("other").unwrap());
    txns.into_iter().for_each(|txn| txn.commit().unwrap());
    removes.commit().unwrap();
    for n in 0..10 {
        assert_eq!(stored(&store, &id, &format!("k{n}")), Some(n));
    }
    assert_eq!(stored(&store, &id, "key"), Some(1));
    assert_eq!(stored(&store, &id, "other"), None);
}

// C2.8
#[test]
fn of_two_blind_inserts_the_later_commit_wins() {
    let (store, id) = usual();
    let insert = |value: u32| {
        let txn = store.begin().unwrap();
        shop(&txn, &id).insert("key", value).unwrap();
        txn
    };
    let (one, two) = (insert(2), insert(3));
    two.commit().unwrap();
    one.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

// C2.8
#[test]
fn reading_ones_own_insert_is_no_observation() {
    let own = |s: &Session| {
        s.pkg("shop").insert("key", 5)?;
        assert_eq!(s.pkg("shop").get::<u32>("key")?, Some(5));
        s.pkg("shop")
            .update("key", |n: Option<u32>| n.unwrap() + 1)?;
        Ok(())
    };
    meet(own, write("key", 7)).unwrap();
}

// C2.8
#[test]
fn clearing_a_package_blindly_takes_later_keys_along() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    shop(&txn, &id).clear().unwrap();
    shop(&txn, &id).insert("left", 1).unwrap();
    put(&store, &id, "late", 1);
    txn.commit().unwrap();
    let keys = with(&store, &id, |s| s.pkg("shop").keys());
    assert_eq!(keys, ["left"]);
}

// C2.8
#[test]
fn two_that_found_one_session_merge() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let insert = |key: &str| {
        let txn = store.begin().unwrap();
        shop(&txn, &id).insert(key, 1).unwrap();
        txn
    };
    let (one, two) = (insert("one"), insert("two"));
    one.commit().unwrap();
    two.commit().unwrap();
    let keys = with(&store, &id, |s| s.pkg("shop").keys());
    assert_eq!(keys, ["one", "two"]);
}

/// Eight threads, `each` 25 times a thread, all at once and without running anything again.
fn eight_threads(store: &Store, each: impl Fn(&Txn, u32) -> Result<()> + Sync) {
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (start, each) = (&start, &each);
            scope.spawn(move || {
                start.wait();
                for n in 0..25 {
                    let txn = store.begin().unwrap();
                    each(&txn, thread * 25 + n).unwrap();
                    txn.commit().expect("no conflict");
                }
            });
        }
    });
}

// C2.9
#[test]
fn sums_of_eight_threads_keep_every_change() {
    let (store, id) = usual();
    eight_threads(&store, |txn, n| {
        let mine = txn.session(&id)?.pkg("shop");
        mine.add("sum", i64::from(n))?;
        mine.add("count", 1)
    });
    assert_eq!(stored(&store, &id, "sum"), Some(199 * 200 / 2));
    assert_eq!(stored(&store, &id, "count"), Some(200));
}

// C2.9
#[test]
fn extremes_of_eight_threads_keep_every_change() {
    let (store, id) = usual();
    eight_threads(&store, |txn, n| {
        let mine = txn.session(&id)?.pkg("shop");
        mine.max("most", i64::from(n))?;
        mine.min("least", 1000 - i64::from(n))
    });
    assert_eq!(stored(&store, &id, "most"), Some(199));
    assert_eq!(stored(&store, &id, "least"), Some(801));
}

// C2.9
#[test]
fn commutes_of_eight_threads_keep_every_change() {
    let (store, id) = usual();
    eight_threads(&store, |txn, n| {
        let collect = move |list: Option<Vec<u32>>| {
            let mut list = list.unwrap_or_default();
            list.push(n);
            list
        };
        txn.session(&id)?.pkg("shop").commute("list", collect)
    });
    let list = with(&store, &id, |s| s.pkg("shop").get::<Vec<u32>>("list"));
    let mut list = list.unwrap();
    list.sort_unstable();
    assert_eq!(list, (0..200).collect::<Vec<_>>());
}

// C2.9
#[test]
fn mixed_steps_on_one_key_keep_their_order_on_the_value_current_at_commit() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    mine.add("key", 1).unwrap();
    mine.commute("key", |n: Option<u32>| n.unwrap() * 10)
        .unwrap();
    mine.add("key", 2).unwrap();
    mine.commute("key", |n: Option<u32>| n.unwrap() * 10)
        .unwrap();
    mine.max("key", 3).unwrap();
    put(&store, &id, "key", 4);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(((4 + 1) * 10 + 2) * 10));
}

// C2.9
#[test]
fn absent_counts_as_zero_for_add_and_as_the_operand_for_max_and_min() {
    let (store, id) = usual();
    with(&store, &id, |s| {
        s.pkg("shop").add("sum", -5)?;
        s.pkg("shop").max("most", -5)?;
        s.pkg("shop").min("least", 5)
    });
    let got = |key| with(&store, &id, |s| s.pkg("shop").get::<i64>(key));
    assert_eq!(got("sum"), Some(-5));
    assert_eq!(got("most"), Some(-5));
    assert_eq!(got("least"), Some(5));
}

/// The commit of a sum, when the key was changed to `current` meanwhile, fails with `kind`.
fn sum_fails(current: impl serde::Serialize, kind: ErrorKind) {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    shop(&txn, &id).add("key", 1).unwrap();
    shop(&txn, &id).insert("mark", 1).unwrap();
    with(&store, &id, |s| s.pkg("shop").insert("key", &current));
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), kind);
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("shop"), Some("key")));
    assert_eq!(stored(&store, &id, "mark"), None);
}

// C2.9
#[test]
fn overflow_fails_the_commit() {
    sum_fails(i64::MAX, ErrorKind::Overflow);
    sum_fails(u64::MAX, ErrorKind::Overflow);
}

// C2.9
#[test]
fn a_sum_on_what_is_no_number_fails_the_commit() {
    sum_fails("text", ErrorKind::TypeMismatch);
    sum_fails(Vec::<u32>::new(), ErrorKind::TypeMismatch);
    sum_fails(None::<u32>, ErrorKind::TypeMismatch);
}

// C2.9
#[test]
fn a_sum_on_ones_own_insert_that_is_no_number_fails_the_commit() {
    let (store, id) = usual();
    for (value, kind) in [
        ("text", ErrorKind::TypeMismatch),
        ("", ErrorKind::TypeMismatch),
    ] {
        let txn = store.begin().unwrap();
        shop(&txn, &id).insert("key", value).unwrap();
        shop(&txn, &id).add("key", 1).unwrap();
        let got = shop(&txn, &id).get::<u32>("key").unwrap_err();
        assert_eq!(got.kind(), kind);
        assert_eq!(txn.commit().unwrap_err().kind(), kind);
    }
}

// C2.9
#[test]
fn an_overflow_that_another_transaction_has_cured_is_none() {
    let (store, id) = usual();
    with(&store, &id, |s| s.pkg("shop").insert("key", i64::MAX));
    let txn = store.begin().unwrap();
    shop(&txn, &id).add("key", 1).unwrap();
    put(&store, &id, "key", 5);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(6));
}

// C2.9, C2.11
#[test]
fn a_sum_on_a_destroyed_session_conflicts() {
    let sums: [fn(&Session) -> Result<()>; 2] = [
        |s| s.pkg("shop").add("key", 1),
        |s| {
            s.pkg("shop")
                .commute("key", |n: Option<u32>| n.unwrap_or(0) + 1)
        },
    ];
    for sum in sums {
        let (store, id) = usual();
        let txn = store.begin().unwrap();
        sum(&txn.session(&id).unwrap()).unwrap();
        with(&store, &id, Session::destroy);
        assert!(txn.commit().unwrap_err().is_conflict());
        assert!(!with(&store, &id, Session::exists));
    }
}

// C2.9
#[test]
fn the_closure_of_a_commute_runs_again_on_the_current_value_off_the_committing_thread() {
    let (store, id) = usual();
    let (told, heard) = mpsc::channel();
    let txn = store.begin().unwrap();
    shop(&txn, &id)
        .commute("key", move |n: Option<u32>| {
            let thread = std::thread::current();
            told.send((n, thread.name().map(str::to_owned))).unwrap();
            n.unwrap_or(0) + 100
        })
        .unwrap();
    put(&store, &id, "key", 7);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(107));
    let runs: Vec<_> = heard.iter().collect();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].0, Some(1));
    assert_eq!(runs[1].0, Some(7));
    assert_ne!(runs[1].1.as_deref(), Some("cloakroom-commit"));
}

// C2.9
#[test]
fn the_closure_of_a_commute_sees_that_its_key_is_gone() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    let or_fifty = |n: Option<u32>| n.map_or(50, |n| n + 1);
    shop(&txn, &id).commute("key", or_fifty).unwrap();
    with(&store, &id, |s| s.pkg("shop").remove("key").map(drop));
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(50));
}

// C2.9
#[test]
fn commutes_of_many_keys_packages_and_clients_are_all_run_again() {
    let (store, ann) = usual();
    let bob = store.client_ids().issue();
    put(&store, &bob, "key", 1);
    let txn = store.begin().unwrap();
    let add = |n: Option<u32>| n.unwrap_or(0) + 100;
    for id in [&ann, &bob] {
        for package in ["shop", "bank", "new"] {
            for key in ["key", "other"] {
                let package = txn.session(id).unwrap().pkg(package);
                package.commute(key, add).unwrap();
            }
        }
    }
    for id in [&ann, &bob] {
        with(&store, id, |s| {
            ["shop", "bank", "new"].iter().try_for_each(|package| {
                s.pkg(package).insert("key", 7)?;
                s.pkg(package).insert("other", 8)
            })
        });
    }
    txn.commit().unwrap();
    for id in [&ann, &bob] {
        for package in ["shop", "bank", "new"] {
            with(&store, id, |s| {
                assert_eq!(s.pkg(package).get::<u32>("key")?, Some(107));
                assert_eq!(s.pkg(package).get::<u32>("other")?, Some(108));
                Ok(())
            });
        }
    }
}

// C2.9
#[test]
fn a_commute_on_a_value_of_another_type_fails_the_commit() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    shop(&txn, &id)
        .commute("key", |n: Option<u32>| n.unwrap_or(0) + 1)
        .unwrap();
    with(&store, &id, |s| s.pkg("shop").insert("key", "text"));
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert_eq!(error.key(), Some("key"));
}

// C2.9
#[test]
fn a_commute_that_panics_at_commit_gives_an_error_and_harms_nobody() {
    let (store, id) = usual();
    let other = store.client_ids().issue();
    let txn = store.begin().unwrap();
    shop(&txn, &id).insert("mark", 1).unwrap();
    shop(&txn, &id)
        .commute("key", |n: Option<u32>| {
            assert_eq!(n, Some(1), "the closure panics");
            2
        })
        .unwrap();
    put(&store, &id, "key", 7);
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panicked);
    let place = (error.container(), error.package(), error.key());
    assert_eq!(place, (Some(""), Some("shop"), Some("key")));
    assert_eq!(stored(&store, &id, "mark"), None);

    put(&store, &other, "key", 1);
    let txn = store.begin().unwrap();
    shop(&txn, &id)
        .commute("key", |n: Option<u32>| n.unwrap() + 1)
        .unwrap();
    put(&store, &id, "key", 8);
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(9));
}

// C2.9, C2.4
#[test]
fn a_commute_that_panics_at_once_leaves_the_transaction_usable() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    let mine = shop(&txn, &id);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        mine.commute("key", |_: Option<u32>| -> u32 {
            panic!("the closure panics")
        })
    }));
    assert!(panicked.is_err());
    mine.insert("key", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(stored(&store, &id, "key"), Some(2));
}

// C2.11
#[test]
fn a_session_that_ended_meanwhile_is_never_resurrected() {
    let ends: [fn(&Session) -> Result<()>; 2] = [Session::destroy, |s| s.rotate().map(drop)];
    let writes: [fn(&Session) -> Result<()>; 7] = [
        |s| s.pkg("shop").insert("key", 2),
        |s| s.pkg("bank").insert("key", 2),
        // The session has been in other containers alone.
        |s| s.pkg("news").insert("key", 2),
        |s| s.pkg("shop").clear(),
        |s| s.set_owner(Some("ann")),
        |s| s.set_timeout(Some(LONG)),
        |s| s.rotate().map(drop),
    ];
    for end in ends {
        for (n, write) in writes.iter().enumerate() {
            let (store, id) = usual();
            store.register("news", ContainerSettings::new()).unwrap();
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            write(&session).unwrap();
            let late = session.client_id();
            with(&store, &id, end);
            let error = txn.commit().unwrap_err();
            assert!(error.is_conflict(), "{n}: {error:?}");
            assert!(!with(&store, &id, Session::exists), "{n}");
            if late.as_ref() != Some(&id) {
                assert!(!with(&store, &late.unwrap(), Session::exists), "{n}");
            }
        }
    }
}

// C2.11
#[test]
fn a_session_that_lived_in_another_container_alone_is_not_resurrected() {
    let store = Store::in_memory().unwrap();
    store.register("bank", ContainerSettings::new()).unwrap();
    let scratch = ContainerSettings::new().in_memory();
    store.register("scratch", scratch).unwrap();
    for (home, elsewhere) in [("bank", "shop"), ("scratch", "bank"), ("shop", "scratch")] {
        let id = store.client_ids().issue();
        with(&store, &id, |s| s.pkg(home).insert("key", 1));
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg(elsewhere).insert("key", 1).unwrap();
        with(&store, &id, Session::destroy);
        assert!(txn.commit().unwrap_err().is_conflict());
        assert!(!with(&store, &id, Session::exists));
    }
}

// C2.11, C4.8
#[test]
fn a_session_founded_and_ended_meanwhile_is_not_resurrected() {
    for asks in [false, true] {
        let store = Store::in_memory().unwrap();
        let id = store.client_ids().issue();
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        if asks {
            assert!(!session.exists().unwrap());
        }
        session.pkg("shop").insert("key", 1).unwrap();
        put(&store, &id, "key", 2);
        with(&store, &id, Session::destroy);
        assert!(txn.commit().unwrap_err().is_conflict());
        assert!(!with(&store, &id, Session::exists));
    }
}

// C2.11
#[test]
fn of_two_that_end_one_session_the_second_conflicts() {
    for checkpoint in [false, true] {
        let (store, id) = usual();
        let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
        let first = one.session(&id).unwrap().rotate().unwrap();
        let second = two.session(&id).unwrap().rotate().unwrap();
        one.commit().unwrap();
        if checkpoint {
            store.checkpoint().unwrap();
        }
        assert!(two.commit().unwrap_err().is_conflict());
        assert_eq!(stored(&store, &first, "key"), Some(1));
        assert!(!with(&store, &second, Session::exists));
    }
}

// C2.11
#[test]
fn destroy_takes_what_came_meanwhile_along() {
    let (store, id) = usual();
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().destroy().unwrap();
    with(&store, &id, |s| s.pkg("late").insert("key", 1));
    txn.commit().unwrap();
    assert!(!with(&store, &id, Session::exists));
    assert!(store.check().unwrap().is_clean());
    assert_eq!(store.check().unwrap().packages, 0);
}

// C2.10
#[test]
fn transact_runs_again_on_a_conflict() {
    let (store, id) = usual();
    let mut runs = 0;
    let seen = store
        .transact::<_, Error>(|txn| {
            runs += 1;
            let mine = txn.session(&id)?.pkg("shop");
            let n: Option<u32> = mine.get("key")?;
            if runs == 1 {
                put(&store, &id, "key", 7);
            }
            mine.insert("key", n.unwrap() + 1)?;
            Ok(n)
        })
        .unwrap();
    assert_eq!((runs, seen), (2, Some(7)));
    assert_eq!(stored(&store, &id, "key"), Some(8));
}

// C2.10
#[test]
fn transact_does_not_run_again_on_other_errors() {
    let (store, id) = usual();
    let mut runs = 0;
    let failed = store.transact::<(), Error>(|txn| {
        runs += 1;
        let mine = txn.session(&id)?.pkg("shop");
        mine.insert("key", "text")?;
        mine.add("key", 1)
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::TypeMismatch);
    assert_eq!(runs, 1);
}

// C2.10
#[test]
fn transact_gives_the_last_conflict_after_bounded_attempts() {
    let builder = Store::builder().max_attempts(3).turn_wait(Duration::ZERO);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 0);
    let mut runs = 0;
    let failed = store.transact::<(), Error>(|txn| {
        runs += 1;
        let mine = txn.session(&id)?.pkg("shop");
        let key = format!("key{runs}");
        mine.get::<u32>(&key)?;
        put(&store, &id, &key, runs);
        mine.insert("key", runs)
    });
    let error = failed.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(error.key(), Some("key3"));
    assert_eq!(runs, 3);
    assert_eq!(stored(&store, &id, "key"), Some(0));
}

fn increment(txn: &Txn, id: &ClientId) -> Result<u32> {
    let mine = txn.session(id)?.pkg("shop");
    let n = mine.get::<u32>("count")?.unwrap_or(0) + 1;
    mine.insert("count", n)?;
    Ok(n)
}

// C2.10
#[test]
fn sixteen_threads_that_increment_one_key_all_get_through() {
    // In line from the second attempt on, nobody needs a third.
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let start = Barrier::new(16);
    let mut numbers = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let mut mine = Vec::new();
                    for _ in 0..20 {
                        mine.push(store.transact(|txn| increment(txn, &id)).unwrap());
                    }
                    mine
                })
            })
            .collect();
        let joined = threads.into_iter().flat_map(|t| t.join().unwrap());
        joined.collect::<Vec<_>>()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=320).collect::<Vec<_>>());
}

// C2.10
#[test]
fn sixteen_tasks_that_increment_one_key_all_get_through() {
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (store, id) = (store.clone(), id.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let one = |txn: Txn| {
                            let id = id.clone();
                            async move {
                                let n = increment(&txn, &id)?;
                                tokio::task::yield_now().await;
                                Ok::<_, Error>(n)
                            }
                        };
                        store.transact_async(one).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(stored(&store, &id, "count"), Some(320));
}

// C2.10
#[test]
fn waiting_for_a_turn_needs_no_thread() {
    let builder = Store::builder().max_attempts(2).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let started = Arc::new(tokio::sync::Barrier::new(16));
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (store, id, started) = (store.clone(), id.clone(), started.clone());
                let first = Arc::new(AtomicUsize::new(0));
                tokio::task::spawn_local(async move {
                    let one = |txn: Txn| {
                        let (id, started) = (id.clone(), started.clone());
                        let run = first.fetch_add(1, Ordering::SeqCst);
                        async move {
                            increment(&txn, &id)?;
                            if run == 0 {
                                // All have read before anyone commits.
                                started.wait().await;
                            }
                            Ok::<_, Error>(())
                        }
                    };
                    store.transact_async(one).await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    assert_eq!(stored(&store, &id, "count"), Some(16));
}

/// A transact that holds the turn of `id` in its second attempt; `meanwhile` runs then, after the
/// key was read. Gives how many attempts it took.
fn holding_the_turn(store: &Store, id: &ClientId, meanwhile: impl Fn()) -> u32 {
    let mut runs = 0;
    store
        .transact::<_, Error>(|txn| {
            runs += 1;
            increment(txn, id)?;
            match runs {
                1 => with(store, id, |s| s.pkg("shop").add("count", 100)),
                2 => meanwhile(),
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    runs
}

// C2.10
#[test]
fn while_a_turn_is_held_other_commits_to_that_session_wait_behind_it() {
    let (store, id) = usual();
    let waiting = std::cell::RefCell::new(None);
    let runs = holding_the_turn(&store, &id, || {
        let other = store.begin().unwrap();
        shop(&other, &id).insert("count", 1000).unwrap();
        let mut commit = Box::pin(other.commit_async());
        let polled = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        waiting.replace(Some(commit));
    });
    assert_eq!(runs, 2, "the other commit overtook the turn");
    assert_eq!(stored(&store, &id, "count"), Some(101));
    let commit = waiting.take().unwrap();
    pollster::block_on(commit).unwrap();
    assert_eq!(stored(&store, &id, "count"), Some(1000));
}

// C2.10
#[test]
fn a_held_turn_keeps_no_other_session_waiting() {
    let (store, id) = usual();
    let other = store.client_ids().issue();
    let runs = holding_the_turn(&store, &id, || {
        put(&store, &other, "key", 1);
        assert_eq!(stored(&store, &id, "key"), Some(1));
    });
    assert_eq!(runs, 2);
}

// C2.10
#[test]
fn a_commit_dropped_in_line_leaves_it() {
    let (store, id) = usual();
    let (told, heard) = mpsc::channel();
    let runs = holding_the_turn(&store, &id, || {
        let other = store.begin().unwrap();
        shop(&other, &id).insert("count", 1000).unwrap();
        let told = told.clone();
        other.after_abort(move || told.send(()).unwrap());
        let mut commit = Box::pin(other.commit_async());
        let polled = commit
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        drop(commit);
    });
    heard.recv().expect("it was aborted");
    assert_eq!(runs, 2);
    put(&store, &id, "after", 1);
    assert_eq!(stored(&store, &id, "count"), Some(101));
}

// C2.10
#[test]
fn a_wait_for_a_turn_ends_after_turn_wait_and_goes_on_optimistically() {
    let builder = Store::builder().turn_wait(Duration::from_millis(1));
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    let runs = holding_the_turn(&store, &id, || put(&store, &id, "count", 1000));
    assert_eq!(runs, 3);
    assert_eq!(stored(&store, &id, "count"), Some(1001));
}

// C2.10
#[test]
fn a_nested_transact_on_one_session_ends() {
    let builder = Store::builder()
        .max_attempts(4)
        .turn_wait(Duration::from_millis(1));
    let store = builder.in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "key", 1);
    // The inner one changes what the outer one has read, each time.
    let outer = store.transact(|txn| {
        increment(txn, &id)?;
        store.transact(|txn| increment(txn, &id))
    });
    assert!(outer.unwrap_err().is_conflict());
    assert_eq!(stored(&store, &id, "count"), Some(4));

    let outer = store.transact(|txn| {
        store.transact(|txn| txn.session(&id)?.pkg("shop").add("inner", 1))?;
        txn.session(&id)?.pkg("shop").add("outer", 1)
    });
    outer.unwrap();
    assert_eq!(stored(&store, &id, "inner"), Some(1));
    assert_eq!(stored(&store, &id, "outer"), Some(1));
}

// C2.10
#[test]
fn crossed_writers_over_two_sessions_all_get_through() {
    let builder = Store::builder().max_attempts(1000).turn_wait(LONG);
    let store = builder.in_memory().unwrap();
    let (ann, bob) = (store.client_ids().issue(), store.client_ids().issue());
    put(&store, &ann, "key", 1);
    put(&store, &bob, "key", 1);
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (first, second) = if n % 2 == 0 {
                (&ann, &bob)
            } else {
                (&bob, &ann)
            };
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                for _ in 0..10 {
                    store
                        .transact::<_, Error>(|txn| {
                            increment(txn, first)?;
                            increment(txn, second)
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(stored(&store, &ann, "count"), Some(80));
    assert_eq!(stored(&store, &bob, "count"), Some(80));
}

// C2.10
#[test]
fn blind_writers_and_readers_in_turn_never_stop_each_other() {
    let (store, id) = usual();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..50 {
                store.transact(|txn| increment(txn, &id)).unwrap();
            }
            done.fetch_add(1, Ordering::SeqCst);
        });
        scope.spawn(|| {
            let mut n = 0;
            while done.load(Ordering::SeqCst) == 0 {
                n += 1;
                put(&store, &id, "blind", n);
                with(&store, &id, |s| s.pkg("shop").add("count", 0));
            }
        });
    });
    assert_eq!(stored(&store, &id, "count"), Some(50));
}
