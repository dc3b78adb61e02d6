use super::*;
use crate::block_on::block_on;
use crate::client_id::{ClientIds, Secret};
use crate::clock::Clock;
use crate::container::ContainerSettings;
use crate::http::CookieSettings;
use crate::store::Store;
use http::Request;
use http::request::Parts;
use std::time::Duration;

/// A request of a visitor who has this id.
fn exchange(store: &Store, id: &ClientId) -> Arc<Exchange> {
    exchange_with(store, &format!("__Host-sid={}", id.as_str()))
}

/// A request with these cookies.
fn exchange_with(store: &Store, cookie: &str) -> Arc<Exchange> {
    let mut settings = LayerSettings::new(store.clone());
    settings.set_cookie(CookieSettings::new().name("sid").unwrap());
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

// C4.2, C4.9, C10.3
#[test]
fn an_id_of_this_process_hides_none_that_another_process_signed() {
    let store = Store::in_memory().unwrap();
    let foreign = ClientIds::new(Secret::from_key(77, [77; 32]), Vec::new());
    let id = foreign.issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("a").insert("k", 1).unwrap();
    txn.commit().unwrap();
    store.add_secret_elsewhere(77, [77; 32]);

    let dead = store.client_ids().issue();
    let cookie = format!("__Host-sid={}; __Host-sid={}", dead.as_str(), id.as_str());
    let exchange = exchange_with(&store, &cookie);
    let (_txn, session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
    assert_eq!(session.pkg("a").get("k").unwrap(), Some(1));
}

// C4.2, C8.6, C10.3
#[cfg(feature = "cookie-containers")]
#[test]
fn the_secret_of_a_cookie_that_another_process_sealed_is_learned() {
    use base64::Engine as _;

    let store = Store::in_memory().unwrap();
    let seen = ContainerSettings::new().cookie();
    store.register("seen", seen).unwrap();
    store.add_secret_elsewhere(77, [77; 32]);
    let id = store.client_ids().issue();
    let sealed = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode([1, 77, 5, 6, 7, 8]);
    let cookie = format!("__Host-sid={}; __Host-sid-seen={sealed}", id.as_str());
    let exchange = exchange_with(&store, &cookie);
    let (_txn, _session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
    assert!(store.client_ids().knows(77));
}

// C6.5: a request whose session cannot be looked up is not refused as one without a session.
#[test]
fn a_look_that_fails_is_not_taken_for_a_visitor_without_a_session() {
    let store = Store::in_memory().unwrap();
    let id = store.client_ids().issue();
    let put = |n: i32| {
        let txn = store.begin().unwrap();
        let session = txn.session(&id).unwrap();
        session.pkg("a").insert("k", n).unwrap();
        (txn, session)
    };
    put(1).0.commit().unwrap();
    let mut settings = LayerSettings::new(store.clone());
    settings.rules.admit_new = Some(Arc::new(|_: &Parts| false));
    let (parts, ()) = Request::new(()).into_parts();
    let exchange = Exchange::new(Arc::new(settings), parts, &SizeHint::default());
    let (_txn, mut session) = put(2);
    exchange.admit(&mut session).unwrap();
    let (_other, mut unseen) = put(3);
    store.close().unwrap();
    let error = exchange.admit(&mut unseen).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

// C2.7, C4.5: where it is live, no other container is looked into, although the request may found nothing.
#[test]
fn a_request_that_founds_nothing_looks_into_no_other_container() {
    let clock = Clock::manual(chrono::DateTime::UNIX_EPOCH);
    let builder = Store::builder().clock(clock.clone());
    let store = builder.implicit_sweeps(false).in_memory().unwrap();
    let short = ContainerSettings::new().timeout(Duration::from_secs(1800));
    let short = store.register("short", short).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for package in ["app", "short"] {
        let session = txn.session(&id).unwrap();
        session.pkg(package).insert("n", 1).unwrap();
    }
    txn.commit().unwrap();
    let mut settings = LayerSettings::new(store.clone());
    settings.set_cookie(CookieSettings::new().name("sid").unwrap().post_only());
    let cookie = format!("__Host-sid={}", id.as_str());
    let request = Request::builder().header(header::COOKIE, cookie);
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let exchange = Exchange::new(Arc::new(settings), parts, &SizeHint::default());
    let (txn, session) = block_on(exchange.begin(AttemptOrder::Optimistic)).unwrap();
    session.pkg("app").insert("n", 2).unwrap();
    clock.advance(Duration::from_secs(1900));
    assert_eq!(short.sweep().unwrap().removed, 1);
    txn.commit().unwrap();
}
