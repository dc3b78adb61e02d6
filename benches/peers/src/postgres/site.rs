//! A handler of axum that reads or changes a session, under wrk.

use super::OPERATIONS;
use super::measure::{Measured, UsedProcessor};
use super::side::{Side, SideStore};
use crate::engines::tower_sessions::{id, runtime};
use crate::payload::{Dice, KEY, PACKAGES, value};
use crate::report::P99;
use crate::wrk::{self, Wrk};
use anyhow::Result;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom_postgres_server::Server;
use std::fmt::Write;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_sessions::SessionManagerLayer;

const HELLO: &str = "welcome back";
const COOKIE: &str = "sid";

/// An application that runs until it is dropped.
pub(super) struct Site {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _runtime: Runtime,
}

type Answer = Result<&'static str, StatusCode>;

impl Site {
    pub(super) fn start(side: &Side) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut cookies = String::new();
        let app = match &side.store {
            SideStore::Ours(store, ids) => {
                for id in ids.iter() {
                    writeln!(cookies, "{COOKIE}={}", id.as_str())?;
                }
                let cookie = CookieSettings::new().plain_http().name(COOKIE)?;
                ours(SessionLayer::new(store.clone()).cookie(cookie))
            }
            SideStore::Tower(store) => {
                for session in 0..side.sessions {
                    writeln!(cookies, "{COOKIE}={}", id(session))?;
                }
                let layer = SessionManagerLayer::new(store.clone());
                tower(layer.with_secure(false).with_name(COOKIE))
            }
        };
        std::fs::write(folder.path().join("cookies"), cookies)?;
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(axum::serve(listener, app).into_future());
        Ok(Self {
            address,
            folder,
            _runtime: runtime,
        })
    }

    /// Warms up, then measures.
    pub(super) fn run(&self, path: &str, time: Duration, server: &Server) -> Result<Measured> {
        let url = format!("http://{}/{path}", self.address);
        let cookies = self.folder.path().join("cookies");
        wrk::run(&url, &cookies, 1)?;
        let before = UsedProcessor::of(server)?;
        let seconds = time.as_secs().max(1);
        let Wrk { rate, p99_us } = wrk::run(&url, &cookies, seconds)?;
        let used = UsedProcessor::of(server)?.since(before);
        let mut measured = vec![(OPERATIONS, rate), (P99, p99_us)];
        measured.extend(used.metrics(rate * seconds as f64));
        Ok(measured)
    }
}

/// A value that was not there before.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    value(Dice::new(NEXT.fetch_add(1, Ordering::Relaxed)).roll())
}

/// A session that is not found is an error, so that it shows.
fn greet(value: Option<String>) -> Answer {
    value.map(|_| HELLO).ok_or(StatusCode::NOT_FOUND)
}

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn ours(layer: SessionLayer) -> Router {
    let [package, _] = PACKAGES;
    let read = async move |session: cloakroom::Session| -> Answer {
        greet(session.pkg(package).get(KEY).map_err(failed)?)
    };
    let write = async move |session: cloakroom::Session| -> Answer {
        let package = session.pkg(package);
        package.insert(KEY, fresh()).map_err(failed)?;
        Ok(HELLO)
    };
    let app = Router::new()
        .route("/read", get(read))
        .route("/write", get(write));
    app.layer(layer)
}

fn tower(layer: SessionManagerLayer<tower_sessions_sqlx_store::PostgresStore>) -> Router {
    let [package, _] = PACKAGES;
    let read = async move |session: tower_sessions::Session| -> Answer {
        greet(session.get(package).await.map_err(failed)?)
    };
    let write = async move |session: tower_sessions::Session| -> Answer {
        session.insert(package, fresh()).await.map_err(failed)?;
        Ok(HELLO)
    };
    let app = Router::new()
        .route("/read", get(read))
        .route("/write", get(write));
    app.layer(layer)
}
