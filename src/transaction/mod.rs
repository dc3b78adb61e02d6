//! Transactions: begin, observe, buffer, commit, abort (C2). Knows neither redb nor HTTP.

mod background;
#[cfg_attr(
    not(feature = "cookie-containers"),
    allow(dead_code, reason = "only a request brings rows along")
)]
mod carrier;
pub(crate) mod commit;
#[cfg(feature = "http")]
mod early;
mod env;
mod events;
mod fetch;
#[cfg(test)]
mod growth_tests;
mod known_settings;
mod lookup;
mod refresh;
mod registry;
#[cfg(feature = "http")]
mod request;
pub(crate) mod state;
mod times;
pub(crate) mod turns;
mod worker;

#[cfg(feature = "http")]
pub(crate) use crate::storage::Arrival;
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::storage::carried::{CarriedLimit, CarriedRows};
pub(crate) use crate::transaction::background::THREADS as BACKGROUND_THREADS;
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::transaction::carrier::Carrier;
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::transaction::carrier::is_refused;
pub(crate) use crate::transaction::commit::access::CookieAction;
pub(crate) use crate::transaction::commit::recompute::Recomputer;
pub(crate) use crate::transaction::commit::submit::CommitFailure;
pub use crate::transaction::env::WhenFull;
pub(crate) use crate::transaction::env::{Env, KeepOpen, OwnerLimit, TxnRules};
pub(crate) use crate::transaction::events::{EventHooks, EventQueue, SessionEvent};
pub(crate) use crate::transaction::known_settings::{KnownSettings, SecretSource, split_secrets};
pub(crate) use crate::transaction::registry::{
    ContainerEntry, ContainerIndex, ContainerLink, CookieSupport, Registry,
};
#[cfg(feature = "http")]
pub(crate) use crate::transaction::request::{RequestLink, WeakRequest};
pub(crate) use crate::transaction::state::changes::{Closure, KeyBase, KeyChanges, KeyStep};
pub(crate) use crate::transaction::state::logins::clients_of;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::state::look::MOST_MOVES;
pub(crate) use crate::transaction::state::read::Content;
pub use crate::transaction::state::savepoint::Savepoint;
pub(crate) use crate::transaction::state::subject::SubjectId;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::state::subject::{FoundingRule, Visit};
pub(crate) use crate::transaction::state::txn_state::TxnState;
pub(crate) use crate::transaction::times::ShownSession;
pub(crate) use crate::transaction::turns::turn::{Patience, Turn, Turns};
pub(crate) use worker::Worker;

use crate::block_on::wait;
use crate::client_id::{ClientId, ClientKey};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::{Limits, Mark, WaiterKind};
use crate::transaction::commit::start::{StartedCommit, UnpackedCommit, end_commit, pack};
use crate::transaction::commit::submit::Completion;
pub(crate) use crate::transaction::commit::submit::in_process;
use crate::transaction::state::changes::Undo;
use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError};

/// A transaction on a store: a snapshot as of the first read, and buffered changes.
///
/// [`commit`](Self::commit) or [`abort`](Self::abort) ends it; dropping it aborts. It dereferences to [`Txn`], the
/// handle that gives access to sessions.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
///
/// let txn = store.begin()?;
/// txn.session(&id)?.pkg("cart").insert("tea", 2)?;
/// txn.commit()?;
///
/// let txn = store.begin()?;
/// txn.session(&id)?.pkg("cart").insert("tea", 99)?;
/// txn.abort();
///
/// let txn = store.begin()?;
/// assert_eq!(txn.session(&id)?.pkg("cart").get("tea")?, Some(2));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    txn: Txn,
}

/// A handle on a [`Transaction`]. Clones refer to the same transaction. After the transaction has ended, all of them
/// return [`Closed`](ErrorKind::Closed).
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
    shared: Arc<TxnShared>,
}

struct TxnShared {
    /// The containers by which handles are made, from the first of them on.
    registry: OnceLock<Arc<Registry>>,
    limits: Limits,
    process: Process,
    /// Whether the engine answers at once, so that nothing needs to be fetched.
    answers_at_once: bool,
    phase: Mutex<TxnPhase>,
    /// The request that the transaction belongs to.
    #[cfg(feature = "http")]
    request: OnceLock<WeakRequest>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "nearly all transactions are open until they are over"
)]
enum TxnPhase {
    Open(TxnState),
    /// What was done so far is being committed; then the transaction goes on.
    #[cfg(feature = "http")]
    Committing,
    Ended,
}

impl TxnPhase {
    fn end(&mut self) -> Option<TxnState> {
        match std::mem::replace(self, Self::Ended) {
            Self::Open(state) => Some(state),
            _ => None,
        }
    }
}

impl Drop for TxnShared {
    fn drop(&mut self) {
        let phase = self.phase.get_mut().unwrap_or_else(PoisonError::into_inner);
        let_go(&self.process, phase.end());
    }
}

/// Drops the state of a transaction, but nothing of a store that was opened in another process: what this locks
/// may have been locked by a thread that is not here (C7.5).
fn let_go(process: &Process, state: Option<TxnState>) {
    if state.is_some() && !process.is_this() {
        std::mem::forget(state);
    }
}

impl Transaction {
    pub(crate) fn begin(store: Arc<dyn KeepOpen>, turn: Option<Turn>) -> Result<Self> {
        let env = store.env();
        env.process.check()?;
        env.storage.ready()?;
        let (limits, process) = (env.rules.limits, env.process.clone());
        let registry = env.registry.load_full();
        let begun_at = env.storage.mark();
        let shared = TxnShared {
            registry: OnceLock::new(),
            limits,
            process,
            answers_at_once: env.storage.answers_at_once(),
            phase: Mutex::new(TxnPhase::Open(TxnState::new(
                store, registry, turn, begun_at,
            ))),
            #[cfg(feature = "http")]
            request: OnceLock::new(),
        };
        Ok(Self {
            txn: Txn {
                shared: Arc::new(shared),
            },
        })
    }

    /// Makes all changes durable, or none of them.
    ///
    /// If [too many commits wait](crate::StoreBuilder::max_waiting_commits), this waits for admission first. On a
    /// quiet store, this thread processes the commit itself, together with other commits that were queued before.
    ///
    /// # Errors
    ///
    /// - [`Conflict`](ErrorKind::Conflict) if another commit changed a value that was read, or ended a session.
    /// - [`NotSerializable`](ErrorKind::NotSerializable), [`TooLarge`](ErrorKind::TooLarge),
    ///   [`Overflow`](ErrorKind::Overflow), [`TypeMismatch`](ErrorKind::TypeMismatch) if a change cannot be stored.
    /// - [`Doomed`](ErrorKind::Doomed) after [`Txn::doom`].
    /// - [`Unavailable`](ErrorKind::Unavailable), [`NotWritten`](ErrorKind::NotWritten) or
    ///   [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if storage fails. Only after `OutcomeUnknown` may the
    ///   transaction have been stored.
    /// - [`Unavailable`](ErrorKind::Unavailable) also if a limit is reached: that of new sessions
    ///   ([`max_new_sessions`](crate::StoreBuilder::max_new_sessions)), or that of 65,536 hooks and closures that
    ///   wait to be run.
    /// - [`OtherProcess`](ErrorKind::OtherProcess) in a process that was forked from the one that opened the store.
    ///   Nothing is committed there. A commit that was [in progress](Self::commit_async) at the fork continues in the
    ///   other process.
    pub fn commit(self) -> Result<()> {
        self.commit_here(None).map_err(|failure| failure.error)
    }

    /// Commits with this thread's help, after it waited no longer for turns than is left, or than the store allows.
    pub(crate) fn commit_here(self, patience: Option<Patience>) -> Result<(), CommitFailure> {
        match self.depart(None, WaiterKind::Thread)? {
            Some(started) => {
                let mut pending = match started {
                    StartedCommit::Packed(pending) => pending,
                    unpacked => wait(unpacked.packed())?,
                };
                let env = pending.completion.env.clone();
                let mut patience = patience.unwrap_or_else(|| env.patience());
                wait(pending.wait_in_line(&mut patience));
                let commit = pending.commit(WaiterKind::Thread);
                env.storage.block_on(commit).map(drop)
            }
            None => Ok(()),
        }
    }

    /// [`commit`](Self::commit) as a future, for any runtime or none. If it is dropped before the changes are queued,
    /// the transaction is aborted. Once they are queued, the commit completes even if the future is dropped. Handles
    /// are closed from the call on.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn commit_async(self) -> impl Future<Output = Result<()>> + Send + 'static {
        let committing = self.commit_for(None, None);
        async move {
            match committing.await.0 {
                Ok(_) => Ok(()),
                Err(failure) => Err(failure.error),
            }
        }
    }

    /// Commits, and tells what a response must do with the cookie of `visitor`. Waits no longer for turns than is
    /// left of `patience`, or than the store allows; returns what is left then.
    pub(crate) fn commit_for(
        self,
        visitor: Option<SubjectId>,
        patience: Option<Patience>,
    ) -> impl Future<Output = (Result<CookieAction, CommitFailure>, Option<Patience>)> + Send + 'static
    {
        end_commit(self.depart(visitor, WaiterKind::Task), patience)
    }

    /// Discards all changes. Sessions that the transaction would create and access times that it would record are
    /// discarded too.
    pub fn abort(self) {}

    /// Closes the handles and packs the changes, unless a task would have to wait for that. `None` where nothing is to
    /// be done, as after most requests.
    fn depart(
        self,
        visitor: Option<SubjectId>,
        waiter: WaiterKind,
    ) -> Result<Option<StartedCommit>> {
        self.txn.shared.process.check()?;
        let state = self.txn.end().ok_or_else(closed)?;
        self.txn.shared.start(state, visitor, waiter)
    }
}

impl TxnShared {
    /// Packs the changes of a state that the handles have no more.
    fn start(
        &self,
        mut state: TxnState,
        visitor: Option<SubjectId>,
        waiter: WaiterKind,
    ) -> Result<Option<StartedCommit>> {
        if !self.answers_at_once {
            state.drop_unread();
        }
        if state.only_read() {
            state.count_skipped_touches();
            return Ok(None);
        }
        let mut completion = state.completion();
        completion.store = Some(state.store.clone());
        if state.doomed {
            return Err(Error::new(ErrorKind::Doomed, "the transaction is doomed"));
        }
        if waiter == WaiterKind::Task && !self.answers_at_once {
            let unpacked = UnpackedCommit::new(state, completion, visitor);
            return Ok(Some(StartedCommit::Unpacked(unpacked)));
        }
        let pending = pack(&mut state, completion, visitor)?;
        Ok(Some(StartedCommit::Packed(pending)))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut state) = self.txn.end() else {
            return;
        };
        let process = &self.txn.shared.process;
        if state.has_hooks() && process.is_this() {
            drop(state.completion());
        }
        let_go(process, Some(state));
    }
}

impl Deref for Transaction {
    type Target = Txn;

    fn deref(&self) -> &Txn {
        &self.txn
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl fmt::Debug for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Txn").finish_non_exhaustive()
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transaction has ended")
}

impl Txn {
    fn end(&self) -> Option<TxnState> {
        let mut phase = match self.shared.phase.try_lock() {
            Ok(phase) => phase,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // By a thread that is not here.
            Err(TryLockError::WouldBlock) if !self.shared.process.is_this() => return None,
            Err(TryLockError::WouldBlock) => {
                let phase = self.shared.phase.lock();
                phase.unwrap_or_else(PoisonError::into_inner)
            }
        };
        phase.end()
    }

    /// Works on the state under its lock. Closures of the application that this discards are
    /// dropped when the lock is free again (C6.3).
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut TxnState) -> Result<T>) -> Result<T> {
        // Its lock, and those of the storage below, may be held by threads that are not here (C7.5).
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

    /// The containers by which the first handles know theirs; `None` if there was none yet when the transaction ended.
    fn registry(&self) -> Option<&Registry> {
        if let Some(registry) = self.shared.registry.get() {
            return Some(registry);
        }
        let named = self.with(|state| Ok(state.named()));
        let named = named.ok()?;
        Some(self.shared.registry.get_or_init(|| named))
    }

    /// The container of a package. After the end of the transaction it does not matter: `None`.
    pub(crate) fn link_for_package(&self, package: &str) -> Option<ContainerLink> {
        self.registry().map(|it| it.link_for_package(package))
    }

    /// The container of this name, if there is one.
    pub(crate) fn link(&self, name: &str) -> Result<Option<ContainerLink>> {
        let first = self.registry().ok_or_else(closed)?;
        let named = self.with(|state| Ok(state.named().link(name)));
        // After the end of the transaction a handle only tells that it has ended.
        Ok(named.unwrap_or_else(|_| first.link(name)))
    }

    /// The name of the container of a handle. Not to be called under the lock.
    pub(crate) fn name_of(&self, link: Option<ContainerLink>, package: &str) -> Arc<str> {
        let Some(link) = link else {
            return Arc::default();
        };
        let name = self.with(|state| Ok(state.name_of(state.resolve(link, package)?)));
        name.unwrap_or_else(|_| {
            let first = self.registry();
            let name = first.and_then(|it| Some(it.container(it.linked(link)?)));
            name.map(|it| it.place.name.clone()).unwrap_or_default()
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
        let hook: worker::WorkerTask = Box::new(f);
        let _ = self.with(|state| {
            state.after_commit.push(hook);
            Ok(())
        });
    }

    /// Runs `f` once after it is certain that the transaction left no trace, on a thread of the store for hooks.
    /// After [`OutcomeUnknown`](ErrorKind::OutcomeUnknown), neither kind of hook runs.
    pub fn after_abort(&self, f: impl FnOnce() + Send + 'static) {
        let hook: worker::WorkerTask = Box::new(f);
        let _ = self.with(|state| {
            state.after_abort.push(hook);
            Ok(())
        });
    }

    /// Whether `id` has a live session. Neither an observation nor an access.
    pub(crate) fn is_live(&self, id: &ClientId) -> Result<bool> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            state.live_anywhere(subject)
        })
    }

    /// The client of the session to which `id` leads; its own if there is none, or if that cannot be read, which its reader
    /// is told. Neither an observation nor an access.
    #[cfg(feature = "http")]
    pub(crate) fn leads_to(&self, id: &ClientId) -> Result<ClientKey> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            let _ = state.live_anywhere(subject);
            Ok(state.subject(subject)?.key().unwrap_or_else(|| id.key()))
        })
    }

    /// Whether a live session has this very id, and not one that was given to it since (C8.4).
    #[cfg(feature = "http")]
    pub(crate) fn is_newest(&self, id: &ClientId) -> Result<bool> {
        self.with(|state| {
            let subject = state.subject_for(Some(id));
            let is_live = state.live_anywhere(subject)?;
            Ok(is_live && state.subject(subject)?.moved_to.is_none())
        })
    }

    /// Fetches the session of a client, with everything that later calls may read of it.
    ///
    /// A store in a file or in memory reads whatever is asked for at once; there, this does nothing, and is no read. On
    /// storage that is reached over a network, the first call that reads something of a client waits for the network.
    /// In asynchronous code, await this before such a call, as a call that is not asynchronous would block the thread.
    /// [`session_async`](Self::session_async), [`visit`](Self::visit) and the extractor do so for their client.
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
        self.fetch_late(&entered).await
    }

    /// Fetches what the engine cannot give at once: the first look, and the sessions of a client.
    pub(crate) async fn fetch(&self, id: Option<SubjectId>) -> Result<()> {
        if self.shared.answers_at_once {
            return Ok(());
        }
        Box::pin(self.fetch_late(id.as_slice())).await
    }

    /// The same of clients that are known by their keys.
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

    /// Enters a client into the transaction, without a look at its rows.
    pub(crate) fn enter(&self, id: Option<&ClientId>) -> Result<SubjectId> {
        self.with(|state| Ok(state.subject_for(id)))
    }

    /// Gives the rows that the request brought along. To be given before anything is read.
    #[cfg(feature = "cookie-containers")]
    pub(crate) fn carry(&self, carrier: Arc<Carrier>) -> Result<()> {
        self.with(|state| {
            state.carrier = Some(carrier);
            Ok(())
        })
    }

    /// Says how a client came. To be said before anything of it is read.
    #[cfg(feature = "http")]
    pub(crate) fn came(&self, id: SubjectId, visit: Visit) -> Result<()> {
        self.with(|state| {
            let subject = state.subject_mut(id)?;
            (subject.came, subject.keeping) = (Some(visit.came), Some(visit.keeping));
            subject.founding = visit.founding;
            Ok(())
        })
    }
}

impl TxnState {
    fn new(
        store: Arc<dyn KeepOpen>,
        registry: Arc<Registry>,
        turn: Option<Turn>,
        begun_at: Mark,
    ) -> Self {
        Self {
            store,
            registry,
            begun_at,
            looked_at: begun_at,
            is_named: false,
            former: None,
            snapshot: None,
            carrier: None,
            now: crate::clock::Timestamp::default(),
            taken: crate::clock::Moment::default(),
            doomed: false,
            subjects: Vec::new(),
            by_key: std::collections::BTreeMap::new(),
            changes: None,
            savepoints: crate::transaction::state::savepoint::Savepoints::default(),
            discarded: Vec::new(),
            after_commit: Vec::new(),
            after_abort: Vec::new(),
            turn,
        }
    }

    pub(in crate::transaction) fn has_hooks(&self) -> bool {
        !(self.after_commit.is_empty() && self.after_abort.is_empty())
    }

    pub(in crate::transaction) fn completion(&mut self) -> Completion {
        Completion {
            env: self.env().clone(),
            after_commit: std::mem::take(&mut self.after_commit),
            after_abort: std::mem::take(&mut self.after_abort),
            closures: Vec::new(),
            turns: self.turn.take().into_iter().collect(),
            founders: Vec::new(),
            events: Vec::new(),
            findings: None,
            carried: None,
            early: None,
            store: None,
        }
    }

    fn set_savepoint(&mut self) -> Savepoint {
        self.savepoints.set()
    }

    fn roll_back(&mut self, savepoint: &Savepoint) -> Result<()> {
        for undo in self.savepoints.back_to(savepoint)?.into_iter().rev() {
            let is_first = matches!(undo, Undo::First);
            let undone = self.changes.as_mut().and_then(|changes| changes.undo(undo));
            self.discarded.extend(undone);
            if is_first {
                self.changes = None;
            }
        }
        self.find_out_again();
        Ok(())
    }

    /// Keeps what may hold closures of the application, whose `Drop` must not run under the
    /// transaction's lock, until that is free.
    pub(crate) fn discard(&mut self, what: impl Any + Send) {
        self.discarded.push(Box::new(what));
    }

    fn take_discarded(&mut self) -> Vec<Box<dyn Any + Send>> {
        std::mem::take(&mut self.discarded)
    }
}
