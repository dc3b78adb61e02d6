//! One commit: first from the rows that this process knows, together with others that wait, then, if the server has other
//! rows, in line behind the row's lock.

use super::committer::{CommitEnd, FirstTry, LostCommit, PgCommitter, WaitingCommit, clients_of};
use super::in_line::InLine;
use super::shared::lock;
use super::sweeps::is_of_sweep;
use crate::storage::ChangeSet;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl PgCommitter {
    /// Commits a change set, and gives it back, with the attempts of which the server could not say what became of them.
    pub(super) async fn commit(
        &self,
        set: Box<ChangeSet>,
    ) -> Option<(Box<ChangeSet>, CommitEnd, Vec<LostCommit>)> {
        let until = self.shared.deadline();
        let (mut set, first) = self.wait_for_batch(set, until).await?;
        let (end, lost) = match first {
            FirstTry::Ended(end) => (end, Vec::new()),
            // Boxed, so that the tasks of most commits stay small.
            FirstTry::InLine => {
                Box::pin(InLine::new(self, until, Vec::new()).commit(&mut set)).await
            }
            FirstTry::Lost(lost) => {
                // Looking it up has time of its own.
                let until = self.shared.deadline();
                Box::pin(InLine::new(self, until, vec![lost]).commit(&mut set)).await
            }
        };
        let counters = &self.shared.counters;
        match &end {
            CommitEnd::Committed => drop(counters.commits.fetch_add(1, Ordering::Relaxed)),
            CommitEnd::Failed(error, _) if error.is_conflict() => {
                counters.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            CommitEnd::Failed(..) | CommitEnd::Stale(_) => {}
        }
        Some((set, end, lost))
    }

    /// Waits until a change set was tried together with others. Those of several clients go in line at once.
    async fn wait_for_batch(
        &self,
        set: Box<ChangeSet>,
        until: tokio::time::Instant,
    ) -> Option<(Box<ChangeSet>, FirstTry)> {
        let mut clients = clients_of(&set).into_iter();
        let (Some(client), None, false) = (clients.next(), clients.next(), is_of_sweep(&set))
        else {
            return Some((set, FirstTry::InLine));
        };
        let bytes = set.memory_size();
        let (reply, tried) = oneshot::channel();
        let waiting = WaitingCommit { set, until, reply };
        lock(&self.waiting).add(client, waiting, bytes);
        self.arrived.notify_one();
        tried.await.ok()
    }
}
