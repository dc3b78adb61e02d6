//! The first look of a transaction, and how it finds sessions. Both are futures, which an engine in this process
//! completes at once.

use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::error::Result;
use crate::expiry::Keeping;
use crate::storage::record::SessionRow;
use crate::storage::{Mark, Snapshot};
use crate::transaction::carrier::Carrier;
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
    /// `carrier` has the rows that the request brought along.
    pub(crate) async fn take(
        env: &Env,
        known: &Arc<Registry>,
        carrier: Option<&Carrier>,
    ) -> Result<Self> {
        // Before the time is read: what happens in between counts as having happened since.
        let at = env.storage.mark();
        let (now, taken) = (env.clock.timestamp(), env.clock.moment());
        let mut registry = None;
        loop {
            let snapshot = env.storage.snapshot().await?;
            let newest = env.registry.load();
            if Arc::ptr_eq(&newest, registry.as_ref().unwrap_or(known)) {
                let snapshot = match carrier {
                    Some(carrier) => carrier.show_with(snapshot, now),
                    None => snapshot,
                };
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
        at: (Timestamp, Option<Keeping>),
    ) -> Result<Self> {
        if !snapshot.is_loaded(client) {
            snapshot.load(&[client]).await?;
        }
        match Self::by_row(snapshot, container, client, at)? {
            (found, RowVerdict::Final) => Ok(found),
            (found, RowVerdict::Open) => found.look_again(env, container, client, at).await,
        }
    }

    /// The session of a loaded client as its row tells, and whether accesses that the row does not record may matter.
    pub(crate) fn by_row(
        snapshot: &dyn Snapshot,
        container: &ContainerEntry,
        client: ClientKey,
        (now, keeping): (Timestamp, Option<Keeping>),
    ) -> Result<(Self, RowVerdict)> {
        crate::steps::count(1);
        let row = snapshot.session(container.id(), client);
        let row = row.map_err(|e| e.in_container(&*container.place.name))?;
        let times = row.as_ref().map(SessionRow::times);
        let is_final = |times| container.policy.is_settled(&times, now, keeping);
        let verdict = match times.is_none_or(is_final) {
            true => RowVerdict::Final,
            false => RowVerdict::Open,
        };
        let found = Self {
            row,
            times,
            is_live: times.is_some(),
        };
        Ok((found, verdict))
    }

    /// Asks the engine for the times of a session whose row leaves open whether it has expired or an access is due.
    pub(crate) async fn look_again(
        mut self,
        env: &Env,
        container: &ContainerEntry,
        client: ClientKey,
        (now, keeping): (Timestamp, Option<Keeping>),
    ) -> Result<Self> {
        let Some(row) = &self.row else {
            return Ok(self);
        };
        if container.id().is_in_cookie() {
            // Nobody records accesses to it.
            let is_live = |times| !container.policy.is_expired(&times, now);
            self.is_live = self.times.is_some_and(is_live);
            return Ok(self);
        }
        let mut times = env.times_of(container, client, row, now, keeping).await?;
        if container.policy.is_expired(&times, now) {
            // From now on no access brings it back that came before this look (C3.2). One that came in between is seen
            // now.
            let session = container.session_ref(client, row);
            let recorded = env.storage.found_expired(session).await;
            let recorded = recorded.map_err(|e| e.in_container(&*container.place.name))?;
            if let Some(recorded) = recorded {
                recorded.replace(&mut times);
            }
        }
        self.times = Some(times);
        self.is_live = !container.policy.is_expired(&times, now);
        Ok(self)
    }
}

/// Whether the row of a session tells all that matters of its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowVerdict {
    Final,
    Open,
}
