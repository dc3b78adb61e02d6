//! The store: opens, wires and owns everything below it.

mod builder;
mod check;
mod containers;
mod file_settings;
mod handle;
mod memory;
mod open;
mod salvage;
mod secrets;
mod statistics;
mod sweeper;
mod transact;

pub use builder::StoreBuilder;
pub use check::Check;
pub use handle::SessionHandle;
pub use salvage::Salvage;
pub use statistics::Statistics;

use crate::client_id::{ClientIds, ClientKey};
use crate::container::{Configure, Container, ContainerSettings, no_such_container};
use crate::error::{ErrorKind, Result};
use crate::steps::Counted;
use crate::storage::LocalEngine;
use crate::throttle::Throttle;
use crate::transaction::{Env, KeepOpen, Patience, Transaction};
use containers::Containers;
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
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

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
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
        let local = self.inner.env.storage.local();
        local.map_or(Ok(()), LocalEngine::checkpoint)
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
            mark: env.storage.mark(),
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
        for (id, client) in snapshot.owned(owner).wait()? {
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
