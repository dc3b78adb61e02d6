//! The helpers for an application's own tests: a visitor keeps cookies as a browser does, and says where an
//! application does something that a browser refuses.
#![cfg(feature = "test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use axum::Router;
use axum::body::Body;
use axum::extract::Form;
use axum::http::{HeaderMap, Request, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use cloakroom::http::{CookieSettings, CsrfLayer, CsrfToken, SessionLayer};
use cloakroom::testing::{self, Visitor};
use cloakroom::{Clock, Error, ErrorKind, Session};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// A page that answers with these `Set-Cookie` fields, wherever it is asked for.
fn setting(fields: &'static [&'static str]) -> Router {
    let set = move || async move {
        let fields = fields.iter().map(|field| (header::SET_COOKIE, *field));
        AppendHeaders(fields.collect::<Vec<_>>()).into_response()
    };
    let told = |fields: HeaderMap| async move {
        let cookies = fields.get(header::COOKIE);
        cookies.map_or(String::new(), |field| field.to_str().unwrap().to_owned())
    };
    Router::new().route("/set", get(set)).fallback(told)
}

fn clock() -> Clock {
    testing::store().1
}

#[tokio::test]
async fn cookies_are_sent_below_their_path_the_longest_first() {
    let app = setting(&["a=1; Path=/", "b=2; Path=/shop", "c=3; Path=/shop/cart/"]);
    let mut visitor = Visitor::new(app, &clock());
    visitor.get("/set").await;
    for (path, cookies) in [
        ("/", "a=1"),
        ("/shopping", "a=1"),
        ("/shop", "b=2; a=1"),
        ("/shop/cart", "b=2; a=1"),
        ("/shop/cart/1?n=2", "c=3; b=2; a=1"),
    ] {
        assert_eq!(visitor.get(path).await.text(), cookies, "{path}");
    }
    visitor.forget_cookies();
    assert_eq!(visitor.get("/shop").await.text(), "");
}

#[tokio::test]
async fn cookies_end_by_the_clock_of_the_test() {
    let app = setting(&[
        "brief=1; Path=/; Max-Age=3600",
        "dated=2; Path=/; Expires=Thu, 01 Jan 2026 02:00:00 GMT",
        "open=3; Path=/",
    ]);
    let clock = clock();
    let mut visitor = Visitor::new(app, &clock);
    visitor.get("/set").await;
    assert_eq!(visitor.get("/").await.text(), "brief=1; dated=2; open=3");
    clock.advance(HOUR);
    assert_eq!(visitor.get("/").await.text(), "dated=2; open=3");
    assert_eq!(visitor.cookie("brief"), None);
    clock.advance(HOUR);
    assert_eq!(visitor.get("/").await.text(), "open=3");
    assert_eq!(visitor.cookie("open"), Some("3"));
}

#[tokio::test]
async fn a_cookie_is_replaced_and_removed_under_its_own_path() {
    let app = setting(&["a=1; Path=/", "a=2; Path=/x", "a=3; Path=/"]);
    let mut visitor = Visitor::new(app, &clock());
    visitor.get("/set").await;
    assert_eq!(visitor.get("/x").await.text(), "a=2; a=3");
    let app = setting(&["a=1; Path=/", "a=; Path=/; Max-Age=0"]);
    let mut visitor = Visitor::new(app, &clock());
    let answer = visitor.get("/set").await;
    let removals: Vec<_> = answer
        .set_cookies()
        .iter()
        .map(|c| c.is_removal())
        .collect();
    assert_eq!(removals, [false, true]);
    assert_eq!(visitor.get("/").await.text(), "");
}

#[tokio::test]
async fn a_cookie_that_a_browser_ignores_is_told() {
    for (field, why) in [
        ("__Host-id=1; Path=/", "demands `Secure`"),
        ("__host-id=1; Secure; Path=/shop", "demands `Path=/`"),
        (
            "__Host-id=1; Secure; Path=/; Domain=a.example",
            "no `Domain`",
        ),
        ("__Secure-id=1; Path=/", "demands `Secure`"),
        ("id=1; SameSite=None", "demands `Secure`"),
    ] {
        let fields: &'static [&'static str] = Vec::leak(vec![field]);
        let mut visitor = Visitor::new(setting(fields), &clock());
        let told = tokio::spawn(async move { visitor.get("/set").await })
            .await
            .unwrap_err()
            .into_panic();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains(why), "{field}: {told}");
    }
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.pkg("visits");
    visits.update("count", |n: Option<u32>| n.unwrap_or(0) + 1)?;
    Ok(visits.get::<u32>("count")?.unwrap_or(0).to_string())
}

/// The cookie of a layer without `Secure` comes over plain HTTP; the usual one does not.
#[tokio::test]
async fn a_visitor_may_come_over_plain_http() {
    let (store, clock) = testing::store();
    let plain = CookieSettings::new().plain_http();
    let app = |settings| {
        let layer = SessionLayer::new(store.clone()).cookie(settings);
        Router::new().route("/", get(count)).layer(layer)
    };
    let mut visitor = Visitor::new(app(plain), &clock).over_http();
    assert_eq!(visitor.get("/").await.text(), "1");
    assert_eq!(visitor.get("/").await.text(), "2");
    let mut visitor = Visitor::new(app(CookieSettings::new()), &clock).over_http();
    let told = tokio::spawn(async move { visitor.get("/").await }).await;
    assert!(told.unwrap_err().is_panic());
}

#[tokio::test]
async fn the_cookie_of_a_session_has_the_attributes_that_are_promised() {
    let (store, clock) = testing::store();
    let layer = SessionLayer::new(store.clone());
    let name = layer.cookie_name().to_owned();
    let app = Router::new().route("/", get(count)).layer(layer);
    let mut visitor = Visitor::new(app, &clock);
    let cookie = visitor.get("/").await.set_cookie(&name).unwrap();
    assert!(cookie.is_secure() && cookie.is_http_only() && !cookie.is_removal());
    assert_eq!((cookie.path(), cookie.domain()), (Some("/"), None));
    assert_eq!(cookie.same_site(), Some("Lax"));
    assert_eq!(visitor.cookie(&name), Some(cookie.value()));
    let id = visitor.client_id(&store).unwrap();
    let txn = store.begin().unwrap();
    let visits = txn.session(&id).unwrap().pkg("visits");
    assert_eq!(visits.get("count").unwrap(), Some(1));
}

/// A form with its token, as a browser sends it from a page of the application.
#[tokio::test]
async fn forms_pass_the_check_of_csrf_and_redirects_are_followed() {
    async fn form(token: CsrfToken) -> String {
        token.to_string()
    }
    async fn save(session: Session, Form(form): Form<BTreeMap<String, String>>) -> Response {
        session.pkg("form").insert("text", &form["text"]).unwrap();
        Redirect::to("/saved").into_response()
    }
    async fn saved(session: Session) -> Result<String, Error> {
        Ok(session.pkg("form").get("text")?.unwrap_or_default())
    }
    let (store, clock) = testing::store();
    let app = Router::new()
        .route("/form", get(form))
        .route("/save", post(save))
        .route("/saved", get(saved))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(store));
    let mut visitor = Visitor::new(app, &clock);
    let token = visitor.get("/form").await.text().to_owned();
    let text = "a+b &=%é\n";
    let form = [("csrf_token", &*token), ("text", text)];
    let answer = visitor.post("/save", &form).await;
    assert_eq!(answer.status(), 303);
    assert_eq!(visitor.follow(&answer).await.text(), text);

    // From another site.
    let foreign = Request::post("/save").header("sec-fetch-site", "cross-site");
    let answer = visitor.send(foreign.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.error().unwrap().kind(), ErrorKind::CsrfRefused);
}
