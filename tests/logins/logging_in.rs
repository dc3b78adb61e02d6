//! C8.1: logging in and out.

use super::{info, is_there, logged_in, with};
use crate::support::clock::MINUTE;
use crate::support::store::{keys_of, timed};
use cloakroom::{ClientId, ContainerSettings, ErrorKind, Session, Store};

#[test]
fn logging_in_gives_a_new_id_an_owner_and_the_time() {
    let (clock, store) = timed();
    let visitor = store.client_ids().issue();
    with(&store, &visitor, |s| s.pkg("cart").insert("tea", 2));
    clock.advance(MINUTE);
    let id = with(&store, &visitor, |session| {
        let id = session.log_in("ann")?;
        assert_eq!(session.owner()?.as_deref(), Some("ann"));
        assert!(session.authenticated_at()?.is_some());
        assert_eq!(session.client_id(), Some(id.clone()));
        Ok(id)
    });
    assert!(!is_there(&store, &visitor));
    let at = with(&store, &id, |session| {
        assert_eq!(session.owner()?.as_deref(), Some("ann"));
        assert_eq!(session.pkg("cart").get("tea")?, Some(2));
        session.authenticated_at()
    });
    assert_eq!(at, Some(clock.now()));
    assert_eq!(keys_of(&store, "ann"), [id.key()]);
    // Of a visitor without a session, too.
    let id = with(&store, &store.client_ids().issue(), |s| s.log_in("bob"));
    assert!(is_there(&store, &id));
}

#[test]
fn the_time_of_a_log_in_stays_until_the_next_one() {
    let (clock, store) = timed();
    let id = logged_in(&store, "ann");
    let first = clock.now();
    clock.advance(30 * MINUTE);
    let at = |id: &ClientId| with(&store, id, Session::authenticated_at);
    assert_eq!(at(&id), Some(first));
    let id = with(&store, &id, Session::rotate);
    assert_eq!(at(&id), Some(first));
    let id = with(&store, &id, |s| s.log_in("ann"));
    assert_eq!(at(&id), Some(clock.now()));
    // A further container of the session has it as well.
    store.register("cart", ContainerSettings::new()).unwrap();
    with(&store, &id, |s| s.pkg("cart").insert("tea", 2));
    assert_eq!(info(&store, &id).authenticated_at, Some(clock.now()));
    let other = store.client_ids().issue();
    with(&store, &other, |s| s.set_owner(Some("ann")));
    assert_eq!(at(&other), None);
}

#[test]
fn a_log_in_that_is_rolled_back_or_aborted_leaves_no_trace() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    with(&store, &id, |s| s.pkg("cart").insert("tea", 2));
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let before = txn.savepoint().unwrap();
    session.log_in("ann").unwrap();
    session.set_label("phone").unwrap();
    txn.rollback_to(&before).unwrap();
    assert_eq!(session.owner().unwrap(), None);
    assert_eq!(session.authenticated_at().unwrap(), None);
    assert_eq!(session.label().unwrap(), None);
    session.log_in("ann").unwrap();
    txn.abort();
    assert!(is_there(&store, &id) && keys_of(&store, "ann").is_empty());
}

#[test]
fn an_owner_and_a_label_are_bounded() {
    let (_clock, store) = timed();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    let long = "x".repeat(256);
    let kind = |error: cloakroom::Error| error.kind();
    assert_eq!(
        kind(session.log_in(&long).unwrap_err()),
        ErrorKind::TooLarge
    );
    assert_eq!(
        kind(session.set_label(&long).unwrap_err()),
        ErrorKind::TooLarge
    );
    assert_eq!(session.client_id().map(|id| id.key()), None);
    session.set_label(&long[1..]).unwrap();
    txn.commit().unwrap();
    assert_eq!(info(&store, &id).label.unwrap().len(), 255);
}

#[test]
fn a_label_founds_a_session_and_an_empty_one_removes_it() {
    let (_clock, store) = timed();
    let id = store.client_ids().issue();
    with(&store, &id, |s| s.set_label(""));
    assert!(!is_there(&store, &id));
    let id = store.client_ids().issue();
    with(&store, &id, |s| s.set_label("phone"));
    assert_eq!(with(&store, &id, Session::label).as_deref(), Some("phone"));
    let id = with(&store, &id, Session::rotate);
    assert_eq!(info(&store, &id).label.as_deref(), Some("phone"));
    with(&store, &id, |s| s.set_label(""));
    assert_eq!(with(&store, &id, Session::label), None);
    assert!(is_there(&store, &id));
}

#[test]
fn asking_for_the_owner_alone_uses_the_session() {
    let (clock, store) = timed();
    let id = logged_in(&store, "ann");
    for _ in 0..4 {
        clock.advance(30 * MINUTE);
        assert!(with(&store, &id, Session::owner).is_some());
    }
}

#[test]
fn logging_out_ends_the_session() {
    let (_clock, store) = timed();
    let id = logged_in(&store, "ann");
    with(&store, &id, |session| {
        session.log_out()?;
        assert_eq!(session.owner()?, None);
        assert_eq!(session.authenticated_at()?, None);
        Ok(())
    });
    assert!(!is_there(&store, &id) && keys_of(&store, "ann").is_empty());
}
