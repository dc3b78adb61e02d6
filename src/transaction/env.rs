//! The state that all transactions of one store share.

use crate::client_id::ClientIds;
use crate::clock::Clock;
use crate::error::Result;
use crate::latency::LatencyCounter;
use crate::process::Process;
use crate::storage::{Limits, Snapshot, Storage, TombstonePolicy};
use crate::transaction::commit::recompute::Recomputer;
use crate::transaction::events::EventQueue;
use crate::transaction::known_settings::KnownSettings;
use crate::transaction::registry::Registry;
use crate::transaction::turns::turn::{Patience, Turns};
use crate::transaction::worker::Worker;
use arc_swap::ArcSwap;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A store that stays open as long as a transaction holds this.
pub(crate) trait KeepOpen: Send + Sync {
    fn env(&self) -> &Arc<Env>;
    /// The store itself, for callers that know its type.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

pub(crate) struct Env {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) ids: ClientIds,
    pub(crate) rules: TxnRules,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) known: KnownSettings,
    pub(crate) turns: Arc<Turns>,
    pub(crate) hooks: Worker,
    /// `None` if the application has no hooks for events.
    pub(crate) events: Option<EventQueue>,
    pub(crate) recomputer: Recomputer,
    /// Runs work that must not block an async runtime.
    pub(crate) background: Worker,
    /// The process that opened the store.
    pub(crate) process: Process,
    pub(crate) warned_of_blocking: AtomicBool,
    pub(crate) commit_times: LatencyCounter,
    /// Requests and transactions that ran again after a conflict.
    pub(crate) reruns: AtomicU64,
}

impl Env {
    /// The newest state, for code outside transactions. Blocks until the engine returns it.
    pub(crate) fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.process.check()?;
        self.storage.snapshot().wait()
    }

    /// How long an id that ends now is refused.
    pub(crate) fn refusals(&self) -> TombstonePolicy {
        TombstonePolicy {
            now: self.clock.timestamp(),
            lasts: self.rules.tombstone,
            slack: self.registry.load().slack(),
        }
    }

    /// Logs once that `transact` blocks a thread that runs tasks.
    pub(crate) fn warn_of_blocking(&self) {
        if !self.warned_of_blocking.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "transact blocks a thread that serves requests: nothing else runs on it while a commit or a session's \
                 turn is waited for; use transact_async there"
            );
        }
    }

    /// How long a commit waits for turns.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.rules.turn_wait)
    }
}

/// The settings of the store that transactions follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxnRules {
    pub(crate) limits: Limits,
    pub(crate) attempts: u32,
    pub(crate) turn_wait: Duration,
    pub(crate) snapshot_max_age: Duration,
    /// How long an ended id is refused (C4.8).
    pub(crate) tombstone: Duration,
    /// How long a session lasts while no request has presented its id (C8.5).
    pub(crate) unconfirmed: Option<Duration>,
    pub(crate) owner_limit: Option<OwnerLimit>,
}

/// The limit of sessions for each owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnerLimit {
    pub(crate) sessions: usize,
    pub(crate) when_full: WhenFull,
}

/// The result of a login whose owner already has the maximum number of sessions:
/// [`StoreBuilder::max_sessions_per_owner`](crate::StoreBuilder::max_sessions_per_owner).
///
/// ```
/// use cloakroom::{Store, WhenFull};
///
/// let store = Store::builder().max_sessions_per_owner(1, WhenFull::EndOldest).in_memory()?;
/// for _ in 0..2 {
///     let visitor = store.client_ids().issue();
///     store.transact(|txn| txn.session(&visitor)?.log_in("ann"))?;
/// }
/// assert_eq!(store.sessions_of("ann")?.len(), 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The login fails with [`NotAdmitted`](crate::ErrorKind::NotAdmitted).
    Refuse,
    /// The login ends the owner's least recently used sessions, in the same transaction.
    EndOldest,
}
