//! Containers: handles for their settings and maintenance, and containers inside a transaction.

mod settings;
mod sweep;

pub(crate) use settings::container;
pub use settings::{ContainerSettings, Residence};
pub use sweep::Swept;
pub(crate) use sweep::{reclaim, sweep};

use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};
use crate::session::SessionData;
use crate::transaction::{ContainerEntry, ContainerLink, Env, Txn};
use std::fmt;
use std::sync::Arc;
use sweep::{SweepVerdict, judge, scan};

/// A registered container: a handle for its settings and maintenance. It does not keep the store open.
#[derive(Clone)]
pub struct Container {
    env: Arc<Env>,
    configure: Arc<dyn Configure>,
    name: Arc<str>,
}

/// The store's part in changing a container's settings.
pub(crate) trait Configure: Send + Sync {
    fn configure(&self, name: &str, settings: ContainerSettings) -> Result<()>;
}

/// The number of sessions in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerStatistics {
    /// Sessions that have not expired.
    pub live: u64,
    /// Sessions that have expired and are not swept yet.
    pub expired: u64,
    /// Sessions with a damaged record. A part of the file that cannot be read counts once, however many sessions it
    /// holds.
    pub unreadable: u64,
    /// Packages of the live sessions.
    pub packages: u64,
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

pub(crate) fn no_such_container(name: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchContainer,
        "no container of this name is registered",
    )
    .in_container(name)
}

impl Container {
    pub(crate) fn new(env: Arc<Env>, configure: Arc<dyn Configure>, name: Arc<str>) -> Self {
        Self {
            env,
            configure,
            name,
        }
    }

    /// Returns the name that it is registered under; `""` is the unnamed container.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the settings in force.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) after it was unregistered.
    pub fn settings(&self) -> Result<ContainerSettings> {
        self.container()
            .map(|container| ContainerSettings::of(&container))
    }

    /// Stores new settings. They apply to every transaction that has not read anything yet.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the sessions would move between file and memory;
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); or a failure of the storage.
    pub fn configure(&self, settings: ContainerSettings) -> Result<()> {
        self.container()?;
        self.configure.configure(&self.name, settings)
    }

    /// Removes expired sessions in bounded batches, and waits for that. It also removes unreachable rows: those of
    /// unregistered containers, and outdated tombstones of ended sessions.
    ///
    /// # Errors
    ///
    /// A failure of the storage. Sessions that were removed before it stay removed.
    pub fn sweep(&self) -> Result<Swept> {
        let swept = sweep(&self.env, &*self.container()?)?;
        reclaim(&self.env)?;
        Ok(swept)
    }

    /// Counts the sessions. It examines every one of them.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn statistics(&self) -> Result<ContainerStatistics> {
        let container = self.container()?;
        let now = self.env.clock.timestamp();
        let mut counts = ContainerStatistics::default();
        scan(&self.env, container.id(), |_, row| {
            match row {
                Err(_) => counts.unreadable += 1,
                Ok(row) => match judge(&self.env, &container, row, now)? {
                    SweepVerdict::Expired(..) => counts.expired += 1,
                    SweepVerdict::Stands | SweepVerdict::Ahead(..) => {
                        counts.live += 1;
                        counts.packages += row.1.packages.len() as u64;
                    }
                },
            }
            Ok(())
        })?;
        Ok(counts)
    }

    fn container(&self) -> Result<Arc<ContainerEntry>> {
        let registry = self.env.registry.load();
        registry
            .get(&self.name)
            .cloned()
            .ok_or_else(|| no_such_container(&self.name))
    }
}

/// A container inside a transaction.
#[derive(Clone)]
pub struct ContainerTxn {
    txn: Txn,
    container: ContainerLink,
}

impl fmt::Debug for ContainerTxn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerTxn")
            .field("name", &self.txn.name_of(Some(self.container), ""))
            .finish_non_exhaustive()
    }
}

impl Txn {
    /// Returns a container as this transaction sees it.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) if no container has this name;
    /// [`Closed`](ErrorKind::Closed). A transaction uses the containers that are registered at its first read. If this
    /// container is unregistered before, that read gives `NoSuchContainer`. If the transaction has changed values
    /// before, and any container was registered or unregistered meanwhile, it gives a
    /// [`Conflict`](ErrorKind::Conflict).
    pub fn container(&self, name: &str) -> Result<ContainerTxn> {
        let container = self.link(name)?;
        Ok(ContainerTxn {
            txn: self.clone(),
            container: container.ok_or_else(|| no_such_container(name))?,
        })
    }
}

impl ContainerTxn {
    /// Returns the session of a client in this container.
    ///
    /// # Errors
    ///
    /// As for [`Txn::session`].
    pub fn session_data(&self, id: &ClientId) -> Result<SessionData> {
        let session = self.txn.session(id)?;
        Ok(session.in_container(self.container))
    }

    /// [`session_data`](Self::session_data) as a future.
    ///
    /// # Errors
    ///
    /// As for [`Txn::session`].
    pub fn session_data_async(
        &self,
        id: &ClientId,
    ) -> impl Future<Output = Result<SessionData>> + Send {
        let entering = self.txn.session_async(id);
        let container = self.container;
        async move { Ok(entering.await?.in_container(container)) }
    }
}
