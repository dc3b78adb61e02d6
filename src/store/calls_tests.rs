//! C10.2, C5.5: work on many sessions asks an engine over a network a bounded number of times for a page of them, and not
//! once for each.

use super::*;
use crate::block_on::block_on;
use crate::storage::fake_remote::times_asked;
use crate::{ClientId, Clock, ContainerSettings, Txn};
use std::time::Duration;

const CONTAINERS: [&str; 3] = ["app", "cart", "shop"];
const HOUR: Duration = Duration::from_secs(3600);

fn store(clock: &Clock) -> Store {
    let builder = Store::builder().clock(clock.clone());
    let builder = builder.implicit_sweeps(false);
    let store = block_on(builder.on_a_remote_engine(None, 7)).unwrap();
    for name in CONTAINERS {
        store.register(name, ContainerSettings::new()).unwrap();
    }
    store
}

fn clock() -> Clock {
    Clock::manual("2026-11-28T12:00:00Z".parse().unwrap())
}

/// The ids of sessions of one owner, each with a package in every container.
fn visitors(store: &Store, count: usize) -> Vec<ClientId> {
    let ids: Vec<_> = (0..count).map(|_| store.client_ids().issue()).collect();
    for ids in ids.chunks(50) {
        let found = |txn: &Txn| {
            for id in ids {
                let session = txn.session(id)?;
                session.set_owner(Some("ann"))?;
                for name in CONTAINERS {
                    session.pkg(name).insert("n", 1)?;
                }
            }
            Ok::<_, crate::Error>(())
        };
        store.transact(found).unwrap();
    }
    ids
}

/// How often `work` asks the server, on this thread.
fn asked(work: impl FnOnce()) -> usize {
    let before = times_asked();
    work();
    times_asked() - before
}

/// C3.7
#[test]
fn a_sweep_and_a_count_ask_for_the_times_of_a_page_at_once() {
    let clock = clock();
    let store = store(&clock);
    visitors(&store, 300);
    let cart = store.container("cart").unwrap();
    // A page is 256 sessions, so there are three, of which the last is empty: a snapshot and the rows of each, and the
    // times of those that are not empty.
    let pages = 3 + 3 + 2;
    clock.advance(HOUR / 2);
    let count = || assert_eq!(cart.statistics().unwrap().live, 300);
    assert_eq!(asked(count), pages);
    clock.advance(HOUR);
    let reclaim = 1;
    let sweep = || assert_eq!(cart.sweep().unwrap().removed, 300);
    assert_eq!(asked(sweep), pages + reclaim);
}

/// C8.2
#[test]
fn the_sessions_of_an_owner_are_listed_and_ended_in_batches() {
    let clock = clock();
    let store = store(&clock);
    let ids = visitors(&store, 100);
    clock.advance(HOUR / 2);
    // A snapshot, the list, the rows, and their times.
    let list = || assert_eq!(store.sessions_of("ann").unwrap().len(), 100);
    assert_eq!(asked(list), 4);
    let info = || assert!(store.session_info(ids[0].key()).unwrap().is_some());
    assert_eq!(asked(info), 3);
    let others = async |txn: Txn| {
        let session = txn.session_async(&ids[0]).await?;
        session.end_others_async().await
    };
    // A snapshot, the rows and the times of the session; the list of its owner, the rows and the times of the others.
    let end_others = || assert_eq!(block_on(store.transact_async(others)).unwrap(), 99);
    assert_eq!(asked(end_others), 6);

    visitors(&store, 99);
    clock.advance(HOUR / 2);
    // Each of the two passes lists them, and each of two batches begins a transaction.
    let end_all = || assert_eq!(store.end_all_of("ann").unwrap(), 100);
    assert_eq!(asked(end_all), 2 + 2 * 3 + 2);
}

/// C4.9
#[cfg(feature = "http")]
#[test]
fn the_ids_of_a_request_are_looked_at_together() {
    let store = store(&clock());
    let ids = visitors(&store, 8);
    let live = async {
        let txn = store.begin_async().await.unwrap();
        txn.load_all(ids.iter()).await.unwrap();
        assert!(ids.iter().all(|id| txn.is_live(id).unwrap()));
    };
    // A snapshot, and the rows of all.
    assert_eq!(asked(|| block_on(live)), 2);
}

/// C3.2, C3.4
#[test]
fn a_session_in_several_containers_is_found_as_fast_as_in_one() {
    let clock = clock();
    let store = store(&clock);
    let ids = visitors(&store, 2);
    let read = async |id: &ClientId| {
        let txn = store.begin_async().await?;
        let session = txn.session_async(id).await?;
        session.exists()
    };
    clock.advance(HOUR / 2);
    // A snapshot, the rows, and their times.
    let due = || assert!(block_on(read(&ids[0])).unwrap());
    assert_eq!(asked(due), 3);
    clock.advance(HOUR);
    // And that they were found expired.
    let expired = || assert!(!block_on(read(&ids[1])).unwrap());
    assert_eq!(asked(expired), 4);
}
