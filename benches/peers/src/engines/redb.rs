//! redb, with a committer before it.

#[path = "../../../support/counting.rs"]
mod counting;

use super::group::{Commit, Committer, fill};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Change, PACKAGES, key};
use anyhow::{Context, Result};
use counting::{Counting, Counts};
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, TableDefinition};
use std::fs::OpenOptions;
use std::sync::Arc;

const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");

pub(crate) struct Redb;

/// With the second sync that cloakroom asks of redb.
pub(crate) struct RedbTwoPhase;

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn about(&self) -> &'static str {
        "redb 4, grouped; one-phase commits, as by default"
    }

    fn counted(&self) -> &'static str {
        "a counting StorageBackend"
    }

    fn make(&self, site: &Site) -> Result<()> {
        fill(&mut open(site, false)?.0, site.sessions)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        engine(site, false)
    }
}

impl Peer for RedbTwoPhase {
    fn name(&self) -> &'static str {
        "redb-two-phase"
    }

    fn about(&self) -> &'static str {
        "redb 4, grouped; two-phase commits, as cloakroom makes them"
    }

    fn counted(&self) -> &'static str {
        Redb.counted()
    }

    fn make(&self, site: &Site) -> Result<()> {
        Redb.make(site)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        engine(site, true)
    }
}

struct Tables {
    database: Arc<Database>,
    two_phase: bool,
}

fn open(site: &Site, two_phase: bool) -> Result<(Tables, Arc<Counts>)> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(site.folder.join("rows.redb"))?;
    let counts = Arc::new(Counts::default());
    let backend = Counting {
        file: FileBackend::new(file)?,
        counts: counts.clone(),
    };
    let database = Database::builder()
        .set_cache_size(super::CACHE)
        .create_with_backend(backend)?;
    let database = Arc::new(database);
    Ok((
        Tables {
            database,
            two_phase,
        },
        counts,
    ))
}

fn engine(site: &Site, two_phase: bool) -> Result<Box<dyn Engine>> {
    let (tables, counts) = open(site, two_phase)?;
    Ok(Box::new(Open {
        database: tables.database.clone(),
        committer: Committer::start(tables),
        counts,
    }))
}

impl Commit for Tables {
    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let mut txn = self.database.begin_write()?;
        txn.set_two_phase_commit(self.two_phase);
        {
            let mut table = txn.open_table(ROWS)?;
            for change in changes {
                table.insert(&*change.key, &*change.row)?;
            }
        }
        Ok(txn.commit()?)
    }
}

struct Open {
    database: Arc<Database>,
    committer: Committer<Tables>,
    counts: Arc<Counts>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(self.committer.writer())
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(move |session, see| {
            let table = self.database.begin_read()?.open_table(ROWS)?;
            table.get(&*key(session, ""))?.context("no such session")?;
            for package in PACKAGES {
                let row = table.get(&*key(session, package))?;
                see(row.context("no such row")?.value());
            }
            Ok(())
        }))
    }

    fn written(&self) -> Result<Option<u64>> {
        Ok(Some(self.counts.now().0))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        let Self {
            database,
            committer,
            counts,
        } = *self;
        drop(committer.stop()?);
        drop(database);
        Ok(Some(counts.now().0))
    }
}
