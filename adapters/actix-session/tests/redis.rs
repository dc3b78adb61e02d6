//! Moving from actix-session's Redis store: an application that served visitors with it goes on without them noticing.
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

use actix_session::storage::{RedisSessionStore, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_session_cloakroom::{CloakroomSessionStore, MigratingStore};
use actix_web::cookie::{Key, time::Duration};
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, Result, rt, web};
use redis::Redis;
use server::Browser;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

async fn home(session: Session) -> Result<String> {
    let user: Option<String> = session.get("user")?;
    Ok(user.unwrap_or_else(|| "stranger".to_owned()))
}

async fn log_in(session: Session, name: web::Path<String>) -> Result<&'static str> {
    session.renew();
    session.insert("user", name.into_inner())?;
    Ok("")
}

async fn log_out(session: Session) -> &'static str {
    session.purge();
    ""
}

/// The application with a store, on a thread of its own.
struct Site {
    address: String,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    fn serve<S, F>(secret: &Key, store: impl FnOnce() -> F + Send + 'static) -> Self
    where
        S: SessionStore + Clone + Send + 'static,
        F: Future<Output = S>,
    {
        let (secret, (started, told)) = (secret.clone(), mpsc::channel());
        let thread = thread::spawn(move || {
            rt::System::new().block_on(async move {
                let store = store().await;
                let app = move || {
                    let sessions = SessionMiddleware::builder(store.clone(), secret.clone());
                    App::new()
                        .wrap(sessions.cookie_secure(false).build())
                        .route("/", web::get().to(home))
                        .route("/login/{name}", web::post().to(log_in))
                        .route("/logout", web::post().to(log_out))
                };
                let server = HttpServer::new(app).workers(1).bind("127.0.0.1:0").unwrap();
                let address = server.addrs().first().unwrap().to_string();
                let server = server.disable_signals().run();
                started.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, handle) = told.recv().expect("the server starts");
        Self {
            address,
            handle,
            thread: Some(thread),
        }
    }

    fn logged_in(&self, name: &str) -> Browser {
        let mut browser = Browser::default();
        let path = format!("/login/{name}");
        let answer = browser.post(&self.address, &path, "").unwrap();
        assert_eq!(answer.status, 200);
        browser
    }

    /// Whom the application greets. Users get no other cookie.
    fn greets(&self, browser: &mut Browser) -> String {
        let before = browser.cookie.clone();
        let answer = browser.get(&self.address, "/").unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body == "stranger" || browser.cookie == before);
        answer.body
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // The server stops although nobody waits for that here.
        drop(self.handle.stop(false));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

#[test]
fn visitors_of_redis_stay_logged_in_and_leave_nothing_there() {
    let Some(server) = Redis::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let secret = Key::generate();
    let url = server.url();
    let redis = move || async move { RedisSessionStore::new(url).await.unwrap() };

    let site = Site::serve(&secret, redis.clone());
    let [mut ann, mut bob, mut eve] = ["ann", "bob", "eve"].map(|name| site.logged_in(name));
    assert_eq!(site.greets(&mut ann), "ann");
    assert_eq!(server.keys(), 3);
    drop(site);

    let store = CloakroomSessionStore::open(&file).unwrap();
    let opened = store.store().clone();
    let site = Site::serve(&secret, || async {
        MigratingStore::new(store, redis().await, Duration::days(1))
    });
    for _ in 0..2 {
        assert_eq!(site.greets(&mut ann), "ann");
        assert_eq!(server.keys(), 2);
    }
    assert_eq!(site.greets(&mut bob), "bob");
    // A visitor who only comes to log out.
    let stolen = eve.cookie.clone();
    eve.post(&site.address, "/logout", "").unwrap();
    eve.cookie = stolen;
    assert_eq!(server.keys(), 0);
    let mut thief = eve.clone();
    assert_eq!(site.greets(&mut thief), "stranger");
    let mut joe = site.logged_in("joe");
    assert_eq!(server.keys(), 0, "new sessions are not stored there");
    drop((site, server));
    // The workers may still be ending.
    opened.close().unwrap();

    // Redis is gone.
    let store = CloakroomSessionStore::open(&file).unwrap();
    let site = Site::serve(&secret, || async { store.with_moved_keys() });
    for (browser, name) in [(&mut ann, "ann"), (&mut bob, "bob"), (&mut joe, "joe")] {
        assert_eq!(site.greets(browser), name);
    }
    assert_eq!(site.greets(&mut eve), "stranger");
}
