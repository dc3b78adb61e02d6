//! C4.3 to C4.7, C8.4: when the cookie is sent, with which attributes, and what may hand one out.

use super::*;
use cloakroom::http::{CookieLifetime, CookieSettings, HeaderTransport, SameSite};

async fn with_cookie<B: Backend>(settings: CookieSettings) -> B {
    let store = Store::in_memory().unwrap();
    B::start(Site::new(SessionLayer::new(store).cookie(settings))).await
}

/// The attributes of a cookie, without its name and value.
fn attributes(answer: &Answer) -> &str {
    let field = answer.set_cookie().expect("a cookie");
    field.split_once("; ").unwrap().1
}

/// C1.4, C4.3
pub(crate) async fn reading_hands_out_no_cookie<B: Backend>() {
    let (_, app) = usual::<B>().await;
    let answer = app.get("/read", "").await;
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(answer.body.await, "0");
}

/// C4.4
pub(crate) async fn the_cookie_is_safe_by_default<B: Backend>() {
    let (_, app) = usual::<B>().await;
    let answer = app.get("/count", "").await;
    assert!(answer.jar().starts_with("__Host-id-"));
    let expected = "HttpOnly; SameSite=Lax; Secure; Path=/";
    assert_eq!(attributes(&answer), expected);
}

/// C4.3, C4.4
pub(crate) async fn settings_are_those_of_the_cookie<B: Backend>() {
    let settings = CookieSettings::new()
        .name("sid")
        .and_then(|c| c.domain("example.com"))
        .and_then(|c| c.same_site(SameSite::Strict))
        .unwrap()
        .lifetime(CookieLifetime::For(90 * MINUTE));
    let app: B = with_cookie(settings).await;
    let answer = app.get("/count", "").await;
    assert!(answer.jar().starts_with("__Secure-sid="));
    assert_eq!(
        attributes(&answer),
        "HttpOnly; SameSite=Strict; Secure; Path=/; Domain=example.com; Max-Age=5400"
    );
    assert_eq!(app.page("/count", &answer.jar()).await, "2");
}

/// C4.3
pub(crate) async fn the_cookie_is_sent_again_with_a_due_touch<B: Backend>() {
    let (clock, store) = timed();
    let cookie = CookieSettings::new().lifetime(CookieLifetime::Max);
    let app = B::start(Site::new(SessionLayer::new(store).cookie(cookie))).await;
    let cookie = app.visitor().await;
    for path in ["/read", "/count"] {
        assert_eq!(app.get(path, &cookie).await.set_cookie(), None);
    }
    clock.advance(11 * MINUTE);
    assert_eq!(app.get("/plain", &cookie).await.set_cookie(), None);
    assert_eq!(app.get("/read", &cookie).await.jar(), cookie);
    assert_eq!(app.get("/read", &cookie).await.set_cookie(), None);
}

/// C4.3
pub(crate) async fn a_sessions_own_timeout_is_its_cookies_max_age<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store)).page("/remember", |session, _| async move {
        session.set_timeout(Some(MINUTE))?;
        text("")
    });
    let answer = B::start(site).await.get("/remember", "").await;
    assert!(attributes(&answer).ends_with("; Max-Age=60"));
}

/// C4.7
pub(crate) async fn destruction_removes_the_cookie_with_its_attributes<B: Backend>() {
    let settings = CookieSettings::new()
        .domain("example.com")
        .and_then(|c| c.same_site(SameSite::None))
        .and_then(CookieSettings::partitioned)
        .unwrap();
    let app: B = with_cookie(settings).await;
    let given = app.get("/count", "").await;
    let cookie = given.jar();
    let removed = app.get("/destroy", &cookie).await;
    assert_eq!(removed.jar(), format!("{}=", halves(&cookie).0));
    assert_eq!(
        attributes(&removed),
        format!(
            "{}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            attributes(&given)
        )
    );
    assert_eq!(app.page("/read", &cookie).await, "0");
}

/// C4.7
pub(crate) async fn rotation_sends_a_new_cookie_and_ends_the_old_one<B: Backend>() {
    let (store, app) = usual::<B>().await;
    let old = app.visitor().await;
    let new = app.get("/rotate", &old).await.jar();
    assert_ne!(old, new);
    assert_eq!(app.page("/read", &new).await, "1");
    assert_eq!(app.page("/read", &old).await, "0");
    assert_eq!(stored(&store, &new), Some(1));
}

/// C8.4
pub(crate) async fn an_old_id_is_renewed<B: Backend>() {
    let (clock, store) = timed();
    let layer = SessionLayer::new(store).renew_after(10 * MINUTE);
    let app = B::start(Site::new(layer)).await;
    let old = app.visitor().await;
    clock.advance(11 * MINUTE);
    let new = app.get("/read", &old).await.jar();
    assert_ne!(old, new);
    let late = app.get("/count", &old).await;
    assert_eq!(late.set_cookie(), None);
    assert_eq!(app.page("/count", &new).await, "3");
}

/// C4.5, C6.5
pub(crate) async fn post_only_refuses_a_get<B: Backend>() {
    let app: B = with_cookie(CookieSettings::new().post_only()).await;
    let refused = app.get("/count", "").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.kind(), Some(ErrorKind::MissingClientId));
    assert_eq!(refused.set_cookie(), None);
    assert_eq!(app.page("/read", "").await, "0");
    let cookie = app.post("/count", "").await.jar();
    assert_eq!(app.page("/count", &cookie).await, "2");
}

/// C4.5
pub(crate) async fn the_cookie_of_a_front_server_is_read_and_never_sent<B: Backend>() {
    let settings = CookieSettings::new().third_party("front").unwrap();
    let app: B = with_cookie(settings).await;
    let without = app.get("/count", "").await;
    assert_eq!(without.kind(), Some(ErrorKind::MissingClientId));
    for n in ["1", "2"] {
        let answer = app.get("/count", "front=abc").await;
        assert_eq!(answer.set_cookie(), None);
        assert_eq!(answer.body.await, n);
    }
    let rotated = app.get("/rotate", "front=abc").await;
    assert_eq!(rotated.kind(), Some(ErrorKind::Unsupported));
}

/// C4.6
pub(crate) async fn an_id_travels_in_a_header<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let transport = HeaderTransport::new("x-session-id".parse().unwrap()).unwrap();
    let app = B::start(Site::new(SessionLayer::new(store).transport(transport))).await;
    let field = HeaderName::from_static("x-session-id");
    let asked = |path, id: &str| {
        let mut request = request("GET", path, "");
        let id = id.parse().unwrap();
        request.headers_mut().insert(field.clone(), id);
        request
    };
    let first = app.send(asked("/count", "new")).await;
    assert_eq!(first.set_cookie(), None);
    let varies = first.values(header::VARY).join(", ");
    assert_eq!(varies.to_lowercase(), "cookie, x-session-id");
    let id = first.values(field.clone())[0].to_owned();
    let second = app.send(asked("/count", &id)).await;
    assert_eq!(second.body.await, "2");
    let ended = app.send(asked("/destroy", &id)).await;
    assert_eq!(ended.values(field), [""]);
}

/// C4.3: several fields of one name are several fields.
pub(crate) async fn the_handlers_own_cookies_stay<B: Backend>() {
    let store = Store::in_memory().unwrap();
    let site = Site::new(SessionLayer::new(store)).page("/own", |session, _| async move {
        count(&session)?;
        let mut response = text("")?;
        for own in ["a=1", "b=2; Path=/"] {
            let own = own.parse().unwrap();
            response.headers_mut().append(header::SET_COOKIE, own);
        }
        Ok(response)
    });
    let answer = B::start(site).await.get("/own", "").await;
    let cookies = answer.values(header::SET_COOKIE);
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    assert_eq!(cookies[..2], ["a=1", "b=2; Path=/"]);
    assert!(cookies[2].starts_with("__Host-id-"));
}
