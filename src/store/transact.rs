//! Transactions that run again after a conflict.

use super::Store;
use crate::block_on::{block_on, is_task, polled};
use crate::client_id::{ClientId, ClientKey};
use crate::error::{Error, Result};
use crate::transaction::{CommitFailure, Patience, Transaction, Txn};
use std::pin::pin;
#[cfg(feature = "http")]
use std::time::Duration;

impl Store {
    /// Runs `f` in a transaction and commits it. After a conflict, runs `f` again. From the second attempt on, the
    /// transaction holds its session's turn. If `f` returns an error, the transaction is aborted.
    ///
    /// This blocks the thread while the commit is written to the disk. While others write to the same session, it
    /// also blocks for up to [`turn_wait`](crate::StoreBuilder::turn_wait) per attempt. Do not call it on a thread that runs
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
            let value = match f(&txn) {
                Ok(value) => value,
                Err(error) => {
                    attempts.interrupted(self, &txn, error)?;
                    continue;
                }
            };
            match txn.commit_here(Some(patience)) {
                Ok(()) => return Ok(value),
                Err(failure) => attempts.failed(self, failure)?,
            }
        }
    }

    /// [`transact`](Self::transact) for closures that return futures.
    ///
    /// # Errors
    ///
    /// As for [`transact`](Self::transact).
    pub fn transact_async<T, E, F, Fut>(&self, f: F) -> impl Future<Output = Result<T, E>> + Send
    where
        F: FnMut(Txn) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        self.transact_on(None, f)
    }

    /// The same, with the session of a client fetched before `f` runs.
    pub(super) fn transact_on<T, E, F, Fut>(
        &self,
        client: Option<ClientId>,
        mut f: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F, Fut>
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
                let client = client.as_ref().map(|id| txn.enter(Some(id))).transpose()?;
                txn.fetch(client).await?;
                let value = match polled(pin!(f((*txn).clone()))).await {
                    Ok(value) => value,
                    Err(error) => {
                        attempts.interrupted(&store, &txn, error)?;
                        continue;
                    }
                };
                match txn.commit_for(None, Some(patience)).await.0 {
                    Ok(_) => return Ok(value),
                    Err(failure) => attempts.failed(&store, failure)?,
                }
            }
        }
    }

    pub(crate) fn max_attempts(&self) -> u32 {
        self.inner.env.rules.attempts
    }

    pub(crate) fn patience(&self) -> Patience {
        self.inner.env.patience()
    }

    /// For how long one waits for turns.
    #[cfg(feature = "http")]
    pub(crate) fn turn_wait(&self) -> Duration {
        self.inner.env.rules.turn_wait
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
            None => store.begin_before_looking().await?,
            Some(session) => store.begin_in_turn(session, &mut patience).await?,
        };
        Ok((txn, patience))
    }

    /// Gives the failure back unless another attempt may cure it.
    /// The closure has failed with `error`. If a load met a conflict, the transaction runs again.
    fn interrupted<E>(&mut self, store: &Store, txn: &Txn, error: E) -> Result<(), E> {
        let Some(conflict) = txn.load_conflict() else {
            return Err(error);
        };
        self.failed(store, conflict).map_err(|_| error)
    }

    fn failed(&mut self, store: &Store, failure: CommitFailure) -> Result<()> {
        if !failure.error.is_worth_another_try() || self.left == 0 {
            return Err(failure.error);
        }
        self.contended = failure.client.or(self.contended);
        metrics::counter!("cloakroom_reruns_total", "of" => "transact").increment(1);
        store.count_rerun();
        tracing::debug!(error = %failure.error, "running a transaction again");
        Ok(())
    }
}
