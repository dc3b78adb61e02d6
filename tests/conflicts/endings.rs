//! C2.11: a session that ended never comes back.

use super::{LONG, put, stored, usual};
use crate::support::visitors::with;
use cloakroom::{ContainerSettings, Result, Session, Store};

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
