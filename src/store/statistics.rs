//! Counters of a store, and the work that waits in it.

use super::Store;
use crate::error::Result;
use crate::latency::CommitTimes;
use crate::storage::{Counters, FileCounters, LocalEngine};
use crate::transaction::EventQueue;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The counters of a store since it was opened, and the work that waits in it now.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let statistics = store.statistics()?;
/// assert_eq!(statistics.commits(), 1);
/// assert!(!statistics.is_read_only());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    counters: Counters,
    /// Zero where the engine keeps no files.
    files: FileCounters,
    hooks: usize,
    events: usize,
    dropped_events: u64,
    reruns: u64,
    file_len: u64,
    is_on_a_server: bool,
    is_unreachable: bool,
}

impl Store {
    /// Returns the counters of the store since it was opened.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file's size cannot be read.
    pub fn statistics(&self) -> Result<Statistics> {
        self.inner.env.process.check()?;
        let storage = &self.inner.env.storage;
        let local = storage.local();
        let events = self.inner.env.events.as_ref();
        Ok(Statistics {
            counters: storage.counters(),
            files: local.map(LocalEngine::file_counters).unwrap_or_default(),
            hooks: self.inner.env.hooks.waiting(),
            events: events.map_or(0, EventQueue::waiting),
            dropped_events: events.map_or(0, EventQueue::dropped),
            reruns: self.inner.env.reruns.load(Ordering::Relaxed),
            file_len: local.map_or(Ok(0), LocalEngine::file_len)?,
            is_on_a_server: local.is_none(),
            is_unreachable: local.is_none() && storage.ready().is_err(),
        })
    }

    /// Returns how long the commits of the store took since it was opened.
    #[must_use]
    pub fn commit_times(&self) -> CommitTimes {
        self.inner.env.commit_times.read()
    }
}

impl Statistics {
    /// Whether the sessions are in a database server, as those of `Store::connect`. What these statistics say of files is
    /// zero then.
    #[must_use]
    pub fn is_on_a_server(&self) -> bool {
        self.is_on_a_server
    }

    /// Commits that changed something.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.counters.commits
    }

    /// Groups in which those commits were made durable.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.counters.groups
    }

    /// Commits that were refused with a conflict.
    #[must_use]
    pub fn conflicts(&self) -> u64 {
        self.counters.conflicts
    }

    /// Access times written.
    #[must_use]
    pub fn touches(&self) -> u64 {
        self.counters.touches
    }

    /// Bytes written to the file and its journal, including those of redb's own bookkeeping.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.files.bytes_written
    }

    /// Number of times that the file or its journal was synced to the disk.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.files.syncs
    }

    /// Number of times that the store reopened itself after a storage failure.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.files.reopened
    }

    /// Commits refused because of
    /// [`max_new_sessions`](crate::StoreBuilder::max_new_sessions).
    #[must_use]
    pub fn refused_sessions(&self) -> u64 {
        self.counters.refused
    }

    /// Commits that wait to be written, including those that are being written.
    #[must_use]
    pub fn waiting_commits(&self) -> usize {
        self.counters.waiting
    }

    /// Memory of those commits in bytes, estimated.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.counters.waiting_bytes
    }

    /// Commits that wait to be admitted to the queue, because of
    /// [`max_waiting_commits`](crate::StoreBuilder::max_waiting_commits) or
    /// [`max_waiting_bytes`](crate::StoreBuilder::max_waiting_bytes).
    #[must_use]
    pub fn commits_held_back(&self) -> usize {
        self.counters.pending_admission
    }

    /// Hooks and closures of the application that wait to be run or dropped.
    #[must_use]
    pub fn waiting_hooks(&self) -> usize {
        self.hooks
    }

    /// Calls of hooks for events, such as [`on_ended`](crate::StoreBuilder::on_ended), that wait to be made.
    #[must_use]
    pub fn waiting_events(&self) -> usize {
        self.events
    }

    /// Events that no hook was told of, because 4,096 others waited.
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.dropped_events
    }

    /// Requests and calls of [`Store::transact`] that ran again after a conflict.
    #[must_use]
    pub fn reruns(&self) -> u64 {
        self.reruns
    }

    /// Access times that were not recorded because 65,536 others waited to be written. The disk does not keep up.
    /// Such a session may end earlier, unless it is used again.
    #[must_use]
    pub fn lost_touches(&self) -> u64 {
        self.counters.lost_touches
    }

    /// Superseded snapshots that transactions hold. Data that is written meanwhile makes the file grow, for at most
    /// [`snapshot_max_age`](crate::StoreBuilder::snapshot_max_age).
    #[must_use]
    pub fn held_snapshots(&self) -> usize {
        self.counters.held
    }

    /// The time since the oldest of those snapshots was superseded.
    #[must_use]
    pub fn oldest_held_snapshot(&self) -> Option<Duration> {
        self.counters.oldest_held
    }

    /// Long reads that go on: backups. What they read stays as it was when they began, so the file grows by what is
    /// written meanwhile. No age ends them.
    #[must_use]
    pub fn maintenance_snapshots(&self) -> usize {
        self.counters.maintenance
    }

    /// The time since the oldest of those reads began.
    #[must_use]
    pub fn oldest_maintenance_snapshot(&self) -> Option<Duration> {
        self.counters.oldest_maintenance
    }

    /// Whether the store cannot write to its files now, because storage failed and they are not reopened yet, or
    /// because the store was opened on a full disk; or whether its server cannot be reached. Commits get [`Unavailable`](crate::ErrorKind::Unavailable); reads
    /// are served where possible. The store recovers by itself.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.files.is_read_only || self.is_unreachable
    }

    /// Parts of the file that the disk could not read, although it could read the rest. Data in them gives
    /// [`Corrupt`](crate::ErrorKind::Corrupt); [`Store::check`] names the sessions. Everything else continues. Commits
    /// to rows of these parts stay in the journal until the parts can be read, up to a sixteenth of the journal. Pages
    /// that everything depends on are read from copies in memory, and count until they are written elsewhere.
    #[must_use]
    pub fn unreadable_parts(&self) -> usize {
        self.files.unreadable
    }

    /// Checkpoints, which write commits from the journal to the store's file.
    #[must_use]
    pub fn checkpoints(&self) -> u64 {
        self.files.checkpoints
    }

    /// Size of the journal's files in bytes; 0 for a store in memory.
    #[must_use]
    pub fn journal_len(&self) -> u64 {
        self.files.journal_len
    }

    /// Size of the file in bytes; 0 for a store in memory.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }
}
