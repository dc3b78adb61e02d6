//! Opens redb's databases: on a disk, in memory, and over an overlay that leaves the file unchanged.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::overlay::OverlayBackend;
use crate::storage::redb::backend::store_backend::StoreBackend;
use crate::storage::redb::failure;
use crate::storage::redb::failure::guarded;
use crate::storage::redb::open::migrate;
use crate::storage::redb::open::options::OpenOptions;
use redb::Database;
use redb::backends::InMemoryBackend;
use std::sync::Arc;

/// Reopens a database after a failure, on the same handle.
pub(crate) fn reopen(disk: &Disk, options: OpenOptions, io: &Arc<FileIo>) -> Result<Database> {
    build(disk.clone(), options, io)
}

/// A new database in memory.
pub(crate) fn in_memory(options: OpenOptions, io: &Arc<FileIo>) -> Result<(Disk, Database)> {
    on_disk(Arc::new(InMemoryBackend::new()), options.in_memory(), io)
}

/// Opens the database on a disk, which may be empty, and migrates it.
pub(crate) fn on_disk(
    disk: Disk,
    options: OpenOptions,
    io: &Arc<FileIo>,
) -> Result<(Disk, Database)> {
    let database = build(disk.clone(), options, io)?;
    let (database, ()) = failure::guarded_on(database, migrate::run)?;
    Ok((disk, database))
}

fn build(inner: Disk, options: OpenOptions, io: &Arc<FileIo>) -> Result<Database> {
    io.unreadable().begin();
    io.copies().begin();
    let backend = StoreBackend::new(inner, io.clone());
    let database = guarded(|| {
        builder(options)
            .create_with_backend(backend)
            .map_err(failure::database)
    })?;
    io.unreadable().tolerate();
    Ok(database)
}

/// Opens a database whose changes stay in memory.
pub(crate) fn open_overlay(file: Disk, options: OpenOptions) -> Result<Database> {
    let overlay = OverlayBackend::new(file)
        .map_err(|e| Error::new(ErrorKind::Io, "the store cannot be read").with_source(e))?;
    guarded(|| {
        builder(options)
            .create_with_backend(overlay)
            .map_err(failure::database)
    })
}

fn builder(options: OpenOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_size);
    builder
}
