//! C6 and the cookie half of C4: sessions over HTTP, through axum and through plain tower services.
#![cfg(feature = "axum")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are tests"
)]

#[path = "http/around.rs"]
mod around;
#[path = "http/commit.rs"]
mod commit;
#[path = "http/commit_now.rs"]
mod commit_now;
#[path = "http/conflicts.rs"]
mod conflicts;
#[path = "http/cookies.rs"]
mod cookies;
#[path = "http/crowd.rs"]
mod crowd;
#[path = "http/csrf.rs"]
mod csrf;
#[path = "http/ended.rs"]
mod ended;
#[path = "http/errors.rs"]
mod errors;
#[cfg(feature = "test")]
#[path = "http/flash.rs"]
mod flash;
#[path = "http/fresh.rs"]
mod fresh;
#[path = "http/ids.rs"]
mod ids;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/logs.rs"]
mod logs;
#[path = "http/metrics.rs"]
mod metrics;
#[path = "http/middleware.rs"]
mod middleware;
#[path = "http/packages.rs"]
mod packages;
#[path = "http/pages.rs"]
mod pages;
#[path = "http/renewal.rs"]
mod renewal;
#[path = "http/rerun.rs"]
mod rerun;
#[path = "http/slow.rs"]
mod slow;
#[path = "http/stack.rs"]
mod stack;
mod support;
#[path = "http/transports.rs"]
mod transports;
#[path = "http/turns.rs"]
mod turns;
#[cfg(feature = "url-ids")]
#[path = "http/url_dangers.rs"]
mod url_dangers;
#[cfg(feature = "url-ids")]
#[path = "http/url_ids.rs"]
mod url_ids;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use axum::routing::get;
use cloakroom::http::SessionLayer;
use cloakroom::{ClientId, Clock, Error, Session, Store};
use support::clock::clock;
use tower::ServiceExt as _;

const PACKAGE: &str = "visits";

/// The counter that every test counts on: read, then written.
fn count(session: &Session) -> Result<u64, Error> {
    let visits = session.pkg(PACKAGE);
    let n = visits.get::<u64>("count")?.unwrap_or(0) + 1;
    visits.insert("count", n)?;
    Ok(n)
}

async fn counter(session: Session) -> Result<String, Error> {
    Ok(count(&session)?.to_string())
}

async fn reader(session: Session) -> Result<String, Error> {
    let n = session.pkg(PACKAGE).get::<u64>("count")?;
    Ok(n.unwrap_or(0).to_string())
}

async fn rotate(session: Session) -> Result<(), Error> {
    session.rotate().map(drop)
}

async fn destroy(session: Session) -> Result<(), Error> {
    session.destroy()
}

/// Counts, and answers with the request's body.
async fn echo(session: Session, body: String) -> Result<String, Error> {
    count(&session)?;
    Ok(body)
}

/// The usual pages under a layer.
fn site(layer: SessionLayer) -> Router {
    Router::new()
        .route("/count", get(counter).post(counter).put(counter))
        .route("/read", get(reader).post(reader))
        .route("/rotate", get(rotate).post(rotate))
        .route("/destroy", get(destroy).post(destroy))
        .route("/plain", get(|| async { "plain" }))
        .layer(layer)
}

fn usual() -> (Store, Router) {
    let store = Store::in_memory().unwrap();
    let app = site(SessionLayer::new(store.clone()));
    (store, app)
}

fn timed() -> (Clock, Store, Router) {
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let app = site(SessionLayer::new(store.clone()));
    (clock, store, app)
}

/// A request without a body; `cookie` is a whole `name=value`, or empty.
fn request(method: &str, path: &str, cookie: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !cookie.is_empty() {
        request = request.header(header::COOKIE, cookie);
    }
    request.body(Body::empty()).unwrap()
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

async fn get_page(app: &Router, path: &str, cookie: &str) -> Response<Body> {
    send(app, request("GET", path, cookie)).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX);
    String::from_utf8(bytes.await.unwrap().to_vec()).unwrap()
}

/// What a page says to this cookie.
async fn page(app: &Router, path: &str, cookie: &str) -> String {
    let response = get_page(app, path, cookie).await;
    assert!(response.status().is_success(), "{:?}", response.status());
    text(response).await
}

fn values(response: &Response<Body>, name: header::HeaderName) -> Vec<String> {
    let values = response.headers().get_all(name).iter();
    values.map(|v| v.to_str().unwrap().to_owned()).collect()
}

/// The one `Set-Cookie` of a response, if it has any.
fn set_cookie(response: &Response<Body>) -> Option<String> {
    let mut all = values(response, header::SET_COOKIE);
    assert!(all.len() < 2, "more than one cookie");
    all.pop()
}

/// What a browser would send back.
fn jar(response: &Response<Body>) -> String {
    let field = set_cookie(response).expect("a cookie");
    field.split(';').next().unwrap().to_owned()
}

fn halves(cookie: &str) -> (&str, &str) {
    cookie.split_once('=').unwrap()
}

/// A visitor who has counted once.
async fn visitor(app: &Router) -> String {
    jar(&get_page(app, "/count", "").await)
}

fn id_of(store: &Store, cookie: &str) -> ClientId {
    store.client_ids().verify(halves(cookie).1).expect("an id")
}

/// The count in the store, read past the web.
fn stored(store: &Store, cookie: &str) -> Option<u64> {
    let id = id_of(store, cookie);
    store
        .transact(|txn| txn.session(&id)?.pkg(PACKAGE).get::<u64>("count"))
        .unwrap()
}

/// Another's write to the count, between a request's reading and its commit.
fn interfere(store: &Store, id: &ClientId, count: u64) {
    store
        .transact(|txn| txn.session(id)?.pkg(PACKAGE).insert("count", count))
        .unwrap();
}
