//! One session by its key, for administration: its times and sizes, and its values if they are asked for (C9.2).

use super::Store;
use super::sessions::newest;
use crate::block_on::block_on;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{Snapshot, no_such_container};
use crate::transaction::{ContainerEntry, Env, ShownSession};
use crate::value::Value;
use chrono::{DateTime, Utc};
use std::time::Duration;

/// The session of a client key in all containers, without its values: [`Store::entry`].
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let entry = store.entry(id.key())?.unwrap();
/// let package = &entry.parts[0].packages[0];
/// assert_eq!((&*package.name, &*package.keys[0].name), ("cart", "tea"));
/// // The values only on asking:
/// assert_eq!(store.entry_values(id.key(), "", "cart")?.len(), 1);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionEntry {
    /// The key of the client.
    pub client: ClientKey,
    /// Its part in each container that has one, in the order of the containers' names.
    pub parts: Vec<EntryPart>,
    /// Where the session is now, if its id was renewed a moment ago.
    pub renewed_as: Option<ClientKey>,
}

/// The part of a [`SessionEntry`] in one container.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.set_owner(Some("ann")))?;
/// let entry = store.entry(id.key())?.unwrap();
/// assert_eq!(entry.parts[0].owner.as_deref(), Some("ann"));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryPart {
    /// The name of the container; `""` is the unnamed one.
    pub container: String,
    /// When it was created there. `None` if its record is damaged.
    pub created: Option<DateTime<Utc>>,
    /// The last access that is recorded. `None` if its record is damaged.
    pub last_access: Option<DateTime<Utc>>,
    /// When it expires if it is not used any more. `None` if it does not, or if its record is damaged.
    pub expires: Option<DateTime<Utc>>,
    /// Whether it has expired, and is not swept yet.
    pub is_expired: bool,
    /// Its own timeout, if it has one. Zero: none of its own, it never expires.
    pub timeout: Option<Duration>,
    /// Its owner.
    pub owner: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// When its owner last logged in by [`log_in`](crate::Session::log_in).
    pub authenticated_at: Option<DateTime<Utc>>,
    /// Its packages, sorted by name.
    pub packages: Vec<EntryPackage>,
    /// The damage to its record.
    pub error: Option<Error>,
}

/// A package in an [`EntryPart`], without its values.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let package = store.entry(id.key())?.unwrap().parts.remove(0).packages.remove(0);
/// assert!(package.bytes > 0 && package.error.is_none());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EntryPackage {
    /// The package id.
    pub name: String,
    /// About the number of bytes that it takes.
    pub bytes: u64,
    /// Its keys, sorted.
    pub keys: Vec<EntryKey>,
    /// The damage to it.
    pub error: Option<Error>,
}

/// A key in an [`EntryPackage`], without its value.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let key = &store.entry(id.key())?.unwrap().parts[0].packages[0].keys[0];
/// assert_eq!((&*key.name, key.bytes), ("tea", 1));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryKey {
    /// The key.
    pub name: String,
    /// The number of bytes of its value.
    pub bytes: u64,
}

impl Store {
    /// Returns the session of a client key, expired or not, with its packages and keys and their sizes, but without
    /// values. `None` if there is none. Counts as no access, and waits for no turn. Blocks until it is read.
    ///
    /// A damaged record is shown with its error, and does not hide the rest.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn entry(&self, client: ClientKey) -> Result<Option<SessionEntry>> {
        block_on(entry(&self.inner.env, client))
    }

    /// [`entry`](Self::entry) as a future.
    ///
    /// # Errors
    ///
    /// As for [`entry`](Self::entry).
    pub fn entry_async(
        &self,
        client: ClientKey,
    ) -> impl Future<Output = Result<Option<SessionEntry>>> + Send + use<> {
        let store = self.clone();
        async move { entry(&store.inner.env, client).await }
    }

    /// Returns the values of a package of a session by their keys, sorted. Empty if there is no such package. Counts as
    /// no access, and waits for no turn. Blocks until they are read.
    ///
    /// Values are the visitor's data. Each call is logged through [`tracing`], with the key of the client, the
    /// container and the package, but without values.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); [`Corrupt`](ErrorKind::Corrupt) if the package is damaged; a
    /// failure of the storage.
    pub fn entry_values(
        &self,
        client: ClientKey,
        container: &str,
        package: &str,
    ) -> Result<Vec<(String, Value)>> {
        block_on(values(&self.inner.env, client, container, package))
    }

    /// [`entry_values`](Self::entry_values) as a future.
    ///
    /// # Errors
    ///
    /// As for [`entry_values`](Self::entry_values).
    pub fn entry_values_async(
        &self,
        client: ClientKey,
        container: &str,
        package: &str,
    ) -> impl Future<Output = Result<Vec<(String, Value)>>> + Send + use<> {
        let store = self.clone();
        let (container, package) = (container.to_owned(), package.to_owned());
        async move { values(&store.inner.env, client, &container, &package).await }
    }
}

async fn entry(env: &Env, client: ClientKey) -> Result<Option<SessionEntry>> {
    let snapshot = newest(env).await?;
    snapshot.load(&[client]).await?;
    let registry = env.registry.load_full();
    let now = env.clock.timestamp();
    let mut entry = SessionEntry {
        client,
        parts: Vec::new(),
        renewed_as: None,
    };
    let mut rows = Vec::new();
    for container in registry.containers() {
        match snapshot.session(container.id(), client) {
            Ok(Some(row)) => match row.optional.moved {
                Some(moved) => entry.renewed_as = Some(moved.client),
                None => rows.push((container, row)),
            },
            Ok(None) => {}
            Err(error) => {
                let mut part = EntryPart::new(container);
                part.error = Some(of_damage(error)?);
                entry.parts.push(part);
            }
        }
    }
    let shown = rows.iter().map(|(container, row)| ShownSession {
        container,
        client,
        row,
        keeping: None,
    });
    let times = env.times_of(&shown.collect::<Vec<_>>(), now).await;
    for ((container, row), times) in rows.iter().zip(times) {
        let mut part = EntryPart::new(container);
        part.fill(row, (&times?, now), container);
        for package in row.packages.iter() {
            let row = snapshot.package(container.id(), client, package);
            part.packages.push(EntryPackage::of(package, row)?);
        }
        entry.parts.push(part);
    }
    entry
        .parts
        .sort_by(|one, other| one.container.cmp(&other.container));
    let is_there = !entry.parts.is_empty() || entry.renewed_as.is_some();
    Ok(is_there.then_some(entry))
}

/// The error, if it is damage to a record. Otherwise the storage has failed.
fn of_damage(error: Error) -> Result<Error> {
    match error.kind() {
        ErrorKind::Corrupt => Ok(error),
        _ => Err(error),
    }
}

impl EntryPart {
    fn new(container: &ContainerEntry) -> Self {
        Self {
            container: container.container_ref.name.to_string(),
            created: None,
            last_access: None,
            expires: None,
            is_expired: false,
            timeout: None,
            owner: None,
            label: None,
            authenticated_at: None,
            packages: Vec::new(),
            error: None,
        }
    }

    fn fill(&mut self, row: &SessionRow, (times, now): (&Times, Timestamp), of: &ContainerEntry) {
        let over = of.policy.over_at(times);
        self.created = Some(times.created.to_datetime());
        self.last_access = Some(times.last_access.to_datetime());
        self.expires = (over < Timestamp(i64::MAX)).then(|| over.to_datetime());
        self.is_expired = of.policy.is_expired(times, now);
        self.timeout = row.timeout;
        self.owner = row.owner.as_deref().map(str::to_owned);
        self.label = row.optional.label.as_deref().map(str::to_owned);
        self.authenticated_at = row.optional.authenticated_at.map(Timestamp::to_datetime);
    }
}

impl EntryPackage {
    fn of(name: &str, row: Result<Option<PackageRow>>) -> Result<Self> {
        let mut package = Self {
            name: name.to_owned(),
            bytes: 0,
            keys: Vec::new(),
            error: None,
        };
        match row {
            Ok(Some(row)) => {
                package.bytes = row.memory_size() as u64;
                let keys = row.iter().map(|(key, value)| EntryKey {
                    name: key.to_owned(),
                    bytes: value.len() as u64,
                });
                package.keys = keys.collect();
            }
            Ok(None) => package.error = Some(crate::storage::merge::lost_package()),
            Err(error) => package.error = Some(of_damage(error)?),
        }
        Ok(package)
    }
}

async fn values(
    env: &Env,
    client: ClientKey,
    container: &str,
    package: &str,
) -> Result<Vec<(String, Value)>> {
    let snapshot = newest(env).await?;
    let registry = env.registry.load_full();
    let entry = registry
        .get(container)
        .ok_or_else(|| no_such_container(container))?;
    tracing::info!(%client, container, package, "the values of a session were asked for");
    snapshot.load(&[client]).await?;
    read_values(&*snapshot, entry, client, package)
        .map_err(|error| error.in_container(container).in_package(package))
}

fn read_values(
    snapshot: &dyn Snapshot,
    container: &ContainerEntry,
    client: ClientKey,
    package: &str,
) -> Result<Vec<(String, Value)>> {
    let session = snapshot.session(container.id(), client)?;
    if session.is_none_or(|session| !session.has(package)) {
        return Ok(Vec::new());
    }
    let row = snapshot.package(container.id(), client, package)?;
    let row = row.ok_or_else(crate::storage::merge::lost_package)?;
    let values = row
        .iter()
        .map(|(key, value)| (key.to_owned(), Value::read(&value)));
    Ok(values.collect())
}
