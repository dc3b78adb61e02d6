//! The engines, one a file.

mod actix_session;
pub(crate) mod cloakroom;
mod fjall;
mod group;
mod lmdb;
mod log;
mod redb;
mod redis;
pub(crate) mod redis_server;
mod same_rows;
mod sqlite;
pub(crate) mod tower_sessions;
pub(crate) mod zodb;

use crate::engine::{Peer, Site};
use anyhow::{Result, bail};
use std::path::PathBuf;

/// Bytes that an embedded engine may keep in memory: cloakroom's default on a machine with 4 GiB or more.
pub(crate) const CACHE: usize = 1 << 30;

/// In the order of the tables.
static ALL: [&dyn Peer; 12] = [
    &log::Log,
    &cloakroom::Cloakroom,
    &redb::Redb,
    &redb::RedbTwoPhase,
    &same_rows::RedbSameRows,
    &sqlite::Sqlite,
    &lmdb::Lmdb,
    &fjall::Fjall,
    &redis::Redis,
    &zodb::Zodb,
    &tower_sessions::TowerSessionsSqlite,
    &actix_session::ActixSessionRedis,
];

/// Those that only run when they are named.
const ON_DEMAND: [&str; 2] = ["redb-two-phase", "redb-same-rows"];

/// The engines of these names; all, if none is named.
pub(crate) fn named(names: &[String]) -> Result<Vec<&'static dyn Peer>> {
    for name in names {
        if !ALL.iter().any(|peer| peer.name() == name) {
            let known: Vec<_> = ALL.iter().map(|peer| peer.name()).collect();
            bail!("no engine {name}: there are {}", known.join(", "));
        }
    }
    let wanted = |name: &str| match names {
        [] => !ON_DEMAND.contains(&name),
        names => names.iter().any(|n| n == name),
    };
    Ok(ALL.into_iter().filter(|p| wanted(p.name())).collect())
}

/// Where the process that serves an engine is noted, if it is not this one, so that it can be killed.
pub(crate) fn server_pid(site: &Site) -> PathBuf {
    site.folder.join("server.pid")
}
