//! One commit: first a single statement from the rows that this process knows, then, if the server has others, in line
//! behind the row's lock.

use super::committer::{CommitEnd, LostCommit, PgCommitter, Planned, clients_of};
use super::current::RowsByClient;
use super::failure::Failure;
use super::in_line::InLine;
use super::plan::CommitPlan;
use super::shared::lock;
use super::statements::Statement;
use super::writes::write_row;
use crate::storage::{ChangeSet, SessionEnd};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// How the attempt with one statement ended.
enum FirstTry {
    Ended(CommitEnd),
    /// The rows are others than this process knew, or more than one.
    InLine,
    Lost(LostCommit),
}

/// A change that is admitted, and its number.
struct PlannedChange {
    version: u64,
    plan: CommitPlan,
}

impl PgCommitter {
    pub(super) async fn commit(&self, set: &mut ChangeSet) -> CommitEnd {
        let until = self.shared.deadline();
        let end = match self.at_once(set, until).await {
            FirstTry::Ended(end) => end,
            FirstTry::InLine => InLine::new(self, until, Vec::new()).commit(set).await,
            FirstTry::Lost(lost) => {
                // Looking it up has time of its own.
                let until = self.shared.deadline();
                InLine::new(self, until, vec![lost]).commit(set).await
            }
        };
        let counters = &self.shared.counters;
        let counter = match &end {
            CommitEnd::Committed => &counters.commits,
            CommitEnd::Failed(error, _) if error.is_conflict() => &counters.conflicts,
            CommitEnd::Failed(..) | CommitEnd::Stale(_) => return end,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        end
    }

    /// Commits a change set of one client from its known row, by one statement.
    async fn at_once(&self, set: &mut ChangeSet, until: Instant) -> FirstTry {
        let shared = &self.shared;
        let clients = clients_of(set);
        let is_sweep = |it: &SessionEnd| matches!(it, SessionEnd::Swept(_));
        let (1, false) = (
            clients.len(),
            set.clients.iter().any(|it| is_sweep(&it.end)),
        ) else {
            return FirstTry::InLine;
        };
        if shared.heard.epoch() != shared.settings.load().version {
            return FirstTry::InLine;
        }
        let known = clients.iter().map(|client| {
            let rows = lock(&shared.cache).get(*client)?;
            Some((*client, rows))
        });
        let Some(rows): Option<RowsByClient> = known.collect() else {
            return FirstTry::InLine;
        };
        let epoch = shared.settings.load().version;
        // What the known rows say against it, the newest may not say.
        let Planned {
            version,
            plan: Ok(plan),
            ..
        } = self.plan(set, &rows)
        else {
            return FirstTry::InLine;
        };
        let mut writes = plan.writes.iter();
        let (Some((_, write)), None) = (writes.next(), writes.next()) else {
            return FirstTry::InLine;
        };
        if !write.spilled.is_empty() || write.rows.stored.is_none() {
            return FirstTry::InLine;
        }
        if let Err(error) = self.admit_new(&plan) {
            return FirstTry::Ended(CommitEnd::Failed(error, None));
        }
        let change = PlannedChange { version, plan };
        self.send(set, change, (epoch, until)).await
    }

    /// Writes the only row of a plan by one statement.
    async fn send(
        &self,
        set: &mut ChangeSet,
        PlannedChange { version, plan }: PlannedChange,
        (epoch, until): (u64, Instant),
    ) -> FirstTry {
        let shared = &self.shared;
        let Some((client, write)) = plan.writes.first_key_value() else {
            return FirstTry::InLine;
        };
        let connection = match shared.connection(until).await {
            Ok(connection) => connection,
            Err(failure) => {
                self.give_back_new(&plan);
                return FirstTry::Ended(CommitEnd::Failed(failure.into_error(), None));
            }
        };
        let statement = match write.base.stored {
            Some(_) => Statement::Change,
            None => Statement::Found,
        };
        let request = write_row(&connection, statement, *client, write, epoch);
        match shared.within(until, request).await {
            Ok(1) if !connection.is_unconfirmed() => {
                connection.give_back();
                FirstTry::Ended(self.committed(set, plan))
            }
            Ok(0) => {
                connection.give_back();
                self.give_back_new(&plan);
                FirstTry::InLine
            }
            Err(failure @ (Failure::Again(_) | Failure::NotSent(_))) => {
                connection.after(&failure);
                self.give_back_new(&plan);
                FirstTry::InLine
            }
            Err(Failure::Refused(error)) => {
                connection.give_back();
                self.give_back_new(&plan);
                FirstTry::Ended(CommitEnd::Failed(error, None))
            }
            Ok(_) | Err(Failure::Lost(_)) => {
                connection.give_up();
                self.give_back_new(&plan);
                FirstTry::Lost(LostCommit { version, plan })
            }
        }
    }
}
