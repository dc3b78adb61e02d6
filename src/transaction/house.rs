//! What all transactions of one store share.

use super::turns::Turns;
use super::worker::Worker;
use crate::client_id::{ClientIds, ClientKey};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::{Policy, Times};
use crate::storage::record::SessionRow;
use crate::storage::{ContainerId, Limits, Place, Storage};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct House {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) ids: ClientIds,
    pub(crate) rules: Rules,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) turns: Arc<Turns>,
    pub(crate) hooks: Worker,
    pub(crate) reruns: super::rerun::Reruns,
}

impl House {
    /// The times of a session that a snapshot shows. Where they decide something, an access that was
    /// recorded since counts: it waits to be written, or has been written after the snapshot (C3.2).
    pub(crate) fn times_of(
        &self,
        room: &Room,
        client: ClientKey,
        row: &SessionRow,
        now: Timestamp,
    ) -> Result<Times> {
        let (policy, storage) = (&room.policy, &self.storage);
        let mut times = row.times();
        // The common case, a session that was touched lately, looks for nothing.
        if !policy.is_expired(&times, now) && !policy.is_touch_due(&times, now) {
            return Ok(times);
        }
        let waiting = storage.pending_touch(room.id(), client, row.generation);
        let newest = storage
            .snapshot()?
            .session(room.id(), client)
            .map_err(|e| e.in_container(&*room.place.name))?;
        // A session that has ended since is what it was.
        if let Some(newest) = newest.filter(|newest| newest.generation == row.generation) {
            let recorded = newest.last_access;
            times.last_access = waiting.map_or(recorded, |touch| touch.merged_with(recorded));
        }
        Ok(times)
    }
}

/// The store's settings that transactions go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) attempts: u32,
    pub(crate) turn_wait: Duration,
    pub(crate) snapshot_max_age: Duration,
    /// How long an ended id is refused (C4.8).
    pub(crate) tombstone: Duration,
}

/// A container as transactions see it.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) place: Place,
    pub(crate) policy: Policy,
}

impl Room {
    pub(crate) fn id(&self) -> ContainerId {
        self.place.id
    }
}

/// The containers that are registered. A transaction keeps the registry that it began with.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Counts registrations, as the storage does.
    pub(crate) number: u64,
    unnamed: Arc<Room>,
    named: HashMap<Arc<str>, Arc<Room>>,
}

impl Registry {
    /// `rooms` holds the unnamed container.
    pub(crate) fn new(number: u64, rooms: impl IntoIterator<Item = Room>) -> Result<Self> {
        let mut named: HashMap<_, _> = rooms
            .into_iter()
            .map(|room| (room.place.name.clone(), Arc::new(room)))
            .collect();
        let unnamed = named.remove("").ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the store lacks its unnamed container")
        })?;
        Ok(Self {
            number,
            unnamed,
            named,
        })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Room>> {
        if name.is_empty() {
            Some(&self.unnamed)
        } else {
            self.named.get(name)
        }
    }

    /// The container of a package: the one of its name, else the unnamed one (C1.2).
    pub(crate) fn for_package(&self, package: &str) -> &Arc<Room> {
        self.named.get(package).unwrap_or(&self.unnamed)
    }

    pub(crate) fn rooms(&self) -> impl Iterator<Item = &Arc<Room>> {
        std::iter::once(&self.unnamed).chain(self.named.values())
    }
}
