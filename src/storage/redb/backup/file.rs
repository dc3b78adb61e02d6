//! A backup in a file: complete, on the disk and verified before it gets its name.

use super::disk_io::{DiskReader, DiskWriter};
use super::verify::verify_stream;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure::{self, io_error};
use crate::storage::redb::journal;
use crate::storage::{BackupSummary, ProgressFn};
use std::io::{self, Write};

/// Writes a backup into a new file.
pub(crate) fn to_file(
    location: &Location,
    progress: &mut ProgressFn<'_>,
    write: impl FnOnce(&mut dyn Write, &mut ProgressFn<'_>) -> Result<BackupSummary>,
) -> Result<BackupSummary> {
    let Location {
        folder, name, path, ..
    } = location;
    if journal::is_name_of_a_journal(name) {
        let why = "a backup cannot have a name that ends as that of a journal does";
        return Err(failure::refused(ErrorKind::InvalidInput, path, why));
    }
    let exists = || {
        let error = io::ErrorKind::AlreadyExists.into();
        io_error(path, "it exists already", error)
    };
    if folder.identity(name).is_ok() {
        return Err(exists());
    }
    let failed = |e: io::Error| io_error(path, "the backup cannot be written", e);
    let made = folder.make().map_err(failed)?;
    let disk = made.disk().map_err(failed)?;
    let mut out = DiskWriter::new(disk.clone());
    let written = write(&mut out, progress).map_err(|e| failure::at(path, e))?;
    drop(out);
    let reader = DiskReader::new(disk).map_err(failed)?;
    let (len, again) = (reader.len(), "the backup cannot be read again");
    let read = verify_stream(reader, len, progress).map_err(|e| failure::at(path, e))?;
    if read != written {
        let error = Error::new(ErrorKind::Corrupt, again);
        return Err(failure::at(path, error));
    }
    match made.publish(name) {
        Ok(()) => folder.sync().map_err(failed)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(exists()),
        Err(e) => return Err(failed(e)),
    }
    Ok(written)
}
