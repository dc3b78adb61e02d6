//! The part of a change set that concerns the rows that came with the request.

use super::rows::CarriedRows;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{ContainerId, ContainerRef, Mark, MergedWrites, TouchAt};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum size of the encoded rows of a container, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct CarriedLimit {
    pub(crate) container_ref: ContainerRef,
    pub(crate) bytes: usize,
}

/// The rows that a change set may read and write in the visitor's cookie. The merge stores their new state here. The
/// engine never gets them.
#[derive(Debug)]
pub(crate) struct CarriedChange {
    client: ClientKey,
    /// When the request arrived.
    came: Mark,
    /// The rows as the transaction read them, with the accesses that are due.
    rows: CarriedRows,
    limits: Arc<[CarriedLimit]>,
    touched: BTreeSet<ContainerId>,
    outcome: Mutex<Option<CarriedOutcome>>,
}

/// The rows after a commit, and the containers in which they changed.
#[derive(Clone, Debug)]
pub(crate) struct CarriedOutcome {
    pub(crate) rows: CarriedRows,
    pub(crate) changed: BTreeSet<ContainerId>,
}

impl CarriedChange {
    pub(crate) fn new(
        client: ClientKey,
        came: Mark,
        rows: CarriedRows,
        limits: Arc<[CarriedLimit]>,
    ) -> Self {
        Self {
            client,
            came,
            rows,
            limits,
            touched: BTreeSet::new(),
            outcome: Mutex::default(),
        }
    }

    /// Adds an access that is due.
    pub(crate) fn touch(&mut self, container: ContainerId, at: TouchAt, now: Timestamp) {
        let access = |part: &mut _| at.put_on(part, now);
        self.rows.access(container, self.client, access);
        self.touched.insert(container);
    }

    pub(crate) fn client(&self) -> ClientKey {
        self.client
    }

    pub(crate) fn came(&self) -> Mark {
        self.came
    }

    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    pub(crate) fn rows(&self) -> &CarriedRows {
        &self.rows
    }

    /// Moves the rows for the cookie out of the rows to write. If an engine merges a change set again, this replaces
    /// the rows of the first merge. The engine refuses an id that ends.
    ///
    /// # Errors
    ///
    /// `TooLarge` if a cookie cannot hold its rows.
    pub(crate) fn take_writes(&self, writes: &mut MergedWrites) -> Result<()> {
        let own = writes.split_off_carried();
        let mut rows = self.rows.clone();
        let mut changed = rows.apply(own);
        for container in &changed {
            self.check_size(&rows, *container)?;
        }
        changed.extend(&self.touched);
        let outcome = CarriedOutcome { rows, changed };
        *self.slot() = Some(outcome);
        Ok(())
    }

    fn check_size(&self, rows: &CarriedRows, container: ContainerId) -> Result<()> {
        let Some((client, _)) = rows.session_in(container) else {
            return Ok(());
        };
        let mut limits = self.limits.iter();
        let limit = limits.find(|limit| limit.container_ref.id == container);
        let Some(CarriedLimit {
            container_ref,
            bytes,
        }) = limit
        else {
            return Err(not_carried());
        };
        let len = rows.encode(container, client)?.len();
        if len <= *bytes {
            return Ok(());
        }
        let why = format!("a cookie holds {bytes} bytes of this container, which now has {len}");
        Err(Error::new(ErrorKind::TooLarge, why).in_container(&*container_ref.name))
    }

    /// The rows after the commit.
    pub(crate) fn outcome(&self) -> CarriedOutcome {
        self.slot().take().unwrap_or_else(|| CarriedOutcome {
            rows: self.rows.clone(),
            changed: self.touched.clone(),
        })
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<CarriedOutcome>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_carried() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the container was registered after the request came",
    )
}
