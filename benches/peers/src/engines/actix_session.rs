//! actix-session with its Redis store, as its middleware uses it: a session is loaded whole, changed and
//! saved whole, over the one connection that the store has.

use super::redis_server::{COUNTED, Server, missing};
use super::tower_sessions::runtime;
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{PACKAGES, client, first_value};
use actix_session::storage::{RedisSessionStore, SessionKey, SessionStore};
use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::fmt::Write;
use time::Duration;
use tokio::runtime::Runtime;

/// How long a session lives, by default.
const TTL: Duration = Duration::DAY;

pub(crate) struct ActixSessionRedis;

impl Peer for ActixSessionRedis {
    fn name(&self) -> &'static str {
        "actix-session-redis"
    }

    fn about(&self) -> &'static str {
        "actix-session with RedisSessionStore; appendfsync always; load, change, save"
    }

    fn counted(&self) -> &'static str {
        COUNTED
    }

    fn missing(&self) -> Option<String> {
        missing()
    }

    fn make(&self, site: &Site) -> Result<()> {
        let sessions = (0..site.sessions)
            .map(|session| {
                // Values are JSON, and so is the whole.
                let packages = PACKAGES.map(|package| {
                    let value = serde_json::to_string(&first_value(session, package))?;
                    Ok((package, value))
                });
                let packages: HashMap<_, _> = packages.into_iter().collect::<Result<_>>()?;
                let mut command = redis::cmd("SET");
                command
                    .arg(key(session))
                    .arg(serde_json::to_string(&packages)?)
                    .arg("EX")
                    .arg(TTL.whole_seconds());
                Ok(command)
            })
            .collect::<Result<Vec<_>>>()?;
        let server = Server::start(site)?;
        server.fill(sessions.into_iter())?;
        server.stop()?;
        Ok(())
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let server = Server::start(site)?;
        let runtime = runtime()?;
        let store = runtime.block_on(RedisSessionStore::new(server.url.clone()))?;
        Ok(Box::new(Open {
            store,
            runtime,
            server,
        }))
    }
}

/// 64 letters, as the store makes them.
fn key(session: usize) -> String {
    let mut key = String::with_capacity(64);
    for byte in client(session) {
        let _ = write!(key, "{byte:03}");
    }
    key + "abcd"
}

fn session_key(session: usize) -> Result<SessionKey> {
    key(session).try_into().map_err(|e| anyhow!("{e}"))
}

struct Open {
    store: RedisSessionStore,
    runtime: Runtime,
    server: Server,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        let [package, _] = PACKAGES;
        Ok(Box::new(move |session, value| {
            let key = session_key(session)?;
            self.runtime.block_on(async {
                let state = self.store.load(&key).await?;
                let mut state = state.context("no such session")?;
                state.insert(package.to_owned(), serde_json::to_string(value)?);
                self.store.update(key, state, &TTL).await?;
                Ok(())
            })
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(move |session, see| {
            let key = session_key(session)?;
            let state = self.runtime.block_on(self.store.load(&key))?;
            let state = state.context("no such session")?;
            for package in PACKAGES {
                let json = state.get(package).context("no such value")?;
                let value: String = serde_json::from_str(json)?;
                see(value.as_bytes());
            }
            Ok(())
        }))
    }

    fn written(&self) -> Result<Option<u64>> {
        self.server.written().map(Some)
    }

    fn process(&self) -> Option<u32> {
        Some(self.server.id())
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        let Self {
            store,
            runtime,
            server,
        } = *self;
        drop(store);
        drop(runtime);
        server.stop().map(Some)
    }
}
