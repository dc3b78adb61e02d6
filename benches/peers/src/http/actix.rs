//! The same handlers on actix-web: bare, with our middleware, and with actix-session on cloakroom and on Redis.

use super::{COOKIE, FILLING, HELLO, WORKERS, fresh, layer};
use crate::engine::Site;
use crate::engines::redis_server::Server as Redis;
use crate::payload::{KEY, PACKAGES, first_value};
use actix_session::config::CookieContentSecurity;
use actix_session::storage::{RedisSessionStore, SessionKey, SessionStore};
use actix_session::{Session, SessionMiddleware};
use actix_session_cloakroom::CloakroomSessionStore;
use actix_web::cookie::{Cookie, CookieJar, Key, time::Duration};
use actix_web::dev::{Server, ServerHandle};
use actix_web::error::{ErrorInternalServerError, ErrorNotFound};
use actix_web::{App, HttpServer, Result as Answer, rt, web};
use anyhow::{Context, Result, anyhow};
use cloakroom_actix::Error as Native;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

pub(super) const BARE: &str = "actix";
pub(super) const NATIVE: &str = "actix-cloakroom-native";
pub(super) const CLOAKROOM: &str = "actix-session-cloakroom";
pub(super) const REDIS: &str = "actix-session-redis";
pub(super) const ENGINES: [&str; 4] = [BARE, NATIVE, CLOAKROOM, REDIS];

/// A server on threads of its own.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<Result<()>>>,
    _redis: Option<Redis>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The server stops although nobody waits for that here.
        drop(self.handle.stop(false));
        // If it failed, wrk has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What a server tells once it listens, with the values of the cookie that its visitors bring.
struct Started {
    address: SocketAddr,
    handle: ServerHandle,
    values: Vec<String>,
}

/// Starts a server; returns the values of the cookie that its visitors bring.
pub(super) fn start(engine: &str, site: &Site) -> Result<(Running, Vec<String>)> {
    let redis = (engine == REDIS).then(|| Redis::start(site)).transpose()?;
    let url = redis.as_ref().map(|redis| redis.url.clone());
    let (started, told) = mpsc::channel();
    let (engine, site) = (engine.to_owned(), site.clone());
    let thread = thread::spawn(move || {
        rt::System::new().block_on(async {
            match (&*engine, url) {
                (BARE, _) => bare(&started).await,
                (NATIVE, _) => native(&started, &site).await,
                (_, Some(url)) => serve(&started, RedisSessionStore::new(url).await?, &site).await,
                (_, None) => {
                    let store = CloakroomSessionStore::open(site.folder.join("sessions.redb"))?;
                    serve(&started, store, &site).await
                }
            }
        })
    });
    let Ok(started) = told.recv() else {
        let ended = thread.join().map_err(|_| anyhow!("the server panicked"))?;
        return Err(ended.err().context("the server ended")?);
    };
    let running = Running {
        address: started.address,
        handle: started.handle,
        thread: Some(thread),
        _redis: redis,
    };
    Ok((running, started.values))
}

async fn run(
    told: &Sender<Started>,
    server: Server,
    address: SocketAddr,
    values: Vec<String>,
) -> Result<()> {
    let handle = server.handle();
    told.send(Started {
        address,
        handle,
        values,
    })?;
    Ok(server.await?)
}

async fn bare(told: &Sender<Started>) -> Result<()> {
    let server = HttpServer::new(|| {
        let hello = async || HELLO;
        App::new()
            .route("/read", web::get().to(hello))
            .route("/write", web::get().to(hello))
    });
    let server = server.workers(WORKERS).bind("127.0.0.1:0")?;
    let address = *server.addrs().first().context("no address")?;
    run(told, server.run(), address, vec!["none".to_owned()]).await
}

async fn native(told: &Sender<Started>, site: &Site) -> Result<()> {
    let [package, _] = PACKAGES;
    let read = async move |session: cloakroom_actix::Session| -> Answer<&'static str> {
        let value: Option<String> = session.pkg(package).get(KEY).map_err(Native::from)?;
        value
            .map(|_| HELLO)
            .ok_or_else(|| ErrorNotFound("no session"))
    };
    let write = async move |session: cloakroom_actix::Session| -> Result<&'static str, Native> {
        session.pkg(package).insert(KEY, fresh())?;
        Ok(HELLO)
    };
    let (layer, values) = layer(site)?;
    let server = HttpServer::new(move || {
        App::new()
            .wrap(cloakroom_actix::SessionMiddleware::new(layer.clone()))
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
    });
    let server = server.workers(WORKERS).bind("127.0.0.1:0")?;
    let address = *server.addrs().first().context("no address")?;
    run(told, server.run(), address, values).await
}

async fn read(session: Session) -> Answer<&'static str> {
    let [package, _] = PACKAGES;
    let value: Option<String> = session.get(package)?;
    value
        .map(|_| HELLO)
        .ok_or_else(|| ErrorNotFound("no session"))
}

async fn write(session: Session) -> Answer<&'static str> {
    let [package, _] = PACKAGES;
    session
        .insert(package, fresh())
        .map_err(ErrorInternalServerError)?;
    Ok(HELLO)
}

async fn serve<S>(told: &Sender<Started>, store: S, site: &Site) -> Result<()>
where
    S: SessionStore + Clone + Send + 'static,
{
    let key = Key::generate();
    let values = fill(&store, &key, site.sessions).await?;
    let server = HttpServer::new(move || {
        let sessions = SessionMiddleware::builder(store.clone(), key.clone())
            .cookie_name(COOKIE.to_owned())
            .cookie_secure(false)
            .cookie_content_security(CookieContentSecurity::Signed)
            .build();
        App::new()
            .wrap(sessions)
            .route("/read", web::get().to(read))
            .route("/write", web::get().to(write))
    });
    let server = server.workers(WORKERS).bind("127.0.0.1:0")?;
    let address = *server.addrs().first().context("no address")?;
    run(told, server.run(), address, values).await
}

/// Saves the sessions; returns the values of their cookies.
async fn fill<S: SessionStore + Clone + 'static>(
    store: &S,
    secret: &Key,
    sessions: usize,
) -> Result<Vec<String>> {
    let mut values = Vec::with_capacity(sessions);
    for first in (0..sessions).step_by(FILLING) {
        let saving: Vec<_> = (first..sessions.min(first + FILLING))
            .map(|session| {
                let store = store.clone();
                rt::spawn(async move {
                    store
                        .save(state(session)?, &Duration::WEEK)
                        .await
                        .map_err(anyhow::Error::new)
                })
            })
            .collect();
        for saved in saving {
            values.push(cookie(&saved.await??, secret)?);
        }
    }
    Ok(values)
}

/// A session as it is before anything is changed.
fn state(session: usize) -> Result<HashMap<String, String>> {
    let entry = |package: &str| {
        let value = serde_json::to_string(&first_value(session, package))?;
        Ok((package.to_owned(), value))
    };
    PACKAGES.into_iter().map(entry).collect()
}

/// The value of a cookie as the middleware sets it.
fn cookie(key: &SessionKey, secret: &Key) -> Result<String> {
    let mut jar = CookieJar::new();
    jar.signed_mut(secret)
        .add(Cookie::new(COOKIE, key.as_ref().to_owned()));
    let cookie = jar.get(COOKIE).context("no cookie")?;
    let pair = cookie.encoded().to_string();
    let (_, value) = pair.split_once('=').context("no value")?;
    Ok(value.to_owned())
}
