//! Compacting a store that nobody has open.

use super::StoreBuilder;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::broken_off;
use crate::storage::redb::{Location, compact, location};
use std::ops::ControlFlow;
use std::path::Path;

/// How far [`StoreBuilder::compact`] has come.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// use cloakroom::Store;
/// use std::ops::ControlFlow;
///
/// # Store::open(&path)?.close()?;
/// let done = Store::builder().compact(&path, |so_far| {
///     println!("{} of {} rows", so_far.rows, so_far.of);
///     ControlFlow::Continue(())
/// })?;
/// println!("{} bytes instead of {}", done.bytes_after, done.bytes_before);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Rows that were written: sessions, packages and entries of owners.
    pub rows: u64,
    /// How many there are.
    pub of: u64,
    /// Size of the file before, in bytes; 0 until it is done.
    pub bytes_before: u64,
    /// Size of the file after, in bytes; 0 until it is done.
    pub bytes_after: u64,
}

impl StoreBuilder {
    /// Gives the space back that the store's file does not need any more, for example after a great many sessions ended.
    /// The store must not be open: while it is, its file does not shrink, but free space in it is used again.
    ///
    /// It writes all rows into a new file, which replaces the old one at once when it is complete and on the disk. Until
    /// then the old store stays, also if `progress` breaks off or the process is killed. So it needs as much free
    /// space on the disk as the new file has. A journal of a store that was killed stays beside it and belongs to it.
    /// Blocks the thread until it is done. Of the settings, [`cache_size`](Self::cache_size), the keys,
    /// [`require_private_files`](Self::require_private_files) and [`wait_for_lock`](Self::wait_for_lock) have an effect.
    ///
    /// First it inspects all of the file, as [`verify_on_open`](Self::verify_on_open) does. It leaves a damaged store as
    /// it is: the copy would hide the damage, and what can be mended or salvaged would be lost. It also leaves a store of
    /// an older format as it is, until it was opened once.
    ///
    /// The new file has the owner, the group and the permissions of the old one. If the process is killed in the moment
    /// at which one replaces the other, a file `.cloakroom-*.new` can remain beside the store. It is a whole copy, with
    /// the secrets: remove it.
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if the store is open; [`Interrupted`](ErrorKind::Interrupted) if `progress` breaks
    /// off; [`InvalidInput`](ErrorKind::InvalidInput) if the file has several names; [`Corrupt`](ErrorKind::Corrupt) if it
    /// is damaged; [`Unsupported`](ErrorKind::Unsupported) if it has an older format; [`Io`](ErrorKind::Io), also if this
    /// process may not give the new file the old one's owner and permissions; the errors of [`open`](Self::open).
    pub fn compact(
        self,
        path: impl AsRef<Path>,
        progress: impl FnMut(Compaction) -> ControlFlow<()>,
    ) -> Result<Compaction> {
        self.compact_at(&location(path.as_ref())?, progress)
    }

    /// [`compact`](Self::compact) in a folder of the harness's own.
    ///
    /// # Errors
    ///
    /// As for [`compact`](Self::compact).
    #[cfg(feature = "torture")]
    #[doc(hidden)]
    pub fn compact_in(
        self,
        folder: &std::sync::Arc<dyn crate::storage::redb::backend::folder::Folder>,
        name: &str,
    ) -> Result<Compaction> {
        let location = Location::within(folder.clone(), name);
        self.compact_at(&location, |_| ControlFlow::Continue(()))
    }

    fn compact_at(
        self,
        location: &Location,
        mut progress: impl FnMut(Compaction) -> ControlFlow<()>,
    ) -> Result<Compaction> {
        let mut done = Compaction::default();
        let cipher = self.cipher()?;
        let written = &mut |rows, of| {
            done.rows = rows;
            done.of = of;
            match progress(done) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(broken_off()),
            }
        };
        let bytes = compact(location, self.options(), &cipher, written)?;
        done.bytes_before = bytes.before;
        done.bytes_after = bytes.after;
        Ok(done)
    }
}
