//! Incremental backups where the chain is not beside the store: on the machine that fetches them.

use super::Store;
use super::backup::{Backup, hex, local, named};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::redb::backup::{LONGEST_START, NamedBackup, read_start};
use crate::storage::redb::{backup as file, location};
use crate::storage::{BackupProgress, ProgressFn};
use crate::transaction::{Env, on_own_thread};
use std::fs::File;
use std::io::{Read as _, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// The header of a backup that an incremental one is to continue, as [`Store::backup_to_since`] needs it. It has some
/// hundred bytes, holds no data of visitors, and can be sent to where the store is.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use cloakroom::{Backup, BackupMark, Store};
/// use std::ops::ControlFlow::Continue;
///
/// # let store = Store::open(folder.path().join("sessions.redb"))?;
/// # let [first, second] = ["1.backup", "2.backup"].map(|name| folder.path().join(name));
/// store.backup(&first, |_| Continue(()))?;
///
/// let mark = BackupMark::of(&first)?; // here
/// let sent = mark.as_bytes();
/// let mark = BackupMark::from_bytes(sent)?; // there
/// let mut received = Vec::new();
/// store.backup_to_since(&mark, &mut received, |_| Continue(()))?;
///
/// let backup = Backup::verify_from(&*received)?;
/// assert_eq!(backup.previous.unwrap().id, mark.id);
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupMark {
    /// The backup's [`Backup::id`].
    pub id: String,
    /// Its [`Backup::store`].
    pub store: String,
    /// Its [`Backup::commit`].
    pub commit: u64,
    bytes: Vec<u8>,
}

impl BackupMark {
    /// Reads the header of the backup at `path`. The rest is not verified.
    ///
    /// # Errors
    ///
    /// As for [`Backup::verify`].
    pub fn of(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut start = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(LONGEST_START).read_to_end(&mut start));
        read.map_err(|e| {
            let why = format!("{}: the backup cannot be read", path.display());
            Error::new(crate::error::ErrorKind::Io, why).with_source(e)
        })?;
        Self::from_bytes(&start)
    }

    /// Reads the header that a backup begins with. What follows it is ignored.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if it is damaged; [`NotAStore`](ErrorKind::NotAStore) if it is no backup's;
    /// [`TooNew`](ErrorKind::TooNew).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (start, len) = read_start(bytes)?;
        Ok(Self {
            id: hex(start.id),
            store: hex(start.header.store),
            commit: start.header.commit,
            bytes: bytes.get(..len).unwrap_or(bytes).to_owned(),
        })
    }

    /// The header.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Store {
    /// [`backup_to`](Self::backup_to), which writes only what changed since a backup if the store remembers that: if it
    /// was not opened again since, and no checkpoint has written those changes to the file yet. Otherwise it writes a
    /// whole backup. [`Backup::is_whole`] tells which, and [`Backup::make_incremental`] makes an incremental one of that
    /// where the chain is.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup); [`InvalidInput`](ErrorKind::InvalidInput) if `since` is of another store.
    pub fn backup_to_since(
        &self,
        since: &BackupMark,
        mut writer: impl Write,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        self.inner.env.process.check()?;
        write_since(&self.inner.env, since, &mut writer, &mut progress)
    }

    /// [`backup_to_since`](Self::backup_to_since) as a future, on a thread of its own. It goes on to the end if the
    /// future is dropped. The writer is returned.
    ///
    /// # Errors
    ///
    /// As for [`backup_to_since`](Self::backup_to_since).
    pub fn backup_to_since_async<W, P>(
        &self,
        since: &BackupMark,
        mut writer: W,
        mut progress: P,
    ) -> impl Future<Output = Result<(Backup, W)>> + Send + use<W, P>
    where
        W: Write + Send + 'static,
        P: FnMut(BackupProgress) -> ControlFlow<()> + Send + 'static,
    {
        let since = since.clone();
        on_own_thread(self.inner.env.clone(), move |env| {
            let backup = write_since(env, &since, &mut writer, &mut progress)?;
            Ok((backup, writer))
        })
    }
}

impl Backup {
    /// Makes an incremental backup of a whole one: it continues a chain of the same store, and shows with it what the
    /// whole one shows. So a whole backup that was fetched from elsewhere need not be kept. All files are verified on
    /// the way. The new file at `path` gets its name once it is complete. Blocks the thread until it is done.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the chain has a gap or another order, or if `whole` is not whole, is
    /// of another store, or is older than the last backup of the chain; [`Interrupted`](ErrorKind::Interrupted) if
    /// `progress` breaks off; [`Io`](ErrorKind::Io), also if there is a file at `path`; the errors of
    /// [`verify`](Self::verify).
    pub fn make_incremental<C: AsRef<Path>>(
        chain: impl IntoIterator<Item = C>,
        whole: impl AsRef<Path>,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        let (chain, whole) = (named(chain)?, NamedBackup::of(whole.as_ref())?);
        let target = location(path.as_ref())?;
        let written = file::to_file(&target, &mut progress, |out, progress| {
            file::write_difference(&chain, (&whole, &target), out, progress)
        });
        written.map(Self::of)
    }
}

fn write_since(
    env: &Env,
    since: &BackupMark,
    writer: &mut dyn Write,
    progress: &mut ProgressFn<'_>,
) -> Result<Backup> {
    let (previous, _) = read_start(&since.bytes)?;
    let written = local(env)?.backup(writer, Some(previous), progress);
    written.map(Backup::of)
}
