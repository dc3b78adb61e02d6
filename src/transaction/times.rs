//! The newest times of sessions that a snapshot shows. The engine is asked once for all of them.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::expiry::{Keeping, Times};
use crate::storage::record::SessionRow;
use crate::storage::{NewestTimes, SessionRef};
use crate::transaction::env::Env;
use crate::transaction::registry::ContainerEntry;

/// A session that a snapshot shows.
#[derive(Clone, Copy)]
pub(crate) struct ShownSession<'a> {
    pub(crate) container: &'a ContainerEntry,
    pub(crate) client: ClientKey,
    pub(crate) row: &'a SessionRow,
    pub(crate) keeping: Option<Keeping>,
}

/// A session of which the engine is asked, and the times that its answer changes.
type AskedSession<'a> = (&'a mut Result<Times>, &'a ShownSession<'a>);

impl Env {
    /// The times of sessions, in their order. If the row's times leave something open, the newest recorded access
    /// counts. It may still wait to be written, or it was written after the snapshot (C3.2).
    pub(crate) async fn times_of(
        &self,
        sessions: &[ShownSession<'_>],
        now: Timestamp,
    ) -> Vec<Result<Times>> {
        let mut times: Vec<_> = sessions.iter().map(|it| Ok(it.row.times())).collect();
        // In the common case, the session was touched a short time ago, and the engine is not asked.
        let is_open = |times: &Times, shown: &ShownSession<'_>| {
            let policy = &shown.container.policy;
            !policy.is_settled(times, now, shown.keeping)
        };
        let asked = pick(&mut times, sessions, is_open);
        if !asked.is_empty() {
            let newest = self.storage.recorded_times(&refs_of(&asked)).await;
            take_newest(asked, newest);
        }
        times
    }

    /// As [`times_of`](Self::times_of), for a transaction that acts on the times. The engine notes which sessions they
    /// show as expired. From then on, an access from before this look does not revive such a session (C3.2). An access
    /// that was recorded in between is seen now.
    pub(crate) async fn times_to_decide_by(
        &self,
        sessions: &[ShownSession<'_>],
        now: Timestamp,
    ) -> Vec<Result<Times>> {
        let mut times = self.times_of(sessions, now).await;
        let is_expired =
            |times: &Times, shown: &ShownSession<'_>| shown.container.policy.is_expired(times, now);
        let asked = pick(&mut times, sessions, is_expired);
        if !asked.is_empty() {
            let newest = self.storage.found_expired(&refs_of(&asked)).await;
            take_newest(asked, newest);
        }
        times
    }
}

fn pick<'a>(
    times: &'a mut [Result<Times>],
    sessions: &'a [ShownSession<'a>],
    is_picked: impl Fn(&Times, &ShownSession<'_>) -> bool,
) -> Vec<AskedSession<'a>> {
    let all = times.iter_mut().zip(sessions);
    let picked = all.filter(|(times, shown)| {
        let times = times.as_ref();
        times.is_ok_and(|times| is_picked(times, shown))
    });
    picked.collect()
}

fn refs_of(asked: &[AskedSession<'_>]) -> Vec<SessionRef> {
    let refs = asked.iter();
    refs.map(|(_, it)| it.container.session_ref(it.client, it.row))
        .collect()
}

fn take_newest(asked: Vec<AskedSession<'_>>, newest: NewestTimes) {
    for ((times, shown), newest) in asked.into_iter().zip(newest) {
        match (newest, &mut *times) {
            (Ok(Some(recorded)), Ok(times)) => recorded.replace(times),
            // If the session has ended since, its times stay as the snapshot shows them.
            (Ok(None), _) | (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                *times = Err(error.in_container(&*shown.container.container_ref.name))
            }
        }
    }
}
