//! C8.6: containers whose packages live in the visitor's cookie.
#![cfg(all(feature = "cookie-containers", feature = "axum"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod browser;
mod commits;
mod seals;
mod sessions;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Extension, Router};
use cloakroom::http::{CookieLifetime, CookieSettings, SessionLayer};
use cloakroom::{Clock, ContainerSettings, Error, Session, Store};
use serde::Deserialize;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

use browser::Browser;

const MINUTE: Duration = Duration::from_secs(60);
const NOON: &str = "2026-01-01T12:00:00Z";

/// The name of the container's cookie.
const SEEN: &str = "__Host-id-seen";
const ID: &str = "__Host-id";

#[derive(Deserialize)]
struct Op {
    #[serde(default)]
    pkg: String,
    #[serde(default)]
    value: String,
}

async fn put(session: Session, Query(op): Query<Op>) -> Result<(), Error> {
    session.pkg(&op.pkg).insert("key", &op.value)
}

async fn read(session: Session, Query(op): Query<Op>) -> Result<String, Error> {
    let value: Option<String> = session.pkg(&op.pkg).get("key")?;
    Ok(value.unwrap_or_default())
}

/// Writes into the cookie and into the store.
async fn both(session: Session, Query(op): Query<Op>) -> Result<(), Error> {
    session.pkg("seen").insert("key", &op.value)?;
    session.pkg("cart").insert("key", &op.value)
}

/// Writes into the cookie and into the store, and overtakes itself in the store.
async fn overtaken(
    State(store): State<Store>,
    session: Session,
    Query(op): Query<Op>,
) -> Result<(), Error> {
    let _: Option<String> = session.pkg("cart").get("key")?;
    session.pkg("cart").insert("key", &op.value)?;
    session.pkg("seen").insert("key", &op.value)?;
    let id = session.client_id().unwrap();
    let other = store.begin()?;
    other.session(&id)?.pkg("cart").insert("key", "other")?;
    other.commit()
}

/// Writes into the store, and takes that back.
async fn rolled_back(session: Session, Query(op): Query<Op>) -> Result<(), Error> {
    session.pkg("seen").insert("key", &op.value)?;
    let savepoint = session.txn().savepoint()?;
    session.pkg("cart").insert("key", &op.value)?;
    assert!(session.client_id().is_some());
    session.txn().rollback_to(&savepoint)
}

/// Told when a handler has read, and when it may go on.
#[derive(Default)]
struct Gate(Notify, Notify);

async fn read_late(
    Extension(gate): Extension<Arc<Gate>>,
    session: Session,
    Query(op): Query<Op>,
) -> Result<String, Error> {
    let value: Option<String> = session.pkg(&op.pkg).get("key")?;
    gate.0.notify_one();
    gate.1.notified().await;
    Ok(value.unwrap_or_default())
}

/// Reads, and writes when it may.
async fn write_late(
    Extension(gate): Extension<Arc<Gate>>,
    session: Session,
    Query(op): Query<Op>,
) -> Result<(), Error> {
    let _: Option<String> = session.pkg("seen").get("key")?;
    gate.0.notify_one();
    gate.1.notified().await;
    session.pkg(&op.pkg).insert("key", &op.value)
}

/// Commits at once, and answers when it may.
async fn answer_late(
    Extension(gate): Extension<Arc<Gate>>,
    session: Session,
    Query(op): Query<Op>,
) -> Result<(), Error> {
    session.pkg("seen").insert("key", &op.value)?;
    session.commit_now().await?;
    gate.0.notify_one();
    gate.1.notified().await;
    Ok(())
}

/// Begins a commit, and does not wait until it ends.
async fn given_up(session: Session, Query(op): Query<Op>) -> Result<(), Error> {
    session.pkg("seen").insert("key", &op.value)?;
    session.pkg("cart").insert("key", &op.value)?;
    let mut commit = std::pin::pin!(session.commit_now());
    let _ = std::future::poll_fn(|cx| Poll::Ready(commit.as_mut().poll(cx))).await;
    Ok(())
}

async fn fail(session: Session) -> Result<(), Error> {
    session.pkg("seen").insert("key", "lost")?;
    session.txn().doom();
    Ok(())
}

async fn error(session: Session) -> axum::http::StatusCode {
    session.pkg("seen").insert("key", "lost").unwrap();
    axum::http::StatusCode::INTERNAL_SERVER_ERROR
}

async fn login(session: Session) -> Result<(), Error> {
    session.log_in("ann").map(drop)
}

async fn logout(session: Session) -> Result<(), Error> {
    session.destroy()
}

async fn rotate(session: Session) -> Result<(), Error> {
    session.rotate().map(drop)
}

async fn early(
    session: Session,
    Query(op): Query<Op>,
) -> Result<String, (axum::http::StatusCode, String)> {
    session.pkg("seen").insert("key", &op.value).unwrap();
    session.commit_now().await.unwrap();
    let again: Option<String> = session.pkg("seen").get("key").unwrap();
    session.pkg("seen").insert("key", "lost").unwrap();
    Err((
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        again.unwrap(),
    ))
}

/// Ends the session in the store, where it goes on in the cookie, and gives it what only a store has.
async fn end_and_label(session: Session) -> Result<String, Error> {
    session.data("")?.destroy()?;
    session.set_label("phone")?;
    Ok(session.client_id().is_some().to_string())
}

async fn exists(session: Session) -> Result<String, Error> {
    let owner = session.owner()?;
    Ok(format!("{} {owner:?}", session.exists()?))
}

struct World {
    store: Store,
    clock: Clock,
    gate: Arc<Gate>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(NOON.parse().unwrap());
        let store = Store::builder().clock(clock.clone()).implicit_sweeps(false);
        let store = store.in_memory().unwrap();
        Self::of(store, clock)
    }

    fn of(store: Store, clock: Clock) -> Self {
        let settings = ContainerSettings::new()
            .timeout(30 * MINUTE)
            .resolution(5 * MINUTE);
        store.register("seen", settings.cookie()).unwrap();
        Self {
            store,
            clock,
            gate: Arc::default(),
        }
    }

    fn app_with(&self, cookie: CookieSettings) -> Router {
        let layer = SessionLayer::new(self.store.clone());
        self.routes(layer.cookie(cookie.name("id").unwrap()))
    }

    /// An application that renews ids after ten minutes.
    fn renewing(&self) -> Router {
        let cookie = CookieSettings::new().name("id").unwrap();
        let layer = SessionLayer::new(self.store.clone()).cookie(cookie);
        self.routes(layer.renew_after(10 * MINUTE))
    }

    fn routes(&self, layer: SessionLayer) -> Router {
        Router::new()
            .route("/put", get(put).post(put))
            .route("/rolled-back", get(rolled_back))
            .route("/read-late", get(read_late))
            .route("/write-late", get(write_late))
            .route("/answer-late", get(answer_late))
            .route("/read", get(read))
            .route("/both", get(both))
            .route("/overtaken", get(overtaken).post(overtaken))
            .route("/given-up", get(given_up))
            .route("/fail", get(fail))
            .route("/error", get(error))
            .route("/login", get(login))
            .route("/logout", get(logout))
            .route("/rotate", get(rotate))
            .route("/early", get(early))
            .route("/exists", get(exists))
            .route("/end-and-label", get(end_and_label))
            .route("/", get(|| async { "no session" }))
            .with_state(self.store.clone())
            .layer(Extension(self.gate.clone()))
            .layer(layer)
    }

    fn browser(&self) -> Browser {
        Browser::new(self.app_with(CookieSettings::new()))
    }

    fn long_lived(&self) -> Browser {
        Browser::new(self.app_with(CookieSettings::new().lifetime(CookieLifetime::Max)))
    }

    /// What the store has of sessions and bytes.
    fn stored(&self) -> (u64, u64) {
        let checked = self.store.check().unwrap();
        let written = self.store.statistics().unwrap().bytes_written();
        (checked.sessions, written)
    }
}
