//! fjall, with a committer before it.

use super::group::{Commit, Committer, fill};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Change, PACKAGES, key};
use anyhow::{Context, Result};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

pub(crate) struct Fjall;

impl Peer for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn about(&self) -> &'static str {
        "fjall 3, grouped; SyncData; closed with its journal as it is"
    }

    fn make(&self, site: &Site) -> Result<()> {
        fill(&mut open(site)?, site.sessions)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let tree = open(site)?;
        Ok(Box::new(Open {
            tree: tree.clone(),
            committer: Committer::start(tree),
        }))
    }
}

#[derive(Clone)]
struct Tree {
    database: Database,
    rows: Keyspace,
}

fn open(site: &Site) -> Result<Tree> {
    let database = Database::builder(&site.folder)
        .cache_size(super::CACHE as u64)
        .open()?;
    let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
    Ok(Tree { database, rows })
}

impl Commit for Tree {
    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let batch = self.database.batch();
        let mut batch = batch.durability(Some(PersistMode::SyncData));
        for change in changes {
            batch.insert(&self.rows, change.key.as_slice(), change.row.as_slice());
        }
        Ok(batch.commit()?)
    }
}

struct Open {
    tree: Tree,
    committer: Committer<Tree>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(self.committer.writer())
    }

    fn reader(&self) -> Result<Reader<'_>> {
        let Tree { database, rows } = &self.tree;
        Ok(Box::new(move |session, see| {
            let snapshot = database.snapshot();
            let get = |package| snapshot.get(rows, key(session, package));
            get("")?.context("no such session")?;
            for package in PACKAGES {
                see(&get(package)?.context("no such row")?);
            }
            Ok(())
        }))
    }

    /// What is in memory stays in the journal: fjall reads it again when it opens.
    fn close(self: Box<Self>) -> Result<Option<u64>> {
        drop(self.committer.stop()?);
        Ok(None)
    }
}
