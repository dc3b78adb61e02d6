//! Maps redb's errors and panics to those of this crate, and makes the errors of a store's files.

use crate::error::{Error, ErrorKind, Result};
use redb::{
    CommitError, DatabaseError, Key, StorageError, Table, TableDefinition, TableError,
    TransactionError, Value, WriteTransaction,
};
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Runs work of redb. A panic inside it becomes `Corrupt` (C5.4).
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Corrupt,
            "the file's structure is damaged",
        ))
    })
}

/// Drops a value of redb that is not used again.
///
/// Closing a database makes a last commit. On a damaged file this commit may panic, and panic again while unwinding,
/// which would abort the process. After a panic it may be a one-phase commit; redb would then check the whole file at
/// the next opening, and refuse it for any damage. During a panic redb makes no last commit, so the value is dropped
/// in one.
pub(crate) fn discard<T>(value: T) {
    let dropped = catch_unwind(AssertUnwindSafe(move || {
        let _dropped_on_the_way = Contained::new(value);
        resume_unwind(Box::new(()));
    }));
    debug_assert!(dropped.is_err());
}

/// Runs [`guarded`] work on a value of redb, and discards the value if the work fails.
pub(crate) fn guarded_on<D, T>(database: D, work: impl FnOnce(&D) -> Result<T>) -> Result<(D, T)> {
    match guarded(|| work(&database)) {
        Ok(value) => Ok((database, value)),
        Err(e) => {
            discard(database);
            Err(e)
        }
    }
}

/// A value of redb that can be dropped during a panic.
///
/// redb's tables and transactions lock shared state when they are dropped. A panic inside redb poisons the lock, so the
/// next drop during unwinding panics too, which would abort the process. This type catches the second panic. Unfinished
/// work does not matter: after a panic the database is not used again.
#[derive(Debug)]
pub(crate) struct Contained<T>(Option<T>);

/// A write transaction whose tables are contained as well.
pub(crate) type ContainedWrite = Contained<WriteTransaction>;

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    #[expect(
        clippy::expect_used,
        reason = "nothing but this and Drop takes the value"
    )]
    fn into_inner(mut self) -> T {
        self.0.take().expect("a value until it is dropped")
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    #[expect(
        clippy::expect_used,
        reason = "nothing but the end of self takes the value"
    )]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("a value until it is dropped")
    }
}

impl<T> DerefMut for Contained<T> {
    #[expect(
        clippy::expect_used,
        reason = "nothing but the end of self takes the value"
    )]
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("a value until it is dropped")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        if std::thread::panicking() {
            drop(catch_unwind(AssertUnwindSafe(move || drop(value))));
        }
    }
}

impl ContainedWrite {
    pub(crate) fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> std::result::Result<Contained<Table<'_, K, V>>, TableError> {
        WriteTransaction::open_table(self, definition).map(Contained::new)
    }

    pub(crate) fn commit(self) -> std::result::Result<(), CommitError> {
        self.into_inner().commit()
    }

    pub(crate) fn abort(self) -> std::result::Result<(), StorageError> {
        self.into_inner().abort()
    }
}

pub(crate) fn storage(error: StorageError) -> Error {
    match error {
        StorageError::Corrupted(_) => {
            Error::new(ErrorKind::Corrupt, "the file's structure is damaged").with_source(error)
        }
        StorageError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Error::new(ErrorKind::Corrupt, "the file is cut short")
        }
        StorageError::DatabaseClosed => Error::new(
            ErrorKind::SnapshotTooOld,
            "the file was closed or reopened since the transaction began",
        ),
        StorageError::Io(e) => {
            Error::new(ErrorKind::Unavailable, "the store cannot reach its file").with_source(e)
        }
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
            Error::new(ErrorKind::Locked, "the store is open already")
        }
        // One of the two commits says so. Files of other versions are recognized earlier.
        DatabaseError::UpgradeRequired(_) => {
            Error::new(ErrorKind::Corrupt, "the file's header is damaged").with_source(error)
        }
        DatabaseError::Storage(error) => storage(error),
        other => Error::new(ErrorKind::Unavailable, "the file cannot be opened").with_source(other),
    }
}

/// Whether an operation failed because the disk is full.
pub(crate) fn is_full(error: &Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut cause = error.cause();
    while let Some(error) = cause {
        let io = match error.downcast_ref() {
            Some(StorageError::Io(io)) => Some(io),
            _ => error.downcast_ref::<io::Error>(),
        };
        if io.is_some_and(|io| matches!(io.kind(), StorageFull | QuotaExceeded | FileTooLarge)) {
            return true;
        }
        cause = match error.downcast_ref::<Error>() {
            Some(own) => own.cause(),
            None => error.source(),
        };
    }
    false
}

pub(crate) fn unlock(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "the file's lock cannot be released").with_source(error)
}

pub(crate) fn sync_failed(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, "the file cannot be synced").with_source(error)
}

pub(crate) fn too_long() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "a file is longer than memory can hold",
    )
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| {
        Error::new(ErrorKind::Io, "the operating system gave no random bytes").with_source(e)
    })?;
    Ok(bytes)
}

/// Adds the path to an error of opening a store. `Unavailable` becomes `Io`, because a store that is not open yet
/// does not reopen itself.
pub(crate) fn at(path: &Path, error: Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Unavailable => ErrorKind::Io,
        kind => kind,
    };
    error.of_file(path, kind)
}

pub(crate) fn io_error(path: &Path, what: &str, error: io::Error) -> Error {
    let failed = Error::new(ErrorKind::Io, what).with_source(error);
    failed.of_file(path, ErrorKind::Io)
}

/// An error of a file that does not come from the operating system.
pub(crate) fn refused(kind: ErrorKind, path: &Path, why: impl Into<String>) -> Error {
    Error::new(kind, why).of_file(path, kind)
}

pub(crate) fn not_a_store(path: &Path, why: &str) -> Error {
    let why = format!("this is not a store: {why}");
    refused(ErrorKind::NotAStore, path, why)
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> Error {
    io_error(path, "the store cannot be read", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Like redb's tables: its `Drop` locks a lock that the panic has poisoned.
    struct Shaky<'a>(&'a AtomicU64);

    impl Drop for Shaky<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
            assert!(!std::thread::panicking(), "the lock is poisoned");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        for (kind, full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::FileTooLarge, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            let of_redb = storage(StorageError::Io(kind.into()));
            let own = unlock(kind.into());
            let within = Error::new(ErrorKind::Io, "outer").with_source(unlock(kind.into()));
            assert_eq!([&of_redb, &own, &within].map(is_full), [full; 3], "{kind}");
        }
    }

    // C5.4: without it, this ends the process.
    #[test]
    fn what_panics_on_the_way_of_a_panic_ends_there() {
        let dropped = AtomicU64::new(0);
        let result: Result<()> = guarded(|| {
            let _table = Contained::new(Shaky(&dropped));
            let _other = Contained::new(Shaky(&dropped));
            panic!("redb panics")
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panic_of_what_is_dropped_in_order_is_heard_of() {
        struct Broken;
        impl Drop for Broken {
            fn drop(&mut self) {
                panic!("redb panics");
            }
        }
        let result = guarded(|| {
            drop(Contained::new(Broken));
            Ok(())
        });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
