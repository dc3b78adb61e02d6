#![doc = include_str!("../README.md")]

mod migrating;

pub use migrating::MigratingStore;

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_web::cookie::time;
use chrono::{DateTime, TimeDelta, Utc};
use cloakroom::{ClientId, ContainerSettings, PkgData, Result, SessionData, Store, Txn};
use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The name of the container and of the package, unless another one is given.
const CONTAINER: &str = "actix-session";
/// For how long [`CloakroomSessionStore::open`] remembers what was deleted.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What a session holds: each value as JSON text.
pub(crate) type State = HashMap<String, String>;

/// A session store of actix-session in a store of cloakroom.
///
/// A session key is a client id, and each entry of the state is a key of one package. Clones are the same store, so open it
/// once and give each worker a clone.
///
/// ```
/// use actix_session::SessionMiddleware;
/// use actix_session_cloakroom::CloakroomSessionStore;
/// use actix_web::{App, cookie::Key};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// let store = CloakroomSessionStore::open(path)?;
/// let secret = Key::generate(); // keep it somewhere: cookies are signed with it
/// let app = || App::new().wrap(SessionMiddleware::new(store.clone(), secret.clone()));
/// # drop(app());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CloakroomSessionStore {
    store: Store,
    /// Both the container and the package in it.
    container: Arc<str>,
    keys: KnownKeys,
}

/// Which session keys lead to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownKeys {
    /// Those that the store issued and signed.
    Issued,
    /// Also those of another store, which the middleware's cookie alone protects.
    Moved,
}

impl fmt::Debug for CloakroomSessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloakroomSessionStore")
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl CloakroomSessionStore {
    /// Opens the store in the file at `path`, and creates it if there is no file. It remembers for an hour which
    /// sessions were deleted, so that a request that takes less does not bring one back.
    ///
    /// This blocks while the file is opened, so call it before the server runs.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let store = Store::builder().tombstone_lifetime(REMEMBERED);
        Self::new(store.open(path)?)
    }

    /// Keeps sessions in the container `actix-session` of a store that is open.
    ///
    /// The store remembers deleted sessions for its [`tombstone_lifetime`](cloakroom::StoreBuilder::tombstone_lifetime).
    /// That is ten seconds unless it is set. It should be longer than any request takes.
    ///
    /// # Errors
    ///
    /// As for [`in_container`](Self::in_container).
    pub fn new(store: Store) -> Result<Self> {
        Self::in_container(store, CONTAINER)
    }

    /// Keeps sessions in another container, for applications with several middlewares of actix-session.
    ///
    /// If the store has no such container, it is registered with the timeout zero, as each session has an end of its own.
    /// One that is there keeps its settings. This blocks until that is stored.
    ///
    /// # Errors
    ///
    /// As for [`Store::register`].
    pub fn in_container(store: Store, name: &str) -> Result<Self> {
        if store.container(name).is_err() {
            store.register(name, ContainerSettings::new().timeout(Duration::ZERO))?;
        }
        Ok(Self {
            store,
            container: Arc::from(name),
            keys: KnownKeys::Issued,
        })
    }

    /// Also knows the keys of sessions that a [`MigratingStore`] moved here: for the time when the old store is gone and
    /// its keys are still in cookies. They are not signed by this store, but the middleware signs its cookies.
    ///
    /// ```
    /// use actix_session_cloakroom::CloakroomSessionStore;
    /// use cloakroom::Store;
    ///
    /// let store = CloakroomSessionStore::new(Store::in_memory()?)?.with_moved_keys();
    /// # drop(store);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn with_moved_keys(mut self) -> Self {
        self.keys = KnownKeys::Moved;
        self
    }

    /// Returns the store that the sessions are in.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// When something ends that lives so long from now on.
    fn end(&self, ttl: &time::Duration) -> DateTime<Utc> {
        let millis = i64::try_from(ttl.whole_milliseconds()).unwrap_or(i64::MAX);
        let delta = TimeDelta::try_milliseconds(millis);
        let end = delta.and_then(|delta| self.store.now().checked_add_signed(delta));
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    async fn held(&self, txn: &Txn, id: &ClientId) -> Result<(SessionData, PkgData)> {
        let container = txn.container(&self.container)?;
        let held = container.session_data_async(id).await?;
        let package = held.pkg(&self.container);
        Ok((held, package))
    }

    /// The id that a key may lead to a session by.
    fn client(&self, key: &SessionKey) -> Option<ClientId> {
        let (ids, text) = (self.store.client_ids(), key.as_ref());
        ids.verify(text).or_else(|| match self.keys {
            KnownKeys::Issued => None,
            KnownKeys::Moved => ids.adopt(text.as_bytes()).ok(),
        })
    }

    /// Makes a session hold exactly this state. Returns its id, which is another one if the session has expired. A
    /// conflict if it was deleted a moment ago.
    async fn put(&self, id: &ClientId, state: &State, ttl: &time::Duration) -> Result<ClientId> {
        let put = self.store.transact_async(move |txn| async move {
            let (held, package) = self.held(&txn, id).await?;
            // Keys that are the same are not written: the session must be there for them.
            held.exists()?;
            package.replace(state)?;
            held.session().set_expires_at(Some(self.end(ttl)))?;
            Ok::<_, cloakroom::Error>(held.session().client_id())
        });
        // A commit that sets an end leaves a session.
        Ok(put.await?.unwrap_or_else(|| id.clone()))
    }

    async fn read(&self, id: &ClientId) -> Result<Option<State>> {
        let txn = self.store.begin_async().await?;
        let (held, package) = self.held(&txn, id).await?;
        let state = if held.exists()? {
            Some(package.entries()?.into_iter().collect())
        } else {
            None
        };
        // Where the session has a timeout too, this records the access.
        txn.commit_async().await?;
        Ok(state)
    }
}

fn key_of(id: &ClientId) -> anyhow::Result<SessionKey> {
    Ok(id.as_str().to_owned().try_into()?)
}

impl SessionStore for CloakroomSessionStore {
    /// What cannot be read is [`LoadError::Other`], as the middleware replaces a session by an empty one after
    /// [`LoadError::Deserialization`].
    async fn load(&self, key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = self.client(key) else {
            return Ok(None);
        };
        self.read(&id)
            .await
            .map_err(|error| LoadError::Other(error.into()))
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        let id = self.store.client_ids().issue();
        let saved = self.put(&id, &state, ttl).await;
        let key = saved.map_err(anyhow::Error::new).and_then(|id| key_of(&id));
        key.map_err(SaveError::Other)
    }

    /// Writes what differs from what is stored. A session that has expired since it was loaded is saved under a new key;
    /// one that was deleted since is an error.
    async fn update(
        &self,
        key: SessionKey,
        state: State,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        let id = self.client(&key);
        let id = id.unwrap_or_else(|| self.store.client_ids().issue());
        let updated = self.put(&id, &state, ttl).await;
        let key = updated
            .map_err(anyhow::Error::new)
            .and_then(|id| key_of(&id));
        key.map_err(UpdateError::Other)
    }

    async fn update_ttl(&self, key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        let Some(id) = &self.client(key) else {
            return Ok(());
        };
        let updated: Result<()> = self
            .store
            .transact_async(move |txn| async move {
                let (held, _) = self.held(&txn, id).await?;
                if held.exists()? {
                    held.session().set_expires_at(Some(self.end(ttl)))?;
                }
                Ok(())
            })
            .await;
        Ok(updated?)
    }

    /// Ends the session, with all that other packages have in it.
    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        let Some(id) = &self.client(key) else {
            return Ok(());
        };
        let deleted: Result<()> = self
            .store
            .transact_async(move |txn| async move { txn.session_async(id).await?.destroy() })
            .await;
        Ok(deleted?)
    }
}
