//! The server: everything that is stored, under one lock. Several engines may use one server, as several processes would.

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::memory::Random;
use crate::storage::memory::{CommitTerms, MemoryTables, TablesRole};
use crate::storage::merge::MergeRefusal;
use crate::storage::record::ContainerRecord;
use crate::storage::{
    ChangeSet, ContainerId, SecretRecord, SettingsChange, StoreSettings, Version,
};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The servers that have a name. They last as long as the process, so that a store that was closed is found again.
static SERVERS: Mutex<BTreeMap<PathBuf, Arc<Server>>> = Mutex::new(BTreeMap::new());

/// Is told of new settings. Returns whether it wants to be told again.
type Listener = Box<dyn Fn(&ServerState) -> bool + Send>;

pub(super) struct Server(Mutex<ServerState>);

pub(super) struct ServerState {
    pub(super) tables: MemoryTables,
    pub(super) settings: Arc<StoreSettings>,
    /// Those that are told of new settings.
    listeners: Vec<Listener>,
    /// Draws the versions of commits.
    versions: Random,
}

impl Server {
    /// The server of this name, which is made at the first call.
    pub(super) fn named(path: &Path, initial: Option<Arc<StoreSettings>>) -> Result<Arc<Self>> {
        let path = std::path::absolute(path).map_err(|e| {
            Error::new(ErrorKind::Io, "the server's name is no path").with_source(e)
        })?;
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(&path) {
            return Ok(server.clone());
        }
        let server = Arc::new(Self::new(initial)?);
        servers.insert(path, server.clone());
        Ok(server)
    }

    /// A new server, which lasts as long as it is used.
    pub(super) fn new(initial: Option<Arc<StoreSettings>>) -> Result<Self> {
        Ok(Self(Mutex::new(ServerState {
            tables: MemoryTables::new(TablesRole::Server),
            settings: initial.map_or_else(fresh_settings, Ok)?,
            listeners: Vec::new(),
            versions: Random::new(u64::from_be_bytes(random()?)),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The settings of a store that is no copy.
fn fresh_settings() -> Result<Arc<StoreSettings>> {
    let unnamed = ContainerRecord {
        name: String::new(),
        id: ContainerId::UNNAMED.0,
        timeout_ms: 3_600_000,
        resolution_ms: 600_000,
        max_lifetime_ms: None,
        implicit_sweeps: true,
        aliases: Vec::new(),
    };
    Ok(Arc::new(StoreSettings {
        identity: random()?,
        version: 0,
        registry: 0,
        containers: BTreeMap::from([(String::new(), unnamed)]),
        next_container: 1,
        secrets: vec![SecretRecord(0, random()?, None)],
        issuing: 0,
        is_unfinished: false,
    }))
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "the system has no randomness").with_source(e))?;
    Ok(bytes)
}

impl ServerState {
    /// Commits a change set, unless it is refused, or founds more sessions than `may_found` allows. Puts its writes to
    /// containers in memory into the set.
    pub(super) fn commit(
        &mut self,
        set: &mut ChangeSet,
        now: Timestamp,
        may_found: impl FnOnce(u64) -> Result<()>,
    ) -> Result<(), MergeRefusal> {
        let terms = CommitTerms {
            version: Version(self.versions.version()),
            registry: self.settings.registry,
            now,
        };
        let mut decided = self.tables.decide(set, terms)?;
        if decided.founded() > 0 {
            may_found(decided.founded())?;
        }
        set.swept = decided.swept();
        if let Some(foreign) = &mut set.foreign {
            foreign.commit.written = decided.take_foreign();
        }
        self.tables.apply(decided);
        Ok(())
    }

    /// All containers that may have rows.
    pub(super) fn containers(&self) -> impl Iterator<Item = ContainerId> + use<> {
        (0..self.settings.next_container).map(ContainerId)
    }

    pub(super) fn registered(&self) -> HashSet<ContainerId> {
        let records = self.settings.containers.values();
        let registered = records.map(|record| ContainerId(record.id));
        // It keeps its rows while its sessions are in memory: a commit may have come in between.
        registered.chain([ContainerId::UNNAMED]).collect()
    }

    /// Changes the settings, and tells all that are connected.
    pub(super) fn configure(&mut self, change: &SettingsChange) -> Result<Arc<StoreSettings>> {
        if let Some(settings) = self.settings.changed(change)? {
            self.settings = Arc::new(settings);
            let mut listeners = std::mem::take(&mut self.listeners);
            listeners.retain(|listener| listener(self));
            self.listeners = listeners;
        }
        Ok(self.settings.clone())
    }

    /// Calls `listener` after each change of the settings, until it returns false.
    pub(super) fn listen(&mut self, listener: Listener) {
        self.listeners.push(listener);
    }
}
