//! The committer: takes whatever waits, makes it durable as one group, has checkpoints made, and opens the
//! files again when storage failed (C2.13).

mod leader;
mod recovery;
mod tasks;

pub(crate) use crate::storage::redb::commit::committer::leader::CommitLeader;

use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::quota::Quota;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::checkpoint::checkpointer::{Checkpointer, CheckpointerTask};
use crate::storage::redb::checkpoint::task::{Checkpoint, ContainerBefore, Databases};
use crate::storage::redb::commit::batch::{BatchExtras, BatchWrites, CommitBatch};
use crate::storage::redb::commit::errors::{gone, reopening};
use crate::storage::redb::commit::member::{Member, not_written};
use crate::storage::redb::commit::queue::{CommitJob, MAX_GROUP_BYTES, QueueJob};
use crate::storage::redb::commit::touches;
use crate::storage::redb::commit_number;
use crate::storage::redb::failure;
use crate::storage::redb::failure::guarded;
use crate::storage::redb::journal::{AppendFailure, Journal, JournalRef, Recovered};
use crate::storage::redb::memtable::read_view::{ReadView, TableReaders};
use crate::storage::redb::memtable::row_key::{RowKey, RowWrite};
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::memtable::table::Memtable;
use crate::storage::redb::memtable::write_batch::WriteBatch;
use crate::storage::redb::open::enter::{JournalAtOpening, OpenedStore};
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::{EngineCounters, EngineShared, JournalRules};
use crate::storage::{ContainerId, Outcome};
use crate::throttle::Throttle;
use redb::Database;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long a touch may wait; the promise is a second (C3.4).
const TOUCH_WAIT: Duration = Duration::from_millis(500);
/// How long snapshots from before redb was opened again may keep it from being written while somebody waits
/// for that.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether they still do.
const LOOKED: Duration = Duration::from_millis(20);
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// The same for a checkpoint that meets a damage: trying it again seldom helps, and everyone has to wait
/// while the file is opened again after that.
const LAST_RETRY_IN_VAIN: Duration = Duration::from_secs(60);
/// From this much of the bounds on, groups are held up.
const SLOWED: f64 = 0.75;
/// And before, whoever is in no hurry.
const PRESSED: f64 = 0.7;
/// How long a group is held up at most while a checkpoint falls behind, before it has to wait for that.
const SLOWEST: Duration = Duration::from_millis(4);

fn outcome_unknown(cause: Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "storage failed while the commit was made durable; it may or may not be kept",
    )
    .with_source(cause)
}

fn no_room() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the journal is full, and what is in it cannot be brought into the store's file",
    )
}

/// Commits with their outcomes, to be told when nothing is locked: whoever waits runs code of his own.
type CommitAnswers = Vec<(CommitJob, Outcome)>;

/// What failed while a group was committed.
enum BatchFailure {
    /// The journal's file cannot grow.
    NoRoom(Error),
    /// A row could not be read.
    Redb(Error),
    /// The frame could not be written, or not be synced.
    Unknown(Error),
}

impl From<AppendFailure> for BatchFailure {
    fn from(failed: AppendFailure) -> Self {
        match failed {
            AppendFailure::NoRoom(cause) => Self::NoRoom(cause),
            AppendFailure::Unknown(cause) => Self::Unknown(cause),
        }
    }
}

/// Answers everyone when the thread ends, however it ends.
struct AnswerOnExit(Arc<EngineShared>);

impl Drop for AnswerOnExit {
    fn drop(&mut self) {
        let jobs = self.0.queue.end();
        self.0.io.end_backpressure();
        if let Some(last) = self.0.published.swap(None) {
            last.expire();
        }
        QueueJob::refuse_all(jobs, &gone());
    }
}

/// The memory half of a group that changed both file and memory, and whose outcome is unknown: it counts
/// if the journal holds the other half (C1.7).
struct MemoryHalf {
    frame: u64,
    rows: Vec<RowWrite>,
}

/// Where the databases of a store are kept.
pub(crate) struct DatabaseLocations {
    pub(crate) location: Option<Location>,
    pub(crate) file: Disk,
    pub(crate) memory: Disk,
}

pub(crate) struct Committer {
    shared: Arc<EngineShared>,
    options: OpenOptions,
    rules: JournalRules,
    places: DatabaseLocations,
    checkpointer: Checkpointer,
    /// What the checkpointer is to do, and the commit that must be in redb before it does.
    tasks: VecDeque<(CheckpointerTask, u64)>,
    /// A checkpoint was made since the last of them.
    is_tasks_turn: bool,
    /// None while they are checked out by the checkpointer, or not open.
    databases: Option<Databases>,
    is_lent: bool,
    /// The newest state; none where it has to be read from the journal again.
    newest: Option<ReadView>,
    /// Whether the databases have to be opened again.
    is_broken: bool,
    /// There was no room to open the files for writing.
    waits_for_room: bool,
    /// Since when there may be snapshots of databases that were let go.
    orphaned: Option<Instant>,
    /// None where there is no file, or after a failure of its own.
    journal: Option<(Journal, JournalRef)>,
    /// Its files, and what is left of it after a failure.
    known: JournalAtOpening,
    /// A checkpoint that failed, and when to try it again.
    unfinished: Option<(Checkpoint, Instant)>,
    retry: Duration,
    /// All commits up to this one are in redb.
    drained: u64,
    /// Since when the active memtable has rows.
    begun: Option<Instant>,
    /// The commit that was the newest when it began.
    active_from: u64,
    /// Rows that only this process has, kept while the files are opened again.
    kept: Vec<RowWrite>,
    half: Option<MemoryHalf>,
    before: Option<ContainerBefore>,
    /// Unregistered containers whose rows are being removed, and the commit after which there are no new
    /// ones.
    retired: Vec<(ContainerId, u64)>,
    /// After which tombstone those that have had their time are looked for next.
    bury_after: Option<RowKey>,
    /// What comes next does not fit into what is left of the bounds of the active memtable.
    is_crowded: bool,
    number: u64,
    quota: Option<Quota>,
    touched: Option<(Instant, Moment)>,
    answers: CommitAnswers,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<EngineShared>,
        options: OpenOptions,
        rules: JournalRules,
        places: DatabaseLocations,
        (file, memory): (Database, Database),
        (entered, known): (OpenedStore, JournalAtOpening),
        quota: Option<Quota>,
    ) -> Result<Self> {
        let identity = &entered.identity;
        // Numbers grow within a process and from one opening of the file to the next.
        let number = commit_number::first_of(identity.epoch);
        let mut committer = Self {
            checkpointer: Checkpointer::start(Arc::downgrade(&shared))?,
            shared,
            options: OpenOptions {
                verify: false,
                ..options
            },
            rules,
            places,
            tasks: VecDeque::new(),
            is_tasks_turn: false,
            databases: None,
            is_lent: false,
            newest: None,
            is_broken: false,
            waits_for_room: false,
            orphaned: None,
            journal: None,
            known: JournalAtOpening {
                is_reopened: true,
                ..known
            },
            unfinished: None,
            retry: FIRST_RETRY,
            drained: 0,
            begun: None,
            active_from: 0,
            kept: Vec::new(),
            half: None,
            before: None,
            retired: identity.retired.iter().map(|id| (*id, number)).collect(),
            bury_after: None,
            is_crowded: false,
            number,
            quota,
            touched: None,
            answers: CommitAnswers::new(),
        };
        let places = &committer.places;
        let databases = Databases {
            file,
            memory,
            disks: [places.file.clone(), places.memory.clone()],
            life: Arc::default(),
            step: options.step(),
        };
        let (databases, readers) = failure::guarded_on(databases, Databases::readers)?;
        let lacks_room = committer.places.location.is_some() && entered.journal.is_none();
        committer.begin(databases, readers, entered.journal, &entered.recovered)?;
        if lacks_room {
            committer.wait_for_room();
        }
        Ok(committer)
    }

    /// Goes on with what was recovered.
    fn begin(
        &mut self,
        databases: Databases,
        readers: TableReaders,
        journal: Option<(Journal, JournalRef)>,
        recovered: &Recovered,
    ) -> Result<()> {
        let active = Memtable::default();
        let number = self.number;
        let put = |row: RowWrite| active.put(row, number, number);
        for (key, value) in recovered.frames.iter().flat_map(|(_, rows)| rows) {
            let key = RowKey::parse(key)
                .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a row of the journal is damaged"))?;
            let value = value.clone();
            put(RowWrite { key, value });
        }
        std::mem::take(&mut self.kept).into_iter().for_each(put);
        if let Some(half) = self.half.take()
            && half.frame <= recovered.last
        {
            half.rows.into_iter().for_each(put);
        }
        self.begun = (!active.is_empty()).then(Instant::now);
        self.active_from = number;
        self.databases = Some(databases);
        self.waits_for_room = false;
        self.journal = journal;
        self.tell_journal();
        self.show(ReadView {
            number,
            base: number,
            pending: None,
            active: Arc::new(active),
            frozen: None,
            readers,
        });
        Ok(())
    }

    /// What there is to do between groups.
    fn upkeep(&mut self) {
        if self.touches_due() {
            self.flush();
        }
        // In the foreground, checkpoints come with the commits that they are due with.
        if !self.rules.in_the_foreground || !self.tasks.is_empty() {
            self.give_tasks();
        }
        self.update_backpressure();
        self.expire_snapshots();
    }

    /// Whether any of that cannot wait for the deadline.
    fn needs_upkeep(&self) -> bool {
        self.touches_due() || (self.filled() >= 1.0 && !self.is_lent)
    }

    fn take_answers(&mut self) -> CommitAnswers {
        std::mem::take(&mut self.answers)
    }

    fn refuse(&mut self, jobs: Vec<CommitJob>, error: &Error) {
        let refused = |job| (job, Outcome::Failed(error.clone(), None));
        self.answers.extend(jobs.into_iter().map(refused));
    }

    fn serve(&mut self, jobs: Vec<QueueJob>) {
        let mut group = Vec::new();
        for job in jobs {
            let (task, after) = match job {
                QueueJob::Commit(job) => {
                    group.push(job);
                    continue;
                }
                QueueJob::Configure(settings, reply) => {
                    (CheckpointerTask::Configure(settings, reply), 0)
                }
                QueueJob::Reclaim(refusals, reply) => {
                    let retire = BatchExtras {
                        retire: Some(refusals),
                        bury_after: self.bury_after.take(),
                        ..BatchExtras::default()
                    };
                    let buried = self.commit(Vec::new(), retire);
                    if self.has_nothing_to_reclaim() {
                        drop(reply.send(Ok(buried)));
                        continue;
                    }
                    let task = CheckpointerTask::Reclaim {
                        refusals,
                        retired: None,
                        buried,
                        reply,
                    };
                    (task, 0)
                }
                QueueJob::Freeze(reply) => {
                    let disks = [self.places.file.clone(), self.places.memory.clone()];
                    // It need not come first: what is not in redb yet is looked at, too.
                    let is_vain = self.unfinished.is_some() || self.orphaned.is_some();
                    let after = if is_vain { 0 } else { self.number };
                    let task = CheckpointerTask::Freeze {
                        disks,
                        newer: Default::default(),
                        reply,
                    };
                    (task, after)
                }
                QueueJob::Checkpoint(reply) => (CheckpointerTask::Nothing(reply), self.number),
            };
            self.tasks.push_back((task, after));
        }
        if !group.is_empty() {
            self.commit(group, BatchExtras::default());
        }
    }

    /// Whether redb is certain to hold nothing to be reclaimed, and there is no need to wait for a
    /// checkpoint that is being made. Tombstones that are not in redb are buried by a commit.
    fn has_nothing_to_reclaim(&self) -> bool {
        let newest = self.newest.as_ref().filter(|_| !self.is_broken);
        let has_tombstones = |newest: &ReadView| newest.has_tombstones_in_redb().unwrap_or(true);
        self.retired.is_empty() && newest.is_some_and(|newest| !has_tombstones(newest))
    }

    /// Writes the touches that wait.
    fn flush(&mut self) {
        let flush = BatchExtras {
            flush: true,
            ..BatchExtras::default()
        };
        self.commit(Vec::new(), flush);
        if self.shared.touches.len() > 0 {
            // New ones, or there was no room: later.
            self.touched = Some((Instant::now(), self.shared.clock.moment()));
        }
    }

    /// Commits jobs, in as many groups as what they write makes; they are to be answered. Tells how many
    /// tombstones were buried.
    fn commit(&mut self, jobs: Vec<CommitJob>, besides: BatchExtras) -> u64 {
        let (mut left, buried) = self.commit_group(jobs, besides);
        while !left.is_empty() {
            (left, _) = self.commit_group(left, BatchExtras::default());
        }
        buried
    }

    /// How many bytes fit into what is left of the bounds of the active memtable, in its file and in memory.
    fn room(&self) -> usize {
        let newest = self.newest.as_ref();
        let used = newest.map_or(0, |newest| newest.active.memory_size());
        let memory = (self.rules.memory / 2).saturating_sub(used);
        let journal = self.journal.as_ref();
        let file = journal.map_or(u64::MAX, |(journal, _)| journal.room());
        usize::try_from(file).map_or(memory, |file| file.min(memory))
    }

    /// After how many bytes a group ends: so that it stays within the bounds, but is not too small.
    fn enough(&self) -> usize {
        let JournalRules { size, memory, .. } = self.rules;
        let least = usize::try_from(size).map_or(memory, |size| size.min(memory)) / 32;
        let most = MAX_GROUP_BYTES.min(self.rules.largest_group);
        self.room().max(least).min(most)
    }

    /// Commits as many of the jobs as make a group; gives the others back.
    fn commit_group(
        &mut self,
        jobs: Vec<CommitJob>,
        besides: BatchExtras,
    ) -> (Vec<CommitJob>, u64) {
        // What is larger than all the room there ever is gets in where nothing else is.
        let first = jobs.first().map_or(0, CommitJob::bytes);
        let is_used = |newest: &ReadView| !newest.active.is_empty();
        self.is_crowded = first > self.room() && self.newest.as_ref().is_some_and(is_used);
        self.slow_down();
        self.is_crowded = false;
        let newest = match &self.newest {
            Some(newest) if !self.is_broken => newest,
            _ => {
                self.refuse(jobs, &reopening());
                return (Vec::new(), 0);
            }
        };
        if self.filled() >= 1.0 && newest.frozen.is_some() {
            self.refuse(jobs, &no_room());
            return (Vec::new(), 0);
        }
        self.number += 1;
        let before = newest.number;
        let layers = ReadView {
            number: self.number,
            pending: Some(Arc::new(WriteBatch::over(&newest.active))),
            ..newest.clone()
        };
        let quota_before = self.quota.clone();
        let enough_bytes = self.enough();
        let mut group = CommitBatch {
            shared: &self.shared,
            layers: &layers,
            quota: self.quota.as_mut(),
            retired: &self.retired,
            bytes: 0,
            enough_bytes,
            most_bytes: self.rules.largest_group,
            written: BatchWrites::default(),
        };
        let mut members = Vec::with_capacity(jobs.len());
        let gathered = guarded(|| group.gather(jobs, &besides, &mut members));
        let mut written = group.written;
        let (left, result) = match gathered {
            Ok(left) => {
                let result = self.make_durable(&written, &layers);
                (left, result.map_err(BatchFailure::from))
            }
            Err(e) => (Vec::new(), Err(BatchFailure::Redb(e))),
        };
        let wrote = !written.file.is_empty();
        let mut buried = 0;
        match result {
            Ok(()) => {
                let touches = std::mem::take(&mut written.touches);
                let accesses = std::mem::take(&mut written.accesses);
                let touched = written.touched;
                buried = written.buried;
                self.bury_after = written.bury_after.take();
                if !written.is_empty() {
                    self.show_written(written, layers, before);
                }
                // Only now, or a session that begins in between would see neither.
                self.shared.touches.settle(&touches);
                accesses.into_iter().for_each(|it| self.shared.touch(it));
                if !touches.is_empty() {
                    self.touched = None;
                }
                EngineCounters::add(&self.shared.counters.touches, touched);
                let first = self.answers.len();
                self.answers.extend(members.into_iter().map(Member::ended));
                self.count(self.answers.get(first..).unwrap_or_default());
            }
            Err(trouble) => {
                let error = self.fail(trouble, written, quota_before);
                let answers = members.into_iter().map(|member| member.failed(&error));
                self.answers.extend(answers);
            }
        }
        // Who looks now sees what was committed, or that it was not.
        self.shared.touches.release();
        if self.rules.in_the_foreground && wrote {
            self.give_tasks();
        }
        (left, buried)
    }

    /// Lets go of what failed, and says what that means to those whose changes were in the group.
    fn fail(&mut self, trouble: BatchFailure, written: BatchWrites, quota: Option<Quota>) -> Error {
        let error = match trouble {
            BatchFailure::NoRoom(cause) => {
                self.quota = quota;
                let error = not_written(cause);
                static FULL: Throttle = Throttle::new(1);
                if let Some(left_out) = FULL.pass() {
                    tracing::error!(%error, left_out, "the journal cannot grow");
                }
                return error;
            }
            BatchFailure::Redb(cause) => {
                self.quota = quota;
                self.lose_databases();
                not_written(cause)
            }
            BatchFailure::Unknown(cause) => {
                self.half = self.journal.as_ref().map(|(journal, _)| MemoryHalf {
                    frame: journal.last() + 1,
                    rows: written.memory,
                });
                self.lose_journal();
                outcome_unknown(cause)
            }
        };
        tracing::error!(%error, "a commit failed; reopening the store");
        error
    }

    fn make_durable(
        &mut self,
        written: &BatchWrites,
        layers: &ReadView,
    ) -> Result<(), AppendFailure> {
        if written.file.is_empty() {
            return Ok(());
        }
        if self.shared.bugs.shows_early() {
            let rows = written.file.iter().chain(&written.memory);
            let pending = layers.pending.iter();
            pending.for_each(|pending| rows.clone().for_each(|row| pending.put(row.clone())));
            self.show(layers.clone());
        }
        let Some((journal, _)) = &mut self.journal else {
            return match self.places.location {
                Some(_) => Err(AppendFailure::NoRoom(reopening())),
                None => Ok(()),
            };
        };
        journal.append(&written.file)?;
        self.tell_journal();
        Ok(())
    }

    /// How much of the bounds of a memtable is used: 1 is all of it.
    fn filled(&self) -> f64 {
        let Some(newest) = &self.newest else {
            return 0.0;
        };
        if self.is_crowded {
            return 1.0;
        }
        let journal = self.journal.as_ref();
        let journal = journal.map_or(0.0, |(journal, _)| journal.filled());
        let memory = newest.active.memory_size() as f64 / (self.rules.memory / 2).max(1) as f64;
        journal.max(memory)
    }

    /// How much of the bounds of both memtables is used while a checkpoint is being made, else 0.
    fn used(&self) -> f64 {
        let newest = self.newest.as_ref();
        match newest.and_then(|newest| newest.frozen.as_ref()) {
            Some(_) => (1.0 + self.filled()) / 2.0,
            None => 0.0,
        }
    }

    /// Holds a group up while checkpoints do not keep pace: from three quarters of the bound on for the
    /// longer the more is used, and at the bound until there is room.
    fn slow_down(&mut self) {
        let used = self.used();
        if used > SLOWED && used < 1.0 {
            let over = (used - SLOWED) / (1.0 - SLOWED);
            std::thread::sleep(SLOWEST.mul_f64(over));
            self.collect();
        }
        while self.filled() >= 1.0 {
            if !self.is_lent {
                self.give_tasks();
            }
            // A checkpoint that begins makes room at once; one that goes on has to end.
            if !self.is_lent || self.filled() < 1.0 {
                break;
            }
            self.await_keeper();
        }
    }

    /// Tells whoever is in no hurry to wait, before groups are held up. A checkpoint that failed is nothing to
    /// wait for.
    fn update_backpressure(&self) {
        if self.is_lent && self.used() > PRESSED {
            self.shared.io.begin_backpressure();
        } else {
            self.shared.io.end_backpressure();
        }
    }

    fn count(&self, answers: &[(CommitJob, Outcome)]) {
        let tally = &self.shared.counters;
        let committed = |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Committed(_));
        let conflicted =
            |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Failed(e, _) if e.is_conflict());
        let commits = answers.iter().filter(committed).count() as u64;
        EngineCounters::add(&tally.commits, commits);
        EngineCounters::add(
            &tally.conflicts,
            answers.iter().filter(conflicted).count() as u64,
        );
        if commits > 0 {
            EngineCounters::add(&tally.groups, 1);
        }
        metrics::counter!("cloakroom_commits_total").increment(commits);
    }

    /// Shows a state to all that begin from now on.
    fn show(&mut self, layers: ReadView) {
        let owner: Weak<EngineShared> = Arc::downgrade(&self.shared);
        let snapshot = RedbSnapshot::new(layers.clone(), owner);
        let number = layers.number;
        self.newest = Some(layers);
        let old = self.shared.published.swap(Some(Arc::new(snapshot)));
        // Whoever comes in between counts as having come before.
        self.shared.shown.store(number, Ordering::Release);
        if let Some(old) = old {
            let now = self.shared.clock.moment();
            self.shared.superseded.add(&old, now);
        }
    }

    /// Shows what a group wrote on the state of the commit `before` it.
    fn show_written(&mut self, written: BatchWrites, mut layers: ReadView, before: u64) {
        self.begun.get_or_insert_with(Instant::now);
        let oldest = self.oldest_read(before);
        let pending = layers.pending.take();
        written.apply(&layers.active, layers.number, oldest);
        for (key, record) in pending.iter().flat_map(|pending| pending.found()) {
            layers.active.put_copy(&key, record);
        }
        self.show(layers);
    }

    /// The oldest commit as of which somebody reads the active memtable, up to one. Snapshots from before it
    /// began do not.
    fn oldest_read(&self, newest: u64) -> u64 {
        let oldest = self.shared.superseded.oldest_since(self.active_from);
        oldest.map_or(newest, |oldest| oldest.min(newest))
    }

    /// The same state, from newer tables.
    fn show_readers(&mut self, readers: TableReaders) {
        if let Some(newest) = self.newest.as_ref().filter(|_| !self.is_broken) {
            self.show(ReadView {
                readers,
                ..newest.clone()
            });
        }
    }

    fn tell_journal(&self) {
        let len = self
            .journal
            .as_ref()
            .map_or(0, |(journal, _)| journal.len());
        self.shared
            .counters
            .journal_len
            .store(len, Ordering::Relaxed);
    }

    /// When there is something to do although nobody asks.
    fn deadline(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.is_broken {
            return Some(now);
        }
        if self.shared.touches.len() > 0 && self.touched.is_none() {
            self.touched = Some((now, self.shared.clock.moment()));
        }
        let touches = self.touched.map(|(since, _)| since + TOUCH_WAIT);
        let snapshots = self.shared.superseded.first().map(|since| {
            let age = self.shared.clock.moment().since(since);
            let left = self.shared.snapshot_max_age.saturating_sub(age);
            now + left.clamp(Duration::from_millis(10), Duration::from_secs(3600))
        });
        // While the databases are checked out, their return is what wakes this thread.
        let begun = self.begun.filter(|_| !self.is_lent);
        let checkpoint = match &self.unfinished {
            Some((_, at)) => Some(*at).filter(|_| !self.is_lent),
            None => begun.and_then(|begun| begun.checked_add(self.rules.interval)),
        };
        let checkpoint = match self.orphaned {
            Some(_) => Some(checkpoint.map_or(now, |at| at.max(now)) + LOOKED),
            None => checkpoint,
        };
        touches.into_iter().chain(snapshots).chain(checkpoint).min()
    }

    fn touches_due(&self) -> bool {
        let waiting = self.shared.touches.len();
        waiting >= touches::MANY
            || (waiting > 0
                && self.touched.is_some_and(|(since, then)| {
                    since.elapsed() >= TOUCH_WAIT
                        || self.shared.clock.moment().since(then) >= TOUCH_WAIT
                }))
    }

    /// Takes back snapshots that were superseded too long ago (C2.14).
    fn expire_snapshots(&mut self) {
        let now = self.shared.clock.moment();
        let max_age = self.shared.snapshot_max_age;
        self.shared.superseded.expire(now, max_age);
    }
}
