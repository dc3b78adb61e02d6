//! The handle on a store, and how it closes.

use super::sweeper::Sweeper;
use crate::client_id::{ClientIds, ClientKey};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::LocalEngine;
#[cfg(feature = "cookie-containers")]
use crate::transaction::{Carrier, is_refused};
use crate::transaction::{Env, KeepOpen, Patience, Transaction, on_own_thread};
use std::any::Any;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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
    pub(super) inner: Arc<StoreInner>,
}

pub(super) struct StoreInner {
    pub(super) env: Arc<Env>,
    pub(super) sweeper: Arc<Sweeper>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) identity: [u8; 16],
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Closes the store for all its handles. Commits that wait are completed, and the file is released. Later
    /// operations that need the file give [`Closed`](ErrorKind::Closed). Blocks until that is done.
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

    /// [`close`](Self::close) as a future. A thread of its own closes it, to the end even if the future is dropped.
    ///
    /// # Errors
    ///
    /// As for [`close`](Self::close).
    pub fn close_async(self) -> impl Future<Output = Result<()>> + Send + use<> {
        let inner = self.inner;
        let env = inner.env.clone();
        on_own_thread(env, move |_| inner.shut_down())
    }

    /// Writes all earlier commits from the journal to the store's file, and blocks until that is done. Other commits
    /// continue meanwhile. The commits are durable before and after. A checkpoint makes opening after a crash faster. Rows
    /// that belong to a part of the file that cannot be read
    /// ([`unreadable_parts`](crate::Statistics::unreadable_parts)) stay in the journal.
    ///
    /// # Errors
    ///
    /// A failure of the storage; [`Closed`](ErrorKind::Closed).
    pub fn checkpoint(&self) -> Result<()> {
        let local = self.inner.env.storage.local();
        local.map_or(Ok(()), |local| local.checkpoint().wait())
    }

    /// [`checkpoint`](Self::checkpoint) as a future.
    ///
    /// # Errors
    ///
    /// As for [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_async(&self) -> impl Future<Output = Result<()>> + Send + use<> {
        let store = self.clone();
        async move {
            let storage = &store.inner.env.storage;
            let written = storage.local().map(LocalEngine::checkpoint);
            match written {
                Some(written) => written.await,
                None => Ok(()),
            }
        }
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
        self.inner.env.refresh_settings().wait()?;
        Transaction::begin(self.inner.clone(), None)
    }

    /// [`begin`](Self::begin) as a future, for storage that must wait.
    ///
    /// # Errors
    ///
    /// As for [`begin`](Self::begin).
    pub fn begin_async(&self) -> impl Future<Output = Result<Transaction>> + Send + use<> {
        let store = self.clone();
        async move { store.begin_fetched().await }
    }

    /// [`begin_async`](Self::begin_async) as a part of another future.
    pub(crate) async fn begin_fetched(&self) -> Result<Transaction> {
        let txn = self.begin_before_looking().await?;
        txn.fetch(None).await?;
        Ok(txn)
    }

    /// [`begin_async`](Self::begin_async) for a request with rows in its cookies.
    #[cfg(feature = "cookie-containers")]
    pub(crate) async fn begin_with(&self, carrier: Option<Arc<Carrier>>) -> Result<Transaction> {
        let txn = self.begin_before_looking().await?;
        if let Some(carrier) = carrier {
            txn.carry(carrier)?;
        }
        txn.fetch(None).await?;
        Ok(txn)
    }

    /// Whether the id of a client has been ended lately.
    #[cfg(feature = "cookie-containers")]
    pub(crate) async fn is_refused(&self, client: ClientKey) -> Result<bool> {
        is_refused(&self.inner.env, client).await
    }

    /// Begins a transaction that has looked at nothing, however long its engine takes to answer.
    pub(super) async fn begin_before_looking(&self) -> Result<Transaction> {
        self.inner.env.refresh_settings().await?;
        Transaction::begin(self.inner.clone(), None)
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

    /// Now, by the monotonic clock.
    #[cfg(feature = "http")]
    pub(crate) fn moment(&self) -> crate::clock::Moment {
        self.inner.env.clock.moment()
    }

    /// Counts an attempt that runs again after a conflict.
    pub(crate) fn count_rerun(&self) {
        self.inner.env.reruns.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the random identity of the store, made when the store was created. It is not secret. The default name
    /// of the cookie contains its first four bytes in hex.
    #[must_use]
    pub fn identity(&self) -> [u8; 16] {
        self.inner.identity
    }

    /// Returns the time that its sessions go by: that of the [clock](crate::StoreBuilder::clock) it was given, else the
    /// system's. From it, an end for [`set_expires_at`](crate::Session::set_expires_at) is computed.
    ///
    /// ```
    /// use chrono::TimeDelta;
    /// use cloakroom::{Clock, Store};
    ///
    /// let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    /// let store = Store::builder().clock(clock).in_memory()?;
    /// let id = store.client_ids().issue();
    /// let end = store.now() + TimeDelta::minutes(5);
    /// store.transact(|txn| txn.session(&id)?.set_expires_at(Some(end)))?;
    /// assert_eq!(store.session_info(id.key())?.unwrap().expires, Some(end));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.inner.env.clock.now()
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
        let turn = patience.wait_for(|left| turns.hold(key, left)).await;
        self.inner.env.refresh_settings().await?;
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
            let shared = (self.env.clone(), self.sweeper.clone());
            return std::mem::forget((threads, shared));
        }
        if let Err(error) = self.shut_down() {
            tracing::error!(%error, "the store did not close cleanly");
        }
    }
}
