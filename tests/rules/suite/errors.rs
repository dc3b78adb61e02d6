//! C6.5: what an error answers, a missing layer, and a layer too many.

use super::*;
use cloakroom::http::CookieSettings;

pub(crate) async fn a_missing_layer_is_named<B: Backend>() {
    let mut site = Site::new(SessionLayer::new(Store::in_memory().unwrap()));
    site.layers.clear();
    let answer = B::start(site).await.get("/count", "").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.kind(), Some(ErrorKind::NoSessionLayer));
    let body = answer.body.await;
    assert!(body.contains("is the session layer installed?"), "{body}");
}

pub(crate) async fn a_nested_layer_steps_aside<B: Backend>() {
    let (outer, inner) = (Store::in_memory().unwrap(), Store::in_memory().unwrap());
    let settings = CookieSettings::new().name("inner").unwrap();
    let mut site = Site::new(SessionLayer::new(inner.clone()).cookie(settings));
    site = site.page("/echo", |session, visit| async move {
        count(&session)?;
        text(String::from_utf8(visit.body.to_vec()).unwrap())
    });
    site.layers.push(SessionLayer::new(outer.clone()));
    let app = B::start(site).await;
    let cookie = app.visitor().await;
    assert!(!cookie.contains("inner"), "{cookie}");
    assert_eq!(stored(&outer, &cookie), Some(1));
    assert!(inner.client_ids().verify(halves(&cookie).1).is_none());

    let sent = Sent::Whole(Bytes::from_static(b"through both"));
    let echo = app.send(with_body("PUT", "/echo", &cookie, sent)).await;
    assert_eq!(echo.body.await, "through both");
    assert_eq!(app.page("/count", &cookie).await, "3");
}

pub(crate) async fn what_is_too_large_is_answered_413<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store)).page("/large", |session, _| async move {
        let value = "x".repeat(64 << 20);
        session.pkg(PACKAGE).insert("large", value)?;
        text("never sent")
    });
    let answer = B::start(site).await.get("/large", "").await;
    assert_eq!(answer.status(), 413);
    assert_eq!(answer.kind(), Some(ErrorKind::TooLarge));
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(answer.body.await, "");
}

pub(crate) async fn a_visitor_that_is_not_admitted_is_answered_429<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let layer = SessionLayer::new(store.clone())
        .admit_new(|request| request.headers.contains_key("x-guest"));
    let app = B::start(Site::new(layer)).await;
    let refused = app.get("/count", "").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.kind(), Some(ErrorKind::NotAdmitted));
    let mut guest = request("GET", "/count", "");
    let yes = "yes".parse().unwrap();
    guest.headers_mut().insert("x-guest", yes);
    let cookie = app.send(guest).await.jar();
    assert_eq!(app.page("/count", &cookie).await, "2");
}

pub(crate) async fn an_error_that_the_handler_returns_is_the_layers_answer<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let other = store.clone();
    let site = Site::new(SessionLayer::new(store)).page("/doomed", move |_, _| {
        let doomed = other.begin().unwrap();
        doomed.doom();
        async move {
            doomed.commit()?;
            text("never sent")
        }
    });
    let answer = B::start(site).await.get("/doomed", "").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.kind(), Some(ErrorKind::Doomed));
    assert_eq!(answer.cache(), (vec!["no-store"], vec!["Cookie"]));
    assert_eq!(answer.values(header::RETRY_AFTER), [""; 0]);
    assert_eq!(answer.body.await, "");
}

pub(crate) async fn a_store_that_is_closed_is_an_error<B: Backend>() {
    let (store, app) = usual::<B>().await;
    store.close().unwrap();
    let answer = app.get("/read", "").await;
    assert_eq!(answer.status(), 500);
    assert_eq!(answer.kind(), Some(ErrorKind::Closed));
    assert_eq!(answer.body.await, "");
}
