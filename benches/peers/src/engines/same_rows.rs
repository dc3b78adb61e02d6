//! redb on the rows that cloakroom wrote, in the file where it keeps them: what a load through
//! cloakroom's public interface adds to reading them.

use super::cloakroom::{Cloakroom, clients, open_store, path, still_clock};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::PACKAGES;
use anyhow::{Context, Result, bail};
use redb::{Database, ReadableDatabase, TableDefinition};

/// As cloakroom's first migration makes them: a session's key is the number of its container, zero for the
/// unnamed one, and the client's key; a package's is that and its id.
const SESSIONS: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new("sessions");
const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packages");

pub(crate) struct RedbSameRows;

impl Peer for RedbSameRows {
    fn name(&self) -> &'static str {
        "redb-same-rows"
    }

    fn about(&self) -> &'static str {
        "redb 4 on the rows that cloakroom wrote, in the same file; only reads"
    }

    fn make(&self, site: &Site) -> Result<()> {
        Cloakroom.make(site)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let store = open_store(site, &still_clock()?)?;
        let ids = clients(site, &store)?;
        store.close()?;
        let keys = ids.iter().map(|id| {
            let mut key = [0; 20];
            key[4..].copy_from_slice(id.key().as_bytes());
            key
        });
        let database = Database::builder()
            .set_cache_size(super::CACHE)
            .open(path(site))?;
        Ok(Box::new(Open {
            keys: keys.collect(),
            database,
        }))
    }
}

struct Open {
    database: Database,
    keys: Vec<[u8; 20]>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        bail!("redb-same-rows only reads")
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(move |session, see| {
            let key = self.keys.get(session).context("no such session")?;
            let txn = self.database.begin_read()?;
            let sessions = txn.open_table(SESSIONS)?;
            sessions.get(key)?.context("no such session")?;
            let rows = txn.open_table(ROWS)?;
            for package in PACKAGES {
                let row = rows.get(&*[key, package.as_bytes()].concat())?;
                see(row.context("no such row")?.value());
            }
            Ok(())
        }))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        Ok(None)
    }
}
