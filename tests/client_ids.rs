//! Client ids (C1.6, C4.1, C4.2, C4.7, C4.8) as a store keeps them: who verifies, who founds a session
//! under which id, and what is left of an id that was given up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Clock, ContainerSettings, ErrorKind, Session, Store, Transaction};
use std::time::Duration;
use support::clock::{clock, secs};
use support::engine::needs_files;
use support::store::{builder, keys_of, place};
use support::visitors::{again, visitor};

fn in_memory() -> (Store, Clock) {
    let clock = clock();
    (builder(&clock).in_memory().unwrap(), clock)
}

fn put(txn: &Transaction, id: &ClientId, n: i64) -> Session {
    let session = txn.session(id).unwrap();
    session.pkg("app").insert("n", n).unwrap();
    session
}

fn n(store: &Store, id: &ClientId) -> Option<i64> {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().pkg("app").get("n").unwrap()
}

fn rotate(store: &Store, id: &ClientId) -> ClientId {
    let txn = store.begin().unwrap();
    let new = txn.session(id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    new
}

fn destroy(store: &Store, id: &ClientId) {
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().destroy().unwrap();
    txn.commit().unwrap();
}

// C4.1
#[test]
fn an_id_of_another_store_is_no_id() {
    let (ours, _) = in_memory();
    let (theirs, _) = in_memory();
    let id = theirs.client_ids().issue();
    assert!(ours.client_ids().verify(id.as_str()).is_none());
    assert!(
        ours.client_ids()
            .verify_bytes(id.as_str().as_bytes())
            .is_none()
    );
}

// C4.1
#[test]
fn an_id_with_any_character_changed_is_no_id() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    for at in 0..id.as_str().len() {
        for other in [
            b'A', b'B', b'_', b'-', b'=', b' ', b'+', b'/', 0, 0x80, 0xff,
        ] {
            let mut text = id.as_str().as_bytes().to_vec();
            if text[at] != other {
                text[at] = other;
                assert!(store.client_ids().verify_bytes(&text).is_none());
            }
        }
    }
}

// C4.1
#[test]
fn a_truncated_or_over_long_id_is_no_id() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let text = id.as_str();
    for len in 0..text.len() {
        assert!(store.client_ids().verify(&text[..len]).is_none());
        assert!(store.client_ids().verify(&text[len + 1..]).is_none());
    }
    for more in ["A", "=", " ", "\n", "AAAA", "\u{e9}"] {
        assert!(
            store
                .client_ids()
                .verify(&format!("{text}{more}"))
                .is_none()
        );
        assert!(
            store
                .client_ids()
                .verify(&format!("{more}{text}"))
                .is_none()
        );
    }
    assert!(store.client_ids().verify(&"A".repeat(1 << 20)).is_none());
    assert!(store.client_ids().verify(&text.repeat(2)).is_none());
}

// C4.1
#[test]
fn garbage_of_the_right_length_is_no_id() {
    let (store, _) = in_memory();
    let len = store.client_ids().issue().as_str().len();
    for byte in 0..=u8::MAX {
        assert!(store.client_ids().verify_bytes(&vec![byte; len]).is_none());
    }
}

// C4.2
#[test]
fn ids_outlive_a_restart() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let id = visitor(&store);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    let id = again(&store, &id);
    assert_eq!(n(&store, &id), Some(1));
}

// C4.2
#[test]
fn after_rotating_the_secret_old_ids_verify_until_it_is_retired() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let old = visitor(&store);
    let name = store.rotate_secret().unwrap();
    let new = visitor(&store);
    let newest = store.rotate_secret().unwrap();
    assert_ne!(name, newest);
    let verify =
        |store: &Store| [&old, &new].map(|id| store.client_ids().verify(id.as_str()).is_some());
    assert_eq!(verify(&store), [true, true]);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    assert_eq!(verify(&store), [true, true]);
    assert_eq!(n(&store, &again(&store, &old)), Some(1));
    store.retire_secret(name).unwrap();
    assert_eq!(verify(&store), [true, false]);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    assert_eq!(verify(&store), [true, false]);
}

// C4.2
#[test]
fn rotations_at_the_same_time_lose_no_secret() {
    let (store, _) = in_memory();
    let first = store.client_ids().issue();
    let rotate = || store.rotate_secret().unwrap();
    let mut names: Vec<u8> = std::thread::scope(|threads| {
        let rotating: Vec<_> = (0..6).map(|_| threads.spawn(rotate)).collect();
        rotating.into_iter().map(|it| it.join().unwrap()).collect()
    });
    names.sort_unstable();
    assert_eq!(names, [1, 2, 3, 4, 5, 6]);
    assert!(store.client_ids().verify(first.as_str()).is_some());
    for name in 0..6 {
        store.retire_secret(name).unwrap();
    }
    assert!(store.client_ids().verify(first.as_str()).is_none());
}

// C4.2
#[test]
fn the_secret_in_use_and_an_unknown_one_cannot_be_retired() {
    let (store, _) = in_memory();
    let name = store.rotate_secret().unwrap();
    for name in [name, name.wrapping_add(100)] {
        let error = store.retire_secret(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

// C4.2
#[test]
fn a_given_secret_is_used_instead_of_the_stores_own() {
    let (_folder, path) = place();
    let open = |secret: [u8; 32]| builder(&clock()).secret(secret).open(&path).unwrap();
    let store = open([1; 32]);
    let id = visitor(&store);
    store.close().unwrap();
    let own = builder(&clock()).open(&path).unwrap();
    assert!(own.client_ids().verify(id.as_str()).is_none());
    own.close().unwrap();
    let other = open([2; 32]);
    assert!(other.client_ids().verify(id.as_str()).is_none());
    other.close().unwrap();
    let store = open([1; 32]);
    assert_eq!(n(&store, &again(&store, &id)), Some(1));
    assert_eq!(
        store.rotate_secret().unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        store.retire_secret(0).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

// C4.2
#[test]
fn an_older_given_secret_verifies_and_does_not_issue() {
    let (_folder, path) = place();
    let store = builder(&clock()).secret([1; 32]).open(&path).unwrap();
    let old = visitor(&store);
    store.close().unwrap();
    let both = builder(&clock()).secret([2; 32]).older_secret([1; 32]);
    let store = both.open(&path).unwrap();
    assert_eq!(n(&store, &again(&store, &old)), Some(1));
    let new = visitor(&store);
    store.close().unwrap();
    let store = builder(&clock()).secret([2; 32]).open(&path).unwrap();
    assert!(store.client_ids().verify(old.as_str()).is_none());
    assert_eq!(n(&store, &again(&store, &new)), Some(1));
}

// C1.6
#[test]
fn the_file_never_holds_an_id() {
    needs_files!("the file is read");
    let (_folder, path) = place();
    let clock = clock();
    let store = builder(&clock).open(&path).unwrap();
    let mut ids = vec![visitor(&store), visitor(&store), visitor(&store)];
    ids.push(rotate(&store, &ids[0]));
    destroy(&store, &ids[1]);
    clock.advance(secs(11));
    let txn = store.begin().unwrap();
    ids.push(put(&txn, &again(&store, &ids[1]), 5).client_id().unwrap());
    txn.commit().unwrap();
    let key = ids[2].key();
    store.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // The session is there, under its key.
    assert!(holds(key.as_bytes()));
    for id in &ids {
        let text = id.as_str().as_bytes();
        assert!(!holds(&text[..16]));
        assert!(!holds(&text[text.len() - 16..]));
    }
}

// C1.6
#[test]
fn an_id_is_not_printed() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let printed = format!(
        "{id:?} {session:?} {txn:?} {store:?} {:?}",
        store.client_ids()
    );
    assert!(!printed.contains(&id.as_str()[..8]));
    assert!(!printed.contains(&id.key().to_string()));
}

// C4.7
#[test]
fn rotating_carries_everything_over() {
    let (store, clock) = in_memory();
    store.register("cart", ContainerSettings::new()).unwrap();
    store
        .register("ram", ContainerSettings::new().in_memory())
        .unwrap();
    let short = ContainerSettings::new().timeout(secs(60));
    store.register("short", short).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    for (pkg, n) in [("app", 1), ("cart", 2), ("ram", 3)] {
        session.pkg(pkg).insert("n", n).unwrap();
        session.pkg(pkg).insert("more", n).unwrap();
    }
    session.set_owner(Some("ann")).unwrap();
    session.set_timeout(Some(secs(7200))).unwrap();
    txn.commit().unwrap();
    let created = clock.now();
    clock.advance(secs(100));

    let new = rotate(&store, &id);
    assert_ne!(new, id);
    assert_eq!(keys_of(&store, "ann"), [new.key()]);
    clock.advance(secs(7100));
    let txn = store.begin().unwrap();
    let session = txn.session(&new).unwrap();
    for (pkg, n) in [("app", 1), ("cart", 2), ("ram", 3)] {
        assert_eq!(session.pkg(pkg).get("n").unwrap(), Some(n));
        assert_eq!(session.pkg(pkg).keys().unwrap(), ["more", "n"]);
    }
    assert_eq!(session.created_at().unwrap(), Some(created));
    assert_eq!(session.last_access().unwrap(), Some(created));
    drop(txn);
    clock.advance(Duration::from_millis(1));
    assert_eq!(n(&store, &new), None);
}

// C4.7
#[test]
fn rotating_carries_the_changes_of_its_own_transaction_over() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let new = session.rotate().unwrap();
    assert_eq!(session.client_id(), Some(new.clone()));
    session.pkg("app").insert("m", 3).unwrap();
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(2));
    let txn = store.begin().unwrap();
    assert_eq!(
        txn.session(&new).unwrap().pkg("app").get("m").unwrap(),
        Some(3)
    );
}

// C1.9, C4.7
#[test]
fn rotating_carries_nothing_over_that_has_expired() {
    let (store, clock) = in_memory();
    let short = ContainerSettings::new().timeout(secs(60));
    store.register("short", short).unwrap();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id)
        .unwrap()
        .pkg("short")
        .insert("n", 1)
        .unwrap();
    txn.commit().unwrap();
    clock.advance(secs(61));
    let new = rotate(&store, &id);
    // Nothing of the old one is left either.
    let check = store.check().unwrap();
    assert_eq!((check.sessions, check.packages), (1, 1));
    let generous = ContainerSettings::new().timeout(secs(3600));
    store.register("short", generous).unwrap();
    let txn = store.begin().unwrap();
    let n: Option<i64> = txn.session(&new).unwrap().pkg("short").get("n").unwrap();
    assert_eq!(n, None);
}

// C4.7
#[test]
fn the_old_id_is_worth_nothing_once_it_is_rotated() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let new = rotate(&store, &id);
    assert_eq!(n(&store, &id), None);
    let txn = store.begin().unwrap();
    assert!(!txn.session(&id).unwrap().exists().unwrap());
    assert_eq!(txn.session(&id).unwrap().client_id(), None);
    assert_eq!(n(&store, &new), Some(1));
}

// C4.7, C2.4
#[test]
fn rotating_in_an_aborted_transaction_rotates_nothing() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.abort();
    assert_eq!(n(&store, &id), Some(1));
    assert_eq!(n(&store, &new), None);
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C2.5, C4.7
#[test]
fn rolling_back_takes_a_rotation_back() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let savepoint = txn.savepoint().unwrap();
    let session = txn.session(&id).unwrap();
    session.rotate().unwrap();
    txn.rollback_to(&savepoint).unwrap();
    assert_eq!(session.client_id(), Some(id.clone()));
    put(&txn, &id, 2);
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C2.11, C4.7
#[test]
fn of_two_rotations_of_one_session_one_conflicts() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    let first = one.session(&id).unwrap().rotate().unwrap();
    let second = two.session(&id).unwrap().rotate().unwrap();
    one.commit().unwrap();
    assert_eq!(two.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(n(&store, &first), Some(1));
    assert_eq!(n(&store, &second), None);
}

// C4.7: whoever uses the new id before it is valid founds a session there.
#[test]
fn a_rotation_does_not_overwrite_a_session_under_its_new_id() {
    for checkpoint in [false, true] {
        let (store, _) = in_memory();
        let id = visitor(&store);
        let rotating = store.begin().unwrap();
        let new = rotating.session(&id).unwrap().rotate().unwrap();
        let txn = store.begin().unwrap();
        put(&txn, &new, 2);
        txn.commit().unwrap();
        if checkpoint {
            store.checkpoint().unwrap();
        }
        assert_eq!(rotating.commit().unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(n(&store, &new), Some(2));
        assert_eq!(n(&store, &id), Some(1));
    }
}

// C4.8
#[test]
fn a_late_request_with_a_rotated_id_reads_empty_and_conflicts_when_it_writes() {
    let (store, clock) = in_memory();
    let id = visitor(&store);
    rotate(&store, &id);
    clock.advance(secs(10) - Duration::from_millis(1));
    for late in [id.clone(), again(&store, &id)] {
        let txn = store.begin().unwrap();
        let session = txn.session(&late).unwrap();
        assert_eq!(session.pkg("app").keys().unwrap(), Vec::<String>::new());
        txn.commit().unwrap();
        let txn = store.begin().unwrap();
        put(&txn, &late, 2);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    }
    assert_eq!(store.check().unwrap().sessions, 1);
}

// C4.8
#[test]
fn a_late_request_with_a_destroyed_id_conflicts_when_it_writes() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    destroy(&store, &id);
    assert_eq!(n(&store, &id), None);
    let txn = store.begin().unwrap();
    put(&txn, &again(&store, &id), 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.check().unwrap().sessions, 0);
}

// C4.8
#[test]
fn a_refused_id_is_refused_after_reopening() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let id = visitor(&store);
    destroy(&store, &id);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    let txn = store.begin().unwrap();
    put(&txn, &again(&store, &id), 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

// C4.8
#[test]
fn after_ten_seconds_a_dead_id_founds_a_session_under_a_fresh_one() {
    let (store, clock) = in_memory();
    let (rotated, destroyed) = (visitor(&store), visitor(&store));
    rotate(&store, &rotated);
    destroy(&store, &destroyed);
    clock.advance(secs(10));
    for dead in [&rotated, &destroyed] {
        let txn = store.begin().unwrap();
        let session = txn.session(dead).unwrap();
        assert_eq!(session.client_id(), None);
        put(&txn, dead, 7);
        let new = session.client_id().unwrap();
        assert_ne!(&new, dead);
        txn.commit().unwrap();
        assert_eq!(n(&store, &new), Some(7));
        assert_eq!(n(&store, dead), None);
    }
}

// C4.8: how long is a setting.
#[test]
fn how_long_a_dead_id_is_refused_can_be_set() {
    let clock = clock();
    let store = builder(&clock)
        .tombstone_lifetime(secs(60))
        .in_memory()
        .unwrap();
    let id = visitor(&store);
    destroy(&store, &id);
    clock.advance(secs(59));
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    clock.advance(secs(1));
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
}

// C4.8
#[test]
fn an_issued_id_founds_one_session_only_whoever_holds_a_clone() {
    let (store, clock) = in_memory();
    let id = store.client_ids().issue();
    let clone = id.clone();
    let txn = store.begin().unwrap();
    put(&txn, &id, 1);
    txn.commit().unwrap();
    destroy(&store, &id);
    clock.advance(secs(3600));
    let txn = store.begin().unwrap();
    let session = put(&txn, &clone, 2);
    assert_ne!(session.client_id().unwrap(), clone);
    txn.commit().unwrap();
    assert_eq!(n(&store, &clone), None);
}

// C4.8: a transaction that began when the id was fresh, committed when its session had ended.
#[test]
fn a_dead_id_stays_dead_for_a_transaction_that_began_before_it_lived() {
    let (store, clock) = in_memory();
    let id = store.client_ids().issue();
    let early = store.begin().unwrap();
    put(&early, &id, 1);
    let txn = store.begin().unwrap();
    put(&txn, &id, 2);
    txn.commit().unwrap();
    destroy(&store, &id);
    clock.advance(secs(20));
    assert_eq!(early.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(n(&store, &id), None);
}

// C4.8: an aborted founding has founded nothing, so the id can be used still.
#[test]
fn an_issued_id_stays_fresh_until_a_commit() {
    let (store, _) = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    put(&txn, &id, 1);
    txn.abort();
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    assert_eq!(session.client_id(), Some(id.clone()));
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), Some(2));
}

// C4.8: after a restart nobody can tell an id that was never used from a dead one.
#[test]
fn an_id_that_was_verified_founds_a_session_under_a_fresh_one() {
    let (store, _) = in_memory();
    let id = again(&store, &store.client_ids().issue());
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 1);
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    assert_eq!(session.pkg("app").get("n").unwrap(), Some(1));
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(1));
    assert_eq!(n(&store, &id), None);
}

// C3.2, C4.8
#[test]
fn the_id_of_an_expired_session_founds_one_under_a_fresh_id() {
    let (store, clock) = in_memory();
    let id = visitor(&store);
    clock.advance(secs(3601));
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    txn.commit().unwrap();
    assert_eq!(n(&store, &new), Some(2));
    assert_eq!(n(&store, &id), None);
}

// C4.10 on the level of the store: two visitors without an id are two.
#[test]
fn visitors_without_an_id_are_different_ones() {
    let (store, _) = in_memory();
    let txn = store.begin().unwrap();
    let [one, two] = [1, 2].map(|n| {
        let session = pollster::block_on(txn.visit(None)).unwrap();
        assert_eq!(session.client_id(), None);
        session.pkg("app").insert("n", n).unwrap();
        session
    });
    let [one, two] = [one.client_id().unwrap(), two.client_id().unwrap()];
    txn.commit().unwrap();
    assert_eq!([n(&store, &one), n(&store, &two)], [Some(1), Some(2)]);
}

// C1.9, C4.7
#[test]
fn destroying_ends_the_session_in_all_containers() {
    let (store, _) = in_memory();
    store.register("cart", ContainerSettings::new()).unwrap();
    store
        .register("ram", ContainerSettings::new().in_memory())
        .unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    for pkg in ["app", "cart", "ram"] {
        session.pkg(pkg).insert("n", 1).unwrap();
    }
    session.set_owner(Some("ann")).unwrap();
    txn.commit().unwrap();
    destroy(&store, &id);
    let check = store.check().unwrap();
    assert_eq!((check.sessions, check.packages), (0, 0));
    assert!(store.sessions_of("ann").unwrap().is_empty());
}

// C4.7, C4.8
#[test]
fn what_is_inserted_after_destroying_founds_another_session() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.destroy().unwrap();
    assert_eq!(session.client_id(), None);
    assert_eq!(session.pkg("app").get::<i64>("n").unwrap(), None);
    session.pkg("app").insert("m", 2).unwrap();
    let new = session.client_id().unwrap();
    assert_ne!(new, id);
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    assert_eq!(txn.session(&new).unwrap().pkg("app").keys().unwrap(), ["m"]);
    assert!(!txn.session(&id).unwrap().exists().unwrap());
}

// C2.4, C4.7
#[test]
fn destroying_in_an_aborted_transaction_ends_nothing() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().destroy().unwrap();
    txn.abort();
    assert_eq!(n(&store, &id), Some(1));
}

// C2.7: after destroying, a transaction reads its own emptiness.
#[test]
fn what_is_read_after_destroying_is_not_read_from_the_store() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let pkg = txn.session(&id).unwrap().pkg("app");
    assert_eq!(pkg.get("n").unwrap(), Some(1));
    txn.session(&id).unwrap().destroy().unwrap();
    assert_eq!(pkg.get::<i64>("m").unwrap(), None);
    assert!(pkg.is_empty().unwrap());
    let other = store.begin().unwrap();
    other
        .session(&id)
        .unwrap()
        .pkg("app")
        .insert("m", 5)
        .unwrap();
    other.commit().unwrap();
    txn.commit().unwrap();
    assert_eq!(n(&store, &id), None);
}
