//! The file's format version, and the runner of the migrations (C7.2).

#[path = "../../../../migrations/0001_initial.rs"]
mod initial;
#[path = "../../../../migrations/0002_journal.rs"]
mod journal;

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::failure;
use crate::storage::redb::meta::{self, begin_durable};
use crate::storage::redb::tables::META;
use redb::{Database, ReadableDatabase, TableError, WriteTransaction};

/// The migration at index `n` turns format `n` into format `n + 1`. A new file has format 0.
const MIGRATIONS: [fn(&WriteTransaction) -> Result<()>; 2] = [initial::migrate, journal::migrate];

/// The format that this version writes.
pub(crate) const CURRENT: u32 = MIGRATIONS.len() as u32;

fn not_a_store() -> Error {
    Error::new(
        ErrorKind::NotAStore,
        "this is not a store: it is a redb file of another application",
    )
}

/// The format of the file; 0 if it is empty.
fn version(database: &Database) -> Result<u32> {
    let txn = database.begin_read().map_err(failure::transaction)?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            let empty = txn.list_tables().map_err(failure::storage)?.count() == 0
                && txn
                    .list_multimap_tables()
                    .map_err(failure::storage)?
                    .count()
                    == 0;
            return if empty { Ok(0) } else { Err(not_a_store()) };
        }
        Err(TableError::Storage(e)) => return Err(failure::storage(e)),
        Err(_) => return Err(not_a_store()),
    };
    let value = meta.get(meta::FORMAT).map_err(failure::storage)?;
    value
        .and_then(|value| meta::parse_format(value.value()))
        .ok_or_else(not_a_store)
}

/// Whether the file has the current format; an error if this version cannot open it. Changes nothing.
pub(crate) fn check(database: &Database) -> Result<bool> {
    match version(database)? {
        0 => Err(not_a_store()),
        CURRENT => Ok(true),
        1..CURRENT => Ok(false),
        newer => Err(Error::new(
            ErrorKind::TooNew,
            format!("the store has format {newer}; this version reads up to {CURRENT}"),
        )),
    }
}

/// The error of a store of an older format that is not to be migrated.
pub(crate) fn is_older(database: &Database) -> Error {
    match version(database) {
        Ok(version) => {
            let why = format!(
                "the store has format {version}, and is not to be migrated to format {CURRENT}"
            );
            Error::new(ErrorKind::Unsupported, why)
        }
        Err(error) => error,
    }
}

/// Migrates the file to the current format in one transaction.
pub(crate) fn run(database: &Database) -> Result<()> {
    let version = version(database)?;
    if version == CURRENT {
        return Ok(());
    }
    let txn = begin_durable(database)?;
    for migration in MIGRATIONS.iter().skip(version as usize) {
        migration(&txn)?;
    }
    let value = meta::format_record(CURRENT);
    {
        let mut meta = txn.open_table(META).map_err(failure::table)?;
        meta.insert(meta::FORMAT, &*value)
            .map_err(failure::storage)?;
    }
    txn.commit().map_err(failure::commit)?;
    if version > 0 {
        tracing::info!(from = version, to = CURRENT, "the store was migrated");
    }
    Ok(())
}
