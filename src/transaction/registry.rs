//! The registered containers, as transactions see them.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::ExpiryPolicy;
use crate::storage::record::{ContainerRecord, SessionRow};
use crate::storage::{ContainerHome, ContainerId, ContainerRef, SessionRef, StoreSettings};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// A container as transactions see it.
#[derive(Debug)]
pub(crate) struct ContainerEntry {
    pub(crate) container_ref: ContainerRef,
    pub(crate) policy: ExpiryPolicy,
    /// Whether the store's sweeper sweeps this container.
    pub(crate) implicit_sweeps: bool,
    /// Its other names.
    pub(crate) aliases: Box<[Arc<str>]>,
}

impl ContainerEntry {
    /// The sessions that an interrupted move of the unnamed container into memory left in the file. Nothing finds them
    /// any more. (What it leaves in memory is reclaimed like the rows of an unregistered container.)
    pub(crate) fn left_in_file(&self) -> Option<Self> {
        let id = self.id();
        (id.is_unnamed() && id.is_in_memory()).then(|| Self {
            container_ref: ContainerRef {
                id: ContainerId::UNNAMED,
                name: self.container_ref.name.clone(),
            },
            policy: self.policy,
            implicit_sweeps: self.implicit_sweeps,
            aliases: Box::default(),
        })
    }

    /// The container that a record describes.
    fn of(record: &ContainerRecord, unconfirmed: Option<Duration>) -> Self {
        Self {
            container_ref: ContainerRef {
                id: ContainerId(record.id),
                name: Arc::from(record.name.as_str()),
            },
            policy: ExpiryPolicy {
                timeout: Duration::from_millis(record.timeout_ms),
                resolution: Duration::from_millis(record.resolution_ms),
                max_lifetime: record.max_lifetime_ms.map(Duration::from_millis),
                unconfirmed,
            },
            implicit_sweeps: record.implicit_sweeps,
            aliases: record.aliases.iter().map(|it| Arc::from(&**it)).collect(),
        }
    }

    pub(crate) fn id(&self) -> ContainerId {
        self.container_ref.id
    }

    /// The session that this row describes, of a client in this container.
    pub(crate) fn session_ref(&self, client: ClientKey, row: &SessionRow) -> SessionRef {
        SessionRef {
            container: self.id(),
            client,
            incarnation: row.incarnation,
        }
    }
}

/// Whether containers can live in the visitor's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieSupport {
    Present,
    Missing,
}

impl CookieSupport {
    pub(crate) fn of_this_build() -> Self {
        match cfg!(feature = "cookie-containers") {
            true => Self::Present,
            false => Self::Missing,
        }
    }

    /// Checks a container that is to be registered.
    pub(crate) fn check_home(self, home: ContainerHome, name: &str) -> Result<()> {
        if self == Self::Present || home != ContainerHome::Cookie {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            "the container lives in the visitor's cookie: enable cloakroom's feature cookie-containers",
        )
        .in_container(name))
    }

    /// Checks the containers of a store.
    fn check(self, settings: &StoreSettings) -> Result<()> {
        let mut records = settings.containers.values();
        records.try_for_each(|record| self.check_home(ContainerId(record.id).home(), &record.name))
    }
}

/// The index of a container in its registry. A transaction keeps the registry of its handles and refers to containers
/// by index: threads that count references to one shared container slow each other down.
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

/// How a handle refers to its container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContainerLink {
    at: ContainerIndex,
    /// The number of the registry that `at` is an index of.
    registry: u64,
    found_by: FoundBy,
}

/// How a handle found its container. With this, it finds the container again in another registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoundBy {
    Package,
    Container,
}

/// The registered containers.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The number of registrations so far, as the storage counts them.
    pub(crate) number: u64,
    /// The resolution of the unnamed container.
    slack: Duration,
    /// The unnamed one first.
    containers: Vec<Arc<ContainerEntry>>,
    /// Whether any of them lives in the visitor's cookie.
    has_cookie_containers: bool,
    /// All others, and the aliases of all.
    named: HashMap<Arc<str>, ContainerIndex>,
}

impl Registry {
    /// The containers of these settings. `unconfirmed` is the time that sessions last whose id has not come back.
    pub(crate) fn of(settings: &StoreSettings, unconfirmed: Option<Duration>) -> Result<Self> {
        let records = settings.containers.values();
        let containers = records.map(|record| ContainerEntry::of(record, unconfirmed));
        CookieSupport::of_this_build().check(settings)?;
        Self::new(settings.registry, containers)
    }

    /// `containers` holds the unnamed container.
    pub(crate) fn new(
        number: u64,
        containers: impl IntoIterator<Item = ContainerEntry>,
    ) -> Result<Self> {
        let mut containers: Vec<_> = containers.into_iter().map(Arc::new).collect();
        containers.sort_by(|a, b| a.container_ref.name.cmp(&b.container_ref.name));
        let unnamed = containers
            .first()
            .filter(|container| container.container_ref.name.is_empty());
        let Some(slack) = unnamed.map(|container| container.policy.resolution) else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the store lacks its unnamed container",
            ));
        };
        let places = || (0..).map(ContainerIndex).zip(&containers);
        let aliases = places().flat_map(|(at, it)| it.aliases.iter().map(move |name| (name, at)));
        let own = places().map(|(at, it)| (&it.container_ref.name, at));
        let named = aliases.chain(own.skip(1));
        let named = named.map(|(name, at)| (name.clone(), at)).collect();
        let is_in_cookie = |container: &Arc<ContainerEntry>| container.id().is_in_cookie();
        let has_cookie_containers = containers.iter().any(is_in_cookie);
        Ok(Self {
            number,
            slack,
            has_cookie_containers,
            named,
            containers,
        })
    }

    /// Whether any container lives in the visitor's cookie.
    pub(crate) fn has_cookie_containers(&self) -> bool {
        self.has_cookie_containers
    }

    /// How far in the future a tombstone may lie. Tombstones belong to no container.
    pub(crate) fn slack(&self) -> Duration {
        self.slack
    }

    pub(crate) fn unnamed(&self) -> &Arc<ContainerEntry> {
        self.container(ContainerIndex::UNNAMED)
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

    /// The container of a package: the one with its name, or else the unnamed one (C1.2).
    pub(crate) fn for_package(&self, package: &str) -> ContainerIndex {
        self.named
            .get(package)
            .copied()
            .unwrap_or(ContainerIndex(0))
    }

    /// The container of a package, for its handle.
    pub(crate) fn link_for_package(&self, package: &str) -> ContainerLink {
        ContainerLink {
            at: self.for_package(package),
            registry: self.number,
            found_by: FoundBy::Package,
        }
    }

    /// The container of this name, for its handle.
    pub(crate) fn link(&self, name: &str) -> Option<ContainerLink> {
        let at = self.find(name)?;
        Some(ContainerLink {
            at,
            registry: self.number,
            found_by: FoundBy::Container,
        })
    }

    /// The container of a handle that this registry made.
    pub(crate) fn linked(&self, link: ContainerLink) -> Option<ContainerIndex> {
        (link.registry == self.number).then_some(link.at)
    }

    /// The container of a package's handle that the registry `former` made. `None` if the container of a container's
    /// handle is not registered any more.
    pub(crate) fn find_again(
        &self,
        link: ContainerLink,
        package: &str,
        former: &Self,
    ) -> Option<ContainerIndex> {
        match link.found_by {
            FoundBy::Package => Some(self.for_package(package)),
            FoundBy::Container => self.find_same(former.container(former.linked(link)?)),
        }
    }

    /// The index in this registry of a container of another registry. A new container with the same name is not the
    /// same.
    pub(crate) fn find_same(&self, container: &ContainerEntry) -> Option<ContainerIndex> {
        let at = self.find(&container.container_ref.name)?;
        (self.container(at).id() == container.id()).then_some(at)
    }

    /// A container of this registry.
    #[allow(clippy::indexing_slicing, reason = "this registry gave its place")]
    pub(crate) fn container(&self, at: ContainerIndex) -> &Arc<ContainerEntry> {
        &self.containers[at.0]
    }

    pub(crate) fn containers(&self) -> &[Arc<ContainerEntry>] {
        &self.containers
    }

    /// The indices of all containers.
    pub(crate) fn indices(&self) -> impl Iterator<Item = ContainerIndex> + use<> {
        (0..self.containers.len()).map(ContainerIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    // C8.6
    #[test]
    fn a_build_without_cookies_for_containers_opens_no_store_that_has_one() {
        let record = |name: &str, id: ContainerId| ContainerRecord {
            name: name.into(),
            id: id.0,
            timeout_ms: 1,
            resolution_ms: 1,
            max_lifetime_ms: None,
            implicit_sweeps: true,
            aliases: Vec::new(),
        };
        let settings = |home| StoreSettings {
            identity: [0; 16],
            version: 1,
            registry: 1,
            containers: BTreeMap::from([
                (String::new(), record("", ContainerId::UNNAMED)),
                ("seen".into(), record("seen", ContainerId::new(1, home))),
            ]),
            next_container: 2,
            secrets: Vec::new(),
            issuing: 0,
            is_unfinished: false,
        };
        let in_cookie = settings(ContainerHome::Cookie);
        let error = CookieSupport::Missing.check(&in_cookie).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.container(), Some("seen"));
        CookieSupport::Present.check(&in_cookie).unwrap();
        let durable = settings(ContainerHome::Durable);
        CookieSupport::Missing.check(&durable).unwrap();
    }
}
