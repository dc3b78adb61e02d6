#![doc = include_str!("../README.md")]

mod core;
mod migrating;
mod records;

pub use migrating::MigratingStore;

use cloakroom::{ContainerSettings, Store};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of the container and of the package, unless another one is given.
const CONTAINER: &str = "tower-sessions";
/// For how long [`CloakroomStore::open`] remembers what was deleted.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A session store of tower-sessions in a store of cloakroom.
///
/// A record is a session of the store, and each of its values is a key of one package. Clones are the same store.
///
/// ```
/// use tower_sessions::SessionManagerLayer;
/// use tower_sessions_cloakroom_store::CloakroomStore;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// let layer = SessionManagerLayer::new(CloakroomStore::open(path)?);
/// # drop(layer);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CloakroomStore {
    pub(crate) store: Store,
    /// Both the container and the package in it.
    pub(crate) container: Arc<str>,
}

impl fmt::Debug for CloakroomStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloakroomStore")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl CloakroomStore {
    /// Opens the store in the file at `path`, and creates it if there is no file. It remembers for an hour which
    /// records were deleted, so that a request that takes less does not bring one back.
    ///
    /// This blocks while the file is opened, so call it before the server runs.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open(path: impl AsRef<Path>) -> cloakroom::Result<Self> {
        let store = Store::builder().tombstone_lifetime(REMEMBERED);
        Self::new(store.open(path)?)
    }

    /// Keeps records in the container `tower-sessions` of a store that is open.
    ///
    /// The store remembers deleted records for its [`tombstone_lifetime`](cloakroom::StoreBuilder::tombstone_lifetime).
    /// That is ten seconds unless it is set. It should be longer than any request takes.
    ///
    /// # Errors
    ///
    /// As for [`in_container`](Self::in_container).
    pub fn new(store: Store) -> cloakroom::Result<Self> {
        Self::in_container(store, CONTAINER)
    }

    /// Keeps records in another container, for applications with several layers of tower-sessions.
    ///
    /// If the store has no such container, it is registered with the timeout zero, as each record has an end of its own.
    /// One that is there keeps its settings. This blocks until that is stored.
    ///
    /// ```
    /// use cloakroom::Store;
    /// use tower_sessions_cloakroom_store::CloakroomStore;
    ///
    /// let store = Store::in_memory()?;
    /// let visitors = CloakroomStore::in_container(store.clone(), "visitors")?;
    /// let staff = CloakroomStore::in_container(store, "staff")?;
    /// # drop((visitors, staff));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Store::register`].
    pub fn in_container(store: Store, name: &str) -> cloakroom::Result<Self> {
        if store.container(name).is_err() {
            store.register(name, ContainerSettings::new().timeout(Duration::ZERO))?;
        }
        Ok(Self {
            store,
            container: Arc::from(name),
        })
    }

    /// Returns the store that the records are in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}
