//! C3.3, C3.6, C3.8: founding, lifetimes, and timeouts of a session's own.

use super::{
    builder, click, in_file, in_memory, last_access, peek, put, set_timeout, settings, touches,
    written,
};
use crate::support::clock::{MOMENT, clock, secs};
use crate::support::store::place;
use crate::support::visitors::visitor;
use cloakroom::ContainerSettings;
use std::time::Duration;

// C3.6
#[test]
fn founding_a_session_sets_its_access_time() {
    let clock = clock();
    let store = in_memory(&clock);
    for looks in [true, false] {
        let txn = store.begin().unwrap();
        let id = store.client_ids().issue();
        let session = txn.session(&id).unwrap();
        let looked = clock.now();
        assert!(!looks || !session.exists().unwrap());
        session.pkg("app").insert("n", 1).unwrap();
        clock.advance(secs(5));
        txn.commit().unwrap();
        // The time is read with the first look, or else by the commit (C2.1).
        let founded = if looks { looked } else { clock.now() };
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        assert_eq!(session.created_at().unwrap(), Some(founded));
        assert_eq!(session.last_access().unwrap(), Some(founded));
    }
}

// C3.6, C2.8: two that found one session, the slower of which began when it would have expired.
#[test]
fn joining_a_session_founded_meanwhile_counts_as_an_access() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = store.client_ids().issue();
    let early = store.begin().unwrap();
    early
        .session(&id)
        .unwrap()
        .pkg("app")
        .insert("a", 1)
        .unwrap();
    clock.advance(secs(3601));
    let late = store.begin().unwrap();
    late.session(&id)
        .unwrap()
        .pkg("app")
        .insert("b", 2)
        .unwrap();
    early.commit().unwrap();
    late.commit().unwrap();
    assert_eq!(last_access(&store, &id), Some(clock.now()));
    assert_eq!(peek(&store, &id, "app", "b"), Some(2));
}

// C3.6
#[test]
fn resolution_zero_records_every_access() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(3600, 0)).unwrap();
    let id = visitor(&store);
    for _ in 0..10 {
        clock.advance(MOMENT);
        click(&store, &id);
        assert_eq!(last_access(&store, &id), Some(clock.now()));
    }
}

// C3.3
#[test]
fn timeout_zero_never_expires_and_is_never_touched_nor_swept() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("", settings(0, 600)).unwrap();
    let id = visitor(&store);
    let founded = clock.now();
    for _ in 0..100 {
        clock.advance(secs(365 * 86_400));
        assert_eq!(click(&store, &id), Some(1));
    }
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 0);
    visitor(&store);
    assert_eq!(touches(&store), 0);
    assert_eq!(last_access(&store, &id), Some(founded));
}

// C3.3, C3.8
#[test]
fn a_timeout_of_zero_of_its_own_keeps_a_session_for_good() {
    let clock = clock();
    let store = in_memory(&clock);
    let (kept, gone) = (visitor(&store), visitor(&store));
    let txn = store.begin().unwrap();
    txn.session(&kept)
        .unwrap()
        .set_timeout(Some(Duration::ZERO))
        .unwrap();
    txn.commit().unwrap();
    clock.advance(secs(400 * 86_400));
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
    assert_eq!(peek(&store, &kept, "app", "n"), Some(1));
    assert_eq!(peek(&store, &gone, "app", "n"), None);
}

// C3.8
#[test]
fn the_absolute_lifetime_ends_a_session_however_busy() {
    let clock = clock();
    let store = in_memory(&clock);
    let settings = ContainerSettings::new().max_lifetime(Some(secs(7200)));
    store.register("", settings).unwrap();
    let id = visitor(&store);
    for _ in 0..12 {
        clock.advance(secs(600));
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(MOMENT);
    assert_eq!(click(&store, &id), None);
    assert_eq!(store.container("").unwrap().sweep().unwrap().removed, 1);
}

// C3.8, C4.7
#[test]
fn rotating_does_not_prolong_the_absolute_lifetime() {
    let clock = clock();
    let store = in_memory(&clock);
    let settings = ContainerSettings::new().max_lifetime(Some(secs(7200)));
    store.register("", settings).unwrap();
    let mut id = visitor(&store);
    for _ in 0..12 {
        clock.advance(secs(600));
        let txn = store.begin().unwrap();
        id = txn.session(&id).unwrap().rotate().unwrap();
        txn.commit().unwrap();
        assert_eq!(click(&store, &id), Some(1));
    }
    clock.advance(MOMENT);
    assert_eq!(click(&store, &id), None);
}

// C3.3: only zero is never.
#[test]
fn a_timeout_below_a_millisecond_ends_a_session() {
    let clock = clock();
    let store = in_memory(&clock);
    let tiny = Duration::from_micros(500);
    let id = visitor(&store);
    set_timeout(&store, &id, tiny);
    let settings = ContainerSettings::new().timeout(tiny);
    let brief = store.register("brief", settings.clone()).unwrap();
    assert_eq!(brief.settings().unwrap(), settings);
    assert_eq!(settings.timeout, MOMENT);
    let visitor = store.client_ids().issue();
    put(&store, &visitor, "brief", "n", 1);
    clock.advance(2 * MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
    assert_eq!(peek(&store, &visitor, "brief", "n"), None);
}

// C2.12, C3.8
#[test]
fn setting_the_timeout_that_a_session_has_writes_nothing() {
    let clock = clock();
    let (_folder, store) = in_file(&clock);
    let id = visitor(&store);
    let odd = Duration::from_micros(3_600_000_500);
    set_timeout(&store, &id, odd);
    let before = written(&store);
    set_timeout(&store, &id, odd);
    assert_eq!(written(&store), before);
}

// C3.8
#[test]
fn a_timeout_of_its_own_is_kept_over_rotation_and_reopening() {
    let clock = clock();
    let (_folder, path) = place();
    let store = builder(&clock).open(&path).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .set_timeout(Some(secs(86_400)))
        .unwrap();
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    let id = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    store.close().unwrap();
    let store = builder(&clock).open(&path).unwrap();
    clock.advance(secs(86_400));
    assert_eq!(peek(&store, &id, "app", "n"), Some(1));
    clock.advance(MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.8
#[test]
fn a_timeout_of_its_own_can_be_taken_back() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = visitor(&store);
    for timeout in [Some(secs(86_400)), None] {
        let txn = store.begin().unwrap();
        txn.session(&id).unwrap().set_timeout(timeout).unwrap();
        txn.commit().unwrap();
    }
    clock.advance(secs(3600) + MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.8: set by the transaction that founds the session.
#[test]
fn a_timeout_of_its_own_can_be_given_at_the_founding() {
    let clock = clock();
    let store = in_memory(&clock);
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.set_timeout(Some(secs(10))).unwrap();
    session.pkg("app").insert("n", 1).unwrap();
    txn.commit().unwrap();
    clock.advance(secs(10) + MOMENT);
    assert_eq!(peek(&store, &id, "app", "n"), None);
}

// C3.2: the client lives on in one container while its data in another has expired.
#[test]
fn founding_over_what_has_expired_removes_all_its_rows() {
    let clock = clock();
    let store = in_memory(&clock);
    store.register("short", settings(60, 0)).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    for pkg in ["a", "b", "c"] {
        short.pkg(pkg).insert("old", 1).unwrap();
    }
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().packages, 4);
    clock.advance(secs(61));
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    assert_eq!(short.pkg("a").get::<i64>("old").unwrap(), None);
    short.pkg("a").insert("new", 2).unwrap();
    txn.commit().unwrap();
    assert_eq!(store.check().unwrap().packages, 2);
    let txn = store.begin().unwrap();
    let short = txn.container("short").unwrap().session_data(&id).unwrap();
    assert_eq!(short.pkg("a").keys().unwrap(), ["new"]);
    assert_eq!(short.pkg("b").keys().unwrap(), Vec::<String>::new());
    assert_eq!(short.created_at().unwrap(), Some(clock.now()));
}
