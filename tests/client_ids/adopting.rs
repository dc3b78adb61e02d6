//! C4.5: ids that somebody else made.

use super::{destroy, in_memory, n, put};
use crate::support::clock::secs;
use crate::support::store::keys_of;
use cloakroom::ErrorKind;

// C4.5, C4.8
#[test]
fn an_adopted_id_founds_a_session_whenever_there_is_none_and_none_ended_just_now() {
    let (store, clock) = in_memory();
    let adopt = || store.client_ids().adopt(b"\xFF record 7").unwrap();
    for round in 1..4 {
        let txn = store.begin().unwrap();
        let session = put(&txn, &adopt(), round);
        assert_eq!(session.client_id(), Some(adopt()));
        txn.commit().unwrap();
        assert_eq!(n(&store, &adopt()), Some(round));
        destroy(&store, &adopt());
        assert_eq!(n(&store, &adopt()), None);
        let txn = store.begin().unwrap();
        put(&txn, &adopt(), 9);
        assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::Conflict);
        clock.advance(secs(11));
    }
    // Over one that has expired, too, of which nothing is left.
    let txn = store.begin().unwrap();
    let old = txn.session(&adopt()).unwrap();
    old.pkg("old").insert("n", 1).unwrap();
    txn.commit().unwrap();
    clock.advance(secs(4000));
    let txn = store.begin().unwrap();
    put(&txn, &adopt(), 5);
    txn.commit().unwrap();
    assert_eq!(n(&store, &adopt()), Some(5));
    let txn = store.begin().unwrap();
    let old = txn.session(&adopt()).unwrap().pkg("old");
    assert!(old.is_empty().unwrap());
}

// C4.5, C2.8
#[test]
fn two_that_found_under_an_adopted_id_at_once_share_the_session() {
    let (store, _) = in_memory();
    let id = || store.client_ids().adopt(&[7; 16]).unwrap();
    let (one, two) = (store.begin().unwrap(), store.begin().unwrap());
    put(&one, &id(), 1);
    let other = two.session(&id()).unwrap();
    other.pkg("other").insert("n", 2).unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(n(&store, &id()), Some(1));
    assert_eq!(store.check().unwrap().sessions, 1);
    // One that had seen the session does not bring it back.
    let late = store.begin().unwrap();
    let session = late.session(&id()).unwrap();
    assert!(session.exists().unwrap());
    session.pkg("app").insert("n", 3).unwrap();
    destroy(&store, &id());
    assert_eq!(late.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

// C4.5
#[test]
fn an_adopted_id_is_no_issued_one_and_cannot_be_replaced() {
    let (store, _) = in_memory();
    let issued = store.client_ids().issue();
    let txn = store.begin().unwrap();
    put(&txn, &issued, 1);
    txn.commit().unwrap();
    let adopted = store.client_ids().adopt(issued.as_bytes()).unwrap();
    assert!(adopted != issued && adopted.key() != issued.key());
    assert_eq!(n(&store, &adopted), None);
    for len in [0, 257] {
        let error = store.client_ids().adopt(&vec![b'a'; len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let txn = store.begin().unwrap();
    let session = put(&txn, &adopted, 2);
    for refused in [session.rotate(), session.log_in("ann")] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    session.set_owner(Some("ann")).unwrap();
    txn.commit().unwrap();
    assert_eq!(keys_of(&store, "ann"), [adopted.key()]);
    let txn = store.begin().unwrap();
    let session = txn.session(&adopted).unwrap();
    session.destroy().unwrap();
    let error = session.pkg("app").insert("n", 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    txn.commit().unwrap();
    assert_eq!(n(&store, &adopted), None);
}
