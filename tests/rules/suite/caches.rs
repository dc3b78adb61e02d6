//! C4.6: what caches are told.

use super::*;

/// A site in which a page reads or counts, and says that everybody may cache it.
async fn public<B: Backend>() -> B {
    let store = Store::in_memory().unwrap();
    let said = |name: HeaderName, value: &str| {
        let mut response = text("").ok().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
        Ok(response)
    };
    let site = Site::new(SessionLayer::new(store))
        .page("/public", move |session, _| async move {
            count(&session)?;
            said(header::CACHE_CONTROL, "public, max-age=600")
        })
        .page("/varied", move |_, _| async move {
            said(header::VARY, "Accept")
        })
        .page("/fail", |_, _| async { status(501) });
    B::start(site).await
}

pub(crate) async fn a_response_with_our_cookie_is_not_stored<B: Backend>() {
    let app: B = public().await;
    let new = app.get("/public", "").await;
    assert_eq!(new.cache(), (vec!["no-store"], vec!["Cookie"]));
    let cookie = new.jar();
    let known = app.get("/public", &cookie).await;
    let expected = (vec!["public, max-age=600"], vec!["Cookie"]);
    assert_eq!(known.cache(), expected);
    let ended = app.get("/destroy", &cookie).await;
    assert_eq!(ended.cache(), (vec!["no-store"], vec!["Cookie"]));
}

pub(crate) async fn a_response_that_read_the_session_is_private_and_varies<B: Backend>() {
    let app: B = public().await;
    let private = (vec!["private, no-cache"], vec!["Cookie"]);
    assert_eq!(app.get("/read", "").await.cache(), private);
    assert_eq!(app.get("/fail", "").await.cache(), private);
    assert_eq!(app.get("/plain", "").await.cache(), (vec![], vec![]));
}

pub(crate) async fn the_handlers_vary_stays<B: Backend>() {
    let app: B = public().await;
    let varied = app.get("/varied", "").await;
    assert_eq!(varied.values(header::VARY), ["Accept", "Cookie"]);
}
