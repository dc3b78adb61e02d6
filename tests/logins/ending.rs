//! C8.2: sessions are ended without their ids.

use super::{is_there, logged_in, with};
use crate::support::clock::HOUR;
use crate::support::damage::flip_session;
use crate::support::engine::needs_files;
use crate::support::runtime::block_on;
use crate::support::store::{builder, file_builder, keys_of, place, timed};
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store, Txn};
use std::path::Path;

/// A late request under an ended id reads nothing, and writes nothing.
fn assert_refused(store: &Store, id: &ClientId) {
    assert!(!is_there(store, id));
    let write = |txn: &Txn| txn.session(id)?.pkg("cart").insert("tea", 2);
    let error = store.transact::<_, cloakroom::Error>(write).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn a_session_is_ended_by_its_key_in_all_containers() {
    let (_clock, store) = timed();
    store
        .register("cart", ContainerSettings::new().in_memory())
        .unwrap();
    let id = logged_in(&store, "ann");
    with(&store, &id, |s| s.pkg("other").insert("n", 1));
    let other = logged_in(&store, "ann");
    assert_eq!(store.end(id.key()).unwrap(), 1);
    assert_refused(&store, &id);
    assert_eq!(store.end(id.key()).unwrap(), 0);
    assert!(is_there(&store, &other));
    let found = store.check().unwrap();
    assert_eq!((found.sessions, found.packages, found.damaged), (1, 1, 0));
}

#[test]
fn an_expired_session_is_removed_and_not_counted() {
    let (clock, store) = timed();
    let id = logged_in(&store, "ann");
    clock.advance(2 * HOUR);
    assert_eq!(store.end(id.key()).unwrap(), 0);
    assert_eq!(store.check().unwrap().sessions, 0);
}

#[test]
fn all_sessions_of_an_owner_are_ended() {
    let (_clock, store) = timed();
    let ids: Vec<_> = (0..150).map(|_| logged_in(&store, "ann")).collect();
    let bob = logged_in(&store, "bob");
    let visitor = store.client_ids().issue();
    with(&store, &visitor, |s| s.pkg("cart").insert("tea", 2));
    assert_eq!(store.end_all_of("ann").unwrap(), 150);
    assert_eq!(store.end_all_of("ann").unwrap(), 0);
    ids.iter().for_each(|id| assert_refused(&store, id));
    assert!(is_there(&store, &bob) && is_there(&store, &visitor));
}

#[test]
fn all_sessions_are_ended() {
    let (_clock, store) = timed();
    store.register("cart", ContainerSettings::new()).unwrap();
    let ids: Vec<_> = (0..300)
        .map(|n| {
            let id = logged_in(&store, "ann");
            if n % 2 == 0 {
                with(&store, &id, |s| s.pkg("other").insert("n", 1));
            }
            id
        })
        .collect();
    assert_eq!(store.end_all().unwrap(), 300);
    assert_refused(&store, &ids[7]);
    assert!(!ids.iter().any(|id| is_there(&store, id)));
    let found = store.check().unwrap();
    assert_eq!((found.sessions, found.packages, found.damaged), (0, 0, 0));
    assert_eq!(store.end_all().unwrap(), 0);
}

// C2.11
#[test]
fn a_transaction_that_had_loaded_an_ended_session_conflicts() {
    let (_clock, store) = timed();
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert!(session.exists().unwrap());
    session.pkg("cart").insert("tea", 3).unwrap();
    store.end(id.key()).unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!is_there(&store, &id));
}

// A rotation on the way does not save a session.
#[test]
fn a_session_that_gets_another_id_meanwhile_is_ended_with_its_owner() {
    let (_clock, store) = timed();
    let id = logged_in(&store, "ann");
    std::thread::scope(|scope| {
        let rotating = scope.spawn(|| {
            let mut id = id.clone();
            for rotations in 0.. {
                let rotate = |txn: &Txn| {
                    let session = txn.session(&id)?;
                    if session.exists()? {
                        session.rotate().map(Some)
                    } else {
                        Ok(None)
                    }
                };
                match store.transact::<_, cloakroom::Error>(rotate) {
                    Ok(Some(next)) => id = next,
                    _ => return rotations,
                }
            }
            0
        });
        let mut ended = 0;
        while ended == 0 {
            // It gives up if the writers are faster.
            let result = store.end_all_of("ann");
            ended = result.unwrap_or_else(|error| error.sessions_ended().unwrap_or(0));
        }
        assert_eq!(ended, 1);
        rotating.join().unwrap();
    });
    assert!(store.sessions_of("ann").unwrap().is_empty());
    assert_eq!(store.check().unwrap().sessions, 0);
}

#[test]
fn the_other_sessions_of_an_owner_end_with_the_transaction() {
    let (_clock, store) = timed();
    let others: Vec<_> = (0..3).map(|_| logged_in(&store, "ann")).collect();
    let bob = logged_in(&store, "bob");
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert_eq!(session.end_others().unwrap(), 3);
    // Of the same transaction, under its id.
    assert!(!txn.session(&others[0]).unwrap().exists().unwrap());
    assert!(others.iter().all(|id| is_there(&store, id)));
    txn.commit().unwrap();
    others.iter().for_each(|id| assert_refused(&store, id));
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    assert!(is_there(&store, &bob));
    assert_eq!(with(&store, &id, Session::end_others), 0);
}

#[test]
fn ending_the_others_goes_with_a_new_id_and_is_rolled_back_with_the_rest() {
    let (_clock, store) = timed();
    let other = logged_in(&store, "ann");
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let before = txn.savepoint().unwrap();
    assert_eq!(session.end_others().unwrap(), 1);
    txn.rollback_to(&before).unwrap();
    // It can be used under its id, as if nothing had been.
    let again = txn.session(&other).unwrap();
    assert!(again.exists().unwrap());
    again.pkg("cart").insert("tea", 3).unwrap();
    txn.commit().unwrap();
    assert_eq!(with(&store, &other, |s| s.pkg("cart").get("tea")), Some(3));

    // After a change of the password.
    let id = with(&store, &id, |session| {
        let id = session.log_in("ann")?;
        assert_eq!(session.end_others()?, 1);
        assert_eq!(session.end_others()?, 0);
        Ok(id)
    });
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    // Without an owner there are no others.
    let visitor = store.client_ids().issue();
    assert_eq!(with(&store, &visitor, Session::end_others), 0);
}

#[test]
fn another_session_that_is_used_in_the_transaction_ends_too() {
    let (_clock, store) = timed();
    let other = logged_in(&store, "ann");
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    txn.session(&other)
        .unwrap()
        .pkg("cart")
        .insert("tea", 9)
        .unwrap();
    assert_eq!(txn.session(&id).unwrap().end_others().unwrap(), 1);
    txn.commit().unwrap();
    assert_refused(&store, &other);
    assert_eq!(store.check().unwrap().damaged, 0);
}

#[test]
fn one_that_is_renewed_meanwhile_makes_the_commit_conflict() {
    let (_clock, store) = timed();
    let other = logged_in(&store, "ann");
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    txn.session(&id).unwrap().end_others().unwrap();
    let other = with(&store, &other, Session::rotate);
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(is_there(&store, &other));
}

// C8.2
#[test]
fn one_that_got_another_owner_meanwhile_does_not_end_with_the_others() {
    let (_clock, store) = timed();
    let other = logged_in(&store, "ann");
    let id = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    assert_eq!(txn.session(&id).unwrap().end_others().unwrap(), 1);
    with(&store, &other, |s| s.set_owner(Some("bob")));
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
    assert!(is_there(&store, &other));
    // One that has gone by itself is no conflict.
    let gone = logged_in(&store, "ann");
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    assert_eq!(session.end_others().unwrap(), 1);
    // Destroying it without a reason of its owner's is not bound to one.
    txn.session(&other).unwrap().destroy().unwrap();
    with(&store, &other, |s| s.set_owner(Some("eve")));
    txn.commit().unwrap();
    assert!(!is_there(&store, &other) && !is_there(&store, &gone));
}

// C2.2: the store is killed after each answer.
#[test]
fn what_ended_is_ended_after_a_crash() {
    needs_files!("it copies the store's files");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let ids: Vec<_> = (0..4).map(|_| logged_in(&store, "ann")).collect();
    store.end(ids[0].key()).unwrap();
    with(&store, &ids[1], |session| {
        assert_eq!(session.end_others()?, 2);
        Ok(())
    });
    let killed = reopened_copy(&path);
    assert_eq!(keys_of(&killed.1, "ann"), [ids[1].key()]);
    store.end_all_of("ann").unwrap();
    let bob = logged_in(&store, "bob");
    let killed = reopened_copy(&path);
    assert_eq!(keys_of(&killed.1, "ann"), []);
    assert_refused(&killed.1, &ids[1]);
    store.end_all().unwrap();
    assert!(!is_there(&reopened_copy(&path).1, &bob));
}

/// A copy of a store's files as they are while it is open, opened.
fn reopened_copy(path: &Path) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let from = entry.unwrap().path();
        std::fs::copy(&from, folder.path().join(from.file_name().unwrap())).unwrap();
    }
    let store = file_builder().open(folder.path().join("store")).unwrap();
    (folder, store)
}

#[test]
fn what_ends_and_the_other_calls_are_futures_too() {
    let (_clock, store) = timed();
    let ids: Vec<_> = (0..3).map(|_| logged_in(&store, "ann")).collect();
    let bob = logged_in(&store, "bob");
    block_on(async {
        assert_eq!(store.end_async(ids[0].key()).await.unwrap(), 1);
        assert_eq!(store.end_all_of_async("ann").await.unwrap(), 2);
        assert_eq!(store.end_all_async().await.unwrap(), 1);
    });
    assert!(!is_there(&store, &bob));
}

// C5.4: a session that cannot be read cannot be ended. The caller is told, and all others end.
#[test]
fn a_damaged_session_is_listed_and_the_others_end() {
    needs_files!("it damages a row in the store's file");
    let (_folder, path) = place();
    let store = file_builder().open(&path).unwrap();
    let ids: Vec<_> = (0..3).map(|_| logged_in(&store, "ann")).collect();
    store.close().unwrap();
    flip_session(&path, ids[1].key());
    let store = builder(&crate::support::clock::clock())
        .secret([7; 32])
        .open(&path)
        .unwrap();
    let listed = store.sessions_of("ann").unwrap();
    assert_eq!(listed.len(), 3);
    let damaged = listed
        .iter()
        .find(|info| info.client == ids[1].key())
        .unwrap();
    assert_eq!(
        (damaged.created, damaged.last_access, &*damaged.containers),
        (None, None, &[String::new()][..])
    );
    let corrupt = |error: cloakroom::Error| assert_eq!(error.kind(), ErrorKind::Corrupt);
    corrupt(store.session_info(ids[1].key()).unwrap_err());
    let end_others = |txn: &Txn| txn.session(&ids[0])?.end_others();
    corrupt(store.transact(end_others).unwrap_err());
    assert!(is_there(&store, &ids[2]));
    let ended = |result: cloakroom::Result<u64>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        error.sessions_ended()
    };
    assert_eq!(ended(store.end(ids[1].key())), Some(0));
    assert_eq!(ended(store.end_all_of("ann")), Some(2));
    assert_eq!(keys_of(&store, "ann"), [ids[1].key()]);
    let bob = logged_in(&store, "bob");
    assert_eq!(ended(store.end_all()), Some(1));
    assert!(!is_there(&store, &bob));
}

// The index of owners still names the rows of the container.
#[test]
fn an_owners_sessions_are_ended_after_a_container_was_unregistered() {
    let (_, store) = timed();
    store.register("cart", ContainerSettings::new()).unwrap();
    let id = logged_in(&store, "ann");
    with(&store, &id, |session| session.pkg("app").insert("n", 1));
    store.unregister("cart").unwrap();
    assert_eq!(store.end_all_of("ann").unwrap(), 1);
    assert!(!is_there(&store, &id));
    assert_eq!(store.end_all_of("ann").unwrap(), 0);
}

#[test]
fn an_owner_who_was_set_has_not_logged_in() {
    let (_, store) = timed();
    for owner in [Some("bob"), Some("ann"), None] {
        let id = logged_in(&store, "ann");
        let login = |session: &Session| session.authenticated_at();
        assert!(with(&store, &id, login).is_some());
        with(&store, &id, |session| session.set_owner(owner));
        assert_eq!(with(&store, &id, login), None);
    }
}
