//! The settings of the engine that keeps a file. An engine without files has none of them.

use super::memory::default_cache_size;
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::{JournalRules, OpenOptions};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct FileSettings {
    /// None: as much as the machine allows.
    pub(super) cache_size: Option<usize>,
    pub(super) journal: JournalRules,
    /// Whether opening verifies the whole file.
    pub(super) verify: bool,
    /// How long opening waits for the locks of the files.
    pub(super) wait: Duration,
    /// Whether a file that other users can access is refused.
    pub(super) private: bool,
    /// Whether a store is created where there is none.
    pub(super) creates: bool,
    /// Whether a store of an older format is migrated.
    pub(super) migrates: bool,
    pub(super) faults: FaultInjection,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            cache_size: None,
            journal: JournalRules {
                size: 128 << 20,
                memory: 128 << 20,
                interval: Duration::from_secs(60),
                in_the_foreground: false,
                largest_group: 512 << 20,
            },
            verify: false,
            wait: Duration::ZERO,
            private: false,
            creates: true,
            migrates: true,
            faults: FaultInjection::default(),
        }
    }
}

impl FileSettings {
    pub(super) fn options(&self) -> OpenOptions {
        OpenOptions {
            cache_size: self.cache_size.unwrap_or_else(default_cache_size),
            verify: self.verify,
            wait: self.wait,
            private: self.private,
            creates: self.creates,
            migrates: self.migrates,
            faults: self.faults,
        }
    }
}

#[cfg(feature = "postgres")]
impl FileSettings {
    /// Whether a store is created where there is none, and whether one of an older format is migrated.
    pub(super) fn schema_changes(&self) -> (bool, bool) {
        (self.creates, self.migrates)
    }
}
