//! Commits of one client each that wait for a connection. Those that wait at the same time are written by one statement, in
//! which each takes place or not by itself. Several of one client are computed one on top of the other, and take place
//! together or not at all.

use super::client_rows::StoredClient;
use super::committer::{CommitEnd, FirstTry, LostCommit, PgCommitter, Planned, WaitingCommit};
use super::connection::Connection;
use super::current::RowsByClient;
use super::failure::{Failure, unavailable};
use super::pipeline::{Request, all as all_of};
use super::plan::CommitPlan;
use super::shared::lock;
use super::statements::Statement;
use super::write_terms::WriteTerms;
use super::writes::{ClientRowWrite, write_many, write_row};
use crate::client_id::ClientKey;
use crate::contain::contain_future;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// How many connections are used for batches at most.
pub(super) const WRITERS: usize = 4;

/// The part of the deadline that a statement has at least, however late the first of its changes came to be sent.
const SHARE: u32 = 4;

/// A change that is admitted, and its number.
struct PlannedChange {
    waiting: WaitingCommit,
    version: u64,
    plan: CommitPlan,
}

/// The changes of one client, in their order. Each starts from the rows of the one before.
struct ClientChanges {
    /// The rows that all replace.
    base: Arc<StoredClient>,
    /// The rows that the last makes.
    rows: Arc<StoredClient>,
    /// The packages with rows of their own that all write together.
    spilled: BTreeMap<Vec<u8>, Bytes>,
    changes: Vec<PlannedChange>,
}

type BatchedClients = BTreeMap<ClientKey, ClientChanges>;

/// The clients whose rows a statement has written.
type Written = Result<BTreeSet<ClientKey>, Failure>;

impl PgCommitter {
    /// Writes what waits, until the engine is closed.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            // Those that arrive at the same time as the first go with it.
            tokio::task::yield_now().await;
            let claimed = lock(&self.waiting).claim();
            if claimed.is_empty() {
                self.arrived.notified().await;
                continue;
            }
            let clients: BTreeSet<_> = claimed.iter().map(|(client, _)| *client).collect();
            let written = contain_future(self.write(claimed)).await;
            if written.is_none() {
                tracing::error!("a panic while commits were written: they are answered as unknown");
            }
            if lock(&self.waiting).release(clients) {
                self.arrived.notify_one();
            }
        }
    }

    async fn write(&self, claimed: Vec<(ClientKey, WaitingCommit)>) {
        let epoch = self.shared.settings.load().version;
        let is_new = self.shared.heard.epoch() == epoch;
        let mut all = BatchedClients::new();
        let mut until = None;
        for (client, waiting) in claimed {
            let end = waiting.until;
            match waiting {
                late if end <= Instant::now() => {
                    let error = unavailable("the server does not answer in time");
                    late.reply(FirstTry::Ended(CommitEnd::Failed(error, None)));
                }
                other if !is_new => other.reply(FirstTry::InLine),
                waiting => {
                    if self.plan_next(&mut all, client, waiting) {
                        until = Some(until.map_or(end, |until: Instant| until.min(end)));
                    }
                }
            }
        }
        if let Some(until) = until {
            self.send(all, (epoch, until)).await;
        }
    }

    /// Plans a change set on top of those of the same client before it. Returns whether it is written with them.
    fn plan_next(
        &self,
        all: &mut BatchedClients,
        client: ClientKey,
        waiting: WaitingCommit,
    ) -> bool {
        if self.gates.has_lost(client) {
            waiting.reply(FirstTry::InLine);
            return false;
        }
        let before = all.get(&client);
        let known = match before {
            Some(before) => Some(before.rows.clone()),
            None => lock(&self.shared.cache).get(client),
        };
        let Some(known) = known else {
            waiting.reply(FirstTry::InLine);
            return false;
        };
        let base = before.map_or_else(|| known.clone(), |before| before.base.clone());
        // What the known rows say against it, the newest may not say.
        let Planned {
            version,
            plan: Ok(mut plan),
            ..
        } = self.plan(&waiting.set, &RowsByClient::from([(client, known)]))
        else {
            waiting.reply(FirstTry::InLine);
            return false;
        };
        let is_single = plan.writes.len() == 1;
        let Some(write) = plan.writes.get_mut(&client).filter(|_| is_single) else {
            waiting.reply(FirstTry::InLine);
            return false;
        };
        // No statement both writes and removes rows of packages: not every engine can.
        let spilled = write.spilled.iter();
        let spilled = spilled.map(|(place, body)| Some((place.clone(), body.clone()?)));
        let (Some(spilled), true) = (
            spilled.collect::<Option<BTreeMap<_, _>>>(),
            write.rows.stored.is_some(),
        ) else {
            waiting.reply(FirstTry::InLine);
            return false;
        };
        // If it is lost, this is the version that it replaces.
        write.base = base.clone();
        let rows = write.rows.clone();
        if let Err(error) = self.admit_new(&plan) {
            waiting.reply(FirstTry::Ended(CommitEnd::Failed(error, None)));
            return false;
        }
        let changes = all.entry(client).or_insert_with(|| ClientChanges {
            base,
            rows: rows.clone(),
            spilled: BTreeMap::new(),
            changes: Vec::new(),
        });
        changes.rows = rows;
        changes.spilled.extend(spilled);
        changes.changes.push(PlannedChange {
            waiting,
            version,
            plan,
        });
        true
    }

    async fn send(&self, all: BatchedClients, (epoch, until): (u64, Instant)) {
        let shared = &self.shared;
        let connection = match shared.connection_to_write(until).await {
            Ok(connection) => connection,
            Err(failure) => return self.answer_unsent(all, &failure),
        };
        // One whose time is nearly over must not take that of the others.
        let until = until.max(Instant::now() + shared.rules.server.deadline / SHARE);
        shared.counters.groups.fetch_add(1, Ordering::Relaxed);
        let groups = grouped(all);
        let terms = shared.write_terms(epoch, until);
        let mut ends: Vec<Option<Written>> = groups.iter().map(|_| None).collect();
        let written = shared.within(until, async {
            let statements: Vec<_> = groups.iter().map(statement).collect();
            connection.prepare_all(&statements).await?;
            // All are sent before the first is answered.
            let flight = groups.iter().zip(&mut ends).map(|(group, end)| {
                let request = async {
                    *end = Some(write_group(&connection, group, terms).await);
                    Ok(())
                };
                Box::pin(request) as Request<'_>
            });
            all_of(flight.collect()).await
        });
        let written = written.await;
        let is_lost = |end: &Option<Written>| {
            matches!(
                end,
                None | Some(Err(Failure::Lost(_) | Failure::NotSent(_)))
            )
        };
        let is_unconfirmed = connection.is_unconfirmed();
        match is_unconfirmed || ends.iter().any(is_lost) {
            true => connection.give_up(),
            false => connection.give_back(),
        }
        for (group, end) in groups.into_iter().zip(ends) {
            let end = match (end, &written) {
                (_, _) if is_unconfirmed => Err(Failure::Lost(unavailable("not confirmed"))),
                (Some(end), _) => end,
                (None, Ok(()) | Err(Failure::Lost(_))) => {
                    Err(Failure::Lost(unavailable("there is no answer")))
                }
                (None, Err(_)) => Err(Failure::NotSent(unavailable("nothing was sent"))),
            };
            self.answer(group, &end);
        }
    }

    /// Answers changes for which there was no connection. Those that came later have time left.
    fn answer_unsent(&self, all: BatchedClients, failure: &Failure) {
        let now = Instant::now();
        for change in all.into_values().flat_map(|it| it.changes) {
            self.give_back_new(&change.plan);
            let has_time = failure.may_be_repeated() && change.waiting.until > now;
            let end = || CommitEnd::Failed(failure.error().clone(), None);
            change.waiting.reply(match has_time {
                true => FirstTry::InLine,
                false => FirstTry::Ended(end()),
            });
        }
    }

    /// Tells each change of a statement how it ended.
    fn answer(&self, all: BatchedClients, end: &Written) {
        let is_alone = all.values().map(|it| it.changes.len()).sum::<usize>() == 1;
        for (client, changes) in all {
            for change in changes.changes {
                let PlannedChange {
                    mut waiting,
                    version,
                    plan,
                } = change;
                let end = match end {
                    Ok(written) if written.contains(&client) => {
                        FirstTry::Ended(self.committed(&mut waiting.set, plan))
                    }
                    Err(Failure::Lost(_)) => {
                        self.give_back_new(&plan);
                        FirstTry::Lost(LostCommit::new(&self.gates, version, plan))
                    }
                    Err(Failure::Refused(error)) if is_alone => {
                        self.give_back_new(&plan);
                        FirstTry::Ended(CommitEnd::Failed(error.clone(), None))
                    }
                    // What the server says against one change is no answer to the others.
                    Ok(_) | Err(_) => {
                        self.give_back_new(&plan);
                        FirstTry::InLine
                    }
                };
                waiting.reply(end);
            }
        }
    }
}

/// The changes that one statement writes each: those of new clients, those of others, and each with large packages.
fn grouped(all: BatchedClients) -> Vec<BatchedClients> {
    let (small, large): (BatchedClients, BatchedClients) =
        all.into_iter().partition(|(_, it)| it.spilled.is_empty());
    let (new, old): (BatchedClients, BatchedClients) = small
        .into_iter()
        .partition(|(_, it)| it.base.stored.is_none());
    let large = large.into_iter().map(|it| BatchedClients::from([it]));
    let mut groups: Vec<_> = [new, old].into_iter().chain(large).collect();
    groups.retain(|group| !group.is_empty());
    groups
}

/// The statement that writes a group.
fn statement(group: &BatchedClients) -> Statement {
    let mut all = group.values();
    let is_new = all.clone().any(|it| it.base.stored.is_none());
    let is_large = all.any(|it| !it.spilled.is_empty());
    match (is_new, is_large, group.len()) {
        (true, true, _) => Statement::FoundLarge,
        (false, true, _) => Statement::ChangeLarge,
        (true, false, 1) => Statement::Found,
        (true, false, _) => Statement::FoundMany,
        (false, false, 1) => Statement::Change,
        (false, false, _) => Statement::ChangeMany,
    }
}

/// Writes a group. Returns the clients whose rows are written.
async fn write_group(
    connection: &Connection,
    group: &BatchedClients,
    terms: WriteTerms,
) -> Written {
    let rows = group.iter();
    let rows = rows.filter_map(|(client, it)| ClientRowWrite::new(*client, &it.base, &it.rows));
    let rows: Vec<_> = rows.collect();
    let statement = statement(group);
    let mut spilled = group.values().map(|it| &it.spilled);
    match (&*rows, spilled.next()) {
        ([row], Some(spilled)) => {
            let count = write_row(connection, statement, (row, spilled), terms).await?;
            Ok((count > 0).then_some(row.client).into_iter().collect())
        }
        (rows, _) => write_many(connection, statement, rows, terms).await,
    }
}
