//! C4.3, C4.4, C4.6, C4.7: when the cookie is sent, with which attributes, and what caches are told.

use super::*;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::routing::post;
use cloakroom::http::{CookieLifetime, CookieSettings, SameSite};
use cloakroom::{ContainerSettings, ErrorKind};
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

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A site whose cookie has this lifetime, on a clock that is moved by hand. On `/remember` the session gets
/// a timeout of its own, the seconds that the query says; without one, that of its container again.
fn lasting(lifetime: CookieLifetime) -> (Clock, Store, Router) {
    let (clock, store, _) = timed();
    let remember = |session: Session, uri: Uri| async move {
        let own = uri
            .query()
            .map(|own| Duration::from_secs(own.parse().unwrap()));
        session.set_timeout(own)
    };
    let layer = SessionLayer::new(store.clone()).cookie(CookieSettings::new().lifetime(lifetime));
    let routes = Router::new().route("/remember", get(remember));
    let app = site(layer.clone()).merge(routes.layer(layer));
    (clock, store, app)
}

/// The `Max-Age` of the cookie that a response sends, if it sends one; zero where that has none.
fn age(response: &Response<Body>) -> Option<u64> {
    let field = set_cookie(response)?;
    let age = field.split("; ").find_map(|a| a.strip_prefix("Max-Age="));
    Some(age.map_or(0, |age| age.parse().unwrap()))
}

async fn age_at(app: &Router, path: &str, cookie: &str) -> Option<u64> {
    let response = get_page(app, path, cookie).await;
    assert!(response.status().is_success(), "{:?}", response.status());
    age(&response)
}

/// C4.3
#[tokio::test]
async fn the_cookie_is_sent_when_new_and_then_only_with_a_due_touch() {
    let (clock, _, app) = lasting(CookieLifetime::Max);
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

/// C4.3, C4.6: there is no lifetime to renew, and the handler decides about caching.
#[tokio::test]
async fn a_cookie_without_a_lifetime_is_sent_when_it_is_new_only() {
    let public = |session: Session| async move {
        session.pkg(PACKAGE).get::<u64>("count")?;
        Ok::<_, Error>([(header::CACHE_CONTROL, "private, max-age=600")])
    };
    let (clock, store, app) = lasting(CookieLifetime::Browser);
    let routes = Router::new().route("/public", get(public));
    let app = app.merge(routes.layer(SessionLayer::new(store)));
    let cookie = visitor(&app).await;
    for path in ["/read", "/count", "/public"] {
        clock.advance(11 * MINUTE);
        let response = get_page(&app, path, &cookie).await;
        assert_eq!(set_cookie(&response), None, "{path}");
        if path == "/public" {
            assert_eq!(cache(&response), lines("private, max-age=600", "Cookie"));
        }
    }
    let rotated = get_page(&app, "/rotate", &cookie).await;
    assert_eq!(age(&rotated), Some(0));
}

/// C4.3: also where no touch is due, and where the session is otherwise as it was.
#[tokio::test]
async fn the_cookie_is_sent_when_the_sessions_own_timeout_is_set_or_taken_back() {
    for (lifetime, usual) in [
        (CookieLifetime::Browser, 0),
        (CookieLifetime::For(5 * MINUTE), 300),
        (CookieLifetime::Max, 400 * 86_400),
    ] {
        let (_, _, app) = lasting(lifetime);
        let cookie = visitor(&app).await;
        let remember = async |query: &str| {
            let path = format!("/remember{query}");
            age_at(&app, &path, &cookie).await
        };
        assert_eq!(remember("").await, None, "there was none to take back");
        assert_eq!(remember("?2592000").await, Some(2_592_000));
        // A client that lost the first response asks again.
        assert_eq!(remember("?2592000").await, Some(2_592_000));
        assert_eq!(remember("?0").await, Some(400 * 86_400));
        assert_eq!(age_at(&app, "/read", &cookie).await, None);
        assert_eq!(remember("").await, Some(usual));
    }
}

/// C4.3, C8.1: for a visitor who had none.
#[tokio::test]
async fn the_cookie_of_a_session_that_its_timeout_founds_lasts_as_long() {
    let (_, store, app) = lasting(CookieLifetime::Browser);
    let response = get_page(&app, "/remember?60", "").await;
    assert_eq!(age(&response), Some(60));
    let id = id_of(&store, &jar(&response));
    let txn = store.begin().unwrap();
    assert!(txn.session(&id).unwrap().exists().unwrap());
    // To take back what nobody has founds nothing.
    assert_eq!(age_at(&app, "/remember", "").await, None);
}

/// A browser that clicks at each interval, and drops the cookie when that is over. Tells how often the cookie
/// was sent again.
async fn stays(
    lifetime: CookieLifetime,
    own: Option<u64>,
    timeout: Duration,
    interval: Duration,
) -> usize {
    let (clock, store, app) = lasting(lifetime);
    let container = store.container("").unwrap();
    let settings = container.settings().unwrap().timeout(timeout);
    container.configure(settings).unwrap();
    let first = get_page(&app, "/count", "").await;
    let (cookie, mut left) = (jar(&first), age(&first).unwrap());
    if let Some(own) = own {
        let path = format!("/remember?{own}");
        left = age_at(&app, &path, &cookie).await.unwrap();
    }
    let mut sent = 0;
    for click in 0..500 {
        clock.advance(interval);
        left = left.saturating_sub(interval.as_secs());
        assert!(
            left > 0,
            "the browser has dropped the cookie at click {click}"
        );
        let response = get_page(&app, "/read", &cookie).await;
        if let Some(age) = age(&response) {
            sent += 1;
            left = age;
        }
        assert_eq!(text(response).await, "1", "click {click}");
    }
    sent
}

/// C4.3, C3.3
#[tokio::test]
async fn no_browser_drops_the_cookie_of_a_visitor_who_comes_often_enough() {
    let hour = 60 * MINUTE;
    let five = CookieLifetime::For(5 * MINUTE);
    // Once in more than half of the lifetime.
    assert_eq!(stays(five, None, hour, MINUTE).await, 500 / 3);
    assert_eq!(stays(five, None, hour, 149 * SECOND).await, 250);
    // For sessions that never expire, too.
    let day = CookieLifetime::For(DAY);
    assert!(stays(day, None, Duration::ZERO, 11 * 60 * MINUTE).await > 0);
    assert!(stays(CookieLifetime::Max, None, Duration::ZERO, DAY).await > 0);
    // A timeout of its own counts in place of the lifetime.
    assert!(stays(CookieLifetime::Browser, Some(0), hour, DAY).await > 0);
    assert!(stays(five, Some(0), hour, DAY).await > 0);
    assert!(stays(CookieLifetime::Max, Some(60), hour, 29 * SECOND).await > 0);
}

/// C4.3, C1.9: a session that begins in another container is recorded there as an access, and looks like a fresh one
/// from then on.
#[tokio::test]
async fn the_cookie_is_renewed_where_the_session_goes_on_in_another_container() {
    let (clock, store, app) = lasting(CookieLifetime::For(5 * MINUTE));
    store.register("cart", ContainerSettings::new()).unwrap();
    let add = |session: Session| async move { session.pkg("cart").insert("n", 1) };
    let layer = SessionLayer::new(store);
    let layer = layer.cookie(CookieSettings::new().lifetime(CookieLifetime::For(5 * MINUTE)));
    let app = app.merge(Router::new().route("/add", get(add)).layer(layer));
    let cookie = visitor(&app).await;
    clock.advance(140 * SECOND);
    assert_eq!(age_at(&app, "/add", &cookie).await, Some(300));
    assert_eq!(age_at(&app, "/add", &cookie).await, None);
}

/// C4.3, C4.8: a cookie that would be sent again stays away where the session has ended meanwhile.
#[tokio::test]
async fn a_session_that_ended_meanwhile_gets_no_cookie_for_its_timeout() {
    let (_, store, _) = lasting(CookieLifetime::Max);
    let other = store.clone();
    let app = Router::new().route(
        "/again",
        get(move |session: Session| async move {
            session.set_timeout(Some(MINUTE))?;
            let id = session.client_id().unwrap();
            other.transact(|txn| txn.session(&id)?.destroy())
        }),
    );
    let id = store.client_ids().issue();
    let found = |txn: &cloakroom::Txn| txn.session(&id)?.set_timeout(Some(MINUTE));
    store.transact(found).unwrap();
    let layer = SessionLayer::new(store).cookie(CookieSettings::new().name("sid").unwrap());
    let cookie = format!("__Host-sid={}", id.as_str());
    let response = get_page(&app.layer(layer), "/again", &cookie).await;
    assert!(response.status().is_success());
    assert_eq!(set_cookie(&response), None);
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

/// The value of `Clear-Site-Data`.
fn cleared(response: &Response<Body>) -> Vec<String> {
    values(response, HeaderName::from_static("clear-site-data"))
}

/// C4.7
#[tokio::test]
async fn the_end_of_a_session_clears_the_sites_data_where_that_is_set() {
    let store = Store::in_memory().unwrap();
    let leave = |session: Session| async move {
        session.destroy()?;
        Ok::<_, Error>([("clear-site-data", r#""cache""#)])
    };
    let layer = SessionLayer::new(store).clear_site_data();
    let app = site(layer.clone()).merge(Router::new().route("/own", get(leave)).layer(layer));
    for (path, expected) in [
        ("/destroy", r#""cookies", "storage""#),
        ("/own", r#""cache""#),
    ] {
        let cookie = visitor(&app).await;
        let response = get_page(&app, path, &cookie).await;
        assert_eq!(cleared(&response), [expected]);
        assert!(set_cookie(&response).unwrap().contains("Max-Age=0"));
        // The session has ended; nothing ends a second time, and a new id clears nothing.
        assert_eq!(cleared(&get_page(&app, "/destroy", &cookie).await), [""; 0]);
        assert_eq!(
            cleared(&get_page(&app, "/rotate", &visitor(&app).await).await),
            [""; 0]
        );
    }
    let (_, app) = usual();
    let response = get_page(&app, "/destroy", &visitor(&app).await).await;
    assert_eq!(cleared(&response), [""; 0]);
}

/// The visitor's own session goes on.
#[tokio::test]
async fn ending_the_other_sessions_clears_nothing_in_this_browser() {
    let store = Store::in_memory().unwrap();
    let others = async |session: Session| session.end_others().map(|n| n.to_string());
    let all = async |session: Session| {
        let ended = session.end_others()?;
        session.log_out()?;
        Ok::<_, Error>(ended.to_string())
    };
    let log_in = async |session: Session| session.log_in("ann").map(drop);
    let app = Router::new()
        .route("/login", get(log_in))
        .route("/others", get(others))
        .route("/all", get(all))
        .layer(SessionLayer::new(store).clear_site_data());
    let cookies = [
        jar(&get_page(&app, "/login", "").await),
        jar(&get_page(&app, "/login", "").await),
    ];
    let response = get_page(&app, "/others", &cookies[0]).await;
    assert_eq!(cleared(&response), [""; 0]);
    assert_eq!(set_cookie(&response), None);
    assert_eq!(text(response).await, "1");
    let response = get_page(&app, "/all", &cookies[0]).await;
    assert_eq!(cleared(&response), [r#""cookies", "storage""#]);
    assert_eq!(text(response).await, "0");
}
