//! C8.2: how many sessions an owner may have.

use super::{is_there, logged_in, with};
use crate::support::clock::{MINUTE, clock};
use crate::support::store::{builder, keys_of};
use cloakroom::{ClientId, ErrorKind, Session, Store, WhenFull};

fn limited(when_full: WhenFull) -> (cloakroom::Clock, Store) {
    let clock = clock();
    let store = builder(&clock).max_sessions_per_owner(2, when_full);
    (clock, store.in_memory().unwrap())
}

fn log_in_again(store: &Store, id: &ClientId) -> ClientId {
    with(store, id, |session| session.log_in("ann"))
}

#[test]
fn a_login_beyond_the_limit_is_refused_and_leaves_nothing() {
    let (_clock, store) = limited(WhenFull::Refuse);
    let first = logged_in(&store, "ann");
    let second = logged_in(&store, "ann");
    let visitor = store.client_ids().issue();
    with(&store, &visitor, |s| s.pkg("cart").insert("tea", 2));
    let txn = store.begin().unwrap();
    let session = txn.session(&visitor).unwrap();
    let error = session.log_in("ann").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAdmitted);
    session.log_in("bob").unwrap();
    txn.commit().unwrap();
    assert_eq!(keys_of(&store, "ann").len(), 2);
    // One that is the owner's already logs in again.
    let first = log_in_again(&store, &first);
    with(&store, &second, Session::log_out);
    logged_in(&store, "ann");
    assert!(is_there(&store, &first));
}

#[test]
fn a_login_beyond_the_limit_ends_those_that_were_not_used_for_longest() {
    let (clock, store) = limited(WhenFull::EndOldest);
    let first = logged_in(&store, "ann");
    clock.advance(MINUTE);
    let second = logged_in(&store, "ann");
    clock.advance(20 * MINUTE);
    with(&store, &first, |s| s.pkg("cart").get::<u8>("tea"));
    store.checkpoint().unwrap();
    clock.advance(MINUTE);
    let third = logged_in(&store, "ann");
    assert!(is_there(&store, &first) && is_there(&store, &third));
    assert!(!is_there(&store, &second));
    // Nothing ends if the login does not come about.
    let visitor = store.client_ids().issue();
    let txn = store.begin().unwrap();
    txn.session(&visitor).unwrap().log_in("ann").unwrap();
    txn.abort();
    assert_eq!(keys_of(&store, "ann").len(), 2);
}

#[test]
fn what_logins_at_the_same_moment_are_too_many_the_next_one_ends() {
    let (clock, store) = limited(WhenFull::EndOldest);
    let logins: Vec<_> = (0..4)
        .map(|_| {
            let txn = store.begin().unwrap();
            let id = store.client_ids().issue();
            txn.session(&id).unwrap().log_in("ann").unwrap();
            txn
        })
        .collect();
    logins.into_iter().for_each(|txn| txn.commit().unwrap());
    assert_eq!(keys_of(&store, "ann").len(), 4);
    clock.advance(MINUTE);
    let last = logged_in(&store, "ann");
    assert_eq!(keys_of(&store, "ann").len(), 2);
    assert!(is_there(&store, &last));
}

#[test]
fn expired_sessions_and_those_of_others_do_not_count() {
    let (clock, store) = limited(WhenFull::Refuse);
    (0..2).for_each(|_| drop(logged_in(&store, "ann")));
    (0..2).for_each(|_| drop(logged_in(&store, "bob")));
    clock.advance(61 * MINUTE);
    (0..2).for_each(|_| drop(logged_in(&store, "ann")));
    let visitor = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let refused = txn.session(&visitor).unwrap().log_in("ann");
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotAdmitted);
}
