//! Containers: handles for their settings and maintenance, and containers inside a transaction.

mod filter;
mod listing;
mod measure;
mod register;
mod settings;
mod sweep;

pub use filter::SessionFilter;
pub use listing::{ListedSession, SessionList};
pub use measure::{SessionHistogram, SessionMeasures};
pub(crate) use register::{
    Registration, register, register_alias, unregister, warn_of_data_left_behind,
};
pub use settings::{ContainerSettings, Residence};
pub use sweep::Swept;
pub(crate) use sweep::{reclaim, sweep};

use crate::block_on::block_on;
use crate::client_id::ClientId;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::session::SessionData;
use crate::storage::no_such_container;
use crate::transaction::{ContainerEntry, ContainerLink, Env, Txn};
use register::configure;
use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;
use sweep::{SweepVerdict, judge, scan};

/// A registered container: a handle for its settings and maintenance. It does not keep the store open.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
/// use std::time::Duration;
///
/// let store = Store::in_memory()?;
/// let carts = store.register("shop.cart", ContainerSettings::new())?;
/// // In force at once, for the sessions that exist too:
/// carts.configure(ContainerSettings::new().timeout(Duration::from_secs(7200)))?;
/// assert_eq!(carts.settings()?.timeout, Duration::from_secs(7200));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Container {
    env: Arc<Env>,
    name: Arc<str>,
}

/// The number of sessions in a container.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
///
/// let store = Store::in_memory()?;
/// let carts = store.register("shop.cart", ContainerSettings::new())?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("shop.cart").insert("tea", 2))?;
/// let counted = carts.statistics()?;
/// assert_eq!((counted.live, counted.packages), (1, 1));
/// # Ok::<(), cloakroom::Error>(())
/// ```
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

impl Container {
    pub(crate) fn new(env: Arc<Env>, name: Arc<str>) -> Self {
        Self { env, name }
    }

    /// Returns the name that it is registered under; `""` is the unnamed container. Its aliases are other names:
    /// [`names`](Self::names).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns all its names: the one that it is registered under, then its aliases, sorted.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.register("shop.cart", ContainerSettings::new())?;
    /// let cart = store.register_alias("shop.wishlist", "shop.cart")?;
    /// assert_eq!(cart.names()?, ["shop.cart", "shop.wishlist"]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) after it was unregistered.
    pub fn names(&self) -> Result<Vec<String>> {
        let container = self.container()?;
        let own = &container.container_ref.name;
        let names = iter::once(own).chain(&container.aliases);
        Ok(names.map(|name| name.to_string()).collect())
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

    /// Stores new settings. They apply to every transaction that has not read anything yet. Blocks until they are
    /// stored.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the sessions would move between file and memory;
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); or a failure of the storage.
    pub fn configure(&self, settings: ContainerSettings) -> Result<()> {
        block_on(configure(&self.env, &self.name, &settings))
    }

    /// [`configure`](Self::configure) as a future. The work is done on a thread of the store, and to its end even if the
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`configure`](Self::configure).
    pub fn configure_async(
        &self,
        settings: ContainerSettings,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let name = self.name.clone();
        let work = move |env: &Arc<Env>| block_on(configure(env, &name, &settings));
        self.env.in_background(work)
    }

    /// Removes expired sessions in bounded batches, and waits for that. It also removes unreachable rows: those of
    /// unregistered containers, and outdated tombstones of ended sessions. Blocks the thread meanwhile.
    ///
    /// # Errors
    ///
    /// A failure of the storage. Sessions that were removed before it stay removed.
    pub fn sweep(&self) -> Result<Swept> {
        self.sweep_with(|_| ControlFlow::Continue(()))
    }

    /// [`sweep`](Self::sweep), with progress: `progress` is called every few hundred sessions with the figures so far.
    /// If it breaks the sweep off, what was removed stays removed, and [`Swept::is_complete`] is false.
    ///
    /// ```
    /// use cloakroom::Store;
    /// use std::ops::ControlFlow;
    ///
    /// let store = Store::in_memory()?;
    /// let swept = store.container("")?.sweep_with(|so_far| {
    ///     println!("{} of {} removed", so_far.removed, so_far.scanned);
    ///     ControlFlow::Continue(())
    /// })?;
    /// assert!(swept.is_complete);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`sweep`](Self::sweep).
    pub fn sweep_with(&self, mut progress: impl FnMut(Swept) -> ControlFlow<()>) -> Result<Swept> {
        let mut swept = sweep(&self.env, &*self.container()?, &mut progress)?;
        if swept.is_complete {
            swept.is_complete = false;
            let so_far = swept;
            let mut is_broken_off = false;
            reclaim(&self.env, || {
                let flow = progress(so_far);
                is_broken_off |= flow.is_break();
                flow
            })?;
            swept.is_complete = !is_broken_off;
        }
        Ok(swept)
    }

    /// [`sweep`](Self::sweep) as a future. The work is done on a thread of the store, and to its end even if the
    /// future is dropped.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    /// # }
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let container = store.container("")?;
    /// let swept = block_on(async { container.sweep_async().await })?;
    /// assert_eq!(swept.removed, 0);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`sweep`](Self::sweep).
    pub fn sweep_async(&self) -> impl Future<Output = Result<Swept>> + Send + use<> {
        let container = self.clone();
        self.env.in_background(move |_| container.sweep())
    }

    /// [`sweep_with`](Self::sweep_with) as a future. The work is done on a thread of the store, where `progress` is
    /// called. It goes on if the future is dropped, until `progress` breaks it off.
    ///
    /// # Errors
    ///
    /// As for [`sweep`](Self::sweep).
    pub fn sweep_with_async<P>(
        &self,
        progress: P,
    ) -> impl Future<Output = Result<Swept>> + Send + use<P>
    where
        P: FnMut(Swept) -> ControlFlow<()> + Send + 'static,
    {
        let container = self.clone();
        self.env
            .in_background(move |_| container.sweep_with(progress))
    }

    /// Counts the sessions. It examines every one of them, and blocks the thread meanwhile.
    ///
    /// # Errors
    ///
    /// A failure of the storage.
    pub fn statistics(&self) -> Result<ContainerStatistics> {
        count(&self.env, &*self.container()?)
    }

    /// [`statistics`](Self::statistics) as a future. The sessions are examined on a thread of the store.
    ///
    /// # Errors
    ///
    /// As for [`statistics`](Self::statistics).
    pub fn statistics_async(
        &self,
    ) -> impl Future<Output = Result<ContainerStatistics>> + Send + use<> {
        let container = self.clone();
        self.env.in_background(move |_| container.statistics())
    }

    fn container(&self) -> Result<Arc<ContainerEntry>> {
        let registry = self.env.registry.load();
        registry
            .get(&self.name)
            .cloned()
            .ok_or_else(|| no_such_container(&self.name))
    }
}

/// Counts the sessions of a container.
fn count(env: &Env, container: &ContainerEntry) -> Result<ContainerStatistics> {
    let now = env.clock.timestamp();
    let mut counts = ContainerStatistics::default();
    scan(env, container, now, |session| {
        match session {
            Err(_) => counts.unreadable += 1,
            // It only leads on from a renewed id to its session (C8.4).
            Ok(session) if session.row.optional.moved.is_some() => {}
            Ok(session) => match judge(env, container, session, now) {
                SweepVerdict::Expired(..) => counts.expired += 1,
                SweepVerdict::Stands | SweepVerdict::Ahead(..) => {
                    counts.live += 1;
                    counts.packages += session.row.packages.len() as u64;
                }
            },
        }
        Ok(())
    })?;
    Ok(counts)
}

/// A container inside a transaction.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
///
/// let store = Store::in_memory()?;
/// store.register("shop.cart", ContainerSettings::new())?;
/// let (ann, bob) = (store.client_ids().issue(), store.client_ids().issue());
/// let txn = store.begin()?;
/// let carts = txn.container("shop.cart")?;
/// for id in [&ann, &bob] {
///     carts.session_data(id)?.pkg("shop.cart").insert("tea", 2)?;
/// }
/// txn.commit()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
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
