//! The part of a transaction that its handles share: its state, until it has ended.

use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::storage::{Limits, WaiterKind};
use crate::transaction::commit::start::{StartedCommit, UnpackedCommit, pack};
use crate::transaction::env::KeepOpen;
use crate::transaction::registry::Registry;
#[cfg(feature = "http")]
use crate::transaction::request::WeakRequest;
use crate::transaction::state::subject::SubjectId;
use crate::transaction::state::txn_state::TxnState;
use crate::transaction::turns::turn::Turn;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub(super) struct TxnShared {
    /// The registry that the handles use, set by the first handle.
    pub(super) registry: OnceLock<Arc<Registry>>,
    pub(super) limits: Limits,
    pub(super) process: Process,
    /// Whether the engine answers at once. If so, nothing needs to be fetched.
    pub(super) answers_at_once: bool,
    pub(super) phase: Mutex<TxnPhase>,
    /// The request that the transaction belongs to.
    #[cfg(feature = "http")]
    pub(super) request: OnceLock<WeakRequest>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "nearly all transactions are open until they are over"
)]
pub(super) enum TxnPhase {
    Open(TxnState),
    /// The changes so far are being committed. The transaction goes on afterwards.
    #[cfg(feature = "http")]
    Committing,
    Ended,
}

impl TxnPhase {
    pub(super) fn end(&mut self) -> Option<TxnState> {
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

/// Drops the state of a transaction. In a process other than the store's, it leaks the state instead: a thread that is
/// not in this process may hold the locks that dropping takes (C7.5).
pub(super) fn let_go(process: &Process, state: Option<TxnState>) {
    if state.is_some() && !process.is_this() {
        std::mem::forget(state);
    }
}

impl TxnShared {
    /// The shared part of a transaction that begins now.
    pub(super) fn new(store: Arc<dyn KeepOpen>, turn: Option<Turn>) -> Result<Self> {
        let env = store.env();
        env.process.check()?;
        env.storage.ready()?;
        let (limits, process) = (env.rules.limits, env.process.clone());
        let registry = env.registry.load_full();
        let begun_at = env.storage.mark();
        Ok(Self {
            registry: OnceLock::new(),
            limits,
            process,
            answers_at_once: env.storage.answers_at_once(),
            phase: Mutex::new(TxnPhase::Open(TxnState::new(
                store, registry, turn, begun_at,
            ))),
            #[cfg(feature = "http")]
            request: OnceLock::new(),
        })
    }

    /// Packs the changes of a state that no handle can reach any more.
    pub(super) fn start(
        &self,
        mut state: TxnState,
        visitor: Option<SubjectId>,
        waiter: WaiterKind,
    ) -> Result<Option<StartedCommit>> {
        // `client_id` cannot tell its caller of it (C2.7).
        let snapshot = state.snapshot.as_ref();
        if let Some((conflict, _)) = snapshot.and_then(|it| it.load_conflict()) {
            return Err(conflict);
        }
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

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transaction has ended")
}
