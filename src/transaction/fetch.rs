//! Fetches data from an engine that cannot answer at once. This happens before code that must not wait.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{ErrorKind, Result};
use crate::expiry::Keeping;
use crate::storage::Snapshot;
use crate::transaction::carrier::Carrier;
use crate::transaction::env::Env;
use crate::transaction::lookup::{FirstLook, OpenSession, RowLook};
use crate::transaction::registry::Registry;
use crate::transaction::state::look::MOST_MOVES;
use crate::transaction::state::subject::{FoundSessions, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::sync::Arc;

/// The data that a transaction needs before it continues. It is fetched without holding the transaction's lock.
pub(crate) struct Fetch {
    pub(crate) env: Arc<Env>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) carrier: Option<Arc<Carrier>>,
    /// The snapshot of the transaction and its time, if it has one.
    pub(crate) looked: Option<(Arc<dyn Snapshot>, Timestamp)>,
    pub(crate) clients: Vec<FetchedClient>,
}

/// A client of the transaction, its key, and how long it keeps its id.
type FetchedClient = (SubjectId, ClientKey, Option<Keeping>);

/// The fetched data.
pub(crate) struct Fetched {
    /// The snapshot that the sessions were read from.
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// The first look, if the transaction had not looked yet.
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
        let sessions = find_clients(&env, &registry, &*snapshot, clients, now).await?;
        Ok(Fetched {
            snapshot,
            look,
            sessions,
        })
    }
}

/// Finds the sessions to which the ids of clients lead. Each step follows one renewal for all clients together, so that
/// many clients need as many requests to the engine as one.
async fn find_clients(
    env: &Env,
    registry: &Registry,
    snapshot: &dyn Snapshot,
    clients: Vec<FetchedClient>,
    now: Timestamp,
) -> Result<Vec<(SubjectId, ClientKey, FoundSessions)>> {
    let mut sessions = Vec::with_capacity(clients.len());
    let mut next = clients;
    for moves in 0..=MOST_MOVES {
        let found = find_all(env, registry, snapshot, &next, now).await?;
        let mut moved = Vec::new();
        for ((id, client, keeping), found) in next.into_iter().zip(found) {
            match found.iter().find_map(|(_, it)| it.leads_to()) {
                Some(to) if moves < MOST_MOVES => moved.push((id, to, keeping)),
                _ => sessions.push((id, client, found)),
            }
        }
        if moved.is_empty() {
            break;
        }
        next = moved;
    }
    Ok(sessions)
}

/// The sessions of each client in all containers.
async fn find_all(
    env: &Env,
    registry: &Registry,
    snapshot: &dyn Snapshot,
    clients: &[FetchedClient],
    now: Timestamp,
) -> Result<Vec<FoundSessions>> {
    let keys = clients.iter().map(|(_, client, _)| *client);
    let keys: Vec<_> = keys.filter(|it| !snapshot.is_loaded(*it)).collect();
    if !keys.is_empty() {
        snapshot.load(&keys).await?;
    }
    let mut all = Vec::with_capacity(clients.len());
    let (mut places, mut open) = (Vec::new(), Vec::new());
    for (_, client, keeping) in clients {
        let (client, keeping) = (*client, *keeping);
        let mut found = FoundSessions::new();
        for place in registry.indices() {
            let container = registry.container(place);
            let look = RowLook::at(snapshot, container, client, (now, keeping));
            match unless_damaged(look)? {
                Some(RowLook::Found(session)) => found.push((place, session)),
                Some(RowLook::Open(row)) => {
                    places.push((all.len(), place));
                    open.push(OpenSession {
                        container,
                        client,
                        keeping,
                        row,
                    });
                }
                None => {}
            }
        }
        all.push(found);
    }
    if !open.is_empty() {
        let looked = OpenSession::look_again(env, open, now).await;
        for ((client, place), session) in places.into_iter().zip(looked) {
            let session = unless_damaged(session)?;
            let found = all.get_mut(client).zip(session);
            found
                .into_iter()
                .for_each(|(found, session)| found.push((place, session)));
        }
    }
    Ok(all)
}

/// Leaves out a session whose record is damaged. The call that reads the session returns the error.
fn unless_damaged<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

impl TxnState {
    /// The data that is missing for these clients, and for clients with open decisions from before the first look.
    /// `None` if nothing is missing.
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

    /// The data that packing the transaction needs.
    pub(crate) fn missing_to_pack(&self) -> Option<Fetch> {
        let is_changed = |id| self.changed(id).is_some();
        let has_changes = self.changes.is_some();
        let is_open = |subject: &Subject| !subject.blind.is_none();
        (has_changes || self.subjects.iter().any(is_open))
            .then(|| self.missing(is_changed))
            .flatten()
    }

    /// Adds the fetched data to the transaction. Drops the data if the transaction has taken another snapshot
    /// meanwhile.
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
