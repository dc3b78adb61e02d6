//! A snapshot of the containers in memory.

use super::memory::MemoryEngine;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::{MemoryTables, TableSnapshot};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A snapshot of the containers in memory. Dropping it returns it to the tables.
pub(super) struct MemorySnapshot {
    engine: Arc<MemoryEngine>,
    held: Mutex<Option<TableSnapshot>>,
}

impl MemorySnapshot {
    pub(super) fn of(engine: &Arc<MemoryEngine>, tables: &mut MemoryTables) -> Self {
        Self {
            held: Mutex::new(Some(tables.snapshot())),
            engine: engine.clone(),
        }
    }

    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&MemoryTables, &TableSnapshot) -> T,
    ) -> Result<T> {
        let held = self.lock();
        let tables = self.engine.tables();
        let held = held.as_ref().filter(|held| !tables.is_expired(held));
        let held = held.ok_or_else(outlived)?;
        Ok(read(&tables, held))
    }

    /// Shows the moment of a newer snapshot from now on, unless one of the clients changed in between, or may have. Then it
    /// stays, and returns the client.
    pub(super) fn move_to(&self, newer: Self, clients: &HashSet<ClientKey>) -> Option<ClientKey> {
        let (mut held, mut newest) = (self.lock(), newer.lock());
        let changed = match (&*held, &*newest) {
            (Some(held), Some(newest)) => {
                let tables = self.engine.tables();
                tables.changed_between(held, newest, clients)
            }
            _ => None,
        };
        if changed.is_none() {
            std::mem::swap(&mut *held, &mut *newest);
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Option<TableSnapshot>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn outlived() -> Error {
    Error::new(
        ErrorKind::SnapshotTooOld,
        "the transaction outlived its snapshot",
    )
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        // In a forked process, a thread that does not exist there may hold the lock (C7.5).
        if !self.engine.process.is_this() {
            return;
        }
        let held = self.lock().take();
        if let Some(held) = held {
            self.engine.tables().give_back(held);
        }
    }
}
