//! Commits a transaction before its request ends. The handles then refer to a new transaction (C8.7).

use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::WaiterKind;
use crate::transaction::carrier::Carrier;
use crate::transaction::commit::start::end_commit;
use crate::transaction::commit::submit::EarlyReport;
use crate::transaction::env::KeepOpen;
use crate::transaction::registry::Registry;
use crate::transaction::request::{CommitProspect, WeakRequest};
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::subject::{Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use crate::transaction::transaction::Transaction;
use crate::transaction::txn::Txn;
use crate::transaction::txn_shared::{TxnPhase, closed};
use futures_channel::oneshot;
use std::sync::{Arc, PoisonError};

fn no_request() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "commit_now is for the session of a request; commit the transaction instead",
    )
}

impl Transaction {
    /// Sets the request that the transaction belongs to.
    pub(crate) fn belongs_to(&self, request: WeakRequest) {
        let _ = self.txn.shared.request.set(request);
    }
}

impl Txn {
    /// Commits the changes so far, and begins a new transaction even if the commit fails. If this future is dropped
    /// before it ends, the handles stay closed. A queued commit completes even then, and the response includes its
    /// cookie action.
    pub(crate) async fn commit_now(&self, visitor: SubjectId) -> Result<()> {
        let request = self.shared.request.get().ok_or_else(no_request)?;
        let request = request.upgrade().ok_or_else(closed)?;
        let fetched = self.fetch(Some(visitor)).await;
        self.with(|state| {
            state.look_before_commit(visitor);
            Ok(())
        })?;
        request.run_once();
        // From here on, no handle can change the state that is checked.
        let mut state = self.pause()?;
        let admitted = match fetched {
            // To look for what is missing would block this thread.
            Err(error) if state.changes.is_some() => Err(error),
            _ => request.admit(&mut VisitorProspect(&mut state, visitor)),
        };
        let mut next = NextState::of(&state, self.shared.registry.get().cloned());
        if admitted.is_ok() {
            next.learn_ids(&mut state);
        }
        let committed = match admitted {
            Ok(()) => {
                let mut started = self.shared.start(state, Some(visitor), WaiterKind::Task);
                if let Ok(Some(started)) = &mut started {
                    let (tell, told) = oneshot::channel();
                    let link = self.shared.request.get().cloned();
                    let begins = move || {
                        if let Some(request) = link.and_then(|link| link.upgrade()) {
                            request.commits(told);
                        }
                    };
                    started.report_to(EarlyReport::new(tell, begins));
                }
                let (committed, left) = end_commit(started, Some(request.patience())).await;
                left.into_iter().for_each(|left| request.set_patience(left));
                committed.map_err(|failure| failure.error)
            }
            Err(refusal) => {
                if state.has_hooks() {
                    drop(state.completion());
                }
                drop(state);
                Err(refusal)
            }
        };
        let committed = committed.map(|_| next.adopt_ids());
        // If this fails, the next look returns the error.
        let _ = next.store.env().refresh_settings().await;
        self.resume(next);
        let _ = self.fetch(Some(visitor)).await;
        committed
    }

    fn pause(&self) -> Result<TxnState> {
        let phase = self.shared.phase.lock();
        let mut phase = phase.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *phase, TxnPhase::Committing) {
            TxnPhase::Open(state) => Ok(state),
            former => {
                *phase = former;
                Err(closed())
            }
        }
    }

    /// Opens the next transaction, unless the handles were closed meanwhile.
    fn resume(&self, next: NextState) {
        let state = next.into_state();
        let phase = self.shared.phase.lock();
        let mut phase = phase.unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, TxnPhase::Committing) {
            *phase = TxnPhase::Open(state);
        }
    }
}

/// The visitor's session in a transaction that nothing else changes any more.
struct VisitorProspect<'a>(&'a mut TxnState, SubjectId);

impl CommitProspect for VisitorProspect<'_> {
    fn founds(&mut self) -> Result<bool> {
        self.0.founds(self.1)
    }

    #[cfg(feature = "url-ids")]
    fn has_owner(&mut self) -> Result<bool> {
        Ok(self.0.owner(self.1)?.is_some())
    }
}

/// The state that the next transaction takes over. Its handles know clients by number, and containers by registry.
struct NextState {
    store: Arc<dyn KeepOpen>,
    /// The registry of the handles, if there are any.
    named: Option<Arc<Registry>>,
    carrier: Option<Arc<Carrier>>,
    clients: Vec<NextClient>,
}

struct NextClient {
    client: Subject,
    /// The id that the client has after the commit.
    after: Option<ClientId>,
}

impl NextState {
    fn of(state: &TxnState, named: Option<Arc<Registry>>) -> Self {
        let clients = state.subjects.iter().map(NextClient::of);
        Self {
            clients: clients.collect(),
            store: state.keep_open(),
            carrier: state.carrier.clone(),
            named,
        }
    }

    /// Finds out which ids the commit leaves.
    fn learn_ids(&mut self, state: &mut TxnState) {
        for (id, client) in self.clients.iter_mut().enumerate() {
            client.after = state.id_after(id);
        }
    }

    fn adopt_ids(&mut self) {
        for NextClient { client, after } in &mut self.clients {
            client.presented = after.take();
        }
    }

    fn into_state(self) -> TxnState {
        let env = self.store.env();
        let begun_at = env.storage.mark();
        let is_named = self.named.is_some();
        let registry = self.named.unwrap_or_else(|| env.registry.load_full());
        let mut state = TxnState::new(self.store.clone(), registry, None, begun_at);
        (state.is_named, state.carrier) = (is_named, self.carrier);
        for (id, NextClient { client, .. }) in self.clients.into_iter().enumerate() {
            if let Some(key) = client.key().filter(|_| id > 0) {
                state.by_key.entry(key).or_insert(id);
            }
            state.subjects.push(client);
        }
        state
    }
}

impl NextClient {
    fn of(subject: &Subject) -> Self {
        let client = Subject {
            presented: subject.presented.clone(),
            known_by: subject.known_by,
            came: subject.came,
            keeping: subject.keeping,
            founding: subject.founding,
            keeps_owner: subject.keeps_owner,
            ..Subject::default()
        };
        let after = client.presented.clone();
        Self { client, after }
    }
}

impl TxnState {
    /// The id that a client has after the commit.
    fn id_after(&mut self, id: SubjectId) -> Option<ClientId> {
        let presented = self.subject(id).ok()?.presented.clone();
        match (self.changed(id).is_some(), self.final_fate(id)) {
            (false, _) => presented,
            // A new session after this one gets an id of its own.
            (true, SessionFate::Destroyed) => self.client_id(id).ok().flatten(),
            (true, _) => self.client_id(id).ok().flatten().or(presented),
        }
    }
}
