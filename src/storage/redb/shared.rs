//! The state that the threads of an engine share, and the engine's settings.

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::admission::AdmissionBounds;
use crate::storage::quota::SharedQuota;
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::commit::ended::EndedSessions;
use crate::storage::redb::commit::queue::Queue;
use crate::storage::redb::commit::touches::{self, Touches};
use crate::storage::redb::failure;
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::memtable::snapshot::{RedbSnapshot, SnapshotOwner};
use crate::storage::redb::memtable::tracker::SnapshotTracker;
use crate::storage::{StoreSettings, Touch};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The state that the writer thread shares with readers and callers.
pub(crate) struct EngineShared {
    pub(crate) queue: Arc<Queue>,
    /// The snapshot of the newest commit.
    pub(crate) published: ArcSwapOption<RedbSnapshot>,
    pub(crate) closed: AtomicBool,
    /// The older snapshots that transactions still hold.
    pub(crate) snapshots: SnapshotTracker,
    pub(crate) touches: Touches,
    pub(crate) ended: EndedSessions,
    /// The number of the published commit.
    pub(crate) shown: AtomicU64,
    pub(crate) io: Arc<FileIo>,
    /// The store's containers and secrets, as the file has them.
    pub(crate) settings: ArcSwap<StoreSettings>,
    /// Their version, and the number of their registrations.
    pub(crate) settings_version: AtomicU64,
    pub(crate) registry: AtomicU64,
    pub(crate) counters: EngineCounters,
    /// Tells this opening of the store from all others.
    pub(crate) opening: [u8; 16],
    pub(crate) clock: Clock,
    pub(crate) snapshot_max_age: Duration,
    pub(crate) faults: FaultInjection,
    /// Encrypts the records of the file.
    pub(crate) cipher: RecordCipher,
}

#[derive(Default)]
pub(crate) struct EngineCounters {
    pub(crate) commits: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) touches: AtomicU64,
    pub(crate) reopened: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) journal_len: AtomicU64,
    /// Commits are refused until the files can be written again.
    pub(crate) is_read_only: AtomicBool,
}

impl EngineCounters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

impl EngineShared {
    pub(crate) fn new(
        rules: &EngineRules,
        io: Arc<FileIo>,
        clock: Clock,
        faults: FaultInjection,
        settings: StoreSettings,
    ) -> Result<Self> {
        Ok(Self {
            queue: Arc::new(Queue::new(rules.admission)),
            published: ArcSwapOption::empty(),
            closed: AtomicBool::new(false),
            snapshots: SnapshotTracker::default(),
            touches: Touches::default(),
            ended: EndedSessions::default(),
            shown: AtomicU64::new(0),
            io,
            settings_version: AtomicU64::new(settings.version),
            registry: AtomicU64::new(settings.registry),
            settings: ArcSwap::from_pointee(settings),
            counters: EngineCounters::default(),
            opening: failure::random()?,
            clock,
            snapshot_max_age: rules.snapshot_max_age,
            faults,
            cipher: rules.cipher.clone(),
        })
    }

    /// The file has these settings now.
    pub(crate) fn show_settings(&self, settings: Arc<StoreSettings>) {
        let (version, registry) = (settings.version, settings.registry);
        self.settings.store(settings);
        self.registry.store(registry, Ordering::Release);
        self.settings_version.store(version, Ordering::Release);
    }

    /// Records an access time, to be written later.
    pub(crate) fn touch(&self, touch: Touch) {
        let waiting = self.touches.add(touch, self.clock.timestamp());
        if waiting == 1 || waiting >= touches::MANY {
            self.queue.wake();
        }
    }
}

impl SnapshotOwner for EngineShared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn note_failed_read(&self, error: &Error) {
        if error.kind() == ErrorKind::Corrupt && self.io.unreadable().is_readable_again() {
            self.queue.suspect();
        }
    }

    fn request_reopening(&self) {
        self.queue.suspect();
    }
}

/// The settings of an engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineRules {
    pub(crate) snapshot_max_age: Duration,
    /// How many commits and bytes may wait to be committed.
    pub(crate) admission: AdmissionBounds,
    /// How many sessions may be founded, where that is limited.
    pub(crate) new_sessions: Option<SharedQuota>,
    pub(crate) journal: JournalRules,
    /// Encrypts the records of the file.
    pub(crate) cipher: RecordCipher,
    /// The settings that a new store begins with, where it is to be the copy of another one.
    pub(crate) initial: Option<Arc<StoreSettings>>,
}

/// The bounds of the rows that are not in redb yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalRules {
    /// Bytes of the journal's two files together.
    pub(crate) size: u64,
    /// Bytes of memory that the rows in it take, about.
    pub(crate) memory: usize,
    /// A checkpoint is due after this time, even if neither bound is near.
    pub(crate) interval: Duration,
    /// Checkpoints are made between commits, not beside them.
    pub(crate) in_the_foreground: bool,
    /// Bytes of rows that a batch writes at most. With its touches, they stay well below the limit of a frame.
    pub(crate) largest_group: usize,
}

impl JournalRules {
    pub(crate) fn largest_file(&self) -> u64 {
        self.size / 2
    }
}
