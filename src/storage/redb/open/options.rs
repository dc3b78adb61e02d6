//! How a database is opened.

use crate::storage::redb::backend::write_buffer::MOST;
use crate::storage::redb::fault_injection::FaultInjection;
use std::time::Duration;

/// The most of a database in memory that is in redb's cache as well.
const MOST_TWICE_IN_MEMORY: usize = 256 << 20;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenOptions {
    pub(crate) cache_size: usize,
    pub(crate) verify: bool,
    /// How long it is waited for the locks of the files.
    pub(crate) wait: Duration,
    /// Whether a file that others can get at is refused.
    pub(crate) private: bool,
    pub(crate) bugs: FaultInjection,
}

impl OpenOptions {
    /// For a database in memory, of which redb's cache holds as much once more.
    pub(crate) fn in_memory(self) -> Self {
        Self {
            cache_size: self.cache_size.min(MOST_TWICE_IN_MEMORY),
            ..self
        }
    }

    /// How many bytes of pages a transaction may change, about: redb's cache keeps half of its room for
    /// them, and branches come on top. No more than are written in the order of the file.
    pub(crate) fn step(&self) -> usize {
        (self.cache_size / 4).min(MOST / 2)
    }
}
