//! Redis: a hash a session, a connection a writer.

use super::redis_server::{COUNTED, Server, missing};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{PACKAGES, client, row, rows};
use anyhow::{Context, Result};

pub(crate) struct Redis;

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn about(&self) -> &'static str {
        "redis-server on the loopback, appendfsync always; a hash a session"
    }

    fn counted(&self) -> &'static str {
        COUNTED
    }

    fn missing(&self) -> Option<String> {
        missing()
    }

    fn make(&self, site: &Site) -> Result<()> {
        let server = Server::start(site)?;
        let sessions = (0..site.sessions).map(|session| {
            let mut command = redis::cmd("HSET");
            command.arg(&client(session));
            for change in rows(session) {
                let package = change.key.get(client(session).len()..).unwrap_or_default();
                command.arg(package).arg(&change.row);
            }
            command
        });
        server.fill(sessions)?;
        server.stop()?;
        Ok(())
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Open {
            server: Server::start(site)?,
        }))
    }
}

struct Open {
    server: Server,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        let mut connection = self.server.connect()?;
        let [package, _] = PACKAGES;
        Ok(Box::new(move |session, value| {
            let set = redis::cmd("HSET")
                .arg(&client(session))
                .arg(package)
                .arg(row(value))
                .exec(&mut connection);
            Ok(set?)
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        let mut connection = self.server.connect()?;
        Ok(Box::new(move |session, see| {
            let found: Vec<Option<Vec<u8>>> = redis::cmd("HMGET")
                .arg(&client(session))
                .arg("")
                .arg(&PACKAGES)
                .query(&mut connection)?;
            for package in found.iter().skip(1) {
                see(package.as_ref().context("no such field")?);
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
        self.server.stop().map(Some)
    }
}
