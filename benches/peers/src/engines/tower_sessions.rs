//! tower-sessions with its SQLite store, as an application uses them: a session is loaded whole, changed
//! and saved whole.

use crate::engine::{Engine, Peer, Reader, Site, Writer};
use crate::payload::{Dice, PACKAGES, first_value};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::runtime::{self, Runtime};
use tower_sessions::Session;
use tower_sessions::session::{Id, Record};
use tower_sessions_sqlx_store::SqliteStore;
use tower_sessions_sqlx_store::sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use tower_sessions_sqlx_store::sqlx::{self, SqlitePool};

pub(crate) struct TowerSessionsSqlite;

impl Peer for TowerSessionsSqlite {
    fn name(&self) -> &'static str {
        "tower-sessions-sqlite"
    }

    fn about(&self) -> &'static str {
        "tower-sessions with SqliteStore (sqlx, 10 connections); WAL, synchronous=FULL; load, change, save"
    }

    fn make(&self, site: &Site) -> Result<()> {
        let runtime = runtime()?;
        runtime.block_on(async {
            let pool = pool(site).await?;
            SqliteStore::new(pool.clone()).migrate().await?;
            // As the store would write them, but many a transaction.
            for first in (0..site.sessions).step_by(1000) {
                let mut txn = pool.begin().await?;
                for session in first..site.sessions.min(first + 1000) {
                    let record = record(session);
                    sqlx::query("insert into tower_sessions values (?, ?, ?)")
                        .bind(record.id.to_string())
                        .bind(rmp_serde::to_vec(&record)?)
                        .bind(record.expiry_date)
                        .execute(&mut *txn)
                        .await?;
                }
                txn.commit().await?;
            }
            pool.close().await;
            Ok(())
        })
    }

    fn open(&self, site: &Site) -> Result<Box<dyn Engine>> {
        let runtime = runtime()?;
        let pool = runtime.block_on(pool(site))?;
        Ok(Box::new(Open {
            store: Arc::new(SqliteStore::new(pool.clone())),
            pool,
            runtime,
        }))
    }
}

pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

pub(crate) async fn pool(site: &Site) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(site.folder.join("sessions.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    Ok(SqlitePoolOptions::new().connect_with(options).await?)
}

/// A session's id, from its number.
pub(crate) fn id(session: usize) -> Id {
    let mut dice = Dice::new(session as u64 ^ 0x1d_0000_0000);
    Id(i128::from(dice.roll()) << 63 | i128::from(dice.roll() >> 1))
}

/// A session as it is before anything is changed.
pub(crate) fn record(session: usize) -> Record {
    let packages = PACKAGES.map(|package| {
        let value = first_value(session, package);
        (package.to_owned(), value.into())
    });
    Record {
        id: id(session),
        data: HashMap::from(packages),
        expiry_date: OffsetDateTime::now_utc() + time::Duration::WEEK,
    }
}

struct Open {
    store: Arc<SqliteStore>,
    pool: SqlitePool,
    runtime: Runtime,
}

impl Engine for Open {
    fn writer(&self) -> Result<Writer<'_>> {
        let [package, _] = PACKAGES;
        Ok(Box::new(move |number, value| {
            let session = Session::new(Some(id(number)), self.store.clone(), None);
            self.runtime.block_on(async {
                session.insert(package, value).await?;
                Ok(session.save().await?)
            })
        }))
    }

    fn reader(&self) -> Result<Reader<'_>> {
        Ok(Box::new(move |number, see| {
            let session = Session::new(Some(id(number)), self.store.clone(), None);
            self.runtime.block_on(async {
                for package in PACKAGES {
                    let value: Option<String> = session.get(package).await?;
                    see(value.context("no such value")?.as_bytes());
                }
                Ok(())
            })
        }))
    }

    fn close(self: Box<Self>) -> Result<Option<u64>> {
        self.runtime.block_on(self.pool.close());
        Ok(None)
    }
}
