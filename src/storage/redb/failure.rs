//! What redb's errors and panics mean to this crate.

use crate::error::{Error, ErrorKind, Result};
use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a piece of redb's work; a panic inside it becomes `Corrupt` (C5.4).
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Corrupt,
            "the file's structure is damaged",
        ))
    })
}

/// Drops something of redb's. After a panic inside redb, that may panic in turn; it must happen to
/// nobody, and above all not while another panic is on its way.
pub(crate) fn discard<T>(value: T) {
    let dropped = guarded(|| {
        drop(value);
        Ok(())
    });
    if let Err(e) = dropped {
        tracing::warn!(error = %e, "a file did not close cleanly");
    }
}

/// [`guarded`] work on something of redb's that is not needed any more if the work fails.
pub(crate) fn guarded_on<D, T>(database: D, work: impl FnOnce(&D) -> Result<T>) -> Result<(D, T)> {
    match guarded(|| work(&database)) {
        Ok(value) => Ok((database, value)),
        Err(e) => {
            discard(database);
            Err(e)
        }
    }
}

pub(crate) fn storage(error: StorageError) -> Error {
    match error {
        StorageError::Corrupted(_) => {
            Error::new(ErrorKind::Corrupt, "the file's structure is damaged").with_source(error)
        }
        StorageError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::Corrupt, "the file is cut short").with_source(e)
        }
        StorageError::DatabaseClosed => Error::new(
            ErrorKind::SnapshotTooOld,
            "the file was closed or reopened since the transaction began",
        ),
        _ => {
            Error::new(ErrorKind::Unavailable, "the store cannot reach its file").with_source(error)
        }
    }
}

pub(crate) fn table(error: TableError) -> Error {
    match error {
        TableError::Storage(error) => storage(error),
        other => {
            Error::new(ErrorKind::Corrupt, "the file lacks a table of a store").with_source(other)
        }
    }
}

pub(crate) fn transaction(error: TransactionError) -> Error {
    match error {
        TransactionError::Storage(error) => storage(error),
        other => Error::new(ErrorKind::Unavailable, "no transaction can begin").with_source(other),
    }
}

pub(crate) fn commit(error: CommitError) -> Error {
    match error {
        CommitError::Storage(error) => storage(error),
        other => Error::new(ErrorKind::Unavailable, "the commit failed").with_source(other),
    }
}

pub(crate) fn database(error: DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Error::new(ErrorKind::Locked, "the store is open elsewhere")
        }
        DatabaseError::UpgradeRequired(_) => {
            Error::new(ErrorKind::NotAStore, "the file is of another format").with_source(error)
        }
        DatabaseError::Storage(error) => storage(error),
        other => Error::new(ErrorKind::Unavailable, "the file cannot be opened").with_source(other),
    }
}

pub(crate) fn unlock(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "the file's lock cannot be released").with_source(error)
}

pub(crate) fn unsynced(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "the file cannot be synced").with_source(error)
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::new(ErrorKind::Io, "the operating system gave no random bytes").with_source(e)
    })?;
    Ok(bytes)
}
