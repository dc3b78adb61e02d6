//! The registered containers: their records, and how they are registered, changed and removed.

use super::sweeper::Sweeper;
use crate::container::{Configure, ContainerSettings, container, no_such_container};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::check_name;
use crate::storage::record::ContainerRecord;
use crate::storage::{ContainerId, SettingsChange};
use crate::transaction::{Env, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many sessions of the unnamed container are looked at when a container is registered.
const SAMPLED: usize = 1000;

/// The records of the registered containers; its lock puts registrations in line.
pub(crate) struct Containers {
    env: Arc<Env>,
    sweeper: Arc<Sweeper>,
    records: Mutex<Records>,
}

struct Records {
    by_name: BTreeMap<String, ContainerRecord>,
    next: u32,
}

impl Containers {
    /// The containers of a store that is opened; `next` is the first id that none of them has had.
    pub(super) fn new(
        env: Arc<Env>,
        sweeper: Arc<Sweeper>,
        containers: Vec<ContainerRecord>,
        next: u32,
    ) -> Self {
        let by_name = containers
            .into_iter()
            .map(|record| (record.name.clone(), record));
        let by_name = by_name.collect();
        let records = Mutex::new(Records { by_name, next });
        Self {
            env,
            sweeper,
            records,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, name: &str, settings: &ContainerSettings) -> Result<()> {
        check_name("the container's name", name, &self.env.rules.limits)?;
        let mut records = self.lock();
        let known = records.by_name.get(name).map(|r| ContainerId(r.id));
        let id = match (known, settings.residence) {
            (Some(id), _) => id,
            (None, crate::Residence::Memory) => ContainerId::in_memory(records.next),
            (None, crate::Residence::File) => ContainerId(records.next),
        };
        if id.is_in_memory() != (settings.residence == crate::Residence::Memory) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a container cannot move between file and memory",
            )
            .in_container(name));
        }
        let record = settings.record(name, id);
        let storage = &self.env.storage;
        if records.by_name.get(name) == Some(&record) {
            // Nothing is to be written; a store that was closed says so all the same.
            return storage.ready();
        }
        storage.configure(SettingsChange::PutContainer(record.clone()))?;
        records.by_name.insert(name.to_owned(), record);
        if known.is_none() {
            records.next += 1;
        }
        self.publish(&records)?;
        drop(records);
        if known.is_none() {
            self.warn_of_data_left_behind(name);
        }
        Ok(())
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the unnamed container always exists",
            ));
        }
        let mut records = self.lock();
        if !records.by_name.contains_key(name) {
            return Err(no_such_container(name));
        }
        let storage = &self.env.storage;
        storage.configure(SettingsChange::RemoveContainer(name.to_owned()))?;
        records.by_name.remove(name);
        self.publish(&records)
    }

    /// Shows the containers to all transactions that begin from now on.
    fn publish(&self, records: &Records) -> Result<()> {
        let number = self.env.storage.registry();
        let registry = Registry::new(number, records.by_name.values().map(container))?;
        self.env.registry.store(Arc::new(registry));
        self.sweeper.wake();
        Ok(())
    }

    /// Without the lock, as it reads, and after the registration: from then on nobody adds any.
    fn warn_of_data_left_behind(&self, package: &str) {
        match self.has_data_left_behind(package) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                package,
                "the package has data in the unnamed container, which stays and expires there"
            ),
            Err(error) => tracing::warn!(
                package,
                %error,
                "whether the package has data in the unnamed container cannot be found out"
            ),
        }
    }

    /// Whether one of the first sessions of the unnamed container has the package. The order is that of the clients'
    /// keys, which are hashes: a random sample.
    fn has_data_left_behind(&self, package: &str) -> Result<bool> {
        let snapshot = self.env.snapshot()?;
        let rows = snapshot
            .sessions(ContainerId::UNNAMED, None, SAMPLED)
            .wait()?;
        crate::steps::count(rows.len());
        let mut rows = rows.iter().filter_map(|(_, row)| row.as_ref().ok());
        Ok(rows.any(|row| row.has(package)))
    }
}

impl Configure for Containers {
    fn configure(&self, name: &str, settings: ContainerSettings) -> Result<()> {
        self.put(name, &settings)
    }
}
