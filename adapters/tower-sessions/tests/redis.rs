//! Moving from tower-sessions' Redis store: an application that served visitors with it goes on without them noticing.
//!
//! Needs a Redis server (Debian: `redis-server`). Without it the tests say so and pass, unless `CLOAKROOM_REDIS=required` is
//! set. `CLOAKROOM_REDIS=none` leaves them out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests"
)]

#[path = "../../../tests/support/redis.rs"]
mod redis;
#[path = "../../../tests/support/server.rs"]
#[allow(dead_code, reason = "the test uses some of it")]
mod server;

use axum::Router;
use axum::extract::Path;
use axum::routing::{get, post};
use redis::Redis;
use server::Browser;
use std::future::IntoFuture as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tower_sessions_014::session::{Id, Record};
use tower_sessions_014::{Session, SessionManagerLayer, SessionStore};
use tower_sessions_cloakroom_store::{CloakroomStore, MigratingStore};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::{ClientLike as _, Config, Pool};

async fn home(session: Session) -> String {
    let user: Option<String> = session.get("user").await.unwrap();
    user.unwrap_or_else(|| "stranger".to_owned())
}

async fn log_in(session: Session, Path(name): Path<String>) {
    session.cycle_id().await.unwrap();
    session.insert("user", name).await.unwrap();
}

async fn log_out(session: Session) {
    session.flush().await.unwrap();
}

/// Serves the application with a store, until the runtime is dropped. Returns the address.
fn serve(runtime: &Runtime, store: impl SessionStore + Clone) -> String {
    let app = Router::new()
        .route("/", get(home))
        .route("/login/{name}", post(log_in))
        .route("/logout", post(log_out))
        .layer(SessionManagerLayer::new(store).with_secure(false));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(axum::serve(listener, app).into_future());
    address
}

fn old_store(runtime: &Runtime, server: &Redis) -> RedisStore<Pool> {
    let pool = Pool::new(
        Config::from_url(&server.url()).unwrap(),
        None,
        None,
        None,
        2,
    )
    .unwrap();
    runtime.block_on(async {
        pool.connect();
        pool.wait_for_connect().await.unwrap();
    });
    RedisStore::new(pool)
}

fn logged_in(address: &str, name: &str) -> Browser {
    let mut browser = Browser::default();
    let answer = browser
        .post(address, &format!("/login/{name}"), "")
        .unwrap();
    assert_eq!(answer.status, 200);
    browser
}

/// Whom the application greets. Users get no other cookie.
fn greeted(browser: &mut Browser, address: &str) -> String {
    let before = browser.cookie.clone();
    let answer = browser.get(address, "/").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body == "stranger" || browser.cookie == before);
    answer.body
}

fn record(runtime: &Runtime, store: &impl SessionStore, browser: &Browser) -> Option<Record> {
    let (_, id) = browser.cookie.as_ref().unwrap().split_once('=').unwrap();
    let id: Id = id.parse().unwrap();
    runtime.block_on(store.load(&id)).unwrap()
}

#[test]
fn visitors_of_redis_stay_logged_in_and_leave_nothing_there() {
    let Some(server) = Redis::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");

    let runtime = Runtime::new().unwrap();
    let old = old_store(&runtime, &server);
    let address = serve(&runtime, old.clone());
    let [mut ann, mut bob, mut eve] = ["ann", "bob", "eve"].map(|name| logged_in(&address, name));
    assert_eq!(greeted(&mut ann, &address), "ann");
    assert_eq!(server.keys(), 3);
    let anns = record(&runtime, &old, &ann).expect("a record");
    drop(runtime);

    let runtime = Runtime::new().unwrap();
    let new = CloakroomStore::open(&file).unwrap();
    let old = old_store(&runtime, &server);
    let address = serve(&runtime, MigratingStore::new(new.clone(), old));
    for _ in 0..2 {
        assert_eq!(greeted(&mut ann, &address), "ann");
        assert_eq!(server.keys(), 2);
    }
    let moved = record(&runtime, &new, &ann).expect("a record");
    assert_eq!((&moved.data, moved.id), (&anns.data, anns.id));
    let millis = |record: &Record| record.expiry_date.unix_timestamp_nanos() / 1_000_000;
    assert_eq!(millis(&moved), millis(&anns), "it ends when it did");
    assert_eq!(greeted(&mut bob, &address), "bob");
    // A visitor who only comes to log out.
    let stolen = eve.cookie.clone();
    eve.post(&address, "/logout", "").unwrap();
    eve.cookie = stolen;
    assert_eq!(server.keys(), 0);
    let mut thief = eve.clone();
    assert_eq!(greeted(&mut thief, &address), "stranger");
    let mut joe = logged_in(&address, "joe");
    assert_eq!(server.keys(), 0, "new sessions are not stored there");
    drop((runtime, new, server));

    // Redis is gone.
    let runtime = Runtime::new().unwrap();
    let address = serve(&runtime, CloakroomStore::open(&file).unwrap());
    for (browser, name) in [(&mut ann, "ann"), (&mut bob, "bob"), (&mut joe, "joe")] {
        assert_eq!(greeted(browser, &address), name);
    }
    assert_eq!(greeted(&mut eve, &address), "stranger");
}
