//! LMDB, with a committer before it.

use super::group::{Commit, Committer, fill};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Change, PACKAGES, key};
use anyhow::{Context, Result};
use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions, WithoutTls};

pub(crate) struct Lmdb;

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "lmdb"
    }

    fn about(&self) -> &'static str {
        "LMDB (heed), grouped; defaults: writes by pwrite, syncs each commit"
    }

    fn make(&self, site: &Site) -> Result<()> {
        let mut rows = open(site)?;
        fill(&mut rows, site.sessions)?;
        rows.close();
        Ok(())
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let rows = open(site)?;
        Ok(Box::new(Open {
            rows: rows.clone(),
            committer: Committer::start(rows),
        }))
    }
}

#[derive(Clone)]
struct Rows {
    env: Env<WithoutTls>,
    database: Database<Bytes, Bytes>,
}

#[expect(
    unsafe_code,
    reason = "heed maps the file, which nobody else must change"
)]
fn open(site: &Site) -> Result<Rows> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(64 << 30).max_readers(256);
    // SAFETY: the folder is this run's own, and it is opened once at a time.
    let env = unsafe { options.open(&site.folder) }?;
    let mut txn = env.write_txn()?;
    let database = env.create_database(&mut txn, None)?;
    txn.commit()?;
    Ok(Rows { env, database })
}

impl Rows {
    fn close(self) {
        let closing = self.env.prepare_for_closing();
        closing.wait();
    }
}

impl Commit for Rows {
    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for change in changes {
            self.database.put(&mut txn, &change.key, &change.row)?;
        }
        Ok(txn.commit()?)
    }
}

struct Open {
    rows: Rows,
    committer: Committer<Rows>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(self.committer.writer())
    }

    fn reader(&self) -> Result<Reader<'_>> {
        let Rows { env, database } = &self.rows;
        Ok(Box::new(move |session, see| {
            let txn = env.read_txn()?;
            let get = |package| database.get(&txn, &key(session, package));
            get("")?.context("no such session")?;
            for package in PACKAGES {
                see(get(package)?.context("no such row")?);
            }
            Ok(())
        }))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        drop(self.committer.stop()?);
        self.rows.close();
        Ok(None)
    }
}
