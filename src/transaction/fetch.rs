//! What a transaction gets from an engine that cannot answer at once, before code runs that must not wait.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::expiry::Keeping;
use crate::storage::Snapshot;
use crate::transaction::carrier::Carrier;
use crate::transaction::env::Env;
use crate::transaction::lookup::FirstLook;
use crate::transaction::registry::Registry;
use crate::transaction::state::look::MOST_MOVES;
use crate::transaction::state::subject::{FoundSession, FoundSessions, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::sync::Arc;

/// What a transaction is to be given before it goes on, so that it does not wait under its lock.
pub(crate) struct Fetch {
    pub(crate) env: Arc<Env>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) carrier: Option<Arc<Carrier>>,
    /// The snapshot of the transaction and its time, if it has looked.
    pub(crate) looked: Option<(Arc<dyn Snapshot>, Timestamp)>,
    pub(crate) clients: Vec<(SubjectId, ClientKey, Option<Keeping>)>,
}

/// What was fetched.
pub(crate) struct Fetched {
    /// The snapshot that the sessions are of.
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// If the transaction had not looked.
    pub(crate) look: Option<FirstLook>,
    pub(crate) sessions: Vec<(SubjectId, ClientKey, FoundSessions)>,
}

impl Fetch {
    pub(crate) async fn run(self) -> Result<Fetched> {
        let Self {
            env,
            mut registry,
            carrier,
            looked,
            clients,
        } = self;
        let (snapshot, now, look) = match looked {
            Some((snapshot, now)) => (snapshot, now, None),
            None => {
                let look = FirstLook::take(&env, &registry, carrier.as_deref()).await?;
                if let Some(other) = &look.registry {
                    registry = Arc::clone(other);
                }
                (Arc::clone(&look.snapshot), look.now, Some(look))
            }
        };
        let keys: Vec<_> = clients.iter().map(|(_, key, _)| *key).collect();
        if !keys.is_empty() {
            snapshot.load(&keys).await?;
        }
        let mut sessions = Vec::with_capacity(clients.len());
        for (id, mut client, keeping) in clients {
            let at = (now, keeping);
            let mut found = find_all(&env, &registry, &*snapshot, client, at).await?;
            for _ in 0..MOST_MOVES {
                let Some(to) = found.iter().find_map(|(_, it)| it.leads_to()) else {
                    break;
                };
                client = to;
                found = find_all(&env, &registry, &*snapshot, client, at).await?;
            }
            sessions.push((id, client, found));
        }
        Ok(Fetched {
            snapshot,
            look,
            sessions,
        })
    }
}

/// The sessions of a client in all containers.
async fn find_all(
    env: &Env,
    registry: &Registry,
    snapshot: &dyn Snapshot,
    client: ClientKey,
    at: (Timestamp, Option<Keeping>),
) -> Result<FoundSessions> {
    let mut found = FoundSessions::new();
    for place in registry.places() {
        let container = registry.container(place);
        match FoundSession::find(env, snapshot, container, client, at).await {
            Ok(session) => found.push((place, session)),
            // Its reader is told.
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

impl TxnState {
    /// What is missing for these clients, and for those whose changes before the first look left something open. `None`
    /// if nothing is.
    pub(crate) fn missing(&self, ids: impl Fn(SubjectId) -> bool) -> Option<Fetch> {
        let is_missing = |(id, subject): &(SubjectId, &Subject)| {
            let is_open = !subject.blind.is_none();
            (ids(*id) || is_open) && subject.fetched.is_none()
        };
        let subjects = self.subjects.iter().enumerate().filter(is_missing);
        let clients: Vec<_> = subjects
            .filter_map(|(id, subject)| Some((id, subject.key()?, subject.keeping)))
            .collect();
        let looked = self.snapshot.clone().map(|snapshot| (snapshot, self.now));
        (looked.is_none() || !clients.is_empty()).then(|| Fetch {
            env: Arc::clone(self.env()),
            registry: Arc::clone(&self.registry),
            carrier: self.carrier.clone(),
            looked,
            clients,
        })
    }

    /// What is missing to pack the transaction.
    pub(crate) fn missing_to_pack(&self) -> Option<Fetch> {
        let is_changed = |id| self.changed(id).is_some();
        let has_changes = self.changes.is_some();
        let is_open = |subject: &Subject| !subject.blind.is_none();
        (has_changes || self.subjects.iter().any(is_open))
            .then(|| self.missing(is_changed))
            .flatten()
    }

    /// Takes what was fetched. If the transaction has looked by itself meanwhile, that is of no use.
    pub(crate) fn take_in(&mut self, fetched: Fetched) -> Result<()> {
        let is_first = match (&self.snapshot, &fetched.look) {
            (None, Some(_)) => true,
            (Some(snapshot), _) if Arc::ptr_eq(snapshot, &fetched.snapshot) => false,
            _ => return Ok(()),
        };
        if let (true, Some(look)) = (is_first, fetched.look) {
            self.adopt(look)?;
        }
        for (id, client, sessions) in fetched.sessions {
            if self.subject(id)?.key() != Some(client) {
                self.follow(id, client)?;
            }
            self.subject_mut(id)?.fetched = Some(sessions);
        }
        if is_first {
            self.settle_all();
        }
        Ok(())
    }
}
