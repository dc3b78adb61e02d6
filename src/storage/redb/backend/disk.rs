//! The disk that a database is on.

use crate::storage::redb::format::HEADER;
use redb::StorageBackend;
use std::io;
use std::sync::Arc;

/// The storage of a database. A database can be reopened on it after a failure.
pub(crate) type Disk = Arc<dyn StorageBackend>;

/// The functions of a backend for locks: those of the one below it.
macro_rules! forward_locks {
    ($below:ident) => {
        $crate::storage::redb::backend::disk::forward_locks! {
            $below: fn try_lock_range -> bool;
            $below: fn try_lock_shared_range -> bool;
            $below: fn lock_range -> ();
            $below: fn lock_shared_range -> ();
            $below: fn unlock_range -> ();
            $below: fn query_lock_range -> bool;
        }
    };
    ($($below:ident: fn $name:ident -> $answer:ty;)*) => {
        $(
            fn $name(
                &self,
                start: std::ops::Bound<u64>,
                end: std::ops::Bound<u64>,
            ) -> Result<$answer, redb::BackendError> {
                self.$below.$name(start, end)
            }
        )*
    };
}
pub(crate) use forward_locks;

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageRead {
    All,
    /// The range reaches beyond the end of the file.
    Beyond,
    /// This part cannot be read, but others can.
    Unreadable,
}

/// Reads a part of a file, and retries once.
///
/// # Errors
///
/// No part of the file can be read.
pub(crate) fn read_part(disk: &Disk, offset: u64, out: &mut [u8]) -> io::Result<PageRead> {
    let Err(first) = disk.read(offset, out) else {
        return Ok(PageRead::All);
    };
    if offset.saturating_add(out.len() as u64) > disk.len()? {
        return Ok(PageRead::Beyond);
    }
    if disk.read(offset, out).is_ok() {
        return Ok(PageRead::All);
    }
    let mut start = [0; HEADER];
    if offset < HEADER as u64 || disk.read(0, &mut start).is_err() {
        return Err(first);
    }
    Ok(PageRead::Unreadable)
}
