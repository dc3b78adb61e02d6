//! Finds the sessions that a sweep may remove, by the index of the times at which sessions may be over. One process at a time
//! sweeps by itself.

use super::connection::{Param, SqlKey};
use super::load::column;
use super::pages::{FoundClient, all_clients};
use super::reading::read;
use super::shared::{Shared, lock};
use super::statements::Statement;
use super::sweep_state::{LeftToSweep, SweepPass};
use super::sweep_times::SweepTimes;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::{ChangeSet, ContainerId, SessionEnd, SessionPage, ShownTimes, StalePage};
use std::collections::VecDeque;
use std::time::Duration;

/// How many sessions one commit of a sweep removes at most. Only commits to these sessions wait for it.
pub(super) const SWEPT_TOGETHER: usize = 256;
/// How many candidates are looked for at once.
const CANDIDATES: usize = 65_536;

/// The lease lasts longer than the pause between two sweeps by this, so that the same process sweeps again.
const SLACK: Duration = Duration::from_secs(30);

/// Whether a change set is one of a sweep.
pub(super) fn is_of_sweep(set: &ChangeSet) -> bool {
    let mut clients = set.clients.iter();
    clients.any(|it| matches!(it.end, SessionEnd::Swept(_)))
}

impl Shared {
    /// Whether this process is to sweep by itself now. It sweeps again after `every`.
    pub(super) async fn may_sweep(&self, every: Duration) -> Result<bool> {
        let holder = lock(&self.sweeps).holder.to_vec();
        let lasts = i64::try_from((every + every / 2 + SLACK).as_millis()).unwrap_or(i64::MAX);
        let params: [Param<'_>; 2] = [&holder, &lasts];
        let rows = read!(self, |connection| connection.run(Statement::Lease, &params))?;
        let may = !rows.is_empty();
        lock(&self.sweeps).has_swept |= may;
        Ok(may)
    }

    /// Lets another process sweep.
    pub(super) async fn end_lease(&self) -> Result<()> {
        let holder = {
            let sweeps = lock(&self.sweeps);
            sweeps.has_swept.then(|| sweeps.holder.to_vec())
        };
        let Some(holder) = holder.filter(|_| !self.pool.is_down_for(Duration::ZERO)) else {
            return Ok(());
        };
        let params: [Param<'_>; 1] = [&holder];
        read!(self, |connection| connection
            .run(Statement::EndLease, &params))?;
        Ok(())
    }

    /// Sessions of a container that may have expired by `now`, or whose times may lie ahead of it. The first sweep of this
    /// process by the container's settings reads all sessions, for the rows may have been written by other ones.
    pub(super) async fn stale(
        &self,
        container: ContainerId,
        now: Timestamp,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<StalePage> {
        let mark = self.mark();
        // An access of this process that waits to be written is seen by the commit.
        let page = |sessions| StalePage {
            mark,
            sessions,
            times: ShownTimes::Newest,
        };
        let times = self.sweep_times.load_full();
        let mut pass = self.begin_or_resume(&times, container, after);
        loop {
            let found = match &mut pass.left {
                LeftToSweep::Everything => all_clients(self, pass.last).await?,
                LeftToSweep::Candidates { clients, has_more } => {
                    let bounds = (now, times.latest(now));
                    let next =
                        self.next_candidates(&mut pass.last, bounds, (clients, has_more), limit);
                    next.await?
                }
            };
            lock(&self.sweeps).note_read(&found);
            let Some((last, _)) = found.last() else {
                if let LeftToSweep::Everything = pass.left
                    && let Some(policy) = times.policy(container)
                {
                    lock(&self.sweeps).read_by.insert(container, *policy);
                }
                return Ok(page(SessionPage::new()));
            };
            pass.last = *last;
            self.move_sweeps(&times, &found, now).await?;
            let sessions = found.into_iter().filter_map(|(client, rows)| {
                let row = match rows {
                    Ok(rows) => rows.session(container).transpose(),
                    // Its containers are not known.
                    Err(error) => Some(Err(error)).filter(|_| container == ContainerId::UNNAMED),
                };
                row.map(|row| (client, row))
            });
            let mut sessions: SessionPage = sessions.collect();
            if let LeftToSweep::Candidates { .. } = pass.left {
                sessions.retain(|(_, row)| match row {
                    Ok(row) => times.may_be_over(container, row, now),
                    Err(_) => true,
                });
            }
            if let Some((told, _)) = sessions.last() {
                lock(&self.sweeps).put(container, *told, pass);
                return Ok(page(sessions));
            }
        }
    }

    fn begin_or_resume(
        &self,
        times: &SweepTimes,
        container: ContainerId,
        after: Option<ClientKey>,
    ) -> SweepPass {
        let mut sweeps = lock(&self.sweeps);
        let is_read = sweeps.read_by.get(&container) == times.policy(container);
        match after {
            Some(told) => sweeps.take(container, told),
            None if is_read => SweepPass::candidates(ClientKey::from_bytes([0; 16])),
            None => SweepPass::everything(),
        }
    }

    /// The rows of the next candidates after a client.
    async fn next_candidates(
        &self,
        last: &mut ClientKey,
        (now, latest): (Timestamp, Timestamp),
        (clients, has_more): (&mut VecDeque<ClientKey>, &mut bool),
        limit: usize,
    ) -> Result<Vec<FoundClient>> {
        loop {
            let keys: Vec<_> = clients.drain(..limit.min(clients.len())).collect();
            if let Some(read) = keys.last() {
                *last = *read;
                let keys: Vec<_> = keys.into_iter().map(SqlKey).collect();
                let params: [Param<'_>; 1] = [&keys];
                let rows = read!(self, |connection| connection.run(Statement::Rows, &params))?;
                if !rows.is_empty() {
                    return rows.iter().map(|row| self.decode(row)).collect();
                }
                continue;
            }
            if !*has_more {
                return Ok(Vec::new());
            }
            let (after, count) = (SqlKey(*last), CANDIDATES as i64);
            let params: [Param<'_>; 4] = [&after, &now.0, &latest.0, &count];
            let rows = read!(self, |connection| connection.run(Statement::Stale, &params))?;
            *has_more = rows.len() >= CANDIDATES;
            for row in &rows {
                let SqlKey(client) = column(row, 0)?;
                clients.push_back(client);
            }
        }
    }

    /// Puts right when sweeps look at rows, where that lies too early or too late.
    async fn move_sweeps(
        &self,
        times: &SweepTimes,
        found: &[FoundClient],
        now: Timestamp,
    ) -> Result<()> {
        let (mut clients, mut versions, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for (client, rows) in found {
            let Ok(rows) = rows else { continue };
            let Some(row) = &rows.stored else { continue };
            let at = times.put_right(row.sweep_at.map(Timestamp), &rows.sessions, now);
            if let Some(Timestamp(at)) = at {
                clients.push(SqlKey(*client));
                versions.push(row.version.cast_signed());
                moved.push(at);
            }
        }
        if clients.is_empty() {
            return Ok(());
        }
        let params: [Param<'_>; 3] = [&clients, &versions, &moved];
        read!(self, |connection| connection
            .run(Statement::MoveSweeps, &params))?;
        Ok(())
    }
}
