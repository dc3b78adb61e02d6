//! The committer itself: its state, the jobs that it serves, and its work between jobs.

use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::quota::SharedQuota;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::checkpoint::checkpointer::{Checkpointer, CheckpointerTask};
use crate::storage::redb::checkpoint::task::StoreDatabase;
use crate::storage::redb::commit::batch::BatchExtras;
use crate::storage::redb::commit::committer::state::{ActiveMemtable, CommitterState, LiveRows};
use crate::storage::redb::commit::job::{CommitJob, QueueJob};
use crate::storage::redb::commit::kept_back::KeptBack;
use crate::storage::redb::commit::touches;
use crate::storage::redb::commit_number;
use crate::storage::redb::failure;
use crate::storage::redb::journal::{Journal, JournalRef, Recovered};
use crate::storage::redb::memtable::read_view::{ReadView, TableReaders};
use crate::storage::redb::memtable::row_key::{RowKey, RowWrite};
use crate::storage::redb::memtable::table::Memtable;
use crate::storage::redb::open::enter::{JournalAtOpening, OpenedStore};
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::{EngineShared, JournalRules};
use crate::storage::{ContainerId, ForeignCommit, Outcome};
use redb::Database;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a touch may wait; the promise is a second (C3.4).
const TOUCH_WAIT: Duration = Duration::from_millis(500);
/// How often the committer checks whether snapshots from before redb was reopened still exist.
const ORPHANS_CHECKED: Duration = Duration::from_millis(20);
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(10);
pub(super) const LAST_RETRY: Duration = Duration::from_secs(1);

/// Commits with their outcomes. They are answered when nothing is locked, as the answer runs the application's code.
pub(super) type CommitAnswers = Vec<(CommitJob, Outcome)>;

/// Where the database of a store is kept.
pub(crate) struct DatabaseLocation {
    pub(crate) location: Option<Location>,
    pub(crate) file: Disk,
}

/// The one that writes: it serves the jobs of the queue.
pub(crate) struct Committer {
    pub(super) shared: Arc<EngineShared>,
    pub(super) options: OpenOptions,
    pub(super) rules: JournalRules,
    pub(super) database: DatabaseLocation,
    pub(super) checkpointer: Checkpointer,
    pub(super) state: CommitterState,
    /// The journal's files, and the rest of the journal after a failure.
    pub(super) known: JournalAtOpening,
    pub(super) tasks: WaitingTasks,
    /// Since when there may be snapshots of a database that was dropped.
    pub(super) orphaned: Option<Instant>,
    /// The wait before a checkpoint that failed is tried again.
    pub(super) retry: Duration,
    /// Unregistered containers whose rows are being removed, each with the last commit that may have added some.
    pub(super) retired: Vec<(ContainerId, u64)>,
    /// The search for old tombstones goes on after this one.
    pub(super) settle_after: Option<RowKey>,
    /// The number of the last commit.
    pub(super) number: u64,
    /// How many sessions may still be founded, where that is limited.
    pub(super) quota: Option<SharedQuota>,
    /// How many rows the last batch encrypted again, or why it failed.
    #[cfg(feature = "encryption")]
    pub(super) resealed: Result<u64>,
    /// Since when touches wait.
    pub(super) touched: Option<(Instant, Moment)>,
    pub(super) answers: CommitAnswers,
    /// The rows that checkpoints cannot bring into the file.
    pub(super) kept_back: KeptBack,
}

/// The tasks for the checkpointer.
#[derive(Default)]
pub(super) struct WaitingTasks {
    /// Each with the commit that must be in redb before the task is done.
    pub(super) line: VecDeque<(CheckpointerTask, u64)>,
    /// All commits up to this one are in redb.
    pub(super) drained: u64,
    pub(super) turn: TaskTurn,
}

/// The next step if a checkpoint is due and a task waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TaskTurn {
    #[default]
    Checkpoint,
    /// A checkpoint was made since the last task.
    Task,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<EngineShared>,
        options: OpenOptions,
        rules: JournalRules,
        database: DatabaseLocation,
        file: Database,
        (entered, known): (OpenedStore, JournalAtOpening),
        quota: Option<SharedQuota>,
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
            database,
            state: CommitterState::unread(),
            known: JournalAtOpening {
                is_reopened: true,
                ..known
            },
            tasks: WaitingTasks::default(),
            orphaned: None,
            retry: FIRST_RETRY,
            retired: identity.retired.iter().map(|id| (*id, number)).collect(),
            settle_after: None,
            number,
            quota,
            #[cfg(feature = "encryption")]
            resealed: Ok(0),
            touched: None,
            answers: CommitAnswers::new(),
            kept_back: KeptBack::new(rules),
        };
        let database = committer.database(file, options.step());
        let (database, readers) = failure::guarded_on(database, StoreDatabase::readers)?;
        let lacks_space = committer.database.location.is_some() && entered.journal.is_none();
        let (rows, _) = committer.recover(readers, entered.journal, &entered.recovered)?;
        committer.begin(rows, database);
        if lacks_space {
            committer.wait_for_space();
        }
        Ok(committer)
    }

    pub(super) fn database(&self, file: Database, step: usize) -> StoreDatabase {
        StoreDatabase {
            file,
            disk: self.database.file.clone(),
            life: Arc::default(),
            cipher: self.shared.cipher.clone(),
            copies: (self.database.location.as_ref()).map(|_| self.shared.io.copies().clone()),
            step,
        }
    }

    /// The rows of the journal, and the parts in memory of a batch of which only the journal knew whether it counts.
    pub(super) fn recover(
        &mut self,
        readers: TableReaders,
        journal: Option<(Journal, JournalRef)>,
        recovered: &Recovered,
    ) -> Result<(Box<LiveRows>, Vec<ForeignCommit>)> {
        let active = Memtable::default();
        let number = self.number;
        let put = |row: RowWrite| active.put(row, number, number);
        for (key, value) in recovered.frames.iter().flat_map(|(_, rows)| rows) {
            let key = RowKey::parse(key)
                .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a row of the journal is damaged"))?;
            let value = value.clone();
            put(RowWrite { key, value });
        }
        let unknown = self.state.take_unknown();
        let found = unknown.filter(|batch| batch.frame <= recovered.last);
        let since = (!active.is_empty()).then(Instant::now);
        let rows = Box::new(LiveRows {
            view: ReadView {
                number,
                base: number,
                pending: None,
                active: Arc::new(active),
                immutable: None,
                readers,
            },
            journal,
            active: ActiveMemtable {
                since,
                ..ActiveMemtable::after(number)
            },
            unfinished: None,
        });
        Ok((rows, found.map(|batch| batch.foreign).unwrap_or_default()))
    }

    /// Opens the store to commits.
    pub(super) fn begin(&mut self, rows: Box<LiveRows>, database: StoreDatabase) {
        let view = rows.view.clone();
        self.state.open(rows, database);
        self.count_journal_len();
        self.show(view);
    }

    /// Does the work that is due between batches.
    pub(super) fn upkeep(&mut self) {
        if self.touches_due() {
            self.flush();
        }
        // In the foreground, checkpoints come with the commits that they are due with.
        if !self.rules.in_the_foreground || !self.tasks.line.is_empty() {
            self.give_tasks();
        }
        self.update_backpressure();
        self.expire_snapshots();
    }

    /// Whether any of that cannot wait for the deadline.
    pub(super) fn needs_upkeep(&self) -> bool {
        self.touches_due() || (self.filled() >= 1.0 && !self.state.is_checked_out())
    }

    pub(super) fn take_answers(&mut self) -> CommitAnswers {
        std::mem::take(&mut self.answers)
    }

    /// Commits the change sets of the jobs, and puts the others in line for the checkpointer.
    pub(super) fn serve(&mut self, jobs: Vec<QueueJob>) {
        let mut commits = Vec::new();
        for job in jobs {
            let (task, after) = match job {
                QueueJob::Commit(job) => {
                    commits.push(job);
                    continue;
                }
                QueueJob::Configure(settings, reply) => {
                    (CheckpointerTask::Configure(settings, reply), 0)
                }
                QueueJob::Reclaim(refusals, reply) => {
                    let retire = BatchExtras {
                        retire: Some(refusals),
                        settle_after: self.settle_after.take(),
                        ..BatchExtras::default()
                    };
                    let settled = self.commit(Vec::new(), retire);
                    if self.has_nothing_to_reclaim() {
                        drop(reply.send(Ok(settled)));
                        continue;
                    }
                    let task = CheckpointerTask::Reclaim {
                        refusals,
                        retired: None,
                        settled,
                        reply,
                    };
                    (task, 0)
                }
                QueueJob::Inspect(reply) => {
                    let disk = self.database.file.clone();
                    // A checkpoint need not come first: the rows that are not in redb yet are inspected, too.
                    let rows = self.state.rows();
                    let has_unfinished = rows.is_some_and(|rows| rows.unfinished.is_some());
                    let is_vain = has_unfinished || self.orphaned.is_some();
                    let after = if is_vain { 0 } else { self.number };
                    let task = CheckpointerTask::Inspect {
                        disk,
                        newer: Default::default(),
                        reply,
                    };
                    (task, after)
                }
                #[cfg(feature = "encryption")]
                QueueJob::Reseal(rows, reply) => {
                    drop(reply.send(self.reseal(rows)));
                    continue;
                }
                #[cfg(feature = "encryption")]
                QueueJob::FinishReseal(reply) => {
                    if !self.retired.is_empty() {
                        drop(reply.send(Ok(false)));
                        continue;
                    }
                    (CheckpointerTask::FinishReseal(reply), self.number)
                }
                QueueJob::Checkpoint(reply) => (CheckpointerTask::Nothing(reply), self.number),
                QueueJob::KeepSnapshot(reply) => {
                    drop(reply.send(self.keep_snapshot()));
                    continue;
                }
            };
            self.tasks.line.push_back((task, after));
        }
        if !commits.is_empty() {
            self.commit(commits, BatchExtras::default());
        }
    }

    /// Whether redb is certain to hold nothing to be reclaimed, so that the caller need not wait for a running
    /// checkpoint. A commit removes the tombstones that are not in redb.
    fn has_nothing_to_reclaim(&self) -> bool {
        let has_tombstones = |rows: &LiveRows| rows.view.has_tombstones_in_redb().unwrap_or(true);
        let rows = self.state.open_rows();
        self.retired.is_empty() && rows.is_some_and(|rows| !has_tombstones(rows))
    }

    /// Writes the touches that wait.
    pub(super) fn flush(&mut self) {
        let flush = BatchExtras {
            flush: true,
            ..BatchExtras::default()
        };
        self.commit(Vec::new(), flush);
        if self.shared.touches.len() > 0 {
            // They are new, or there was no space for them: they wait for the next flush.
            self.touched = Some((Instant::now(), self.shared.clock.moment()));
        }
    }

    /// When there is something to do although no job comes.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let Some(rows) = self.state.open_rows() else {
            return Some(now);
        };
        if self.shared.touches.len() > 0 && self.touched.is_none() {
            self.touched = Some((now, self.shared.clock.moment()));
        }
        let touches = self.touched.map(|(since, _)| since + TOUCH_WAIT);
        let snapshots = self.shared.snapshots.first().map(|since| {
            let age = self.shared.clock.moment().since(since);
            let left = self.shared.snapshot_max_age.saturating_sub(age);
            now + left.clamp(Duration::from_millis(10), Duration::from_secs(3600))
        });
        // While the checkpointer has the database, its return wakes this thread.
        let is_here = self.state.has_database();
        let checkpoint = match &rows.unfinished {
            Some((_, at)) => Some(*at).filter(|_| is_here),
            None => {
                let since = rows.active.since.filter(|_| is_here);
                since.and_then(|since| since.checked_add(self.rules.interval))
            }
        };
        let checkpoint = match self.orphaned {
            Some(_) => Some(checkpoint.map_or(now, |at| at.max(now)) + ORPHANS_CHECKED),
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
}
