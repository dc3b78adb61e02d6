//! From a closed transaction to a packed commit.

use crate::error::{Error, Result};
use crate::storage::WaiterKind;
use crate::transaction::commit::access::CookieAction;
#[cfg(feature = "http")]
use crate::transaction::commit::submit::EarlyReport;
use crate::transaction::commit::submit::{CommitFailure, Completion, PendingCommit, in_process};
use crate::transaction::state::subject::SubjectId;
use crate::transaction::state::txn_state::TxnState;
use crate::transaction::turns::turn::Patience;

/// A transaction that is being committed. Dropping it aborts.
pub(crate) enum StartedCommit {
    Packed(Box<PendingCommit>),
    /// Packing reads data that the engine cannot return at once.
    Unpacked(Box<UnpackedCommit>),
}

impl StartedCommit {
    /// Informs the request once the commit has succeeded, even if no caller waits.
    #[cfg(feature = "http")]
    pub(crate) fn report_to(&mut self, early: EarlyReport) {
        let completion = match self {
            Self::Packed(pending) => &mut pending.completion,
            Self::Unpacked(unpacked) => &mut unpacked.completion,
        };
        completion.early = Some(early);
    }

    /// Packs the transaction. Waits for the data that packing reads.
    pub(crate) async fn packed(self) -> Result<Box<PendingCommit>> {
        match self {
            Self::Packed(pending) => Ok(pending),
            // Boxed by itself, so that the futures of other commits stay small.
            Self::Unpacked(unpacked) => Box::pin(unpacked.fetch_and_pack()).await,
        }
    }
}

/// Completes a commit that a task waits for.
pub(crate) async fn end_commit(
    started: Result<Option<StartedCommit>>,
    patience: Option<Patience>,
) -> (Result<CookieAction, CommitFailure>, Option<Patience>) {
    match started {
        // Boxed, so that this future stays small: it is a part of each request's future.
        Ok(Some(started)) => {
            Box::pin(async move {
                let mut pending = match started.packed().await {
                    Ok(pending) => pending,
                    Err(error) => return (Err(error.into()), patience),
                };
                let allowed = || pending.completion.env.patience();
                let mut patience = patience.unwrap_or_else(allowed);
                pending.wait_in_line(&mut patience).await;
                (pending.commit(WaiterKind::Task).await, Some(patience))
            })
            .await
        }
        Ok(None) => (Ok(CookieAction::Keep), patience),
        Err(error) => (Err(error.into()), patience),
    }
}

pub(crate) struct UnpackedCommit {
    state: ClosedState,
    completion: Completion,
    visitor: Option<SubjectId>,
}

/// The state of a transaction without handles. A process other than the store's drops nothing of it (C7.5).
struct ClosedState(Option<TxnState>);

impl Drop for ClosedState {
    fn drop(&mut self) {
        let state = self.0.take_if(|state| !state.env().process.is_this());
        std::mem::forget(state);
    }
}

impl UnpackedCommit {
    pub(crate) fn new(
        state: TxnState,
        completion: Completion,
        visitor: Option<SubjectId>,
    ) -> Box<Self> {
        Box::new(Self {
            state: ClosedState(Some(state)),
            completion,
            visitor,
        })
    }

    async fn fetch_and_pack(self: Box<Self>) -> Result<Box<PendingCommit>> {
        let Self {
            mut state,
            completion,
            visitor,
        } = *self;
        let fetch = state.0.as_ref().and_then(TxnState::missing_to_pack);
        if let Some(fetch) = fetch {
            let fetched = in_process(&completion.env.process, fetch.run()).await?;
            let taken = fetched.and_then(|fetched| match &mut state.0 {
                Some(state) => state.take_in(fetched),
                None => Ok(()),
            });
            if let Err(error) = taken {
                return Err(completion.refused(error));
            }
        }
        match state.0.take() {
            Some(mut state) => pack(&mut state, completion, visitor),
            None => Err(Error::stopped()),
        }
    }
}

/// Packs a transaction on this thread, which blocks if the engine cannot answer at once.
pub(crate) fn pack(
    state: &mut TxnState,
    mut completion: Completion,
    visitor: Option<SubjectId>,
) -> Result<Box<PendingCommit>> {
    match state.pack(visitor) {
        Ok(mut packed) => {
            completion.closures = std::mem::take(&mut packed.closures);
            Ok(Box::new(PendingCommit { completion, packed }))
        }
        Err(error) => Err(completion.refused(error)),
    }
}

impl TxnState {
    /// The work at the end of the commit. Takes the hooks and the turn out of the state.
    pub(crate) fn completion(&mut self) -> Completion {
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
}
