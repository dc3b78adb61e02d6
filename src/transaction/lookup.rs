//! The first look of a transaction, and the search for sessions. Both are futures. An engine in this process completes
//! them at once.

use crate::client_id::ClientKey;
use crate::clock::{Moment, Timestamp};
use crate::error::Result;
use crate::expiry::{Keeping, Times};
use crate::storage::record::SessionRow;
use crate::storage::{Mark, Snapshot};
use crate::transaction::carrier::Carrier;
use crate::transaction::env::Env;
use crate::transaction::registry::{ContainerEntry, Registry};
use crate::transaction::state::subject::FoundSession;
use crate::transaction::times::ShownSession;
use std::sync::Arc;

/// The first look of a transaction (C2.1).
pub(crate) struct FirstLook {
    pub(crate) at: Mark,
    pub(crate) now: Timestamp,
    /// The same time as `now`, by the clock that is never set back.
    pub(crate) taken: Moment,
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// The containers that were registered then, if they differ from the known ones.
    pub(crate) registry: Option<Arc<Registry>>,
}

impl FirstLook {
    /// `carrier` has the rows that came with the request.
    pub(crate) async fn take(
        env: &Env,
        known: &Arc<Registry>,
        carrier: Option<&Carrier>,
    ) -> Result<Self> {
        // The mark is taken before the time is read, so that changes in between count as later than this look.
        let at = env.storage.mark();
        let (now, taken) = (env.clock.timestamp(), env.clock.moment());
        let mut registry = None;
        loop {
            let snapshot = env.storage.snapshot().await?;
            let newest = env.registry.load();
            if Arc::ptr_eq(&newest, registry.as_ref().unwrap_or(known)) {
                let snapshot = match carrier {
                    Some(carrier) => carrier.snapshot_with(snapshot, now, &newest),
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

/// The state of a session, as far as its row shows it.
pub(crate) enum RowLook {
    /// The row decides everything.
    Found(FoundSession),
    /// The row leaves open whether the session has expired, or whether an access is due. Accesses that the row does not
    /// record yet may decide it.
    Open(SessionRow),
}

impl RowLook {
    /// Reads the row of a client that the snapshot has loaded.
    pub(crate) fn at(
        snapshot: &dyn Snapshot,
        container: &ContainerEntry,
        client: ClientKey,
        (now, keeping): (Timestamp, Option<Keeping>),
    ) -> Result<Self> {
        crate::steps::count(1);
        let row = snapshot.session(container.id(), client);
        let row = row.map_err(|e| e.in_container(&*container.container_ref.name))?;
        let Some(row) = row else {
            return Ok(Self::Found(FoundSession::default()));
        };
        let times = row.times();
        // The engine records no accesses to a session in a cookie, so the row decides.
        let is_final =
            container.id().is_in_cookie() || container.policy.is_settled(&times, now, keeping);
        Ok(match is_final {
            true => Self::Found(FoundSession::of(row, times, container, now)),
            false => Self::Open(row),
        })
    }
}

impl FoundSession {
    fn of(row: SessionRow, times: Times, container: &ContainerEntry, now: Timestamp) -> Self {
        Self {
            row: Some(row),
            times: Some(times),
            is_live: !container.policy.is_expired(&times, now),
        }
    }
}

/// A session whose row leaves open whether it has expired or an access is due.
pub(crate) struct OpenSession<'a> {
    pub(crate) container: &'a ContainerEntry,
    pub(crate) client: ClientKey,
    pub(crate) keeping: Option<Keeping>,
    pub(crate) row: SessionRow,
}

impl OpenSession<'_> {
    /// Asks the engine for the newest times of sessions, which decide. The answers are in the order of the sessions.
    pub(crate) async fn look_again(
        env: &Env,
        open: Vec<Self>,
        now: Timestamp,
    ) -> Vec<Result<FoundSession>> {
        let shown = open.iter().map(|it| ShownSession {
            container: it.container,
            client: it.client,
            row: &it.row,
            keeping: it.keeping,
        });
        let shown: Vec<_> = shown.collect();
        let times = env.times_to_decide_by(&shown, now).await;
        let found = open
            .into_iter()
            .zip(times)
            .map(|(open, times)| Ok(FoundSession::of(open.row, times?, open.container, now)));
        found.collect()
    }
}
