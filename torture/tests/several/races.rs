//! Races of transactions in several processes, each with an outcome that no serial order has.

use crate::place::Place;
use crate::support::visitors::{again, get, put};
use cloakroom::{ClientId, Error, Store, Transaction, Txn};
use std::sync::Barrier;
use std::thread;

/// Tries of each race.
const TRIES: usize = 100;

/// Runs something on threads at once, and gives what each returns.
pub(crate) fn together<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// Writers of one client on so many stores: none of their changes is lost, and all get through.
fn count_on(stores: usize) {
    const THREADS: usize = 12;
    const EACH: u64 = 12;
    let Some(place) = Place::new() else { return };
    let stores = place.stores(stores);
    let id = stores[0].client_ids().issue();
    put(&stores[0], &id, 0);
    together(THREADS, |n| {
        let store = &stores[n % stores.len()];
        let id = again(store, &id);
        for each in 0..EACH {
            store
                .transact(|txn| {
                    let package = txn.session(&id)?.pkg("p");
                    if each % 3 == 0 {
                        package.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
                    }
                    package.add("sum", 1)?;
                    package.insert(&format!("{n} {each}"), true)?;
                    package.commute("list", move |list: Option<Vec<u64>>| {
                        let mut list = list.unwrap_or_default();
                        list.push(each);
                        list
                    })
                })
                .unwrap();
        }
    });
    let txn = place.store().begin().unwrap();
    let package = txn.session(&id).unwrap().pkg("p");
    let all = THREADS as u64 * EACH;
    assert_eq!(package.get("n").unwrap(), Some(all.div_ceil(3)));
    assert_eq!(package.get("sum").unwrap(), Some(all));
    let list: Vec<u64> = package.get("list").unwrap().unwrap();
    assert_eq!(list.len() as u64, all);
    assert_eq!(package.len().unwrap() as u64, all + 3);
}

// C2.7, C2.10: commits that wait together are written together.
#[test]
fn no_change_of_a_client_is_lost_in_one_process() {
    count_on(1);
}

// C2.7, C2.10
#[test]
fn no_change_of_a_client_is_lost_in_three_processes() {
    count_on(3);
}

// C2.8, C2.9: what does not conflict does not, in several processes either.
#[test]
fn blind_changes_of_a_client_never_conflict() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(3);
    let id = stores[0].client_ids().issue();
    put(&stores[0], &id, 0);
    together(9, |n| {
        let store = &stores[n % 3];
        let id = again(store, &id);
        for each in 0..20_i64 {
            let txn = store.begin().unwrap();
            let package = txn.session(&id).unwrap().pkg("p");
            package.insert(&n.to_string(), each).unwrap();
            package.add("sum", 1).unwrap();
            package.max("max", each).unwrap();
            txn.commit().unwrap();
        }
    });
    let txn = stores[0].begin().unwrap();
    let package = txn.session(&again(&stores[0], &id)).unwrap().pkg("p");
    assert_eq!(package.get("sum").unwrap(), Some(180));
    assert_eq!(package.get("max").unwrap(), Some(19));
}

/// Two transactions that meet after their reads. Gives how many were committed; the others were conflicts.
fn meet(
    stores: &[Store],
    work: impl Fn(usize, &Transaction) -> Result<(), Error> + Sync,
    read: impl Fn(usize, &Transaction) -> Result<bool, Error> + Sync,
) -> usize {
    let barrier = Barrier::new(2);
    let outcomes = together(2, |n| {
        let txn = stores[n].begin().unwrap();
        let seen = read(n, &txn);
        barrier.wait();
        if seen? {
            work(n, &txn)?;
        }
        txn.commit()
    });
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(error.is_conflict(), "{error}");
    }
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

// C2.7: each reads both sessions and writes its own.
#[test]
fn write_skew_over_two_clients_is_refused() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    let ids = [(); 2].map(|()| stores[0].client_ids().issue());
    ids.iter().for_each(|id| put(&stores[0], id, 1));
    for _ in 0..TRIES {
        ids.iter()
            .for_each(|id| put(&stores[0], &again(&stores[0], id), 1));
        let session = |n: usize, which: usize, txn: &Transaction| {
            txn.session(&again(&stores[n], &ids[which]))
        };
        let both_there = |n: usize, txn: &Transaction| {
            let own: Option<u64> = session(n, n, txn)?.pkg("p").get("n")?;
            let other: Option<u64> = session(n, 1 - n, txn)?.pkg("p").get("n")?;
            Ok(own == Some(1) && other == Some(1))
        };
        let leave = |n: usize, txn: &Transaction| session(n, n, txn)?.pkg("p").insert("n", 0_u64);
        let committed = meet(&stores, leave, both_there);
        let left = ids.iter().map(|id| get(&stores[0], id).unwrap());
        assert_eq!(left.sum::<u64>(), 1, "{committed} were committed");
        assert_eq!(committed, 1);
    }
}

// C2.7: one finds the other's session absent and writes its own; the other founds it unless it finds that.
#[test]
fn a_session_that_was_found_absent_is_not_founded_meanwhile() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    for _ in 0..TRIES {
        let known = stores[0].client_ids().issue();
        put(&stores[0], &known, 1);
        let absent = stores[0].client_ids().issue();
        let known = |n: usize| again(&stores[n], &known);
        let read = |n: usize, txn: &Transaction| {
            if n == 0 {
                Ok(!txn.session(&absent)?.exists()?)
            } else {
                let alone: Option<bool> = txn.session(&known(n))?.pkg("p").get("alone")?;
                Ok(alone.is_none())
            }
        };
        let write = |n: usize, txn: &Transaction| {
            if n == 0 {
                txn.session(&known(n))?.pkg("p").insert("alone", true)
            } else {
                txn.session(&absent)?.pkg("p").insert("n", 1_u64)
            }
        };
        let committed = meet(&stores, write, read);
        let txn = stores[0].begin().unwrap();
        let alone = txn
            .session(&known(0))
            .unwrap()
            .pkg("p")
            .contains_key("alone")
            .unwrap();
        let founded = exists(&stores[0], &absent);
        assert!(!(alone && founded), "{committed} were committed");
        assert!(committed < 2);
    }
}

fn exists(store: &Store, id: &ClientId) -> bool {
    let txn = store.begin().unwrap();
    txn.session(&again(store, id)).unwrap().exists().unwrap()
}

// C4.8: an id that was looked at before is as fresh as any.
#[test]
fn a_session_that_was_found_absent_is_founded_afterwards() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    let known = stores[0].client_ids().issue();
    put(&stores[0], &known, 1);
    let absent = stores[0].client_ids().issue();
    let txn = stores[0].begin().unwrap();
    assert!(!txn.session(&absent).unwrap().exists().unwrap());
    txn.session(&known)
        .unwrap()
        .pkg("p")
        .insert("n", 2_u64)
        .unwrap();
    txn.commit().unwrap();
    assert!(!exists(&stores[1], &absent));
    put(&stores[1], &absent, 7);
    assert_eq!(get(&stores[0], &absent), Some(7));
}

// C2.11: of a session that two processes end or move at once, one id is left at most.
#[test]
fn a_session_is_moved_once() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    for _ in 0..TRIES {
        let id = stores[0].client_ids().issue();
        put(&stores[0], &id, 1);
        let barrier = Barrier::new(2);
        let moved = together(2, |n| {
            let txn = stores[n].begin().unwrap();
            let session = txn.session(&again(&stores[n], &id)).unwrap();
            let number: Option<u64> = session.pkg("p").get("n").unwrap();
            assert_eq!(number, Some(1));
            let new = session.rotate().unwrap();
            barrier.wait();
            txn.commit().map(|()| new)
        });
        assert!(!exists(&stores[0], &id));
        let there: Vec<_> = moved.iter().flatten().collect();
        assert_eq!(there.len(), 1, "{moved:?}");
        assert_eq!(get(&stores[0], there[0]), Some(1));
    }
}

// C2.11: a session that ended in one process is not brought back by another that had read it.
#[test]
fn an_ended_session_stays_ended() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    for _ in 0..TRIES {
        let id = stores[0].client_ids().issue();
        put(&stores[0], &id, 1);
        let barrier = Barrier::new(2);
        let outcomes = together(2, |n| {
            let txn = stores[n].begin().unwrap();
            let session = txn.session(&again(&stores[n], &id)).unwrap();
            // Before the barrier both have looked.
            assert!(session.exists().unwrap());
            barrier.wait();
            if n == 0 {
                session.destroy().unwrap();
            } else {
                session.pkg("p").insert("n", 2_u64).unwrap();
            }
            txn.commit()
        });
        // The write may have come first. It never comes second.
        assert!(!exists(&stores[1], &id), "{outcomes:?}");
    }
}

// C2.7: after a look that conflicted, a transaction does not commit what it decided on `client_id`, which cannot tell of it.
#[test]
fn what_was_decided_on_a_look_that_conflicted_is_refused() {
    let Some(place) = Place::new() else { return };
    let stores = place.stores(2);
    for _ in 0..20 {
        let [first, second] = [(); 2].map(|()| stores[0].client_ids().issue());
        put(&stores[0], &first, 1);
        let txn = stores[1].begin().unwrap();
        let session = |id: &ClientId| txn.session(&again(&stores[1], id)).unwrap();
        assert!(!session(&first).pkg("p").contains_key("other").unwrap());
        let both = |txn: &Txn| {
            txn.session(&second)?.pkg("p").insert("n", 2_u64)?;
            txn.session(&again(&stores[0], &first))?
                .pkg("p")
                .insert("n", 2_u64)
        };
        stores[0].transact(both).unwrap();
        let found = session(&second).client_id();
        assert!(found.is_none(), "newer than what was read of the other");
        session(&first).pkg("p").insert("alone", true).unwrap();
        // Without a conflict it serializes before the other.
        let kept = !place.conflicts_at_looks();
        assert_eq!(txn.commit().is_ok(), kept);
    }
}
