//! C3.1, C3.2: when a session ends, each container by its own settings.

use super::{builder, click, get, in_memory, peek, put, settings};
use crate::support::clock::{MOMENT, clock, secs};
use crate::support::store::place;
use crate::support::visitors::visitor;

// C3.1, C3.2
#[test]
fn a_session_is_served_for_an_hour_and_not_a_moment_longer() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert!(!session.exists().unwrap());
    assert_eq!(session.last_access().unwrap(), None);
    assert_eq!(session.pkg("app").keys().unwrap(), Vec::<String>::new());
}

// C3.2
#[test]
fn what_has_expired_is_not_served_after_reopening_nor_after_a_sweep() {
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let id = visitor(&store);
    store.close().unwrap();
    clock.advance(secs(3600) + MOMENT);
    let store = builder(&clock).open(&path).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(
        store.container("").unwrap().statistics().unwrap().expired,
        1
    );
    store.container("").unwrap().sweep().unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(
        store.container("").unwrap().statistics().unwrap().expired,
        0
    );
}

// C3.2: fifty minutes at the least, since the last use may go unrecorded.
#[test]
fn a_session_last_used_within_the_resolution_ends_50_minutes_later() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(600));
    assert_eq!(click(&store, &id), Some(1));
    clock.advance(secs(3000));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2: sixty minutes at the most.
#[test]
fn a_session_last_used_after_the_resolution_ends_60_minutes_later() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(600) + MOMENT);
    assert_eq!(click(&store, &id), Some(1));
    clock.advance(secs(3600));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2
#[test]
fn a_transaction_reads_the_time_once() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(secs(7200));
    assert_eq!(get(&txn, &id, "app", "n"), Some(1));
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.1
#[test]
fn a_visitor_who_clicks_every_half_timeout_stays_whatever_the_resolution() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(60, 3600)).unwrap();
    let id = visitor(&store);
    for _ in 0..50 {
        clock.advance(secs(30));
        assert_eq!(click(&store, &id), Some(1));
    }
}

// C3.1: the timeout in force is the session's own.
#[test]
fn a_visitor_with_a_short_timeout_of_its_own_stays_while_clicking() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .set_timeout(Some(secs(10)))
        .unwrap();
    txn.commit().unwrap();
    for _ in 0..50 {
        clock.advance(secs(5));
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(secs(10) + MOMENT);
    assert_eq!(click(&store, &id), None);
}

// C1.2, C1.9, C3.2
#[test]
fn containers_of_one_session_expire_by_their_own_policies() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("short", settings(60, 0)).unwrap();
    store.register("long", settings(86_400, 600)).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for pkg in ["short", "long", "other"] {
        txn.session(&id).unwrap().pkg(pkg).insert("n", 1).unwrap();
    }
    txn.commit().unwrap();
    let seen = || ["short", "other", "long"].map(|pkg| peek(&store, &id, pkg, "n").is_some());
    assert_eq!(seen(), [true, true, true]);
    clock.advance(secs(61));
    assert_eq!(seen(), [false, true, true]);
    clock.advance(secs(3600));
    assert_eq!(seen(), [false, false, true]);
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    clock.advance(secs(86_400));
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
}

// C1.9
#[test]
fn an_access_counts_for_the_containers_used() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("other", settings(3600, 600)).unwrap();
    let id = visitor(&store);
    put(&store, &id, "other", "n", 1);
    for _ in 0..6 {
        clock.advance(secs(601));
        assert_eq!(click(&store, &id), Some(1));
    }
    assert_eq!(peek(&store, &id, "other", "n"), None);
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
}

// C1.8, C3.2
#[test]
fn other_settings_take_effect_at_the_next_access() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    clock.advance(secs(100));
    let container = store.container("").unwrap();
    container.configure(settings(60, 10)).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), None);
    container.configure(settings(3600, 10)).unwrap();
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
}
