//! C6.3, C10.2: over an engine whose every call comes late, no request blocks the thread of its runtime, which serves all
//! others.
#![cfg(all(feature = "axum", feature = "torture"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, header};
use axum::routing::get;
use cloakroom::http::SessionLayer;
use cloakroom::torture::times_blocked;
use cloakroom::{ClientId, Clock, ContainerSettings, Error, ErrorKind, Session, Store, WhenFull};
use std::time::Duration;
use support::clock::clock;
use support::engine::is_remote;
use support::store::place;
use support::visitors::{again, visitor};
use tower::ServiceExt as _;

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.pkg("visits");
    let n = visits.get::<u64>("n")?.unwrap_or(0) + 1;
    visits.insert("n", n)?;
    Ok(n.to_string())
}

/// Inserts without a look. The commit finds out what is there.
async fn note(session: Session) -> Result<(), Error> {
    session.pkg("visits").insert("noted", true)?;
    session.pkg("visits").add("notes", 1)
}

async fn read(session: Session) -> Result<String, Error> {
    let n = session.pkg("visits").get::<u64>("n")?;
    Ok(n.unwrap_or(0).to_string())
}

/// Ends the other sessions of the owner, whose keys are fetched.
async fn end_others(session: Session) -> Result<String, Error> {
    Ok(session.end_others_async().await?.to_string())
}

/// Inserts after the snapshot that was fetched has become too old, as after a long upload.
async fn note_late(State(clock): State<Clock>, session: Session) -> Result<(), Error> {
    clock.advance(Duration::from_secs(31));
    session.pkg("visits").insert("late", true)
}

async fn end(session: Session) -> Result<(), Error> {
    session.destroy()
}

/// Looks at the session of somebody else, which is fetched first.
async fn fetched(State(other): State<ClientId>, session: Session) -> Result<String, Error> {
    session.txn().load(&other).await?;
    looked(State(other), session).await
}

/// The same without fetching it: the thread waits.
async fn looked(State(other): State<ClientId>, session: Session) -> Result<String, Error> {
    let n = session.txn().session(&other)?.pkg("app").get::<u64>("n")?;
    Ok(n.unwrap_or(0).to_string())
}

fn site(store: &Store, other: &ClientId) -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/note", get(note))
        .route("/read", get(read))
        .route("/end", get(end))
        .route(
            "/rotate",
            get(async |session: Session| session.rotate().map(drop)),
        )
        .route("/fetched", get(fetched))
        .route("/looked", get(looked))
        .route(
            "/login",
            get(async |session: Session| session.log_in_async("ann").await.map(drop)),
        )
        .route("/end-others", get(end_others))
        .with_state(again(store, other))
        .layer(SessionLayer::new(store.clone()))
}

async fn send(app: &Router, path: &str, cookie: &str) -> Response<Body> {
    let mut request = Request::builder().uri(path);
    if !cookie.is_empty() {
        request = request.header(header::COOKIE, cookie);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = app.clone().oneshot(request).await.unwrap();
    assert!(
        response.status().is_success(),
        "{path}: {:?}",
        response.status()
    );
    response
}

/// The cookie that a response sets.
fn jar(response: &Response<Body>) -> String {
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn page(app: &Router, path: &str, cookie: &str) -> String {
    let body = send(app, path, cookie).await.into_body();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a visitor does, from the first request to the last.
async fn visit(app: &Router) {
    let cookie = jar(&send(app, "/count", "").await);
    assert_eq!(page(app, "/count", &cookie).await, "2");
    send(app, "/note", &cookie).await;
    assert_eq!(page(app, "/fetched", &cookie).await, "1");
    let rotated = jar(&send(app, "/rotate", &cookie).await);
    assert_eq!(page(app, "/read", &rotated).await, "2");
    assert_eq!(page(app, "/read", &cookie).await, "0");
    send(app, "/end", &rotated).await;
    assert_eq!(page(app, "/read", &rotated).await, "0");
}

#[tokio::test(flavor = "current_thread")]
async fn no_request_blocks_the_thread_that_serves_it() {
    if !is_remote() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return;
    }
    let (_folder, path) = place();
    let before = times_blocked();
    let store = Store::open_async(path).await.unwrap();
    assert_eq!(times_blocked(), before, "opening blocks no thread");
    let other = visitor(&store);
    let app = site(&store, &other);
    let before = times_blocked();
    visit(&app).await;
    // Several at once, on one thread.
    tokio::join!(visit(&app), visit(&app), visit(&app), visit(&app));
    assert_eq!(times_blocked(), before);
    // The waiting is counted.
    assert_eq!(page(&app, "/looked", "").await, "1");
    assert!(times_blocked() > before);
}

/// C8.2
#[tokio::test(flavor = "current_thread")]
async fn logging_in_with_a_limit_and_ending_the_others_block_no_thread() {
    if !is_remote() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return;
    }
    let clock = clock();
    let builder = Store::builder().clock(clock.clone());
    let builder = builder.max_sessions_per_owner(3, WhenFull::EndOldest);
    let store = builder.in_memory().unwrap();
    let app = site(&store, &visitor(&store));
    let before = times_blocked();
    let mut cookies = Vec::new();
    for _ in 0..4 {
        clock.advance(Duration::from_secs(1));
        cookies.push(jar(&send(&app, "/login", "").await));
        send(&app, "/note", cookies.last().unwrap()).await;
    }
    assert_eq!(
        page(&app, "/end-others", &cookies[0]).await,
        "0",
        "the oldest was ended"
    );
    assert_eq!(page(&app, "/end-others", &cookies[2]).await, "2");
    assert_eq!(page(&app, "/end-others", &cookies[2]).await, "0");
    assert_eq!(page(&app, "/end-others", &cookies[1]).await, "0");
    assert_eq!(store.sessions_of_async("ann").await.unwrap().len(), 1);
    assert_eq!(times_blocked(), before);
}

/// C2.1, C6.3
#[tokio::test(flavor = "current_thread")]
async fn a_request_that_only_inserts_late_blocks_no_thread() {
    if !is_remote() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return;
    }
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let app = Router::new()
        .route("/late", get(note_late))
        .with_state(clock)
        .route("/count", get(count))
        .layer(SessionLayer::new(store));
    let before = times_blocked();
    let cookie = jar(&send(&app, "/count", "").await);
    send(&app, "/late", &cookie).await;
    assert_eq!(page(&app, "/count", &cookie).await, "2");
    assert_eq!(times_blocked(), before);
}

/// C6.3, C8.7: what the commit has to know cannot be fetched, and nothing waits for it.
#[tokio::test(flavor = "current_thread")]
async fn an_early_commit_whose_fetch_fails_blocks_no_thread() {
    if !is_remote() {
        eprintln!("SKIPPED on files: run with CLOAKROOM_TEST_ENGINE=remote");
        return;
    }
    let clock = clock();
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let other = store.clone();
    let late = async move |session: Session| {
        clock.advance(Duration::from_secs(31));
        session.pkg("visits").insert("late", true)?;
        // The insert was named by other containers.
        other.register("more", ContainerSettings::new())?;
        let before = times_blocked();
        let refused = session.commit_now().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(times_blocked(), before);
        session.pkg("visits").insert("later", true)
    };
    let app = Router::new()
        .route("/late", get(late))
        .route("/count", get(count))
        .layer(SessionLayer::new(store));
    let cookie = jar(&send(&app, "/count", "").await);
    send(&app, "/late", &cookie).await;
    assert_eq!(page(&app, "/count", &cookie).await, "2");
}
