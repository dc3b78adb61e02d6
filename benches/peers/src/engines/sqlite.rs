//! SQLite, with a committer before it.

use super::group::{Commit, Committer, fill};
use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Change, PACKAGES, key};
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, params};

pub(crate) struct Sqlite;

impl Peer for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn about(&self) -> &'static str {
        "SQLite (rusqlite), grouped; WAL, synchronous=FULL"
    }

    fn make(&self, site: &Site) -> Result<()> {
        let connection = connect(site)?;
        connection.execute_batch(
            "CREATE TABLE rows (key BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID",
        )?;
        let mut table = Table { connection };
        fill(&mut table, site.sessions)
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let connection = connect(site)?;
        Ok(Box::new(Open {
            site: site.clone(),
            committer: Committer::start(Table { connection }),
        }))
    }
}

/// A connection with the settings that all have.
fn connect(site: &Site) -> Result<Connection> {
    let connection = Connection::open(site.folder.join("rows.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // In KiB.
    connection.pragma_update(None, "cache_size", -((super::CACHE >> 10) as i64))?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

struct Table {
    connection: Connection,
}

impl Commit for Table {
    fn commit(&mut self, changes: &[Change]) -> Result<()> {
        let txn = self.connection.transaction()?;
        {
            let mut put = txn.prepare_cached(
                "INSERT INTO rows VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET row = excluded.row",
            )?;
            for change in changes {
                put.execute(params![change.key, change.row])?;
            }
        }
        Ok(txn.commit()?)
    }
}

struct Open {
    site: Site,
    committer: Committer<Table>,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        Ok(self.committer.writer())
    }

    /// On a connection of its own.
    fn reader(&self) -> Result<Reader<'_>> {
        let connection = connect(&self.site)?;
        Ok(Box::new(move |session, see| {
            let txn = connection.unchecked_transaction()?;
            let mut get = txn.prepare_cached("SELECT row FROM rows WHERE key = ?1")?;
            for package in ["", PACKAGES[0], PACKAGES[1]] {
                let key = key(session, package);
                let found = get
                    .query_row([key], |row| {
                        let row = row.get_ref(0)?.as_blob()?;
                        if !package.is_empty() {
                            see(row);
                        }
                        Ok(())
                    })
                    .optional()?;
                anyhow::ensure!(found.is_some(), "no such row");
            }
            Ok(())
        }))
    }

    /// The last connection takes the log along into the file.
    fn close(self: Box<Self>) -> Result<Option<u64>> {
        let table = self.committer.stop()?;
        table.connection.close().map_err(|(_, error)| error)?;
        Ok(None)
    }
}
