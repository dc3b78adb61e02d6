use super::*;
use crate::block_on::block_on;
use crate::client_id::{ClientIds, Secret};
use crate::http::CookieSettings;
use crate::store::Store;
use http::Request;

/// A request of a visitor who has this id.
fn exchange(store: &Store, id: &ClientId) -> Arc<Exchange> {
    let mut settings = LayerSettings::new(store.clone());
    settings.set_cookie(CookieSettings::new().name("sid").unwrap());
    let cookie = format!("__Host-sid={}", id.as_str());
    let request = Request::builder().header(header::COOKIE, cookie);
    let (parts, ()) = request.body(()).unwrap().into_parts();
    Exchange::new(Arc::new(settings), parts, &SizeHint::default())
}

// C4.2, C10.3
#[test]
fn a_request_whose_id_another_process_signed_finds_its_session() {
    let store = Store::in_memory().unwrap();
    let foreign = ClientIds::new(Secret::from_key(77, [77; 32]), Vec::new());
    let id = foreign.issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("a").insert("k", 1).unwrap();
    txn.commit().unwrap();
    store.add_secret_elsewhere(77, [77; 32]);
    assert!(store.client_ids().verify(id.as_str()).is_none());

    let exchange = exchange(&store, &id);
    let (_txn, session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
    assert_eq!(session.pkg("a").get("k").unwrap(), Some(1));
}
