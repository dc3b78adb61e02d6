//! The checkpointer: the thread that writes to redb while commits go on. It gets the database with each task, and
//! returns it with the result. It decides nothing.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::EngineShared;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::checkpoint::configure::SettingsBefore;
use crate::storage::redb::checkpoint::task::{Checkpoint, Step, StoreDatabase, StuckRows, Trees};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::integrity::inspect::InspectionSnapshot;
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::journal::JournalFile;
use crate::storage::redb::memtable::read_view::TableReaders;
use crate::storage::redb::memtable::table::Memtable;
use crate::storage::redb::reply::Reply;
use crate::storage::{ContainerId, SettingsChange, StoreSettings, TombstonePolicy};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A task that needs redb.
pub(crate) enum CheckpointerTask {
    Checkpoint(Checkpoint),
    Configure(SettingsChange, Reply<Arc<StoreSettings>>),
    Reclaim {
        refusals: TombstonePolicy,
        retired: Option<ContainerId>,
        /// How many tombstones a commit has removed already.
        settled: u64,
        reply: Reply<u64>,
    },
    Inspect {
        disk: Disk,
        /// The rows over redb when the task is done.
        newer: NewerRows,
        reply: Reply<InspectionSnapshot>,
    },
    /// Notes that all rows are encrypted with the current key.
    #[cfg(feature = "encryption")]
    FinishReseal(Reply<bool>),
    /// Does nothing: the caller waits for the checkpoint that comes first.
    Nothing(Reply<()>),
}

impl CheckpointerTask {
    /// Answers that the task will not be done.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Checkpoint(_) => {}
            Self::Configure(_, reply) => drop(reply.send(Err(error))),
            #[cfg(feature = "encryption")]
            Self::FinishReseal(reply) => drop(reply.send(Err(error))),
            Self::Nothing(reply) => drop(reply.send(Err(error))),
            Self::Reclaim { reply, .. } => drop(reply.send(Err(error))),
            Self::Inspect { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// The result of a task.
pub(crate) enum TaskReport {
    Checkpoint(CheckpointOutcome),
    Configure {
        result: Result<(Arc<StoreSettings>, TableReaders)>,
        before: Option<SettingsBefore>,
        reply: Reply<Arc<StoreSettings>>,
    },
    Reclaim {
        result: Result<(u64, bool, TableReaders)>,
        reply: Reply<u64>,
    },
    #[cfg(feature = "encryption")]
    FinishReseal {
        result: Result<TableReaders>,
        reply: Reply<bool>,
    },
    Nothing,
}

pub(crate) enum CheckpointOutcome {
    Done {
        /// The last commit that it brought into redb, and the last one at that time.
        number: u64,
        up_to: u64,
        file: Option<JournalFile>,
        readers: TableReaders,
    },
    /// redb cannot put these rows. The checkpoint goes on without them, once they are in the journal again.
    Stuck(StuckRows, Checkpoint),
    /// The part that could not be read can be read now. The checkpoint goes on when the database is open again.
    Cured(Checkpoint),
    /// The checkpoint is tried again when the database is open again.
    Failed(Error, Checkpoint),
    /// All rows are in redb, but the journal's file cannot be used again.
    Spoilt(Error),
}

pub(crate) struct ReturnedDatabase {
    pub(crate) database: StoreDatabase,
    pub(crate) report: TaskReport,
}

/// Does a task on this thread.
pub(crate) fn perform(
    database: StoreDatabase,
    task: CheckpointerTask,
    shared: &EngineShared,
) -> ReturnedDatabase {
    let io = &shared.io;
    let report = match task {
        CheckpointerTask::Checkpoint(checkpoint) => {
            TaskReport::Checkpoint(make_checkpoint(&database, checkpoint, shared))
        }
        CheckpointerTask::Configure(change, reply) => {
            let mut before = None;
            let old = shared.settings.load_full();
            let result = guarded(|| {
                let new = match old.changed(&change)? {
                    Some(new) => Arc::new(new),
                    None => return Ok((old.clone(), database.readers()?)),
                };
                database.configure(&change, (&old, &new), io, &mut before)?;
                Ok((new, database.readers()?))
            });
            TaskReport::Configure {
                result,
                before,
                reply,
            }
        }
        CheckpointerTask::Reclaim {
            refusals,
            retired,
            settled,
            reply,
        } => {
            let result = guarded(|| {
                let (removed, is_empty) = database.reclaim(refusals, retired, io)?;
                Ok((removed + settled, is_empty, database.readers()?))
            });
            TaskReport::Reclaim { result, reply }
        }
        CheckpointerTask::Inspect { disk, newer, reply } => {
            let reopened = shared.counters.reopened.load(Ordering::Relaxed);
            let snapshot =
                guarded(|| InspectionSnapshot::new(disk, &database.file, newer, reopened));
            drop(reply.send(snapshot));
            TaskReport::Nothing
        }
        #[cfg(feature = "encryption")]
        CheckpointerTask::FinishReseal(reply) => {
            let result = guarded(|| {
                database.finish_reseal(io)?;
                database.readers()
            });
            TaskReport::FinishReseal { result, reply }
        }
        CheckpointerTask::Nothing(reply) => {
            drop(reply.send(Ok(())));
            TaskReport::Nothing
        }
    };
    ReturnedDatabase { database, report }
}

fn make_checkpoint(
    database: &StoreDatabase,
    mut checkpoint: Checkpoint,
    shared: &EngineShared,
) -> CheckpointOutcome {
    let unreadable = shared.io.unreadable();
    if unreadable.is_readable_again() {
        return CheckpointOutcome::Cured(checkpoint);
    }
    let was_expected = unreadable.is_expected();
    let (number, up_to) = (checkpoint.number, checkpoint.up_to);
    let begun = Instant::now();
    let _span = tracing::debug_span!("cloakroom.checkpoint", commit = up_to).entered();
    let done = guarded(|| {
        let step = database.checkpoint(&checkpoint, &shared.io, shared.faults)?;
        Ok(match step {
            Step::Done => Ok(database.readers()?),
            Step::Stuck(rows) => Err(rows),
        })
    });
    match done {
        Ok(Ok(readers)) => {
            metrics::histogram!("cloakroom_checkpoint_seconds").record(begun.elapsed());
            if checkpoint.left.keys.is_empty() {
                unreadable.note_no_damage();
            } else {
                unreadable.note_damage();
            }
            match guarded(|| checkpoint.file.map(JournalFile::reset).transpose()) {
                Ok(file) => CheckpointOutcome::Done {
                    number,
                    up_to,
                    file,
                    readers,
                },
                Err(error) => CheckpointOutcome::Spoilt(error),
            }
        }
        Ok(Err(rows)) => CheckpointOutcome::Stuck(rows, checkpoint),
        Err(error) => {
            if error.kind() == ErrorKind::Corrupt {
                unreadable.note_damage();
                if was_expected {
                    checkpoint.left.trees = Trees::Whole;
                }
            }
            database.life.end();
            CheckpointOutcome::Failed(error, checkpoint)
        }
    }
}

/// How often the checkpointer looks for retired memtables that have no reader left.
const LOOK: Duration = Duration::from_millis(200);
const NEVER: Duration = Duration::from_secs(86_400);

enum CheckpointerJob {
    Task(Box<(StoreDatabase, CheckpointerTask)>),
    /// A memtable whose rows are in redb. It is dropped here when it has no reader left, as dropping takes a while.
    Retire(Arc<Memtable>),
}

/// The thread's handle.
pub(crate) struct Checkpointer {
    jobs: Option<Sender<CheckpointerJob>>,
    reports: Receiver<ReturnedDatabase>,
    thread: Option<JoinHandle<()>>,
}

fn stopped() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the thread of checkpoints has stopped",
    )
}

impl Checkpointer {
    pub(crate) fn start(shared: Weak<EngineShared>) -> Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("cloakroom-checkpoint".into())
            .spawn(move || run(&queue, &report, &shared))
            .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))?;
        Ok(Self {
            jobs: Some(jobs),
            reports,
            thread: Some(thread),
        })
    }

    /// Checks the database out to the checkpointer for a task. If its thread has ended, both are dropped.
    pub(crate) fn start_task(&self, database: StoreDatabase, task: CheckpointerTask) -> Result<()> {
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        let job = CheckpointerJob::Task(Box::new((database, task)));
        jobs.send(job).map_err(|_| stopped())
    }

    /// Drops a memtable when it has no reader left.
    pub(crate) fn retire(&self, memtable: Arc<Memtable>) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(CheckpointerJob::Retire(memtable));
        }
    }

    /// The database and the result of the task, if it is done.
    pub(crate) fn returned(&self) -> Option<ReturnedDatabase> {
        self.reports.try_recv().ok()
    }

    /// Waits for the task to be done.
    pub(crate) fn wait(&self) -> Result<ReturnedDatabase> {
        self.reports.recv().map_err(|_| stopped())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Lets committing threads run first where there are fewer processors than threads. On other systems than Linux this
/// would lower the priority of the whole process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "checkpoints have the same priority as commits");
    }
}

fn run(
    queue: &Receiver<CheckpointerJob>,
    report: &Sender<ReturnedDatabase>,
    shared: &Weak<EngineShared>,
) {
    lower_priority();
    let mut retired: Vec<Arc<Memtable>> = Vec::new();
    loop {
        let wait = if retired.is_empty() { NEVER } else { LOOK };
        let job = queue.recv_timeout(wait);
        retired.retain(|memtable| Arc::strong_count(memtable) > 1);
        let job = match job {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match job {
            CheckpointerJob::Retire(memtable) => retired.push(memtable),
            CheckpointerJob::Task(checked_out) => {
                let (database, task) = *checked_out;
                let Some(shared) = shared.upgrade() else {
                    return;
                };
                let done = report.send(perform(database, task, &shared));
                shared.queue.wake();
                if done.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;
    use std::time::Instant;

    #[test]
    fn what_nobody_reads_is_let_go_although_more_keeps_coming() {
        let checkpointer = Checkpointer::start(Weak::new()).unwrap();
        let read = Arc::new(Memtable::default());
        let held = Arc::downgrade(&read);
        checkpointer.retire(read.clone());
        let flood = |time: Duration, is_over: &dyn Fn() -> bool| {
            let end = Instant::now() + time;
            while !is_over() && Instant::now() < end {
                checkpointer.retire(Arc::default());
                sleep(Duration::from_millis(5));
            }
        };
        flood(2 * LOOK, &|| held.strong_count() < 2);
        assert_eq!(held.strong_count(), 2, "somebody reads it");
        drop(read);
        flood(Duration::from_secs(30), &|| held.strong_count() == 0);
        assert_eq!(held.strong_count(), 0);
    }
}
