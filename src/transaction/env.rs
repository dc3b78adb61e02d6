//! What all transactions of one store share.

use crate::client_id::{ClientIds, ClientKey};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{ExpiryPolicy, Keeping, Times};
use crate::process::Process;
use crate::storage::record::SessionRow;
use crate::storage::{ContainerId, ContainerRef, Limits, Snapshot, Storage, TombstonePolicy};
use crate::transaction::turns::turn::{Patience, Turns};
use crate::transaction::worker::Worker;
use arc_swap::ArcSwap;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A store that stays open while a transaction has it.
pub(crate) trait KeepOpen: Send + Sync {
    fn env(&self) -> &Arc<Env>;
    /// The store itself, for whoever knows what it is.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

pub(crate) struct Env {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) ids: ClientIds,
    pub(crate) rules: TxnRules,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) hooks: Worker,
    pub(crate) recomputer: crate::transaction::commit::recompute::Recomputer,
    /// The one in which the store was opened.
    pub(crate) process: Process,
    pub(crate) warned_of_blocking: AtomicBool,
}

impl Env {
    /// The newest state, for those who begin no transaction.
    pub(crate) fn snapshot(&self) -> Result<Arc<dyn Snapshot>> {
        self.process.check()?;
        self.storage.snapshot()
    }

    /// How long an id that ends now is refused.
    pub(crate) fn refusals(&self) -> TombstonePolicy {
        TombstonePolicy {
            now: self.clock.timestamp(),
            lasts: self.rules.tombstone,
            slack: self.registry.load().slack,
        }
    }

    /// Says once that a thread which runs tasks is blocked.
    pub(crate) fn warn_of_blocking(&self) {
        if !self.warned_of_blocking.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "transact blocks a thread that serves requests: nothing else runs on it while a commit or a session's \
                 turn is waited for; use transact_async there"
            );
        }
    }

    /// For how long one waits for turns.
    pub(crate) fn patience(&self) -> Patience {
        Patience::new(self.rules.turn_wait)
    }

    /// The times of a session that a snapshot shows. Where they decide something, an access that was
    /// recorded since counts: it waits to be written, or has been written after the snapshot (C3.2).
    pub(crate) fn times_of(
        &self,
        container: &ContainerEntry,
        client: ClientKey,
        row: &SessionRow,
        now: Timestamp,
        keeping: Option<Keeping>,
    ) -> Result<Times> {
        let (policy, storage) = (&container.policy, &self.storage);
        let mut times = row.times();
        // The common case, a session that was touched lately, looks for nothing.
        if !policy.is_expired(&times, now) && !policy.is_touch_due(&times, now, keeping) {
            return Ok(times);
        }
        let waiting = storage.pending_touch(container.id(), client, row.incarnation);
        let newest = storage
            .snapshot()?
            .session(container.id(), client)
            .map_err(|e| e.in_container(&*container.place.name))?;
        // A session that has ended since is what it was.
        if let Some(mut newest) = newest.filter(|newest| newest.incarnation == row.incarnation) {
            if let Some(touch) = waiting {
                // The transaction's own time may lie long before it.
                touch.put_on(&mut newest, self.clock.timestamp());
            }
            (times.created, times.last_access) = (newest.created, newest.last_access);
        }
        Ok(times)
    }
}

/// The store's settings that transactions go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxnRules {
    pub(crate) limits: Limits,
    pub(crate) attempts: u32,
    pub(crate) turn_wait: Duration,
    pub(crate) snapshot_max_age: Duration,
    /// How long an ended id is refused (C4.8).
    pub(crate) tombstone: Duration,
}

/// A container as transactions see it.
#[derive(Debug)]
pub(crate) struct ContainerEntry {
    pub(crate) place: ContainerRef,
    pub(crate) policy: ExpiryPolicy,
    /// Whether it is swept without being asked for, where the store's containers are.
    pub(crate) implicit_sweeps: bool,
}

impl ContainerEntry {
    pub(crate) fn id(&self) -> ContainerId {
        self.place.id
    }
}

/// Where in its registry a container is. A transaction, which keeps the registry that its handles were made by,
/// knows its containers by this: threads that counted references to one would slow each other down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerIndex(usize);

impl ContainerIndex {
    /// The container `""`.
    pub(crate) const UNNAMED: Self = Self(0);
}

#[cfg(test)]
impl ContainerIndex {
    pub(crate) fn nth(n: usize) -> Self {
        Self(n)
    }
}

/// The containers that are registered.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Counts registrations, as the storage does.
    pub(crate) number: u64,
    /// How far ahead the tombstones, which belong to no container, may lie: the resolution of the unnamed one.
    slack: Duration,
    /// The unnamed one first.
    containers: Vec<Arc<ContainerEntry>>,
    /// All others.
    named: HashMap<Arc<str>, ContainerIndex>,
}

impl Registry {
    /// `containers` holds the unnamed container.
    pub(crate) fn new(
        number: u64,
        containers: impl IntoIterator<Item = ContainerEntry>,
    ) -> Result<Self> {
        let mut containers: Vec<_> = containers.into_iter().map(Arc::new).collect();
        containers.sort_by(|a, b| a.place.name.cmp(&b.place.name));
        let unnamed = containers
            .first()
            .filter(|container| container.place.name.is_empty());
        let Some(slack) = unnamed.map(|container| container.policy.resolution) else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the store lacks its unnamed container",
            ));
        };
        let named = containers.iter().enumerate().skip(1);
        let named = named.map(|(at, container)| (container.place.name.clone(), ContainerIndex(at)));
        Ok(Self {
            number,
            slack,
            named: named.collect(),
            containers,
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<ContainerEntry>> {
        self.find(name).map(|at| self.container(at))
    }

    pub(crate) fn find(&self, name: &str) -> Option<ContainerIndex> {
        if name.is_empty() {
            Some(ContainerIndex(0))
        } else {
            self.named.get(name).copied()
        }
    }

    /// The container of a package: the one of its name, else the unnamed one (C1.2).
    pub(crate) fn for_package(&self, package: &str) -> ContainerIndex {
        self.named
            .get(package)
            .copied()
            .unwrap_or(ContainerIndex(0))
    }

    /// A container of this registry.
    #[allow(clippy::indexing_slicing, reason = "this registry gave its place")]
    pub(crate) fn container(&self, at: ContainerIndex) -> &Arc<ContainerEntry> {
        &self.containers[at.0]
    }

    pub(crate) fn containers(&self) -> &[Arc<ContainerEntry>] {
        &self.containers
    }

    /// The places of all containers.
    pub(crate) fn places(&self) -> impl Iterator<Item = ContainerIndex> + use<> {
        (0..self.containers.len()).map(ContainerIndex)
    }
}
