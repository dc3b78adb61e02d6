//! The handle on a transaction: savepoints, hooks, and access to its state.

use crate::client_id::{ClientId, ClientKey};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::Limits;
#[cfg(feature = "cookie-containers")]
use crate::transaction::carrier::Carrier;
use crate::transaction::commit::submit::{CommitFailure, in_process};
use crate::transaction::registry::{ContainerLink, Registry};
use crate::transaction::state::savepoint::Savepoint;
use crate::transaction::state::subject::SubjectId;
#[cfg(feature = "http")]
use crate::transaction::state::subject::Visit;
use crate::transaction::state::txn_state::TxnState;
use crate::transaction::txn_shared::{TxnPhase, TxnShared, closed};
use crate::transaction::worker::WorkerTask;
use std::fmt;
use std::sync::{Arc, PoisonError, TryLockError};

/// A handle on a [`Transaction`](crate::Transaction). Clones refer to the same transaction. After the transaction has
/// ended, all of them return [`Closed`](ErrorKind::Closed).
///
/// ```
/// use cloakroom::{ClientId, Result, Store, Txn};
///
/// fn add_tea(txn: &Txn, id: &ClientId) -> Result<()> {
///     txn.session(id)?.pkg("cart").add("tea", 1)
/// }
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| add_tea(txn, &id))?;
/// let txn = store.begin()?;
/// add_tea(&txn, &id)?;
/// txn.commit()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Txn {
    pub(super) shared: Arc<TxnShared>,
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn").finish_non_exhaustive()
    }
}

impl Txn {
    pub(super) fn end(&self) -> Option<TxnState> {
        let mut phase = match self.shared.phase.try_lock() {
            Ok(phase) => phase,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // After a fork, the thread that holds the lock is not in this process.
            Err(TryLockError::WouldBlock) if !self.shared.process.is_this() => return None,
            Err(TryLockError::WouldBlock) => {
                let phase = self.shared.phase.lock();
                phase.unwrap_or_else(PoisonError::into_inner)
            }
        };
        phase.end()
    }

    /// Why a load failed, if another transaction was in the way, so that this one must run again as a whole.
    pub(crate) fn load_conflict(&self) -> Option<CommitFailure> {
        let found = self.with(|state| {
            let snapshot = state.snapshot.as_deref();
            Ok(snapshot.and_then(|snapshot| snapshot.load_conflict()))
        });
        let (error, client) = found.ok()??;
        Some(CommitFailure {
            error,
            client: Some(client),
        })
    }

    /// Runs `work` on the state under its lock. Closures of the application that `work` discards are dropped after the
    /// lock is released (C6.3).
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut TxnState) -> Result<T>) -> Result<T> {
        // After a fork, threads of the other process may hold this lock and those of the storage (C7.5).
        self.shared.process.check()?;
        let mut guard = self
            .shared
            .phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let TxnPhase::Open(state) = &mut *guard else {
            return Err(closed());
        };
        if !self.shared.answers_at_once {
            state.drop_unread();
        }
        let result = work(state);
        let discarded = state.take_discarded();
        drop(guard);
        drop(discarded);
        result
    }

    /// The registry that the first handles use. `None` if the transaction had none when it ended.
    fn registry(&self) -> Option<&Registry> {
        if let Some(registry) = self.shared.registry.get() {
            return Some(registry);
        }
        let named = self.with(|state| Ok(state.named()));
        let named = named.ok()?;
        Some(self.shared.registry.get_or_init(|| named))
    }

    /// The container of a package. `None` after the end of the transaction, when it no longer matters.
    pub(crate) fn link_for_package(&self, package: &str) -> Option<ContainerLink> {
        self.registry().map(|it| it.link_for_package(package))
    }

    /// The container of this name, if it exists.
    pub(crate) fn link(&self, name: &str) -> Result<Option<ContainerLink>> {
        let first = self.registry().ok_or_else(closed)?;
        let named = self.with(|state| Ok(state.named().link(name)));
        // After the end of the transaction, a handle only returns `Closed`.
        Ok(named.unwrap_or_else(|_| first.link(name)))
    }

    /// The name of the container of a handle. Takes the lock, so the caller must not hold it.
    pub(crate) fn name_of(&self, link: Option<ContainerLink>, package: &str) -> Arc<str> {
        let Some(link) = link else {
            return Arc::default();
        };
        let name = self.with(|state| Ok(state.name_of(state.resolve(link, package)?)));
        name.unwrap_or_else(|_| {
            let first = self.registry();
            let name = first.and_then(|it| Some(it.container(it.linked(link)?)));
            name.map(|it| it.container_ref.name.clone())
                .unwrap_or_default()
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Sets a savepoint. Savepoints nest.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once the transaction has ended.
    pub fn savepoint(&self) -> Result<Savepoint> {
        self.with(|state| Ok(state.set_savepoint()))
    }

    /// Undoes every change made since the savepoint. The savepoint stays and can be used again. Values read since
    /// then still count as read.
    ///
    /// # Errors
    ///
    /// [`NoSuchSavepoint`](ErrorKind::NoSuchSavepoint) if the transaction was rolled back to an earlier savepoint
    /// since, or if the savepoint belongs to another transaction.
    pub fn rollback_to(&self, savepoint: &Savepoint) -> Result<()> {
        self.with(|state| state.roll_back(savepoint))
    }

    /// Makes every later commit of this transaction fail with [`Doomed`](ErrorKind::Doomed).
    pub fn doom(&self) {
        // A transaction that has ended cannot be committed anyway.
        let _ = self.with(|state| {
            state.doomed = true;
            Ok(())
        });
    }

    /// Runs `f` once after the commit is durable, on a thread of the store for hooks. If the transaction has ended
    /// already, `f` never runs.
    pub fn after_commit(&self, f: impl FnOnce() + Send + 'static) {
        let hook: WorkerTask = Box::new(f);
        let _ = self.with(|state| {
            state.after_commit.push(hook);
            Ok(())
        });
    }

    /// Runs `f` once after it is certain that the transaction left no trace, on a thread of the store for hooks.
    /// After [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), neither kind of hook runs.
    pub fn after_abort(&self, f: impl FnOnce() + Send + 'static) {
        let hook: WorkerTask = Box::new(f);
        let _ = self.with(|state| {
            state.after_abort.push(hook);
            Ok(())
        });
    }

    /// Whether `id` has a live session. Counts neither as a read nor as an access.
    pub(crate) fn is_live(&self, id: &ClientId) -> Result<bool> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            state.live_anywhere(subject)
        })
    }

    /// The client key of the session to which `id` leads. If there is no such session, or if it cannot be read, the key
    /// of `id` itself; the call that reads the session returns the error. Counts neither as a read nor as an access.
    #[cfg(feature = "http")]
    pub(crate) fn leads_to(&self, id: &ClientId) -> Result<ClientKey> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            let _ = state.live_anywhere(subject);
            Ok(state.subject(subject)?.key().unwrap_or_else(|| id.key()))
        })
    }

    /// Whether `id` is the current id of a live session. A renewed id is not current (C8.4).
    #[cfg(feature = "http")]
    pub(crate) fn is_newest(&self, id: &ClientId) -> Result<bool> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            let is_live = state.live_anywhere(subject)?;
            Ok(is_live && state.subject(subject)?.moved_to.is_none())
        })
    }

    /// Fetches the session of a client, and all data that later calls may read from it.
    ///
    /// A store in a file or in memory answers every read at once. There, this does nothing and does not count as a
    /// read. On storage over a network, the first read from a client's session waits for the network. In asynchronous
    /// code, await this before that read: a synchronous call would block the thread.
    /// [`session_async`](Self::session_async), [`visit`](Self::visit) and the extractor load their client in this way.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) once the transaction has ended; [`SnapshotTooOld`](ErrorKind::SnapshotTooOld),
    /// [`Unavailable`](ErrorKind::Unavailable); [`Conflict`](ErrorKind::Conflict) if this is the first read, values
    /// were changed before, and a container was registered or unregistered meanwhile.
    pub fn load(&self, id: &ClientId) -> impl Future<Output = Result<()>> + Send + use<> {
        let entered = self.enter(Some(id));
        let txn = self.clone();
        async move { txn.fetch(Some(entered?)).await }
    }

    /// [`load`](Self::load) for several clients: the engine is asked for all of them at once.
    #[cfg(feature = "http")]
    pub(crate) async fn load_all(&self, ids: impl Iterator<Item = &ClientId>) -> Result<()> {
        if self.shared.answers_at_once {
            return Ok(());
        }
        let entered = ids.map(|id| self.enter(Some(id)));
        let entered: Vec<_> = entered.collect::<Result<_>>()?;
        Box::pin(self.fetch_late(&entered)).await
    }

    /// Fetches the data that the engine cannot give at once: the first look, and the sessions of a client.
    pub(crate) async fn fetch(&self, id: Option<SubjectId>) -> Result<()> {
        if self.shared.answers_at_once {
            return Ok(());
        }
        Box::pin(self.fetch_late(id.as_slice())).await
    }

    /// As [`fetch`](Self::fetch), for clients that are known by their keys.
    pub(crate) async fn fetch_by_key(&self, keys: &[ClientKey]) -> Result<()> {
        if self.shared.answers_at_once {
            return Ok(());
        }
        let ids = |state: &mut TxnState| keys.iter().map(|key| state.subject_of(*key)).collect();
        let ids: Vec<_> = self.with(|state| Ok(ids(state)))?;
        self.fetch_late(&ids).await
    }

    async fn fetch_late(&self, ids: &[SubjectId]) -> Result<()> {
        while let Some(fetch) = self.with(|state| Ok(state.missing(|it| ids.contains(&it))))? {
            let fetched = in_process(&self.shared.process, fetch.run()).await??;
            self.with(|state| state.take_in(fetched))?;
        }
        Ok(())
    }

    /// Adds a client to the transaction without reading its rows.
    pub(crate) fn enter(&self, id: Option<&ClientId>) -> Result<SubjectId> {
        self.with(|state| Ok(state.subject_for(id)))
    }

    /// Sets the rows that came with the request. Must be called before the first read.
    #[cfg(feature = "cookie-containers")]
    pub(crate) fn carry(&self, carrier: Arc<Carrier>) -> Result<()> {
        self.with(|state| {
            state.carrier = Some(carrier);
            Ok(())
        })
    }

    /// Sets the facts about a client's visit. Must be called before anything of the client is read.
    #[cfg(feature = "http")]
    pub(crate) fn came(&self, id: SubjectId, visit: Visit) -> Result<()> {
        self.with(|state| {
            let subject = state.subject_mut(id)?;
            (subject.came, subject.keeping) = (Some(visit.came), Some(visit.keeping));
            (subject.founding, subject.keeps_owner) = (visit.founding, visit.keeps_owner);
            Ok(())
        })
    }
}
