//! Counters of a store.

use super::Store;
use crate::error::Result;
use crate::storage::Counters;

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    counters: Counters,
    file_len: u64,
}

impl Store {
    /// What the store has done since it was opened.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the file's size cannot be read.
    pub fn statistics(&self) -> Result<Statistics> {
        let storage = &self.inner.house.storage;
        Ok(Statistics {
            counters: storage.counters(),
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

    /// Bytes written to the file, including those of redb's own bookkeeping.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.counters.bytes_written
    }

    /// Times the file was synced to the disk.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.counters.syncs
    }

    /// Times the store reopened itself after a failure of its storage (C2.13).
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.counters.reopened
    }

    /// Bytes of the file; 0 for a store in memory.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file_len
    }
}
