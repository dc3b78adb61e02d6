//! Visitors, and what they do in transactions of their own.

use cloakroom::{ClientId, Result, Session, Store, Txn};

/// Does something in a transaction of its own.
pub(crate) fn with<T>(store: &Store, id: &ClientId, f: impl Fn(&Session) -> Result<T>) -> T {
    let txn = store.begin().unwrap();
    let value = f(&txn.session(id).unwrap()).unwrap();
    txn.commit().unwrap();
    value
}

/// A visitor with one value.
pub(crate) fn visitor_with(store: &Store, package: &str, key: &str, value: i64) -> ClientId {
    let id = store.client_ids().issue();
    with(store, &id, |s| s.pkg(package).insert(key, value));
    id
}

/// A visitor with one value, `app`/`n` = 1.
pub(crate) fn visitor(store: &Store) -> ClientId {
    visitor_with(store, "app", "n", 1)
}

/// The id as a browser brings it back: nothing is founded under it.
pub(crate) fn again(store: &Store, id: &ClientId) -> ClientId {
    store.client_ids().verify(id.as_str()).unwrap()
}

/// Puts a number into a visitor's session.
pub(crate) fn put(store: &Store, id: &ClientId, n: u64) {
    let put = |txn: &Txn| txn.session(id)?.pkg("p").insert("n", n);
    store.transact(put).unwrap();
}

/// The number that [`put`] left, in a store that may have been opened again.
pub(crate) fn get(store: &Store, id: &ClientId) -> Option<u64> {
    let txn = store.begin().unwrap();
    let session = txn.session(&again(store, id)).unwrap();
    session.pkg("p").get("n").unwrap()
}
