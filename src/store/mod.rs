//! The store: opens, wires and owns everything below it.

mod builder;
mod check;
mod handle;
mod memory;
mod salvage;
mod secrets;
mod statistics;
mod sweeper;

pub use builder::StoreBuilder;
pub use check::Check;
pub use handle::SessionHandle;
pub use salvage::Salvage;
pub use statistics::Statistics;

use crate::block_on::{block_on, is_task, polled};
use crate::client_id::{ClientIds, ClientKey};
use crate::container::{Configure, Container, ContainerSettings, container, no_such_container};
use crate::error::{Error, ErrorKind, Result};
use crate::steps::Counted;
use crate::storage::merge::check_name;
use crate::storage::record::ContainerRecord;
use crate::storage::{ContainerId, SettingsChange};
use crate::throttle::Throttle;
use crate::transaction::{CommitFailure, Env, KeepOpen, Patience, Registry, Transaction, Txn};
use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use sweeper::Sweeper;

/// A store of sessions, in one embedded file or in memory. Clones are handles on the same store. The store is closed
/// when the last handle is dropped and no transaction is open.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
///
/// let txn = store.begin()?;
/// txn.session(&id)?.pkg("greeter").insert("name", "Ann")?;
/// txn.commit()?;
///
/// let txn = store.begin()?;
/// let name: Option<String> = txn.session(&id)?.pkg("greeter").get("name")?;
/// assert_eq!(name.as_deref(), Some("Ann"));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<StoreInner>,
}

struct StoreInner {
    env: Arc<Env>,
    containers: Arc<Containers>,
    secrets: secrets::Secrets,
    sweeper: Arc<Sweeper>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    identity: [u8; 16],
}

/// How many sessions of the unnamed container are looked at when a container is registered.
const SAMPLED: usize = 1000;

/// The records of the registered containers; its lock puts registrations in line.
pub(crate) struct Containers {
    env: Arc<Env>,
    sweeper: Arc<Sweeper>,
    records: Mutex<Records>,
}

struct Records {
    by_name: BTreeMap<String, ContainerRecord>,
    next: u32,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store in the file at `path`, and creates it if there is no file. If the process is killed at any
    /// moment, the earlier state or a complete store remains.
    ///
    /// An empty file that nobody has locked becomes a store. It is replaced by a new file, which belongs to the user
    /// of this process and has the permissions 0600. An empty file that is itself a mount point (a bind mount of the
    /// file alone) cannot be replaced: mount its folder instead.
    ///
    /// A store works only in the process that opened it: daemonize before opening. A forked process must open the
    /// store itself, after the first process has closed it. If the first process ends without closing the store, the
    /// forked process has inherited the lock. Nobody can open the store until that process ends too;
    /// [`Locked`](ErrorKind::Locked) names it.
    ///
    /// On a full disk, an existing store can be opened and read. Commits get [`Unavailable`](ErrorKind::Unavailable)
    /// until there is space, and [`Statistics::is_read_only`](crate::Statistics::is_read_only) is true.
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if the store is open elsewhere; [`NotAStore`](ErrorKind::NotAStore) or
    /// [`TooNew`](ErrorKind::TooNew), in which case the file is unchanged; [`Corrupt`](ErrorKind::Corrupt);
    /// [`Io`](ErrorKind::Io); [`NotPrivate`](ErrorKind::NotPrivate) if the builder requires private files.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Opens a store in memory, with the same guarantees except durability.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the system provides no threads or no random bytes.
    pub fn in_memory() -> Result<Self> {
        Self::builder().in_memory()
    }

    /// Returns a builder, to change settings before the store is opened.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }

    /// Closes the store for all its handles. Commits that wait are completed, and the file is released. Later
    /// operations that need the file give [`Closed`](ErrorKind::Closed).
    ///
    /// # Errors
    ///
    /// A failure of the storage. Dropping the store closes it too, but only logs the error.
    /// [`Corrupt`](ErrorKind::Corrupt) if a part of the file cannot be read to which a commit must be written: the store
    /// is closed, and its journal stays beside it with all commits.
    /// [`OtherProcess`](ErrorKind::OtherProcess) in a process that was forked from the one that opened the store.
    /// There, neither closing nor dropping does anything to the files.
    pub fn close(self) -> Result<()> {
        self.inner.shut_down()
    }

    /// Writes all earlier commits from the journal to the store's file, and waits for that. Other commits continue
    /// meanwhile. The commits are durable before and after. A checkpoint makes opening after a crash faster. Rows that
    /// belong to a part of the file that cannot be read ([`Statistics::unreadable_parts`]) stay in the journal.
    ///
    /// # Errors
    ///
    /// A failure of the storage; [`Closed`](ErrorKind::Closed).
    pub fn checkpoint(&self) -> Result<()> {
        self.inner.env.storage.checkpoint()
    }

    /// Begins a transaction. It sees the store as of its first read: reading a value, asking whether a session
    /// exists, rotating or destroying a session. Beginning a transaction and asking for a session are not reads.
    /// Neither are changes that depend on no value, such as inserts and sums.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) while the store reopens itself;
    /// [`Closed`](ErrorKind::Closed); [`OtherProcess`](ErrorKind::OtherProcess) in a process that was forked from the
    /// one that opened the store.
    pub fn begin(&self) -> Result<Transaction> {
        Transaction::begin(self.inner.clone(), None)
    }

    /// [`begin`](Self::begin) as a future, for storage that must wait.
    ///
    /// # Errors
    ///
    /// As for [`begin`](Self::begin).
    pub fn begin_async(&self) -> impl Future<Output = Result<Transaction>> + Send + use<> {
        std::future::ready(self.begin())
    }

    /// Runs `f` in a transaction and commits it. After a conflict, runs `f` again. From the second attempt on, the
    /// transaction holds its session's turn. If `f` returns an error, the transaction is aborted.
    ///
    /// This blocks the thread while the commit is written to the disk. While others write to the same session, it
    /// also blocks for up to [`turn_wait`](StoreBuilder::turn_wait) per attempt. Do not call it on a thread that runs
    /// async tasks, for example in a request handler. It stops all tasks of that thread, and with a runtime of one
    /// thread possibly the very request that it waits for. Use [`transact_async`](Self::transact_async) there, or a
    /// thread for blocking work. The store logs a warning, once, if a handler inside its layer or a closure of
    /// `transact_async` calls this. (It cannot see whether the thread was released for blocking, for example by
    /// tokio's `block_in_place`, which is fine.)
    ///
    /// # Errors
    ///
    /// The error of `f`; otherwise as for [`Transaction::commit`]. A conflict is that of the last attempt.
    pub fn transact<T, E: From<Error>>(
        &self,
        mut f: impl FnMut(&Txn) -> Result<T, E>,
    ) -> Result<T, E> {
        if is_task() {
            self.inner.env.warn_of_blocking();
        }
        let mut attempts = Attempts::new(self);
        loop {
            let (txn, patience) = block_on(attempts.begin(self))?;
            let value = f(&txn)?;
            match txn.commit_here(Some(patience)) {
                Ok(()) => return Ok(value),
                Err(failure) => attempts.failed(failure)?,
            }
        }
    }

    /// [`transact`](Self::transact) for closures that return futures.
    ///
    /// # Errors
    ///
    /// As for [`transact`](Self::transact).
    pub fn transact_async<T, E, F, Fut>(
        &self,
        mut f: F,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        F: FnMut(Txn) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let store = self.clone();
        async move {
            let mut attempts = Attempts::new(&store);
            loop {
                let (txn, patience) = attempts.begin(&store).await?;
                let value = polled(pin!(f((*txn).clone()))).await?;
                match txn.commit_for(None, Some(patience)).await.0 {
                    Ok(_) => return Ok(value),
                    Err(failure) => attempts.failed(failure)?,
                }
            }
        }
    }

    /// Registers a container for the packages of its name, or changes the settings of an existing one. Data that the
    /// package already has in the unnamed container stays there and expires there. A warning is logged if one of the
    /// first thousand sessions there has such data. Their order is random.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) if the name exceeds the limit; [`InvalidInput`](ErrorKind::InvalidInput) if
    /// an existing container would move between file and memory; or a failure of the storage.
    pub fn register(&self, name: &str, settings: ContainerSettings) -> Result<Container> {
        self.inner.containers.put(name, &settings)?;
        self.container(name)
    }

    /// Removes a container. Its sessions are gone at once; later sweeps remove their rows. From now on its package
    /// lives in the unnamed container.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); [`InvalidInput`](ErrorKind::InvalidInput) for
    /// the unnamed container, which always exists; or a failure of the storage.
    pub fn unregister(&self, name: &str) -> Result<()> {
        self.inner.containers.remove(name)
    }

    /// Returns the container registered under exactly this name.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer).
    pub fn container(&self, name: &str) -> Result<Container> {
        let registry = self.inner.env.registry.load();
        let container = registry.get(name).ok_or_else(|| no_such_container(name))?;
        Ok(self.handle(container.place.name.clone()))
    }

    /// Returns the container that a package lives in: the one with its name, or else the unnamed one.
    ///
    /// # Errors
    ///
    /// None at present. Other engines may give some.
    pub fn container_for(&self, pkg_id: &str) -> Result<Container> {
        let registry = self.inner.env.registry.load();
        let container = registry.container(registry.for_package(pkg_id));
        Ok(self.handle(container.place.name.clone()))
    }

    fn handle(&self, name: Arc<str>) -> Container {
        let configure: Arc<dyn Configure> = self.inner.containers.clone();
        Container::new(self.inner.env.clone(), configure, name)
    }

    /// Returns the issuer and verifier of client ids.
    #[must_use]
    pub fn client_ids(&self) -> &ClientIds {
        &self.inner.env.ids
    }

    /// Of a request that comes now: when that is. Touches nothing that is stored (C6.4).
    #[cfg(feature = "http")]
    pub(crate) fn arrival(&self) -> crate::transaction::Arrival {
        let env = &self.inner.env;
        crate::transaction::Arrival {
            newest: env.storage.newest(),
            at: env.clock.timestamp(),
        }
    }

    /// Creates a new secret and signs new ids with it. Ids of older secrets verify until their secret is retired.
    /// Returns the byte that names the new secret.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the builder was given the secrets, or if all 256 names are in use;
    /// or a failure of the storage.
    pub fn rotate_secret(&self) -> Result<u8> {
        self.inner.secrets.rotate(&self.inner.env)
    }

    /// Retires an older secret. Its ids do not verify any more.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the secret is unknown or is the current one; otherwise as for
    /// [`rotate_secret`](Self::rotate_secret).
    pub fn retire_secret(&self, name: u8) -> Result<()> {
        self.inner.secrets.retire(&self.inner.env, name)
    }

    /// Returns the live sessions whose owner was set to `owner` by [`set_owner`](crate::Session::set_owner). Does not
    /// count as a read.
    ///
    /// A session with a damaged record is listed too, although it may have expired. Code that ends all sessions of a
    /// user must learn of sessions that it cannot end. [`check`](Self::check) reports the damage.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](ErrorKind::Corrupt) if a part of the file cannot be read that may list a session of this owner;
    /// another failure of the storage.
    pub fn sessions_of(&self, owner: &str) -> Result<Vec<ClientKey>> {
        let env = &self.inner.env;
        let snapshot = env.snapshot()?;
        let registry = env.registry.load();
        let now = env.clock.timestamp();
        let containers = registry
            .containers()
            .iter()
            .map(|container| (container.id(), container));
        let containers: HashMap<_, _> = containers.collect();
        let (mut found, mut known) = (Vec::new(), HashSet::new());
        for (id, client) in snapshot.owned(owner)? {
            crate::steps::count(1);
            let Some(container) = containers.get(&id) else {
                continue;
            };
            if known.contains(&Counted(client)) {
                continue;
            }
            let is_live = snapshot.session(id, client).and_then(|row| {
                let Some(row) = row.filter(|row| row.owner.as_deref() == Some(owner)) else {
                    return Ok(false);
                };
                let times = env.times_of(container, client, &row, now, None)?;
                Ok(!container.policy.is_expired(&times, now))
            });
            match is_live {
                Ok(true) => {}
                Ok(false) => continue,
                // The index names it.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let error = error.in_container(&*container.place.name);
                    static DAMAGED: Throttle = Throttle::new(1);
                    if let Some(left_out) = DAMAGED.pass() {
                        tracing::warn!(%error, left_out, "a session in the list of an owner is damaged");
                    }
                }
                Err(error) => return Err(error),
            }
            known.insert(Counted(client));
            found.push(client);
        }
        Ok(found)
    }

    /// Returns the random identity of the store, made when the store was created. It is not secret. The default name
    /// of the cookie contains its first four bytes in hex.
    #[must_use]
    pub fn identity(&self) -> [u8; 16] {
        self.inner.identity
    }

    /// The process in which it was opened.
    #[cfg(feature = "http")]
    pub(crate) fn process(&self) -> &crate::process::Process {
        &self.inner.env.process
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.inner.env.rules.attempts
    }

    pub(crate) fn patience(&self) -> Patience {
        self.inner.env.patience()
    }

    /// Waits for the turn of a client's session, as long as there is patience, then begins a transaction that
    /// holds it to its end.
    pub(crate) async fn begin_in_turn(
        &self,
        key: ClientKey,
        patience: &mut Patience,
    ) -> Result<Transaction> {
        self.inner.env.process.check()?;
        let turns = &self.inner.env.turns;
        let turn = patience.spend(|left| turns.hold(key, left)).await;
        Transaction::begin(self.inner.clone(), turn)
    }
}

/// The attempts of a `transact`.
struct Attempts {
    left: u32,
    contended: Option<ClientKey>,
}

impl Attempts {
    fn new(store: &Store) -> Self {
        Self {
            left: store.max_attempts(),
            contended: None,
        }
    }

    /// Optimistically at first, in line after a conflict. Each attempt waits anew, its beginning and its commit together
    /// no longer than the store allows.
    async fn begin(&mut self, store: &Store) -> Result<(Transaction, Patience)> {
        self.left = self.left.saturating_sub(1);
        let mut patience = store.patience();
        let txn = match self.contended {
            None => store.begin()?,
            Some(session) => store.begin_in_turn(session, &mut patience).await?,
        };
        Ok((txn, patience))
    }

    /// Gives the failure back unless another attempt may cure it.
    fn failed(&mut self, failure: CommitFailure) -> Result<()> {
        if !failure.error.is_worth_another_try() || self.left == 0 {
            return Err(failure.error);
        }
        self.contended = failure.client.or(self.contended);
        tracing::debug!(error = %failure.error, "running a transaction again");
        Ok(())
    }
}

impl Containers {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, name: &str, settings: &ContainerSettings) -> Result<()> {
        check_name("the container's name", name, &self.env.rules.limits)?;
        let mut records = self.lock();
        let known = records.by_name.get(name).map(|r| ContainerId(r.id));
        let id = match (known, settings.residence) {
            (Some(id), _) => id,
            (None, crate::Residence::Memory) => ContainerId::in_memory(records.next),
            (None, crate::Residence::File) => ContainerId(records.next),
        };
        if id.is_in_memory() != (settings.residence == crate::Residence::Memory) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a container cannot move between file and memory",
            )
            .in_container(name));
        }
        let record = settings.record(name, id);
        let storage = &self.env.storage;
        if records.by_name.get(name) == Some(&record) {
            // Nothing is to be written; a store that was closed says so all the same.
            return storage.ready();
        }
        storage.configure(SettingsChange::PutContainer(record.clone()))?;
        records.by_name.insert(name.to_owned(), record);
        if known.is_none() {
            records.next += 1;
        }
        self.publish(&records)?;
        drop(records);
        if known.is_none() {
            self.warn_of_data_left_behind(name);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        if name.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the unnamed container always exists",
            ));
        }
        let mut records = self.lock();
        if !records.by_name.contains_key(name) {
            return Err(no_such_container(name));
        }
        let storage = &self.env.storage;
        storage.configure(SettingsChange::RemoveContainer(name.to_owned()))?;
        records.by_name.remove(name);
        self.publish(&records)
    }

    /// Shows the containers to all transactions that begin from now on.
    fn publish(&self, records: &Records) -> Result<()> {
        let number = self.env.storage.registry();
        let registry = Registry::new(number, records.by_name.values().map(container))?;
        self.env.registry.store(Arc::new(registry));
        self.sweeper.wake();
        Ok(())
    }

    /// Without the lock, as it reads, and after the registration: from then on nobody adds any.
    fn warn_of_data_left_behind(&self, package: &str) {
        match self.has_data_left_behind(package) {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                package,
                "the package has data in the unnamed container, which stays and expires there"
            ),
            Err(error) => tracing::warn!(
                package,
                %error,
                "whether the package has data in the unnamed container cannot be found out"
            ),
        }
    }

    /// Whether one of the first sessions of the unnamed container has the package. The order is that of the clients'
    /// keys, which are hashes: a random sample.
    fn has_data_left_behind(&self, package: &str) -> Result<bool> {
        let snapshot = self.env.snapshot()?;
        let rows = snapshot.sessions(ContainerId::UNNAMED, None, SAMPLED)?;
        crate::steps::count(rows.len());
        let mut rows = rows.iter().filter_map(|(_, row)| row.as_ref().ok());
        Ok(rows.any(|row| row.has(package)))
    }
}

impl Configure for Containers {
    fn configure(&self, name: &str, settings: ContainerSettings) -> Result<()> {
        self.put(name, &settings)
    }
}

impl KeepOpen for StoreInner {
    fn env(&self) -> &Arc<Env> {
        &self.env
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl StoreInner {
    fn shut_down(&self) -> Result<()> {
        self.env.process.check()?;
        self.sweeper.close();
        self.env.turns.close();
        let closed = self.env.storage.close();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            // The last handle may be dropped on a thread of the store itself.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        closed
    }
}

impl Drop for StoreInner {
    fn drop(&mut self) {
        if !self.env.process.is_this() {
            // Nothing of it is dropped here: neither its threads nor who may hold its locks are in this process.
            let threads = self.threads.get_mut();
            let threads = std::mem::take(threads.unwrap_or_else(PoisonError::into_inner));
            let shared = (
                self.env.clone(),
                self.containers.clone(),
                self.sweeper.clone(),
            );
            return std::mem::forget((threads, shared));
        }
        if let Err(error) = self.shut_down() {
            tracing::error!(%error, "the store did not close cleanly");
        }
    }
}

#[cfg(test)]
mod containers_tests;
#[cfg(test)]
mod rerun_tests;
