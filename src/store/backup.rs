//! Backups of a store that is open, and stores restored from them (C9.1).

use super::{Store, StoreBuilder};
use crate::clock::Timestamp;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, ErrorKind as Kind, Result};
use crate::storage::redb::backup::{self as file, NamedBackup};
use crate::storage::redb::{Location, location};
use crate::storage::{BackupProgress, BackupSummary, LocalEngine, PreviousBackup, ProgressFn};
use crate::transaction::{Env, on_own_thread};
use chrono::{DateTime, Utc};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// A backup: what it is of, and how much it has.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use cloakroom::{Backup, Store};
/// use std::ops::ControlFlow::Continue;
///
/// # let (path, copy) = (folder.path().join("sessions.redb"), folder.path().join("restored.redb"));
/// # let nightly = folder.path().join("nightly.backup");
/// let store = Store::open(&path)?;
/// store.backup(&nightly, |_| Continue(()))?;
///
/// let backup = Backup::verify(&nightly)?;
/// println!("{} sessions of {}", backup.sessions, backup.taken);
/// assert!(backup.is_whole());
///
/// Store::restore([&nightly], &copy, |_| Continue(()))?;
/// let restored = Store::open(&copy)?;
/// # store.close()?;
/// # restored.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Tells the backup from all others: 32 hexadecimal digits.
    pub id: String,
    /// The identity of the store: 32 hexadecimal digits. A restored store has the same one.
    pub store: String,
    /// The number of the last commit that it shows. Later commits of a store have higher numbers. Stores that were
    /// restored from the same backup can give the same numbers: `id` tells their backups apart.
    pub commit: u64,
    /// When it was begun, by the clock of the store.
    pub taken: DateTime<Utc>,
    /// Of an incremental backup, the backup that it continues.
    pub previous: Option<PreviousLink>,
    /// Sessions in the file, counted once per container. In an incremental backup: those that are new or were changed.
    pub sessions: u64,
    /// Packages in the file, counted in the same way.
    pub packages: u64,
    /// Rows that an incremental backup removes.
    pub removed: u64,
    /// Size of the file in bytes. From [`restore`](Store::restore), the sum of all files.
    pub bytes: u64,
}

/// Names the backup that an incremental one continues.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use cloakroom::Store;
/// use std::ops::ControlFlow::Continue;
///
/// # let store = Store::open(folder.path().join("sessions.redb"))?;
/// # let (first, second) = (folder.path().join("1.backup"), folder.path().join("2.backup"));
/// let whole = store.backup(&first, |_| Continue(()))?;
/// let next = store.backup_since([&first], &second, |_| Continue(()))?;
/// assert_eq!(next.previous.unwrap().id, whole.id);
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviousLink {
    /// Its [`Backup::id`].
    pub id: String,
    /// Its [`Backup::commit`].
    pub commit: u64,
}

pub(super) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

impl Backup {
    pub(super) fn of(summary: BackupSummary) -> Self {
        let BackupSummary {
            id,
            header,
            counts,
            bytes,
        } = summary;
        Self {
            id: hex(id),
            store: hex(header.store),
            commit: header.commit,
            taken: Timestamp(header.taken).to_datetime(),
            previous: header.previous.map(|(id, commit)| PreviousLink {
                id: hex(id),
                commit,
            }),
            sessions: counts.sessions,
            packages: counts.packages,
            removed: counts.removed,
            bytes,
        }
    }

    /// Whether it has everything, and continues no other backup.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.previous.is_none()
    }

    /// Reads all of the backup at `path`, and verifies every byte of it. It needs no keys, also if the store is
    /// encrypted. Blocks the thread until it is done.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if it is damaged or was cut; [`NotAStore`](ErrorKind::NotAStore) if it is no
    /// backup; [`TooNew`](ErrorKind::TooNew); [`Io`](ErrorKind::Io).
    pub fn verify(path: impl AsRef<Path>) -> Result<Self> {
        Self::verify_with(path, |_| ControlFlow::Continue(()))
    }

    /// [`verify`](Self::verify), with progress.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify); [`Interrupted`](ErrorKind::Interrupted) if `progress` breaks off.
    pub fn verify_with(
        path: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Self> {
        file::verify(&location(path.as_ref())?, &mut progress).map(Self::of)
    }

    /// [`verify`](Self::verify) for a backup that comes from elsewhere than a file. Reads to the end.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify).
    pub fn verify_from(reader: impl Read) -> Result<Self> {
        let progress = &mut |_| ControlFlow::Continue(());
        file::verify_stream(reader, 0, progress).map(Self::of)
    }
}

impl Store {
    /// Writes the state of the newest commit to a new file at `path`, while commits go on. It has everything that was
    /// acknowledged before the call: sessions with their packages, owners and access times, the ids that ended lately, the
    /// containers with their settings, the secrets and the identity. Containers in memory and in cookies are not part
    /// of it.
    ///
    /// The file gets its name once it is complete, on the disk, and was read again and verified. Until then there is
    /// nothing at `path`, whatever happens. Only the user that runs this process can access it, as a store's file. If
    /// the store is encrypted, the backup is encrypted in the same way and needs the same keys.
    ///
    /// It reads in small steps and rests after each, so that commits are not held up, and calls `progress` again and
    /// again. Breaking off leaves nothing. It takes some 3 MiB of memory, and as much as the largest session. The state
    /// that it reads is kept until it ends, so the store's file grows by what is written meanwhile;
    /// [`snapshot_max_age`](StoreBuilder::snapshot_max_age) does not end it. [`Statistics`](crate::Statistics) shows it.
    /// Blocks the thread until it is done.
    ///
    /// # Errors
    ///
    /// [`Interrupted`](ErrorKind::Interrupted) if `progress` breaks off; [`Io`](ErrorKind::Io), also if there is a file
    /// at `path`; [`Corrupt`](ErrorKind::Corrupt) if a part of the store is damaged, of which [`check`](Self::check)
    /// tells more; [`Unavailable`](ErrorKind::Unavailable) if the store had to reopen its files meanwhile;
    /// [`Unsupported`](ErrorKind::Unsupported) if the engine keeps no files.
    pub fn backup(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        self.inner.env.process.check()?;
        let path = location(path.as_ref())?;
        to_file(&self.inner.env, &path, None, &mut progress)
    }

    /// [`backup`](Self::backup) as a future, on a thread of its own. It goes on to the end if the future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup).
    pub fn backup_async<T, P>(
        &self,
        path: T,
        mut progress: P,
    ) -> impl Future<Output = Result<Backup>> + Send + use<T, P>
    where
        T: AsRef<Path>,
        P: FnMut(BackupProgress) -> ControlFlow<()> + Send + 'static,
    {
        let path = path.as_ref().to_owned();
        let env = &self.inner.env;
        on_own_thread(env.clone(), move |env| {
            to_file(env, &location(&path)?, None, &mut progress)
        })
    }

    /// [`backup`](Self::backup) into anything that takes bytes: a pipe, a compressor, a connection. What was written is
    /// not read again: [`Backup::verify_from`] verifies it at the other end. If this fails, what was written is of no
    /// use, and is found to be cut.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup).
    pub fn backup_to(
        &self,
        mut writer: impl Write,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        self.inner.env.process.check()?;
        write_to(&self.inner.env, &mut writer, &mut progress)
    }

    /// [`backup_to`](Self::backup_to) as a future, on a thread of its own. It goes on to the end if the future is
    /// dropped. The writer is returned.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup).
    pub fn backup_to_async<W, P>(
        &self,
        mut writer: W,
        mut progress: P,
    ) -> impl Future<Output = Result<(Backup, W)>> + Send + use<W, P>
    where
        W: Write + Send + 'static,
        P: FnMut(BackupProgress) -> ControlFlow<()> + Send + 'static,
    {
        let env = &self.inner.env;
        on_own_thread(env.clone(), move |env| {
            let backup = write_to(env, &mut writer, &mut progress)?;
            Ok((backup, writer))
        })
    }

    /// Writes what changed since a backup to a new file: an incremental backup. `chain` names the backups so far, the
    /// whole one first, then each incremental one in the order in which they were taken. The new one continues the last
    /// of these, and [`restore`](Self::restore) needs all of them.
    ///
    /// If the store remembers what changed since the last backup, only the header of that one is read, and the cost is
    /// in proportion to the changes. It does if it was not opened again since, and no checkpoint has written those
    /// changes to the file yet. The rest of the chain is not verified then: [`Backup::verify`] does that. Otherwise it
    /// reads and verifies the chain, reads the whole store, and compares them. A chain of more than 64 incremental backups
    /// is merged for that, in the folder of `path` and in files without a name, which together take as much space as
    /// those backups at most. So memory (some 300 KiB for each of at most 64 files, or of 130 where there are thousands)
    /// and the number of open files are bounded. Either way, the file has only what changed.
    ///
    /// # Errors
    ///
    /// As for [`backup`](Self::backup); [`InvalidInput`](ErrorKind::InvalidInput) if the chain is of another store, or
    /// if the whole chain is needed and has a gap or another order; the errors of [`Backup::verify`] for what is read.
    pub fn backup_since<C: AsRef<Path>>(
        &self,
        chain: impl IntoIterator<Item = C>,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        self.inner.env.process.check()?;
        let path = location(path.as_ref())?;
        to_file(&self.inner.env, &path, Some(&named(chain)?), &mut progress)
    }

    /// [`backup_since`](Self::backup_since) as a future, on a thread of its own. It goes on to the end if the future
    /// is dropped.
    ///
    /// # Errors
    ///
    /// As for [`backup_since`](Self::backup_since).
    pub fn backup_since_async<I, T, P>(
        &self,
        chain: I,
        path: T,
        mut progress: P,
    ) -> impl Future<Output = Result<Backup>> + Send + use<I, T, P>
    where
        I: IntoIterator<Item: AsRef<Path>>,
        T: AsRef<Path>,
        P: FnMut(BackupProgress) -> ControlFlow<()> + Send + 'static,
    {
        let path = path.as_ref().to_owned();
        let chain = chain.into_iter().map(|it| it.as_ref().to_owned());
        let chain: Vec<PathBuf> = chain.collect();
        on_own_thread(self.inner.env.clone(), move |env| {
            let chain = named(chain)?;
            to_file(env, &location(&path)?, Some(&chain), &mut progress)
        })
    }

    /// Makes a new store at `to` of a whole backup, or of a chain: a whole one and the incremental ones after it, in
    /// order. It shows the state of the last one. All of the backups is verified on the way. The store gets its name
    /// once it is complete and on the disk. A chain can have any number of backups; a very long one is merged first, as
    /// [`backup_since`](Self::backup_since) does, in the folder of `to`.
    ///
    /// The store has the identity and the secrets of the one that was backed up, so ids and cookies of visitors go on
    /// working. What was acknowledged after the last backup is not there. It counts as another opening. Encrypted data
    /// stays encrypted; it takes no keys to restore it. Blocks the thread until it is done.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the chain has a gap, another order, or a backup of another store;
    /// [`Interrupted`](ErrorKind::Interrupted) if `progress` breaks off; [`Io`](ErrorKind::Io), also if there is a file
    /// at `to`; the errors of [`Backup::verify`].
    pub fn restore<C: AsRef<Path>>(
        chain: impl IntoIterator<Item = C>,
        to: impl AsRef<Path>,
        mut progress: impl FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<Backup> {
        restore_at(&named(chain)?, &location(to.as_ref())?, &mut progress)
    }
}

/// In a folder of the fault harness's own.
#[cfg(feature = "torture")]
#[doc(hidden)]
impl Store {
    /// [`backup`](Self::backup), or [`backup_since`](Self::backup_since) if there is a chain.
    ///
    /// # Errors
    ///
    /// As for [`backup_since`](Self::backup_since).
    pub fn backup_in(
        &self,
        folder: &std::sync::Arc<dyn crate::storage::redb::backend::folder::Folder>,
        chain: &[&str],
        name: &str,
    ) -> Result<Backup> {
        let place = |name: &str| Location::within(folder.clone(), name);
        let chain = chain.iter().map(|name| NamedBackup::At(place(name)));
        let chain: Vec<_> = chain.collect();
        let progress = &mut |_| ControlFlow::Continue(());
        let chain = (!chain.is_empty()).then_some(&*chain);
        to_file(&self.inner.env, &place(name), chain, progress)
    }

    /// [`restore`](Self::restore).
    ///
    /// # Errors
    ///
    /// As for [`restore`](Self::restore).
    pub fn restore_in(
        folder: &std::sync::Arc<dyn crate::storage::redb::backend::folder::Folder>,
        chain: &[&str],
        to: &str,
    ) -> Result<Backup> {
        let place = |name: &str| Location::within(folder.clone(), name);
        let chain = chain.iter().map(|name| NamedBackup::At(place(name)));
        let chain: Vec<_> = chain.collect();
        restore_at(&chain, &place(to), &mut |_| ControlFlow::Continue(()))
    }
}

pub(super) fn named<C: AsRef<Path>>(
    chain: impl IntoIterator<Item = C>,
) -> Result<Vec<NamedBackup>> {
    let paths = chain.into_iter();
    paths.map(|path| NamedBackup::of(path.as_ref())).collect()
}

fn restore_at(
    chain: &[NamedBackup],
    to: &Location,
    progress: &mut ProgressFn<'_>,
) -> Result<Backup> {
    let options = StoreBuilder::default().options();
    file::restore(chain, to, options, progress).map(Backup::of)
}

pub(super) fn local(env: &Env) -> Result<&dyn LocalEngine> {
    env.storage.local().ok_or_else(|| {
        let why = "the engine of this store keeps no files: its server makes the backups";
        Error::new(Kind::Unsupported, why)
    })
}

fn write_to(env: &Env, writer: &mut dyn Write, progress: &mut ProgressFn<'_>) -> Result<Backup> {
    local(env)?.backup(writer, None, progress).map(Backup::of)
}

/// Writes a whole backup, or an incremental one if there is a chain.
fn to_file(
    env: &Env,
    path: &Location,
    chain: Option<&[NamedBackup]>,
    progress: &mut ProgressFn<'_>,
) -> Result<Backup> {
    let local = local(env)?;
    let previous: Option<PreviousBackup<'_>> =
        chain.map(|chain| file::previous(chain, path)).transpose()?;
    let written = file::to_file(path, progress, |out, progress| {
        local.backup(out, previous, progress)
    });
    written.map(Backup::of)
}
