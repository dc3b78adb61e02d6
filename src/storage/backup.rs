//! What an engine and the callers of a backup tell each other.

use super::progress::broken_off;
use super::record::BackupHeader;
use crate::error::Result;
use bytes::Bytes;
use std::ops::ControlFlow;

/// What a backup, a restore or a verification is doing.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use cloakroom::{BackupPhase, Store};
/// use std::ops::ControlFlow;
///
/// # let store = Store::open(folder.path().join("sessions.redb"))?;
/// let mut last = BackupPhase::Comparing;
/// store.backup(folder.path().join("sessions.backup"), |so_far| {
///     last = so_far.phase;
///     ControlFlow::Continue(())
/// })?;
/// assert_eq!(last, BackupPhase::Verifying);
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackupPhase {
    /// Finds out what changed since the previous backup.
    #[default]
    Comparing,
    /// Writes the backup.
    Writing,
    /// Reads a backup, and verifies it.
    Verifying,
    /// Writes a store.
    Restoring,
}

/// How far a backup, a restore or a verification has come.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use cloakroom::Store;
/// use std::ops::ControlFlow;
///
/// # let store = Store::open(folder.path().join("sessions.redb"))?;
/// # let path = folder.path().join("sessions.backup");
/// store.backup(&path, |so_far| {
///     println!("{:?}: {} bytes", so_far.phase, so_far.bytes);
///     ControlFlow::Continue(())
/// })?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What it is doing.
    pub phase: BackupPhase,
    /// Sessions that it has passed, counted once per container.
    pub sessions: u64,
    /// How many sessions there are, about; 0 if that is not known.
    pub of_sessions: u64,
    /// Bytes of backups that it has written in this phase, or read.
    pub bytes: u64,
    /// How many bytes it will read; 0 if that is not known.
    pub of_bytes: u64,
}

/// Is told of the progress, and may break off.
pub(crate) type ProgressFn<'a> = dyn FnMut(BackupProgress) -> ControlFlow<()> + 'a;

/// Tells of the progress.
///
/// # Errors
///
/// `Interrupted` if that breaks off.
pub(crate) fn report(progress: &mut ProgressFn<'_>, so_far: BackupProgress) -> Result<()> {
    match progress(so_far) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(broken_off()),
    }
}

/// A row of a backup: the key, which begins with the number of its table, and the value. Without a value, the row is
/// removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupRow {
    pub(crate) key: Box<[u8]>,
    pub(crate) value: Option<Bytes>,
}

/// Rows in the order of a backup.
pub(crate) type BackupRows<'a> = Box<dyn Iterator<Item = Result<BackupRow>> + 'a>;

/// The backup that an incremental one continues.
pub(crate) struct PreviousBackup<'a> {
    pub(crate) id: [u8; 16],
    pub(crate) header: BackupHeader,
    /// Reads the state that the chain up to it shows. An engine calls this if it does not know otherwise what changed.
    /// Without it, the engine writes a whole backup then.
    pub(crate) state: Option<StateFn<'a>>,
}

/// Reads the state that a chain shows.
pub(crate) type StateFn<'a> = Box<dyn FnOnce(&mut ToldFn<'_>) -> Result<BackupRows<'a>> + 'a>;

/// Is told how many bytes were read, and may break off by an error.
pub(crate) type ToldFn<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// What a backup is of, and how much it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupSummary {
    pub(crate) id: [u8; 16],
    pub(crate) header: BackupHeader,
    pub(crate) counts: super::record::BackupCounts,
    pub(crate) bytes: u64,
}
