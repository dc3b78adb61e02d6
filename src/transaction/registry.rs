//! The registered containers, as transactions see them.

use crate::error::{Error, ErrorKind, Result};
use crate::expiry::ExpiryPolicy;
use crate::storage::{ContainerId, ContainerRef};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

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
    /// The resolution of the unnamed container.
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

    /// How far ahead the tombstones may lie, which belong to no container.
    pub(crate) fn slack(&self) -> Duration {
        self.slack
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
