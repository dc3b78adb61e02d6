//! A commit behind the locks of its rows, in two flights of statements: the first locks and reads the rows, the second
//! writes them. It also looks up what became of a commit whose answer was lost, and keeps that from taking effect later.

use super::backoff::Backoff;
use super::client_gates::GatePass;
use super::committer::{CommitEnd, LostCommit, PgCommitter, Planned, clients_of};
use super::connection::{Param, SqlKey};
use super::current::RowsByClient;
use super::event::ENDS_KEPT;
use super::failure::{Failure, unavailable};
use super::load::LoadedClients;
use super::locked::check_locked;
use super::pipeline::{Request, all};
use super::pool::Borrowed;
use super::seen::encode_seen;
use super::shared::Shared;
use super::statements::Statement;
use super::sweeps::is_of_sweep;
use super::writes::{remove, renumber, requests};
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::ChangeSet;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// The statements of the first flight, and of the second. They are prepared before they are sent together.
const PREPARED: &[Statement] = &[
    Statement::Place,
    Statement::Lock,
    Statement::LoadOne,
    Statement::LoadMany,
    Statement::LoadSwept,
    Statement::Insert,
    Statement::Replace,
    Statement::Remove,
    Statement::DropPackages,
    Statement::PutPackages,
    Statement::Note,
];

/// So many attempts come without a pause, if the server refuses none: each finds out what the next one needs.
const AT_ONCE: u64 = 4;

/// A commit that waits for the locks of its rows.
pub(super) struct InLine<'a> {
    committer: &'a PgCommitter,
    until: Instant,
    /// Earlier attempts whose outcome is not known.
    lost: Vec<LostCommit>,
    /// Clients that the change set concerns, and does not name.
    more: BTreeSet<ClientKey>,
    /// Clients that were absent. A row stands for each while its absence must last.
    absent: BTreeSet<ClientKey>,
    /// Whether the change set is committed if no earlier attempt took place.
    commits: bool,
}

/// How one attempt ended.
enum Attempt {
    Ended(CommitEnd),
    Again,
}

/// What became of a lost commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LookedUp {
    TookPlace,
    /// It did not, and will not if its rows get other versions now.
    DidNot,
    Unknown,
}

impl<'a> InLine<'a> {
    pub(super) fn new(committer: &'a PgCommitter, until: Instant, lost: Vec<LostCommit>) -> Self {
        let absent = lost.iter().flat_map(LostCommit::absent).collect();
        Self {
            committer,
            until,
            lost,
            more: BTreeSet::new(),
            absent,
            commits: true,
        }
    }

    /// Only finds out what became of earlier attempts. If none took place, none will afterwards.
    pub(super) fn looking_up(
        committer: &'a PgCommitter,
        until: Instant,
        lost: Vec<LostCommit>,
    ) -> Self {
        Self {
            commits: false,
            ..Self::new(committer, until, lost)
        }
    }

    /// Commits. If the outcome is not known, and the server can be asked later, this also gives the attempts to ask for.
    pub(super) async fn commit(mut self, set: &mut ChangeSet) -> (CommitEnd, Vec<LostCommit>) {
        let end = self.run(set).await;
        let lost = match &end {
            CommitEnd::Failed(error, _) if error.kind() == ErrorKind::OutcomeUnknown => self.lost,
            _ => Vec::new(),
        };
        (end, lost)
    }

    async fn run(&mut self, set: &mut ChangeSet) -> CommitEnd {
        let late = || unavailable("the server does not answer in time");
        let pass = match self.lost.is_empty() {
            true => GatePass::Commit,
            false => GatePass::LookUp,
        };
        let gates = &self.committer.gates;
        let inside = gates.enter(self.clients(set), pass, self.until).await;
        let Some(_inside) = inside else {
            return CommitEnd::Failed(self.known(late()), None);
        };
        let (mut why, mut backoff) = (None, Backoff::after_second());
        for turn in 1_u64.. {
            let mut is_refused = turn > AT_ONCE;
            match self.attempt(set).await {
                Ok(Attempt::Ended(end)) => return end,
                Ok(Attempt::Again) => {}
                Err(failure) if !failure.may_be_repeated() => {
                    return CommitEnd::Failed(self.known(failure.into_error()), None);
                }
                Err(failure) => {
                    why = Some(failure.into_error());
                    is_refused = true;
                }
            }
            let goes_on = match is_refused {
                true => backoff.pause(self.until).await,
                false => Instant::now() < self.until,
            };
            if !goes_on {
                break;
            }
        }
        let error = self.known(why.unwrap_or_else(late));
        CommitEnd::Failed(error, None)
    }

    /// The error of a commit that is given up.
    fn known(&self, error: Error) -> Error {
        match self.lost.is_empty() {
            true => error,
            false => unknown().with_source(error),
        }
    }

    fn clients(&self, set: &ChangeSet) -> BTreeSet<ClientKey> {
        let lost = self.lost.iter().flat_map(LostCommit::replaced);
        let lost = lost.map(|(client, _)| client);
        let all = clients_of(set).into_iter().chain(lost);
        all.chain(self.more.iter().copied()).collect()
    }

    async fn attempt(&mut self, set: &mut ChangeSet) -> Result<Attempt, Failure> {
        let shared = &self.committer.shared;
        if shared.heard.epoch() != shared.settings.load().version {
            let settings = shared.load_settings().await;
            settings.map_err(|error| match error.kind() {
                ErrorKind::Unavailable => Failure::NotSent(error),
                _ => Failure::Refused(error),
            })?;
        }
        let clients: Vec<_> = self.clients(set).into_iter().collect();
        let connection = shared.connection_to_write(self.until).await?;
        let begun = shared.within(self.until, self.begin(&connection, &clients, set));
        let loaded = match begun.await {
            Ok(loaded) => loaded,
            Err(failure @ (Failure::Again(_) | Failure::Refused(_))) => {
                self.roll_back(connection).await;
                return Err(failure);
            }
            Err(failure) => {
                connection.give_up();
                return Err(failure);
            }
        };
        let mut rows = RowsByClient::new();
        for (client, found) in loaded {
            match found {
                Ok(found) => drop(rows.insert(client, found)),
                Err(error) => {
                    self.roll_back(connection).await;
                    let error = self.known(error);
                    // Damaged rows will not tell, either.
                    self.lost.clear();
                    return Ok(Attempt::Ended(CommitEnd::Failed(error, Some(client))));
                }
            }
        }
        let found: Vec<_> = self.lost.iter().map(|lost| lost.look_up(&rows)).collect();
        if let Some(at) = found.iter().position(|it| *it == LookedUp::TookPlace) {
            let lost = self.lost.swap_remove(at);
            return self.confirm(set, lost, connection, &rows).await;
        }
        if found.contains(&LookedUp::Unknown) {
            self.roll_back(connection).await;
            // Nor does the server know later.
            self.lost.clear();
            return Ok(Attempt::Ended(CommitEnd::Failed(unknown(), None)));
        }
        let absent = rows.iter().filter(|(_, rows)| rows.stored.is_none());
        let absent: BTreeSet<_> = absent.map(|(client, _)| *client).collect();
        let epoch = shared.settings.load().version;
        if shared.heard.epoch() != epoch || (rows.len() > 1 && !absent.is_empty()) {
            self.absent.extend(absent);
            self.roll_back(connection).await;
            return Ok(Attempt::Again);
        }
        if !self.commits {
            self.fence(connection, &rows).await?;
            let error = Error::new(ErrorKind::NotWritten, "the commit did not take place");
            return Ok(Attempt::Ended(CommitEnd::Failed(error, None)));
        }
        self.decide(set, connection, &rows).await
    }

    /// The first flight.
    async fn begin(
        &self,
        connection: &Borrowed,
        clients: &[ClientKey],
        set: &ChangeSet,
    ) -> Result<LoadedClients, Failure> {
        connection.prepare_all(PREPARED).await?;
        let shared = &self.committer.shared;
        let begin = Shared::begin(self.until);
        let keys: Vec<_> = clients.iter().copied().map(SqlKey).collect();
        let absent: Vec<_> = self.absent.iter().copied().map(SqlKey).collect();
        let versions = absent.iter().map(|_| shared.version().cast_signed());
        let versions: Vec<_> = versions.collect();
        let seen = self.absent.iter().map(|client| encode_seen(*client, &[]));
        let seen = seen.collect::<Result<Vec<_>>>()?;
        let sweep_at = (shared.now() + ENDS_KEPT).0;
        let (mut locked, mut loaded) = (Vec::new(), None);
        let mut flight: Vec<Request<'_>> = vec![Box::pin(connection.simple(&begin))];
        if !absent.is_empty() {
            flight.push(Box::pin(async {
                let params: [Param<'_>; 4] = [&absent, &versions, &seen, &sweep_at];
                connection.run(Statement::Place, &params).await?;
                Ok(())
            }));
        }
        flight.push(Box::pin(async {
            locked = connection.run(Statement::Lock, &[&keys]).await?;
            Ok(())
        }));
        flight.push(Box::pin(async {
            loaded = Some(match is_of_sweep(set) {
                true => shared.fetch_swept(connection, clients).await?,
                false => shared.fetch(connection, clients).await?,
            });
            Ok(())
        }));
        all(flight).await?;
        let loaded =
            loaded.ok_or_else(|| Failure::NotSent(unavailable("the server gave no answer")));
        loaded.and_then(|loaded| check_locked(&locked, &loaded).map(|()| loaded))
    }

    /// Computes the commit from the locked rows, and writes them.
    async fn decide(
        &mut self,
        set: &mut ChangeSet,
        connection: Borrowed,
        rows: &RowsByClient,
    ) -> Result<Attempt, Failure> {
        let committer = self.committer;
        let Planned {
            version,
            plan,
            missing,
            lowered,
        } = committer.plan(set, rows);
        if !missing.is_empty() {
            self.more.extend(missing);
            self.roll_back(connection).await;
            return Ok(Attempt::Again);
        }
        let plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                self.fence(connection, rows).await?;
                self.committer.lower(rows, lowered).await;
                return Ok(Attempt::Ended(refusal.into()));
            }
        };
        if let Err(error) = committer.admit_new(&plan) {
            self.fence(connection, rows).await?;
            return Ok(Attempt::Ended(CommitEnd::Failed(error, None)));
        }
        let shared = &committer.shared;
        let epoch = shared.settings.load().version;
        shared.counters.groups.fetch_add(1, Ordering::Relaxed);
        let terms = shared.write_terms(epoch, self.until);
        let written = shared.within(self.until, async {
            let writes = plan.writes.iter().map(|(client, write)| (*client, write));
            let mut flight = requests(&connection, writes, terms);
            flight.extend(self.fences(&connection, rows, |it| plan.writes.contains_key(&it)));
            flight.push(Box::pin(connection.simple("COMMIT")) as Request<'_>);
            all(flight).await
        });
        match written.await {
            Ok(()) if !connection.is_unconfirmed() => {
                connection.give_back();
                Ok(Attempt::Ended(committer.committed(set, plan)))
            }
            Err(failure @ (Failure::Again(_) | Failure::Refused(_))) => {
                // The server has rolled it back.
                connection.give_back();
                committer.give_back_new(&plan);
                Err(failure)
            }
            lost => {
                connection.give_up();
                committer.give_back_new(&plan);
                self.note_lost(LostCommit::new(&committer.gates, version, plan));
                lost.map(|()| Attempt::Again)
            }
        }
    }

    /// Notes that the outcome of a commit is not known. Looking it up has time of its own.
    fn note_lost(&mut self, lost: LostCommit) {
        if self.lost.is_empty() {
            self.until = self.committer.shared.deadline();
        }
        self.absent.extend(lost.absent());
        self.lost.push(lost);
    }

    /// The statements after which no earlier attempt of this commit can take effect, and those that remove the rows that
    /// stand for absent clients.
    fn fences<'c>(
        &self,
        connection: &'c Borrowed,
        rows: &'c RowsByClient,
        is_written: impl Fn(ClientKey) -> bool,
    ) -> Vec<Request<'c>> {
        let shared = &self.committer.shared;
        let is_fenced = |client: &ClientKey| {
            let mut lost = self.lost.iter().flat_map(LostCommit::replaced);
            lost.any(|(it, _)| it == *client)
        };
        let (mut fences, mut placed) = (Vec::new(), Vec::new());
        for (client, rows) in rows {
            let Some(row) = rows.stored.as_ref().filter(|_| !is_written(*client)) else {
                continue;
            };
            if is_fenced(client) {
                let version = shared.version();
                fences.push(renumber(
                    connection,
                    *client,
                    (row, version),
                    row.seen.clone(),
                ));
            } else if self.absent.contains(client) && rows.stands_for_absence() {
                placed.push((*client, row));
            }
        }
        if !placed.is_empty() {
            fences.push(remove(connection, placed));
        }
        fences
    }

    /// Ends a transaction that writes nothing of the change set.
    async fn fence(&self, connection: Borrowed, rows: &RowsByClient) -> Result<(), Failure> {
        if self.lost.is_empty() {
            self.roll_back(connection).await;
            return Ok(());
        }
        let mut flight = self.fences(&connection, rows, |_| false);
        flight.push(Box::pin(connection.simple("COMMIT")));
        let fenced = self.committer.shared.within(self.until, all(flight)).await;
        match &fenced {
            Ok(()) => connection.give_back(),
            Err(failure) => connection.after(failure),
        }
        fenced
    }

    /// A lost commit took place. A standby may not have it yet: a commit after it waits for the standby. One that has left no
    /// row has removed what was over: nobody misses it.
    async fn confirm(
        &mut self,
        set: &mut ChangeSet,
        lost: LostCommit,
        connection: Borrowed,
        rows: &RowsByClient,
    ) -> Result<Attempt, Failure> {
        self.lost.push(lost);
        let mut flight = self.fences(&connection, rows, |_| false);
        flight.push(Box::pin(connection.simple("COMMIT")));
        let confirmed = self.committer.shared.within(self.until, all(flight)).await;
        match confirmed {
            Ok(()) => {
                let is_confirmed = !connection.is_unconfirmed();
                match is_confirmed {
                    true => connection.give_back(),
                    false => connection.give_up(),
                }
                // Everybody sees it. It is only not acknowledged.
                if !is_confirmed && self.commits {
                    return Ok(Attempt::Ended(CommitEnd::Failed(unknown(), None)));
                }
                let lost = self.lost.pop().ok_or_else(unknown)?;
                Ok(Attempt::Ended(self.committer.committed(set, lost.plan)))
            }
            Err(failure) => {
                connection.after(&failure);
                Err(failure)
            }
        }
    }

    async fn roll_back(&self, connection: Borrowed) {
        let rolled_back = connection.simple("ROLLBACK");
        match self.committer.shared.within(self.until, rolled_back).await {
            Ok(()) => connection.give_back(),
            Err(_) => connection.give_up(),
        }
    }
}

impl LostCommit {
    fn absent(&self) -> BTreeSet<ClientKey> {
        let absent = self.replaced().filter(|(_, version)| version.is_none());
        absent.map(|(client, _)| client).collect()
    }

    /// What became of it, by the locked rows. A row names its last versions, so a commit that came right after one of
    /// them and is not named did not take place.
    fn look_up(&self, rows: &RowsByClient) -> LookedUp {
        let (mut is_known, mut is_named) = (true, false);
        for (client, replaced) in self.replaced() {
            let Some(rows) = rows.get(&client) else {
                return LookedUp::Unknown;
            };
            if rows.is_or_was(self.version) {
                return LookedUp::TookPlace;
            }
            if self.removes(client) && (rows.stored.is_none() || rows.stands_for_absence()) {
                continue;
            }
            is_named = true;
            is_known &= match replaced {
                Some(replaced) => rows.is_or_was(replaced),
                None => rows.names_all_versions(),
            };
        }
        match (is_named, is_known) {
            // It only removed rows, and they are gone, by this commit or by another.
            (false, _) => LookedUp::TookPlace,
            (true, true) => LookedUp::DidNot,
            (true, false) => LookedUp::Unknown,
        }
    }

    /// Whether it leaves no row of a client.
    fn removes(&self, client: ClientKey) -> bool {
        let write = self.plan.writes.get(&client);
        write.is_some_and(|write| write.rows.stored.is_none())
    }
}

pub(super) fn unknown() -> Error {
    let why = "the connection to the server was lost during the commit, and what became of it cannot be found out";
    Error::new(ErrorKind::OutcomeUnknown, why)
}
