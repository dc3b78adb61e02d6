//! Both layers in one application, on one store and one cookie.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::routing::get;
use cloakroom::Store;
use cloakroom::http::{CookieSettings, SessionLayer};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tower_sessions::{Session, SessionManagerLayer};
use tower_sessions_cloakroom_store::CloakroomStore;

const OLD: &str = "tower-sessions";

async fn log_in(session: Session) {
    session.insert("user", "ann").await.unwrap();
}

async fn user(session: Session) -> String {
    session.get("user").await.unwrap().unwrap_or_default()
}

async fn log_out(session: Session) {
    session.flush().await.unwrap();
}

async fn cycle(session: Session) {
    session.cycle_id().await.unwrap();
}

async fn add_tea(session: cloakroom::Session) -> cloakroom::Result<String> {
    session.pkg("cart").add("tea", 1)?;
    Ok(session.pkg(OLD).get("user")?.unwrap_or_default())
}

async fn tea(session: cloakroom::Session) -> cloakroom::Result<String> {
    let tea: Option<u32> = session.pkg("cart").get("tea")?;
    Ok(tea.unwrap_or_default().to_string())
}

async fn rename(session: cloakroom::Session) -> cloakroom::Result<()> {
    session.pkg(OLD).insert("user", "bob")
}

async fn end(session: cloakroom::Session) -> cloakroom::Result<()> {
    session.destroy()
}

fn app() -> Router {
    let store = CloakroomStore::new(Store::in_memory().unwrap()).unwrap();
    let old = Router::new()
        .route("/login", get(log_in))
        .route("/user", get(user))
        .route("/logout", get(log_out))
        .route("/cycle", get(cycle))
        .layer(SessionManagerLayer::new(store.clone()));
    let cookie = CookieSettings::new().third_party("id").unwrap();
    let cookie = cookie.existing_only();
    let layer = SessionLayer::new(store.store().clone()).cookie(cookie);
    let new = Router::new()
        .route("/add-tea", get(add_tea))
        .route("/tea", get(tea))
        .route("/rename", get(rename))
        .route("/end", get(end))
        .layer(layer);
    old.merge(new)
}

/// Status, body and the cookie that the browser has afterwards.
async fn send(app: &Router, path: &str, cookie: &mut String) -> (StatusCode, String) {
    let request = Request::get(path).header(header::COOKIE, &*cookie);
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    if let Some(set) = response.headers().get(header::SET_COOKIE) {
        let pair = set.to_str().unwrap().split(';').next().unwrap();
        pair.clone_into(cookie);
    }
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn text(app: &Router, path: &str, cookie: &mut String) -> String {
    let (status, text) = send(app, path, cookie).await;
    assert_eq!(status, StatusCode::OK, "{path}");
    text
}

#[tokio::test]
async fn both_layers_read_and_write_one_session() {
    let (app, cookie) = (app(), &mut String::new());
    text(&app, "/login", cookie).await;
    let before = cookie.clone();
    assert_eq!(text(&app, "/add-tea", cookie).await, "ann");
    text(&app, "/rename", cookie).await;
    assert_eq!(text(&app, "/user", cookie).await, "bob");
    text(&app, "/login", cookie).await;
    assert_eq!(text(&app, "/add-tea", cookie).await, "ann");
    assert_eq!(text(&app, "/tea", cookie).await, "2");
    assert_eq!(*cookie, before);
}

#[tokio::test]
async fn either_layer_ends_the_session_for_both() {
    for way in ["/logout", "/end"] {
        let (app, cookie) = (app(), &mut String::new());
        text(&app, "/login", cookie).await;
        text(&app, "/add-tea", cookie).await;
        let ended = &mut cookie.clone();
        text(&app, way, cookie).await;
        assert_eq!(text(&app, "/tea", ended).await, "0", "{way}");
        assert_eq!(text(&app, "/user", ended).await, "", "{way}");
    }
}

#[tokio::test]
async fn other_packages_do_not_follow_a_cycled_id() {
    let (app, cookie) = (app(), &mut String::new());
    text(&app, "/login", cookie).await;
    text(&app, "/add-tea", cookie).await;
    text(&app, "/cycle", cookie).await;
    assert_eq!(text(&app, "/user", cookie).await, "ann");
    assert_eq!(text(&app, "/tea", cookie).await, "0");
}

#[tokio::test]
async fn no_session_begins_under_an_id_that_a_visitor_brings_along() {
    let (app, planted) = (app(), &mut "id=AAAAAAAAAAAAAAAAAAAAAA".to_owned());
    for path in ["/add-tea", "/rename"] {
        let (status, _) = send(&app, path, planted).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(text(&app, "/tea", planted).await, "0");
    text(&app, "/login", planted).await;
    assert_ne!(planted, "id=AAAAAAAAAAAAAAAAAAAAAA");
}

// What the guide's `take_over` does.
#[tokio::test]
async fn who_is_logged_in_is_taken_over_in_one_transaction() {
    let store = Store::in_memory().unwrap();
    let sessions = CloakroomStore::new(store.clone()).unwrap();
    let old = Router::new()
        .route("/login", get(log_in))
        .route("/user", get(user))
        .layer(SessionManagerLayer::new(sessions));
    let cookie = &mut String::new();
    text(&old, "/login", cookie).await;
    let id = cookie.strip_prefix("id=").unwrap().as_bytes().to_owned();
    let new = store.client_ids().issue();
    let take_over = |txn: &cloakroom::Txn| -> cloakroom::Result<_> {
        let session = txn.session(&new)?;
        let old = session.txn().session(&store.client_ids().adopt(&id)?)?;
        if let Some(user) = old.pkg(OLD).get::<String>("user")? {
            let new = session.log_in(&user)?;
            old.destroy()?;
            return Ok(Some(new));
        }
        Ok(None)
    };
    let new = store.transact(take_over).unwrap().unwrap();
    let txn = store.begin().unwrap();
    assert_eq!(
        txn.session(&new).unwrap().owner().unwrap().as_deref(),
        Some("ann")
    );
    assert_eq!(text(&old, "/user", cookie).await, "");
    assert_eq!(store.transact(take_over).unwrap(), None);
}
