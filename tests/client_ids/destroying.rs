//! C4.7: the end of a session.

use super::{destroy, in_memory, n};
use crate::support::visitors::visitor;
use cloakroom::ContainerSettings;

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
