//! A transaction as its owner holds it: begin, commit, abort. Dropping it aborts (C2).

use crate::block_on::wait;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::WaiterKind;
use crate::transaction::commit::access::CookieAction;
use crate::transaction::commit::start::{StartedCommit, end_commit};
use crate::transaction::commit::submit::CommitFailure;
use crate::transaction::env::KeepOpen;
use crate::transaction::state::subject::SubjectId;
use crate::transaction::turns::turn::{Patience, Turn};
use crate::transaction::txn::Txn;
use crate::transaction::txn_shared::{TxnShared, closed, let_go};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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
    pub(super) txn: Txn,
}

impl Transaction {
    pub(crate) fn begin(store: Arc<dyn KeepOpen>, turn: Option<Turn>) -> Result<Self> {
        let shared = TxnShared::new(store, turn)?;
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

    /// Commits on this thread. It waits for turns no longer than `patience` has left, or than the store allows.
    pub(crate) fn commit_here(self, patience: Option<Patience>) -> Result<(), CommitFailure> {
        match self.close_and_pack(None, WaiterKind::Thread)? {
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

    /// Commits, and returns the cookie action for the response to `visitor`. It waits for turns no longer than
    /// `patience` has left, or than the store allows, and returns the rest of the patience.
    pub(crate) fn commit_for(
        self,
        visitor: Option<SubjectId>,
        patience: Option<Patience>,
    ) -> impl Future<Output = (Result<CookieAction, CommitFailure>, Option<Patience>)> + Send + 'static
    {
        end_commit(self.close_and_pack(visitor, WaiterKind::Task), patience)
    }

    /// Discards all changes. Sessions that the transaction would create and access times that it would record are
    /// discarded too.
    pub fn abort(self) {}

    /// Closes the handles and packs the changes. Packs later where a task would have to wait for that. `None` if there
    /// is nothing to do, as after most requests.
    fn close_and_pack(
        self,
        visitor: Option<SubjectId>,
        waiter: WaiterKind,
    ) -> Result<Option<StartedCommit>> {
        self.txn.shared.process.check()?;
        let state = self.txn.end().ok_or_else(closed)?;
        self.txn.shared.start(state, visitor, waiter)
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
