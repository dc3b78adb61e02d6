//! A handler of axum that reads or changes a session, under wrk.

use super::OPERATIONS;
use super::measure::{Measured, UsedProcessor};
use super::side::{Side, SideStore};
use crate::engines::tower_sessions::id;
use crate::payload::{Dice, KEY, PACKAGES, value};
use crate::report::{Metric, P99};
use crate::wrk::{self, Wrk};
use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::http::{CookieSettings, SessionLayer};
use cloakroom_postgres_server::{Server, processor_time_of_ended};
use std::fmt::Write;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tower_sessions::SessionManagerLayer;

const HELLO: &str = "welcome back";
const COOKIE: &str = "sid";
/// Of the load generator.
const WRK_PROCESSOR: Metric = ("wrk_cpu_us", "us");

/// An application that runs until it is dropped.
pub(super) struct Site {
    address: SocketAddr,
    folder: tempfile::TempDir,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Answer = Result<&'static str, StatusCode>;

impl Site {
    /// On the runtime on which the store was opened: the connections of tower-sessions belong to it.
    pub(super) fn start(side: &Side, runtime: &Runtime) -> Result<Self> {
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
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        Ok(Self {
            address,
            folder,
            serving: runtime.spawn(axum::serve(listener, app).into_future()),
        })
    }

    /// Warms up, then measures.
    pub(super) fn run(&self, path: &str, time: Duration, server: &Server) -> Result<Measured> {
        let url = format!("http://{}/{path}", self.address);
        let cookies = self.folder.path().join("cookies");
        wrk::run(&url, &cookies, 1)?;
        let (before, ended) = (UsedProcessor::of(server)?, of_ended()?);
        let seconds = time.as_secs().max(1);
        let Wrk { rate, p99_us } = wrk::run(&url, &cookies, seconds)?;
        let used = UsedProcessor::of(server)?.since(before);
        let requests = rate * seconds as f64;
        let by_wrk = of_ended()?.saturating_sub(ended);
        let mut measured = vec![(OPERATIONS, rate), (P99, p99_us)];
        measured.extend(used.metrics(requests));
        measured.push((WRK_PROCESSOR, by_wrk.as_secs_f64() * 1e6 / requests));
        Ok(measured)
    }
}

/// The processor time of what this process started and waited for, as it did for wrk.
fn of_ended() -> Result<Duration> {
    processor_time_of_ended(std::process::id()).context("no /proc/self/stat")
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
