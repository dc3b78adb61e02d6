//! C4.3, C4.4, C4.6, C4.7: when the cookie is sent, with which attributes, and what caches are told.

use super::*;
use axum::http::{HeaderName, StatusCode};
use axum::routing::post;
use cloakroom::ErrorKind;
use cloakroom::http::{CookieLifetime, CookieSettings, SameSite};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn with_cookie(settings: CookieSettings) -> Router {
    let store = Store::in_memory().unwrap();
    site(SessionLayer::new(store).cookie(settings))
}

/// The attributes of a cookie, without its name and value.
fn attributes(field: &str) -> &str {
    field.split_once("; ").unwrap().1
}

/// C1.4, C4.3
#[tokio::test]
async fn reading_hands_out_no_cookie() {
    let (_, app) = usual();
    assert_eq!(set_cookie(&get_page(&app, "/read", "").await), None);
}

/// C4.3
#[tokio::test]
async fn the_default_name_tells_two_stores_apart() {
    let name = |cookie: &str| halves(cookie).0.to_owned();
    let (one, two) = (visitor(&usual().1).await, visitor(&usual().1).await);
    let digits = name(&one);
    let digits = digits.strip_prefix("__Host-id-").unwrap();
    assert_eq!(digits.len(), 8);
    assert!(digits.bytes().all(|b| b.is_ascii_hexdigit()), "{digits}");
    assert_ne!(name(&one), name(&two));
}

/// C4.3
#[tokio::test]
async fn the_cookie_is_sent_when_new_and_then_only_with_a_due_touch() {
    let (clock, _, app) = timed();
    let cookie = visitor(&app).await;
    for path in ["/read", "/count"] {
        assert_eq!(set_cookie(&get_page(&app, path, &cookie).await), None);
    }
    clock.advance(11 * MINUTE);
    assert_eq!(set_cookie(&get_page(&app, "/plain", &cookie).await), None);
    let response = get_page(&app, "/read", &cookie).await;
    assert_eq!(jar(&response), cookie);
    assert_eq!(set_cookie(&get_page(&app, "/read", &cookie).await), None);
}

/// C4.3
#[tokio::test]
async fn a_session_that_expired_gets_no_cookie_again() {
    let (clock, _, app) = timed();
    let cookie = visitor(&app).await;
    clock.advance(61 * MINUTE);
    let response = get_page(&app, "/read", &cookie).await;
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "0");
}

/// C4.3
#[tokio::test]
async fn a_sessions_own_timeout_is_its_cookies_max_age() {
    let remember = |session: Session| async move {
        count(&session)?;
        session.set_timeout(Some(Duration::from_secs(30 * 24 * 3600)))
    };
    let (clock, store, app) = timed();
    let route = Router::new().route("/remember", post(remember));
    let app = app.merge(route.layer(SessionLayer::new(store)));
    let response = send(&app, request("POST", "/remember", "")).await;
    assert!(set_cookie(&response).unwrap().contains("; Max-Age=2592000"));

    clock.advance(Duration::from_secs(24 * 3600));
    let touched = get_page(&app, "/read", &jar(&response)).await;
    assert!(set_cookie(&touched).unwrap().contains("; Max-Age=2592000"));
}

/// C4.4
#[tokio::test]
async fn the_cookie_is_safe_by_default() {
    let (_, app) = usual();
    let field = set_cookie(&get_page(&app, "/count", "").await).unwrap();
    assert!(field.starts_with("__Host-"), "{field}");
    assert_eq!(attributes(&field), "HttpOnly; SameSite=Lax; Secure; Path=/");
}

/// C4.3, C4.4
#[tokio::test]
async fn settings_are_those_of_the_cookie() {
    let settings = CookieSettings::new()
        .name("sid")
        .and_then(|c| c.domain("example.com"))
        .and_then(|c| c.same_site(SameSite::Strict))
        .unwrap()
        .lifetime(CookieLifetime::For(90 * MINUTE));
    let app = with_cookie(settings);
    let response = get_page(&app, "/count", "").await;
    let field = set_cookie(&response).unwrap();
    assert!(field.starts_with("__Secure-sid="), "{field}");
    assert_eq!(
        attributes(&field),
        "HttpOnly; SameSite=Strict; Secure; Path=/; Domain=example.com; Max-Age=5400"
    );
    assert_eq!(page(&app, "/count", &jar(&response)).await, "2");
}

/// C4.4
#[tokio::test]
async fn plain_http_is_one_explicit_call() {
    let settings = CookieSettings::new().name("sid").unwrap().plain_http();
    let app = with_cookie(settings);
    let response = get_page(&app, "/count", "").await;
    let field = set_cookie(&response).unwrap();
    assert!(field.starts_with("sid="), "{field}");
    assert_eq!(attributes(&field), "HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(page(&app, "/count", &jar(&response)).await, "2");
}

/// C4.4
#[tokio::test]
async fn what_browsers_would_drop_is_never_sent() {
    let late = CookieSettings::new().same_site(SameSite::None).unwrap();
    let response = get_page(&with_cookie(late.plain_http()), "/count", "").await;
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(set_cookie(&response), None);
    let error = response.extensions().get::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

fn cache(response: &Response<Body>) -> (Vec<String>, Vec<String>) {
    (
        values(response, header::CACHE_CONTROL),
        values(response, header::VARY),
    )
}

fn lines(one: &str, other: &str) -> (Vec<String>, Vec<String>) {
    (vec![one.to_owned()], vec![other.to_owned()])
}

/// C4.6
#[tokio::test]
async fn a_response_that_sets_or_removes_the_cookie_is_not_stored() {
    let public = |session: Session| async move {
        count(&session)?;
        Ok::<_, Error>([(header::CACHE_CONTROL, "public, max-age=600")])
    };
    let (store, app) = usual();
    let route = Router::new().route("/public", get(public));
    let app = app.merge(route.layer(SessionLayer::new(store)));
    let response = get_page(&app, "/public", "").await;
    assert_eq!(cache(&response), lines("no-store", "Cookie"));
    let cookie = jar(&response);
    let response = get_page(&app, "/public", &cookie).await;
    assert_eq!(cache(&response), lines("public, max-age=600", "Cookie"));
    let response = get_page(&app, "/destroy", &cookie).await;
    assert_eq!(cache(&response), lines("no-store", "Cookie"));
}

/// C4.6
#[tokio::test]
async fn a_response_that_depended_on_the_session_is_private() {
    let fail = |_: Session| async { StatusCode::NOT_IMPLEMENTED };
    let varied = |_: Session| async { [(HeaderName::from_static("vary"), "Accept")] };
    let (store, app) = usual();
    let routes = Router::new()
        .route("/fail", get(fail))
        .route("/varied", get(varied));
    let app = app.merge(routes.layer(SessionLayer::new(store)));

    let empty = get_page(&app, "/read", "").await;
    assert_eq!(cache(&empty), lines("private, no-cache", "Cookie"));
    let aborted = get_page(&app, "/fail", "").await;
    assert_eq!(cache(&aborted), lines("private, no-cache", "Cookie"));
    let varied = get_page(&app, "/varied", "").await;
    assert_eq!(values(&varied, header::VARY), ["Accept", "Cookie"]);
    let plain = get_page(&app, "/plain", "").await;
    assert_eq!(cache(&plain), (vec![], vec![]));
}

/// C4.7
#[tokio::test]
async fn rotation_sends_a_new_cookie_and_ends_the_old_one() {
    let (store, app) = usual();
    let old = visitor(&app).await;
    let new = jar(&get_page(&app, "/rotate", &old).await);
    assert_ne!(old, new);
    assert_eq!(halves(&old).0, halves(&new).0);
    assert_eq!(page(&app, "/read", &new).await, "1");
    assert_eq!(page(&app, "/read", &old).await, "0");
    assert_eq!(stored(&store, &new), Some(1));
}

/// C4.7
#[tokio::test]
async fn destruction_removes_the_cookie_with_its_attributes() {
    let settings = CookieSettings::new()
        .domain("example.com")
        .and_then(|c| c.path("/"))
        .and_then(|c| c.same_site(SameSite::None))
        .and_then(CookieSettings::partitioned)
        .unwrap();
    let app = with_cookie(settings);
    let given = get_page(&app, "/count", "").await;
    let cookie = jar(&given);
    let removed = get_page(&app, "/destroy", &cookie).await;
    assert_eq!(jar(&removed), format!("{}=", halves(&cookie).0));
    assert_eq!(
        attributes(&set_cookie(&removed).unwrap()),
        attributes(&set_cookie(&given).unwrap()).to_owned()
            + "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
    assert_eq!(page(&app, "/read", &cookie).await, "0");
}

/// C4.7
#[tokio::test]
async fn only_the_response_that_destroyed_the_session_removes_the_cookie() {
    let fail = |session: Session| async move {
        session.destroy().unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let (store, app) = usual();
    let route = Router::new().route("/fail", get(fail));
    let app = app.merge(route.layer(SessionLayer::new(store)));
    assert_eq!(set_cookie(&get_page(&app, "/destroy", "").await), None);

    let cookie = visitor(&app).await;
    assert_eq!(set_cookie(&get_page(&app, "/fail", &cookie).await), None);
    assert_eq!(page(&app, "/read", &cookie).await, "1");
    assert!(set_cookie(&get_page(&app, "/destroy", &cookie).await).is_some());
    assert_eq!(set_cookie(&get_page(&app, "/read", &cookie).await), None);
}
