//! Requests per second of one handler, under wrk: without a session, reading one, writing one. The servers are axum's and
//! actix-web's.

mod actix;

use crate::engine::{Peer, Site};
use crate::engines::cloakroom::{Cloakroom, clients, open_store, still_clock};
use crate::engines::redis_server::{self, Server as Redis};
use crate::engines::tower_sessions::{TowerSessionsSqlite, id, pool, record};
use crate::payload::{Dice, KEY, PACKAGES, value};
use crate::prepared::{PreparedEngines, progress};
use crate::report::{P99, REQUESTS, Report};
use crate::run::Span;
use crate::settings::Settings;
use crate::wrk::{self, Wrk};
use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cloakroom::Store;
use cloakroom::http::{CookieSettings, SessionLayer};
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tower_sessions::session_store::SessionStore;
use tower_sessions::{MemoryStore, SessionManagerLayer};
use tower_sessions_cloakroom_store::CloakroomStore;
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike, Config, Pool};
use tower_sessions_sqlx_store::SqliteStore;

const HELLO: &str = "welcome back";
const COOKIE: &str = "sid";
const WORKERS: usize = 2;
/// How many sessions are saved at once before the measurement.
const FILLING: usize = 64;
/// How many connections to Redis the store has.
const REDIS_CONNECTIONS: usize = 6;
const TOWER_REDIS: &str = "tower-sessions-redis";
const ENGINES: [&str; 10] = [
    "axum",
    "cloakroom",
    "tower-sessions-cloakroom",
    "tower-sessions-memory",
    "tower-sessions-sqlite",
    TOWER_REDIS,
    actix::BARE,
    actix::NATIVE,
    actix::CLOAKROOM,
    actix::REDIS,
];

pub(crate) fn main(settings: &Settings) -> Result<()> {
    if let Some(how) = wrk::missing() {
        bail!("{how}");
    }
    let mut report = Report::new("http").against("axum");
    let sessions = settings.sessions_or(10_000);
    let seconds = match settings.span() {
        Span::For(time) => time.as_secs().max(1),
        Span::Operations(_) => bail!("wrk runs for a time, not for a number of requests"),
    };
    let folder = PreparedEngines::folder()?;
    let mut servers = Vec::new();
    for engine in ENGINES {
        if settings.engines.is_empty() || settings.engines.iter().any(|name| name == engine) {
            if let Some(how) = missing(engine) {
                eprintln!("{engine} IS LEFT OUT: {how}");
                report.note(format!("{engine} was left out: {how}"));
                continue;
            }
            let site = Site {
                folder: folder.path().join(engine),
                sessions,
            };
            std::fs::create_dir(&site.folder)?;
            servers.push((engine, site.clone(), Server::start(engine, &site)?));
        }
    }
    ensure!(!servers.is_empty(), "no engine is left");
    let rounds = settings.rounds();
    let bar = progress((2 * rounds * servers.len()) as u64);
    for round in 0..=rounds {
        for operation in ["read", "write"] {
            let case = format!("http-{operation}/uniform/{sessions}/c{}", wrk::CONNECTIONS);
            for (engine, site, server) in &servers {
                bar.set_message(format!("{case} {engine}"));
                bar.tick();
                let url = format!("http://{}/{operation}", server.address);
                // The first is to warm up.
                let seconds = if round == 0 { 1 } else { seconds };
                let Wrk { rate, p99_us } = wrk::run(&url, &cookies(site), seconds)
                    .with_context(|| format!("{case} on {engine}"))?;
                if round > 0 {
                    report.add(&case, engine, REQUESTS, rate);
                    report.add(&case, engine, P99, p99_us);
                    bar.inc(1);
                }
            }
        }
    }
    bar.finish_and_clear();
    report.note(format!(
        "server on {WORKERS} threads, wrk on one of the same machine"
    ));
    report.note("axum                     the handler alone, no session");
    report.note("tower-sessions-cloakroom tower-sessions with our store");
    report.note("tower-sessions-memory    nothing is on a disk");
    report.note("tower-sessions-sqlite    WAL, synchronous=FULL");
    report.note("tower-sessions-redis     appendfsync always");
    report.note("actix                    the handler alone, no session, on actix-web");
    report.note("actix-cloakroom-native   our middleware for actix-web");
    report.note("actix-session-cloakroom  actix-session with our store");
    report.note("actix-session-redis      appendfsync always");
    report.finish(REQUESTS)
}

/// How to come by what an engine needs, if it is not there.
fn missing(engine: &str) -> Option<String> {
    let on_redis = [TOWER_REDIS, actix::REDIS].contains(&engine);
    on_redis.then(redis_server::missing).flatten()
}

fn cookies(site: &Site) -> std::path::PathBuf {
    site.folder.join("cookies")
}

/// Writes what the visitors bring along.
fn write_cookies(site: &Site, values: &[String]) -> Result<()> {
    let lines: String = values.iter().map(|v| format!("{COOKIE}={v}\n")).collect();
    Ok(std::fs::write(cookies(site), lines)?)
}

/// One engine behind one handler, on threads of its own.
struct Server {
    address: SocketAddr,
    _runtime: Option<Runtime>,
    _actix: Option<actix::Running>,
    _redis: Option<Redis>,
}

impl Server {
    fn start(engine: &str, site: &Site) -> Result<Self> {
        if actix::ENGINES.contains(&engine) {
            let (running, values) = actix::start(engine, site)?;
            write_cookies(site, &values)?;
            return Ok(Self {
                address: running.address,
                _runtime: None,
                _actix: Some(running),
                _redis: None,
            });
        }
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?;
        let redis = (engine == TOWER_REDIS).then(|| Redis::start(site));
        let redis = redis.transpose()?;
        let (app, values) = match engine {
            "axum" => (bare(), vec!["none".to_owned()]),
            "cloakroom" => cloakroom(site)?,
            "tower-sessions-cloakroom" => runtime.block_on(on_cloakroom(site))?,
            "tower-sessions-memory" => runtime.block_on(memory(site))?,
            TOWER_REDIS => {
                let server = redis.as_ref().context("no redis-server")?;
                runtime.block_on(on_redis(site, server))?
            }
            _ => {
                TowerSessionsSqlite.make(site)?;
                runtime.block_on(sqlite(site))?
            }
        };
        write_cookies(site, &values)?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        runtime.spawn(axum::serve(listener, app).into_future());
        Ok(Self {
            address,
            _runtime: Some(runtime),
            _actix: None,
            _redis: redis,
        })
    }
}

/// A value that was not there before.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    value(Dice::new(NEXT.fetch_add(1, Ordering::Relaxed)).roll())
}

type Answer = Result<&'static str, StatusCode>;

/// A session that is not found is an error, so that it shows.
fn greet(value: Option<String>) -> Answer {
    value.map(|_| HELLO).ok_or(StatusCode::NOT_FOUND)
}

fn failed<E>(_: E) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

fn bare() -> Router {
    let read = async || HELLO;
    Router::new()
        .route("/read", get(read))
        .route("/write", get(read))
}

/// An application, and the values of the cookie that its visitors bring.
type App = (Router, Vec<String>);

/// A layer on the sessions of a site, and the values of the cookie that its visitors bring.
fn layer(site: &Site) -> Result<(SessionLayer, Vec<String>)> {
    Cloakroom.make(site)?;
    let store: Store = open_store(site, &still_clock()?)?;
    let values = clients(site, &store)?;
    let values = values.iter().map(|id| id.as_str().to_owned()).collect();
    let cookie = CookieSettings::new().plain_http().name(COOKIE)?;
    Ok((SessionLayer::new(store).cookie(cookie), values))
}

fn cloakroom(site: &Site) -> Result<App> {
    let [package, _] = PACKAGES;
    let (layer, values) = layer(site)?;
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
        .route("/write", get(write))
        .layer(layer);
    Ok((app, values))
}

async fn memory(site: &Site) -> Result<App> {
    let store = MemoryStore::default();
    for session in 0..site.sessions {
        store.save(&record(session)).await?;
    }
    Ok(tower_sessions(site, store))
}

async fn on_cloakroom(site: &Site) -> Result<App> {
    let store = CloakroomStore::open(site.folder.join("sessions.redb"))?;
    fill(site, &store).await?;
    Ok(tower_sessions(site, store))
}

async fn on_redis(site: &Site, server: &Redis) -> Result<App> {
    let pool = Pool::new(
        Config::from_url(&server.url)?,
        None,
        None,
        None,
        REDIS_CONNECTIONS,
    )?;
    pool.connect();
    pool.wait_for_connect().await?;
    let store = RedisStore::new(pool);
    fill(site, &store).await?;
    Ok(tower_sessions(site, store))
}

/// Saves the sessions.
async fn fill<S: SessionStore + Clone>(site: &Site, store: &S) -> Result<()> {
    // Commits that wait at the same time share a sync.
    let mut saving = tokio::task::JoinSet::new();
    for session in 0..site.sessions {
        let store = store.clone();
        saving.spawn(async move { store.create(&mut record(session)).await });
        if saving.len() == FILLING {
            saving.join_next().await.context("none is left")???;
        }
    }
    while let Some(saved) = saving.join_next().await {
        saved??;
    }
    Ok(())
}

async fn sqlite(site: &Site) -> Result<App> {
    Ok(tower_sessions(site, SqliteStore::new(pool(site).await?)))
}

fn tower_sessions<S: SessionStore + Clone>(site: &Site, store: S) -> App {
    let [package, _] = PACKAGES;
    let values = (0..site.sessions).map(|n| id(n).to_string()).collect();
    let read = async move |session: tower_sessions::Session| -> Answer {
        greet(session.get(package).await.map_err(failed)?)
    };
    let write = async move |session: tower_sessions::Session| -> Answer {
        session.insert(package, fresh()).await.map_err(failed)?;
        Ok(HELLO)
    };
    let layer = SessionManagerLayer::new(store)
        .with_secure(false)
        .with_name(COOKIE);
    let app = Router::new()
        .route("/read", get(read))
        .route("/write", get(write))
        .layer(layer);
    (app, values)
}
