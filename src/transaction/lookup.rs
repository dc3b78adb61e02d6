//! The first look of a transaction, and how it finds sessions. Both are futures, which an engine in this process
//! completes at once.

use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::error::Result;
use crate::expiry::Keeping;
use crate::storage::{Mark, Snapshot};
use crate::transaction::env::Env;
use crate::transaction::registry::{ContainerEntry, Registry};
use crate::transaction::state::subject::FoundSession;
use std::sync::Arc;

/// The first look of a transaction (C2.1).
pub(crate) struct FirstLook {
    pub(crate) at: Mark,
    pub(crate) now: Timestamp,
    /// `now`, by the clock that is never set back.
    pub(crate) taken: Moment,
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// The containers as they were registered then, if they are not those known.
    pub(crate) registry: Option<Arc<Registry>>,
}

impl FirstLook {
    pub(crate) async fn take(env: &Env, known: &Arc<Registry>) -> Result<Self> {
        // Before the time is read: what happens in between counts as having happened since.
        let at = env.storage.mark();
        let (now, taken) = (env.clock.timestamp(), env.clock.moment());
        let mut registry = None;
        loop {
            let snapshot = env.storage.snapshot().await?;
            let newest = env.registry.load();
            if Arc::ptr_eq(&newest, registry.as_ref().unwrap_or(known)) {
                return Ok(Self {
                    at,
                    now,
                    taken,
                    snapshot,
                    registry,
                });
            }
            registry = Some(Arc::clone(&newest));
        }
    }
}

impl FoundSession {
    /// Finds the session of a client. The client is loaded first, if it is not.
    pub(crate) async fn find(
        env: &Env,
        snapshot: &dyn Snapshot,
        container: &ContainerEntry,
        client: ClientKey,
        (now, keeping): (Timestamp, Option<Keeping>),
    ) -> Result<Self> {
        if !snapshot.is_loaded(client) {
            snapshot.load(&[client]).await?;
        }
        let row = snapshot.session(container.id(), client);
        let Some(row) = row.map_err(|e| e.in_container(&*container.place.name))? else {
            return Ok(Self::default());
        };
        let mut times = env.times_of(container, client, &row, now, keeping).await?;
        if container.policy.is_expired(&times, now) {
            // From now on no access brings it back that came before this look (C3.2). One that came in between is seen
            // now.
            let session = container.session_ref(client, &row);
            let recorded = env.storage.found_expired(session).await;
            let recorded = recorded.map_err(|e| e.in_container(&*container.place.name))?;
            if let Some(recorded) = recorded {
                (times.created, times.last_access) = (recorded.created, recorded.last_access);
            }
        }
        Ok(Self {
            row: Some(row),
            times: Some(times),
            is_live: !container.policy.is_expired(&times, now),
        })
    }
}
