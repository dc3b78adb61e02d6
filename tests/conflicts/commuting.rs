//! C2.9: sums, extremes and commutes apply to the value that is current at the commit.

use super::{put, shop, stored, usual};
use crate::support::visitors::with;
use cloakroom::{ErrorKind, Result, Session, Store, Txn};
use std::sync::{Barrier, mpsc};

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
