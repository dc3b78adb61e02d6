//! Counters of a store, and what waits in it.

use super::Store;
use crate::error::Result;
use crate::storage::Counters;
use std::time::Duration;

/// What a store has done since it was opened, and what waits in it now.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    counters: Counters,
    hooks: usize,
    file_len: u64,
}

impl Store {
    /// What the store has done since it was opened.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file's size cannot be read.
    pub fn statistics(&self) -> Result<Statistics> {
        self.inner.house.process.check()?;
        let storage = &self.inner.house.storage;
        Ok(Statistics {
            counters: storage.counters(),
            hooks: self.inner.house.hooks.waiting(),
            file_len: storage.file_len()?,
        })
    }
}

impl Statistics {
    /// Commits that changed something.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.counters.commits
    }

    /// Groups that those commits were made durable in.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.counters.groups
    }

    /// Commits refused because something was changed meanwhile.
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
        self.counters.bytes_written
    }

    /// Times the file or its journal was synced to the disk.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.counters.syncs
    }

    /// Times the store reopened itself after a failure of its storage.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.counters.reopened
    }

    /// Commits refused because of
    /// [`max_new_sessions`](crate::StoreBuilder::max_new_sessions).
    #[must_use]
    pub fn refused_sessions(&self) -> u64 {
        self.counters.refused
    }

    /// Commits that wait to be written now, those that are being written included.
    #[must_use]
    pub fn waiting_commits(&self) -> usize {
        self.counters.waiting
    }

    /// Bytes of memory that those commits take, roughly.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.counters.waiting_bytes
    }

    /// Commits that wait until they may be queued, because of
    /// [`max_waiting_commits`](crate::StoreBuilder::max_waiting_commits) or
    /// [`max_waiting_bytes`](crate::StoreBuilder::max_waiting_bytes).
    #[must_use]
    pub fn commits_held_back(&self) -> usize {
        self.counters.outside
    }

    /// Hooks and closures of the application that wait for the thread that runs and drops them.
    #[must_use]
    pub fn waiting_hooks(&self) -> usize {
        self.hooks
    }

    /// Access times that were not recorded because 65,536 waited to be written: the disk does not keep
    /// up. Such a session may end earlier, unless it is used again.
    #[must_use]
    pub fn lost_touches(&self) -> u64 {
        self.counters.lost_touches
    }

    /// Snapshots that transactions hold although newer ones are there. What is written meanwhile makes
    /// the file grow, for [`snapshot_max_age`](crate::StoreBuilder::snapshot_max_age) at most.
    #[must_use]
    pub fn held_snapshots(&self) -> usize {
        self.counters.held
    }

    /// How long ago the oldest of those snapshots was superseded.
    #[must_use]
    pub fn oldest_held_snapshot(&self) -> Option<Duration> {
        self.counters.oldest_held
    }

    /// Whether the store cannot write to its files now: storage failed, and it has not opened them again yet, or it
    /// was opened on a full disk.
    /// Commits get [`Unavailable`](crate::ErrorKind::Unavailable); what can be read is served. It goes on by
    /// itself.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.counters.is_read_only
    }

    /// Parts of the file that the disk could not read, although it could read the rest. What lies there gives
    /// [`Corrupt`](crate::ErrorKind::Corrupt); [`Store::check`] names the sessions.
    #[must_use]
    pub fn unreadable_parts(&self) -> usize {
        self.counters.unreadable
    }

    /// Checkpoints made, which bring commits from the journal into the store's file.
    #[must_use]
    pub fn checkpoints(&self) -> u64 {
        self.counters.checkpoints
    }

    /// Bytes of the journal's files; 0 for a store in memory.
    #[must_use]
    pub fn journal_len(&self) -> u64 {
        self.counters.journal_len
    }

    /// Bytes of the file; 0 for a store in memory.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }
}
