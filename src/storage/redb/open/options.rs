//! The options with which a database is opened.

use crate::storage::redb::backend::write_buffer::MOST;
use crate::storage::redb::fault_injection::FaultInjection;
use std::time::Duration;

/// The largest cache of a database in memory, which holds its pages a second time.
const MOST_TWICE_IN_MEMORY: usize = 256 << 20;

/// The options with which a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenOptions {
    pub(crate) cache_size: usize,
    pub(crate) verify: bool,
    /// How long to wait for the locks of the files.
    pub(crate) wait: Duration,
    /// Whether a file that other users can access is refused.
    pub(crate) private: bool,
    /// Whether a store is created where there is no file, or an empty one.
    pub(crate) creates: bool,
    /// Whether a store of an older format is migrated.
    pub(crate) migrates: bool,
    pub(crate) faults: FaultInjection,
}

impl OpenOptions {
    /// The options for a database in memory.
    pub(crate) fn in_memory(self) -> Self {
        Self {
            cache_size: self.cache_size.min(MOST_TWICE_IN_MEMORY),
            ..self
        }
    }

    /// About how many bytes of pages a transaction may change. redb keeps half of its cache for changed pages, and
    /// branch pages come on top. No more than the write buffer sorts at once.
    pub(crate) fn step(&self) -> usize {
        (self.cache_size / 4).min(MOST / 2)
    }
}
