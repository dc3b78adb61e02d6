//! The settings of a container.

use crate::storage::record::{millis, whole_millis};
use crate::storage::{ContainerHome, ContainerSpec};
use crate::transaction::ContainerEntry;
use std::time::Duration;

/// Where the sessions of a container live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Residence {
    /// In the store's file.
    #[default]
    File,
    /// In memory, until the store is closed.
    Memory,
}

/// The settings of a container. They are stored with the container, survive a restart, and can change while the store
/// runs. Times are kept in milliseconds, rounded up.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
/// use std::time::Duration;
///
/// let store = Store::in_memory()?;
/// let settings = ContainerSettings::new().timeout(Duration::from_secs(1800));
/// let carts = store.register("shop.cart", settings)?;
/// assert_eq!(carts.settings()?.timeout, Duration::from_secs(1800));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSettings {
    /// A session that is idle for longer than this expires. Zero: never. Default: one hour.
    pub timeout: Duration,
    /// An access is recorded only if the recorded one is older than this. The resolution in force is at most half the
    /// timeout. Default: ten minutes.
    pub resolution: Duration,
    /// The age at which a session ends, even if it is in use. Default: none.
    pub max_lifetime: Option<Duration>,
    /// Whether the store sweeps it once per resolution. If not, expired sessions keep their rows until
    /// [`Container::sweep`](crate::Container::sweep) is called; they are not served either way. Has no effect in a
    /// store that was opened with [`StoreBuilder::implicit_sweeps(false)`](crate::StoreBuilder::implicit_sweeps).
    /// Default: yes.
    pub implicit_sweeps: bool,
    /// Where the sessions live. Cannot change later. Default: in the file.
    pub residence: Residence,
}

impl Default for ContainerSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3600),
            resolution: Duration::from_secs(600),
            max_lifetime: None,
            implicit_sweeps: true,
            residence: Residence::File,
        }
    }
}

impl ContainerSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self {
            timeout: whole_millis(timeout),
            ..self
        }
    }

    /// Sets [`resolution`](Self::resolution).
    #[must_use]
    pub fn resolution(self, resolution: Duration) -> Self {
        Self {
            resolution: whole_millis(resolution),
            ..self
        }
    }

    /// Sets [`max_lifetime`](Self::max_lifetime).
    #[must_use]
    pub fn max_lifetime(self, max_lifetime: Option<Duration>) -> Self {
        Self {
            max_lifetime: max_lifetime.map(whole_millis),
            ..self
        }
    }

    /// Sets [`implicit_sweeps`](Self::implicit_sweeps).
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let quiet = ContainerSettings::new().implicit_sweeps(false);
    /// let carts = store.register("shop.cart", quiet.clone())?;
    /// // At night, by a job of one's own:
    /// carts.sweep()?;
    /// // In force at once:
    /// carts.configure(quiet.implicit_sweeps(true))?;
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn implicit_sweeps(self, implicit_sweeps: bool) -> Self {
        Self {
            implicit_sweeps,
            ..self
        }
    }

    /// Keeps the sessions in memory.
    #[must_use]
    pub fn in_memory(self) -> Self {
        Self {
            residence: Residence::Memory,
            ..self
        }
    }

    pub(super) fn spec(&self, name: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.to_owned(),
            home: match self.residence {
                Residence::File => ContainerHome::Durable,
                Residence::Memory => ContainerHome::Memory,
            },
            timeout_ms: millis(self.timeout),
            resolution_ms: millis(self.resolution),
            max_lifetime_ms: self.max_lifetime.map(millis),
            implicit_sweeps: self.implicit_sweeps,
        }
    }

    pub(super) fn of(container: &ContainerEntry) -> Self {
        Self {
            timeout: container.policy.timeout,
            resolution: container.policy.resolution,
            max_lifetime: container.policy.max_lifetime,
            implicit_sweeps: container.implicit_sweeps,
            residence: match container.id().home() {
                ContainerHome::Durable => Residence::File,
                ContainerHome::Memory => Residence::Memory,
            },
        }
    }
}
