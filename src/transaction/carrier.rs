//! The rows of containers that live in the visitor's cookie. They come with a request, for all its transactions (C8.6).

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::Mark;
use crate::storage::carried::{
    CarriedChange, CarriedLimit, CarriedOutcome, CarriedRows, CarriedSnapshot,
};
use crate::storage::{ContainerId, Snapshot};
use crate::transaction::env::Env;
use crate::transaction::registry::Registry;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The rows that came with a request, with the changes of its commits so far.
pub(crate) struct Carrier {
    limits: Arc<[CarriedLimit]>,
    state: Mutex<CarrierState>,
}

struct CarrierState {
    rows: Arc<CarriedRows>,
    changed: BTreeSet<ContainerId>,
}

impl Carrier {
    pub(crate) fn new(rows: CarriedRows, limits: Arc<[CarriedLimit]>) -> Self {
        Self {
            limits,
            state: Mutex::new(CarrierState {
                rows: Arc::new(rows),
                changed: BTreeSet::new(),
            }),
        }
    }

    /// A snapshot of the engine that also shows the rows in their current state.
    pub(crate) fn snapshot_with(
        &self,
        engine: Arc<dyn Snapshot>,
        now: Timestamp,
        registry: &Registry,
    ) -> Arc<dyn Snapshot> {
        let rows = self.rows();
        if rows.is_empty() {
            return engine;
        }
        Arc::new(CarriedSnapshot::new(
            engine,
            rows,
            now,
            registry.unnamed().id(),
        ))
    }

    /// The part of a change set that concerns the remaining `rows`.
    pub(crate) fn change(
        self: &Arc<Self>,
        client: ClientKey,
        came: Mark,
        rows: CarriedRows,
    ) -> CarriedChange {
        CarriedChange::new(client, came, rows, self.limits.clone())
    }

    pub(crate) fn rows(&self) -> Arc<CarriedRows> {
        self.lock().rows.clone()
    }

    /// The containers that a commit changed. The response returns their rows to the visitor.
    pub(crate) fn changed(&self) -> BTreeSet<ContainerId> {
        self.lock().changed.clone()
    }

    /// The client whose rows a commit changed.
    pub(crate) fn changed_client(&self) -> Option<ClientKey> {
        let state = self.lock();
        let mut changed = state.changed.iter();
        changed.find_map(|container| Some(state.rows.session_in(*container)?.0))
    }

    /// Forgets the changes, so that the response returns no rows.
    pub(crate) fn forget_changes(&self) {
        self.lock().changed.clear();
    }

    fn accept(&self, outcome: CarriedOutcome) {
        let mut state = self.lock();
        let mut rows = CarriedRows::clone(&state.rows);
        for container in &outcome.changed {
            rows.replace(*container, &outcome.rows);
        }
        state.rows = Arc::new(rows);
        state.changed.extend(outcome.changed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CarrierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The effect of a commit on the rows that came with its request.
pub(crate) struct CarriedCommit {
    carrier: Arc<Carrier>,
    pub(crate) change: Arc<CarriedChange>,
}

impl CarriedCommit {
    pub(crate) fn new(carrier: &Arc<Carrier>, change: CarriedChange) -> Self {
        Self {
            carrier: carrier.clone(),
            change: Arc::new(change),
        }
    }

    /// Applies the changes after the commit has succeeded.
    pub(crate) fn committed(&self) {
        self.carrier.accept(self.change.outcome());
    }

    /// Whether a commit without other changes records accesses for a client whose id has ended since.
    pub(crate) async fn is_too_late(&self, env: &Env) -> Result<bool> {
        if !self.change.is_touched() {
            return Ok(false);
        }
        is_refused(env, self.change.client()).await
    }
}

/// Whether the id of a client ended so short a time ago that a tombstone still refuses it.
pub(crate) async fn is_refused(env: &Env, client: ClientKey) -> Result<bool> {
    let newest = env.storage.snapshot().await?;
    if !newest.is_loaded(client) {
        newest.load(&[client]).await?;
    }
    let until = newest.tombstone(client)?;
    Ok(until.is_some_and(|until| until > env.clock.timestamp()))
}
