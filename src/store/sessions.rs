//! The sessions of a store by their keys: listed and ended without their ids (C1.6, C8.2).

use super::Store;
use crate::block_on::{block_on, is_task};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::steps::Counted;
use crate::storage::record::SessionRow;
use crate::storage::{ContainerId, Snapshot};
use crate::throttle::Throttle;
use crate::transaction::{ContainerEntry, Env, ShownSession};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// How many sessions one commit ends.
const ENDED: usize = 64;
/// How many sessions a page has at most.
const LISTED: usize = 1000;
/// How many sessions one step reads.
const SCANNED: usize = 256;
/// How often an owner's sessions are ended. If sessions remain after that, they log in faster than they are ended.
const PASSES: usize = 16;

/// The data of a session without its id: for a list of devices, or for administration. Its
/// [`client`](Self::client) is a key, by which the session can be [ended](Store::end). It gives no access to it.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| {
///     let session = txn.session(&id)?;
///     session.set_label("Firefox on Linux")?;
///     session.log_in("ann")
/// })?;
///
/// let devices = store.sessions_of("ann")?;
/// assert_eq!(devices[0].label.as_deref(), Some("Firefox on Linux"));
/// assert_eq!(store.end(devices[0].client)?, 1);
/// assert!(store.sessions_of("ann")?.is_empty());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The key of its client.
    pub client: ClientKey,
    /// The names of the containers that it is in, sorted. The unnamed container is `""`.
    pub containers: Vec<String>,
    /// When it was created. `None` if its record is damaged.
    pub created: Option<DateTime<Utc>>,
    /// The last access that is recorded, to the resolution of its container. `None` if its record is damaged.
    pub last_access: Option<DateTime<Utc>>,
    /// When it expires if it is not used any more. `None` if it does not, or if its record is damaged.
    pub expires: Option<DateTime<Utc>>,
    /// Its owner.
    pub owner: Option<String>,
    /// Its label.
    pub label: Option<String>,
    /// When its owner last logged in by [`log_in`](crate::Session::log_in).
    pub authenticated_at: Option<DateTime<Utc>>,
}

/// A page of the sessions of an owner, from [`Store::owner_sessions`].
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// for _ in 0..3 {
///     let id = store.client_ids().issue();
///     store.transact(|txn| txn.session(&id)?.set_owner(Some("ann")))?;
/// }
/// let first = store.owner_sessions("ann", None, 2)?;
/// let second = store.owner_sessions("ann", first.next, 2)?;
/// assert_eq!((first.sessions.len(), second.sessions.len()), (2, 1));
/// assert!(second.next.is_none());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OwnerSessions {
    /// The sessions, in the order of their keys.
    pub sessions: Vec<SessionInfo>,
    /// Where the next page goes on: after this key. `None` after the last session.
    pub next: Option<ClientKey>,
}

/// A session while its containers are gone through.
struct InfoDraft {
    info: SessionInfo,
    /// The latest of its containers' times; `i64::MAX` is never.
    over: Timestamp,
}

impl InfoDraft {
    fn new(client: ClientKey) -> Self {
        let info = SessionInfo {
            client,
            containers: Vec::new(),
            created: None,
            last_access: None,
            expires: None,
            owner: None,
            label: None,
            authenticated_at: None,
        };
        let over = Timestamp(i64::MIN);
        Self { info, over }
    }

    /// Adds the data of a container, if the session is live there.
    fn add(&mut self, container: &ContainerEntry, row: SessionRow, times: Times, now: Timestamp) {
        // Under an id that was renewed there is no session of its own.
        if container.policy.is_expired(&times, now) || row.optional.moved.is_some() {
            return;
        }
        let info = &mut self.info;
        info.containers
            .push(container.container_ref.name.to_string());
        let created = times.created.to_datetime();
        info.created = Some(info.created.map_or(created, |other| other.min(created)));
        info.last_access = info.last_access.max(Some(times.last_access.to_datetime()));
        self.over = self.over.max(container.policy.over_at(&times));
        let text = |text: Arc<str>| text.to_string();
        info.owner = info.owner.take().or(row.owner.map(text));
        info.label = info.label.take().or(row.optional.label.clone().map(text));
        let authenticated_at = row.optional.authenticated_at.map(Timestamp::to_datetime);
        info.authenticated_at = info.authenticated_at.max(authenticated_at);
    }

    /// Names a container in which its record is damaged, as the index says that it is there.
    fn note_damage(&mut self, container: &ContainerEntry, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(error);
        }
        let name = container.container_ref.name.to_string();
        self.info.containers.push(name.clone());
        let error = error.in_container(name);
        static DAMAGED: Throttle = Throttle::new(1);
        if let Some(left_out) = DAMAGED.pass() {
            tracing::warn!(%error, left_out, "a session in the list of an owner is damaged");
        }
        Ok(())
    }

    fn finish(mut self) -> SessionInfo {
        let is_known = self.info.created.is_some() && self.over < Timestamp(i64::MAX);
        self.info.expires = is_known.then(|| self.over.to_datetime());
        self.info.containers.sort_unstable();
        self.info
    }
}

impl Store {
    /// Returns the live sessions whose owner was set to `owner` by [`log_in`](crate::Session::log_in) or
    /// [`set_owner`](crate::Session::set_owner), the newest access first. Does not count as a read.
    /// Blocks until the list is read.
    ///
    /// A session with a damaged record is listed too, without its times, although it may have expired. Code that ends
    /// all sessions of a user must learn of sessions that it cannot end. [`check`](Self::check) reports the damage.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if a part of the file cannot be read that may list a session of this owner;
    /// another failure of the storage.
    pub fn sessions_of(&self, owner: &str) -> Result<Vec<SessionInfo>> {
        block_on(sessions_of(&self.inner.env, owner))
    }

    /// [`sessions_of`](Self::sessions_of) as a future.
    ///
    /// # Errors
    ///
    /// As for [`sessions_of`](Self::sessions_of).
    pub fn sessions_of_async(
        &self,
        owner: &str,
    ) -> impl Future<Output = Result<Vec<SessionInfo>>> + Send + use<> {
        let (store, owner) = (self.clone(), owner.to_owned());
        async move { sessions_of(&store.inner.env, &owner).await }
    }

    /// Returns at most `limit` of the sessions that [`sessions_of`](Self::sessions_of) lists, in the order of their keys,
    /// beginning after the key `after`: for owners with very many sessions. A page has no more than 1,000 sessions. A
    /// call costs in proportion to the page, and to the number of containers. Blocks until it is read.
    ///
    /// # Errors
    ///
    /// As for [`sessions_of`](Self::sessions_of).
    pub fn owner_sessions(
        &self,
        owner: &str,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<OwnerSessions> {
        block_on(page_of(&self.inner.env, owner, after, limit))
    }

    /// [`owner_sessions`](Self::owner_sessions) as a future. The sessions are read on a thread of the store.
    ///
    /// # Errors
    ///
    /// As for [`owner_sessions`](Self::owner_sessions).
    pub fn owner_sessions_async(
        &self,
        owner: &str,
        after: Option<ClientKey>,
        limit: usize,
    ) -> impl Future<Output = Result<OwnerSessions>> + Send + use<> {
        let owner = owner.to_owned();
        let env = &self.inner.env;
        env.read_in_background(move |env| block_on(page_of(env, &owner, after, limit)))
    }

    /// Returns information about the session of a client key. `None` if there is none, or if it has expired. Does not
    /// count as a read or as an access. Blocks until it is read.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if its record is damaged; another failure of the storage.
    pub fn session_info(&self, client: ClientKey) -> Result<Option<SessionInfo>> {
        block_on(session_info(&self.inner.env, client))
    }

    /// [`session_info`](Self::session_info) as a future.
    ///
    /// # Errors
    ///
    /// As for [`session_info`](Self::session_info).
    pub fn session_info_async(
        &self,
        client: ClientKey,
    ) -> impl Future<Output = Result<Option<SessionInfo>>> + Send + use<> {
        let store = self.clone();
        async move { session_info(&store.inner.env, client).await }
    }

    /// Ends the session of a client key in all containers, and returns how many ended: one, or none if there is none.
    /// When this returns, that is durable. A later request with its id finds no session, and for a while
    /// ([`tombstone_lifetime`](crate::StoreBuilder::tombstone_lifetime)) creates none.
    ///
    /// This blocks the thread, as [`transact`](Self::transact) does.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if its record is damaged; otherwise as for [`transact`](Self::transact).
    pub fn end(&self, client: ClientKey) -> Result<u64> {
        self.wait(self.end_async(client))
    }

    /// [`end`](Self::end) as a future.
    ///
    /// # Errors
    ///
    /// As for [`end`](Self::end).
    pub fn end_async(&self, client: ClientKey) -> impl Future<Output = Result<u64>> + Send + use<> {
        let store = self.clone();
        async move {
            let mut ending = Ending::default();
            ending.end(&store, vec![client], None).await?;
            ending.finish()
        }
    }

    /// Ends all sessions of an owner, in batches, and returns how many ended. When this returns, that is durable, and at
    /// one moment during the call the owner had no session. A session that is given another id meanwhile ends too.
    ///
    /// This blocks the thread, as [`transact`](Self::transact) does.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if some sessions are damaged: the others have ended, and
    /// [`Error::sessions_ended`] says how many. [`Conflict`](ErrorKind::Conflict) if the owner logs in faster than the sessions end. Otherwise as for
    /// [`transact`](Self::transact): the sessions of earlier batches have ended.
    pub fn end_all_of(&self, owner: &str) -> Result<u64> {
        self.wait(self.end_all_of_async(owner))
    }

    /// [`end_all_of`](Self::end_all_of) as a future.
    ///
    /// # Errors
    ///
    /// As for [`end_all_of`](Self::end_all_of).
    pub fn end_all_of_async(
        &self,
        owner: &str,
    ) -> impl Future<Output = Result<u64>> + Send + use<> {
        let store = self.clone();
        let owner = Arc::<str>::from(owner);
        async move {
            let mut ending = Ending::default();
            for pass in 0..=PASSES {
                let snapshot = newest(&store.inner.env).await?;
                let owned = snapshot.owned(&owner).await?;
                drop(snapshot);
                // The index still names the rows of containers that were unregistered, until they are removed.
                let registry = store.inner.env.registry.load_full();
                let containers = registry.containers().iter().map(|container| container.id());
                let containers: HashSet<_> = containers.collect();
                let owned = owned.into_iter().filter(|(id, _)| containers.contains(id));
                let clients: BTreeSet<_> = owned.map(|(_, client)| client).collect();
                let left = clients.difference(&ending.damaged).copied();
                let left: Vec<_> = left.collect();
                if left.is_empty() {
                    return ending.finish();
                }
                if pass == PASSES {
                    break;
                }
                for batch in left.chunks(ENDED) {
                    ending.end(&store, batch.to_vec(), Some(&owner)).await?;
                }
            }
            let why = "the owner logs in faster than the sessions end";
            Err(Error::new(ErrorKind::Conflict, why).after_ending(ending.sessions))
        }
    }

    /// Ends all sessions of the store, in batches, and returns how many ended. When this returns, that is durable.
    /// Sessions that are created or given another id during the call may not end.
    ///
    /// This blocks the thread, as [`transact`](Self::transact) does.
    ///
    /// # Errors
    ///
    /// As for [`end_all_of`](Self::end_all_of).
    pub fn end_all(&self) -> Result<u64> {
        self.wait(self.end_all_async())
    }

    /// [`end_all`](Self::end_all) as a future.
    ///
    /// # Errors
    ///
    /// As for [`end_all`](Self::end_all).
    pub fn end_all_async(&self) -> impl Future<Output = Result<u64>> + Send + use<> {
        let store = self.clone();
        async move {
            let mut ending = Ending::default();
            store.inner.env.refresh_settings().await?;
            let registry = store.inner.env.registry.load_full();
            for container in registry.containers() {
                let mut after = None;
                loop {
                    let snapshot = newest(&store.inner.env).await?;
                    let rows = snapshot.sessions(container.id(), after, SCANNED).await?;
                    drop(snapshot);
                    // Damaged ones are among them.
                    let clients: Vec<_> = rows.into_iter().map(|(client, _)| client).collect();
                    let Some(last) = clients.last() else { break };
                    after = Some(*last);
                    for batch in clients.chunks(ENDED) {
                        ending.end(&store, batch.to_vec(), None).await?;
                    }
                }
            }
            ending.finish()
        }
    }

    /// Waits for a future on this thread.
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        if is_task() {
            self.inner.env.warn_of_blocking();
        }
        block_on(future)
    }
}

async fn sessions_of(env: &Env, owner: &str) -> Result<Vec<SessionInfo>> {
    let snapshot = newest(env).await?;
    let owned = snapshot.owned(owner).await?;
    describe(env, &*snapshot, owner, owned).await
}

async fn page_of(
    env: &Env,
    owner: &str,
    after: Option<ClientKey>,
    limit: usize,
) -> Result<OwnerSessions> {
    let snapshot = newest(env).await?;
    let registry = env.registry.load_full();
    let containers = registry.containers().iter().map(|container| container.id());
    let containers: Vec<_> = containers.collect();
    let limit = limit.clamp(1, LISTED);
    // One more tells whether there is a next page.
    let owned = snapshot.owned_page(owner, &containers, after, limit + 1);
    let owned = owned.await?;
    let clients: BTreeSet<_> = owned.iter().map(|(_, client)| *client).collect();
    let next = clients.iter().nth(limit - 1).copied();
    let next = next.filter(|last| clients.last() != Some(last));
    let owned = owned.into_iter();
    let owned = owned.filter(|(_, client)| next.is_none_or(|last| *client <= last));
    let owned = owned.collect();
    let mut sessions = describe(env, &*snapshot, owner, owned).await?;
    sessions.sort_by_key(|info| info.client);
    Ok(OwnerSessions { sessions, next })
}

/// The live sessions of an owner among those that its list names.
async fn describe(
    env: &Env,
    snapshot: &dyn Snapshot,
    owner: &str,
    owned: Vec<(ContainerId, ClientKey)>,
) -> Result<Vec<SessionInfo>> {
    let clients: BTreeSet<_> = owned.iter().map(|(_, client)| *client).collect();
    let clients: Vec<_> = clients.into_iter().collect();
    snapshot.load(&clients).await?;
    let registry = env.registry.load_full();
    let now = env.clock.timestamp();
    let containers = registry.containers().iter();
    let containers = containers.map(|container| (container.id(), container));
    let containers: HashMap<_, _> = containers.collect();
    let mut found = BTreeMap::new();
    let (mut rows, mut read) = (Vec::new(), Vec::new());
    for (id, client) in owned {
        crate::steps::count(1);
        let Some(container) = containers.get(&id) else {
            continue;
        };
        let draft = found.entry(Counted(client));
        let draft = draft.or_insert_with(|| InfoDraft::new(client));
        let row = snapshot.session(id, client);
        match row.map(|row| row.filter(|row| row.owner.as_deref() == Some(owner))) {
            Ok(Some(row)) => rows.push((*container, client, row)),
            Ok(None) => {}
            Err(error) => draft.note_damage(container, error)?,
        }
    }
    for (container, client, row) in &rows {
        read.push(ShownSession {
            container,
            client: *client,
            row,
            keeping: None,
        });
    }
    let times = env.times_of(&read, now).await;
    for ((container, client, row), times) in rows.into_iter().zip(times) {
        let Some(draft) = found.get_mut(&Counted(client)) else {
            continue;
        };
        match times {
            Ok(times) => draft.add(container, row, times, now),
            Err(error) => draft.note_damage(container, error)?,
        }
    }
    let found = found.into_values().map(InfoDraft::finish);
    let mut found: Vec<_> = found.filter(|info| !info.containers.is_empty()).collect();
    found.sort_by_key(|info| std::cmp::Reverse(info.last_access));
    Ok(found)
}

async fn session_info(env: &Env, client: ClientKey) -> Result<Option<SessionInfo>> {
    let snapshot = newest(env).await?;
    snapshot.load(&[client]).await?;
    let registry = env.registry.load_full();
    let now = env.clock.timestamp();
    let mut draft = InfoDraft::new(client);
    let mut rows = Vec::new();
    for container in registry.containers() {
        let named = |e: Error| e.in_container(&*container.container_ref.name);
        let row = snapshot.session(container.id(), client).map_err(named)?;
        rows.extend(row.map(|row| (container, row)));
    }
    let shown = rows.iter().map(|(container, row)| ShownSession {
        container,
        client,
        row,
        keeping: None,
    });
    let times = env.times_of(&shown.collect::<Vec<_>>(), now).await;
    for ((container, row), times) in rows.into_iter().zip(times) {
        draft.add(container, row, times?, now);
    }
    Ok(Some(draft.finish()).filter(|info| info.created.is_some()))
}

/// The newest state, and the containers that are registered by now.
pub(super) async fn newest(env: &Env) -> Result<Arc<dyn Snapshot>> {
    env.refresh_settings().await?;
    env.process.check()?;
    env.storage.snapshot().await
}

/// Sessions that are being ended.
#[derive(Default)]
struct Ending {
    sessions: u64,
    /// Those that cannot be read.
    damaged: BTreeSet<ClientKey>,
    error: Option<Error>,
}

impl Ending {
    /// Ends those of a batch that have this owner, or any, in one commit.
    async fn end(
        &mut self,
        store: &Store,
        clients: Vec<ClientKey>,
        owner: Option<&Arc<str>>,
    ) -> Result<()> {
        crate::steps::count(clients.len());
        let owner = owner.cloned();
        let clients = Arc::<[_]>::from(clients);
        let ended = store.transact_async(move |txn| {
            let (clients, owner) = (clients.clone(), owner.clone());
            async move {
                txn.fetch_by_key(&clients).await?;
                txn.with(|state| state.end_by_key(&clients, owner.as_ref()))
            }
        });
        let ended = ended.await;
        let ended = ended.map_err(|error| error.after_ending(self.sessions))?;
        self.sessions += ended.sessions;
        for (client, error) in ended.damaged {
            self.damaged.insert(client);
            self.error.get_or_insert(error);
        }
        Ok(())
    }

    fn finish(self) -> Result<u64> {
        match self.error {
            None => Ok(self.sessions),
            Some(error) => Err(error.after_ending(self.sessions)),
        }
    }
}
