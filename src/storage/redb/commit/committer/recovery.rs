//! Drops state after a failure of the committer, opens the files again, and closes the store.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::ForeignCommit;
use crate::storage::redb::EngineCounters;
use crate::storage::redb::checkpoint::checkpointer::CheckpointerTask;
use crate::storage::redb::checkpoint::task::{Checkpoint, LeftOut, Step, StoreDatabase};
use crate::storage::redb::commit::committer::core::{Committer, FIRST_RETRY, LAST_RETRY};
use crate::storage::redb::commit::committer::state::{DatabaseHolder, UnknownBatch};
use crate::storage::redb::commit::errors::{full, reopening};
use crate::storage::redb::commit::job::QueueJob;
use crate::storage::redb::commit::taker::OtherLeaders;
use crate::storage::redb::failure::{self, guarded};
use crate::storage::redb::open::database::reopen;
use crate::storage::redb::open::enter::enter;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long snapshots from before redb was reopened may keep it from being written while somebody waits for that.
const PATIENCE: Duration = Duration::from_secs(1);

fn stays_in_the_journal(rows: usize) -> Error {
    let why = "a part of the store's file cannot be read, and";
    let what = "rows that belong there stay in the journal, whose files are left beside it";
    Error::new(ErrorKind::Corrupt, format!("{why} {rows} {what}"))
}

impl Committer {
    /// Drops the database after a failure. The rows stay in the journal and in memory. Snapshots are read past redb
    /// from now on, until redb is written again.
    pub(super) fn lose_database(&mut self) {
        let holder = self.state.fail();
        self.count_broken();
        // No checkpoint ends it.
        self.shared.io.end_backpressure();
        if let Some(rows) = self.state.rows() {
            rows.view.readers.life.end();
        }
        match holder {
            Some(DatabaseHolder::Committer(database)) => self.drop_database(database),
            Some(DatabaseHolder::Checkpointer) => {
                if let Ok(returned) = self.checkpointer.wait() {
                    self.drop_database(returned.database);
                    // If the task failed, too, there is nothing more to drop.
                    drop(self.settle(returned.report));
                }
            }
            None => {}
        }
        for (task, _) in self.tasks.line.drain(..) {
            task.refuse(reopening());
        }
    }

    /// Drops the database without closing it.
    pub(super) fn drop_database(&mut self, database: StoreDatabase) {
        database.life.end();
        failure::discard(database);
        self.orphaned.get_or_insert_with(Instant::now);
    }

    /// Opens the files for writing as after a failure. Until then the published snapshot can be read.
    pub(super) fn wait_for_space(&mut self) {
        self.lose_database();
        self.state.lack_space();
    }

    fn count_broken(&self) {
        let counter = &self.shared.counters.is_read_only;
        counter.store(!self.state.is_open(), Ordering::Relaxed);
    }

    /// Whether redb may be written. Since redb was reopened it does not know of older snapshots, and would use their
    /// pages again. So it waits for their end, but not for ever if somebody waits for it.
    pub(super) fn may_write(&mut self) -> bool {
        let Some(since) = self.orphaned else {
            return true;
        };
        self.shared.snapshots.expire_kept_orphans();
        let waits =
            |(task, _): &(CheckpointerTask, u64)| !matches!(task, CheckpointerTask::Inspect { .. });
        let is_urgent = self.filled() >= 1.0 || self.tasks.line.iter().any(waits);
        let has_waited = is_urgent && since.elapsed() >= PATIENCE;
        if self.rules.in_the_foreground || has_waited {
            self.shared.snapshots.expire_orphans();
        } else if self.shared.snapshots.has_orphans() {
            return false;
        }
        self.orphaned = None;
        true
    }

    /// Drops the journal after a failure of its own, and its rows in memory, to read them again. `unknown` is the batch
    /// that failed.
    pub(super) fn lose_journal(&mut self, unknown: Option<UnknownBatch>) {
        // The snapshots first: dropping the database answers callers, who would begin with one of them.
        self.expire_all();
        self.lose_database();
        self.state.fail_journal(unknown);
    }

    /// Opens the files again, with bounded back-off. Returns false if the store is closing instead. Jobs are refused
    /// if the first attempt fails.
    pub(super) fn reopen(&mut self, waiting: &mut Vec<QueueJob>) -> bool {
        self.lose_database();
        let mut delay = FIRST_RETRY;
        loop {
            let refusal = match self.try_reopen() {
                Ok(()) => {
                    EngineCounters::add(&self.shared.counters.reopened, 1);
                    tracing::info!("the store is open again");
                    return true;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "the store cannot be reopened yet");
                    if failure::is_full(&e) {
                        full()
                    } else {
                        reopening()
                    }
                }
            };
            self.lose_database();
            let until = Instant::now() + delay;
            delay = (delay * 2).min(LAST_RETRY);
            loop {
                QueueJob::refuse_all(waiting.drain(..), &refusal);
                let taken = self.shared.queue.take(Some(until), OtherLeaders::Refused);
                waiting.extend(taken.jobs);
                if taken.finish {
                    return false;
                }
                if Instant::now() >= until {
                    break;
                }
            }
        }
    }

    fn try_reopen(&mut self) -> Result<()> {
        if self.state.before().is_some() {
            // The restored row is written at once.
            self.expire_all();
        }
        let file = reopen(&self.database.file, self.options, &self.shared.io)?;
        let database = self.database(file, self.options.step());
        let (location, known) = (&self.database, &mut self.known);
        let largest = self.rules.largest_file();
        let must_recover = self.state.rows().is_none();
        let before = self.state.before();
        self.shared.io.begin_commit();
        let opened = failure::guarded_on(database, |database| {
            if let Some(before) = before {
                before.restore(&database.file, &self.shared.io, &self.shared.cipher)?;
            }
            let location = location.location.as_ref();
            let (io, cipher) = (&self.shared.io, &self.shared.cipher);
            let seen = (cipher, self.shared.clock.timestamp());
            let enter = || enter(location, largest, &database.file, io, known, seen);
            let entered = must_recover.then(enter).transpose()?;
            Ok((entered, database.readers()?))
        });
        if opened.is_err() && self.shared.io.may_be_durable() {
            // The next attempt would be the second since those snapshots, and use their pages.
            self.expire_all();
        }
        let (database, (entered, readers)) = opened?;
        self.state.set_before(None);
        let (rows, foreign) = match (entered, self.state.take_rows()) {
            (Some(entered), _) => self.recover(readers, entered.journal, &entered.recovered)?,
            (None, Some(mut rows)) => {
                rows.view.readers = readers;
                (rows, Vec::new())
            }
            // The store is open already.
            (None, None) => return Ok(()),
        };
        ForeignCommit::show_all(foreign, || self.begin(rows, database));
        self.count_broken();
        Ok(())
    }

    /// Closes the store: everything is made durable in one file, and nothing is held.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.shared.touches.len() > 0 {
            self.flush();
        }
        self.shared.io.last();
        self.shared.snapshots.expire_orphans();
        self.look_again();
        self.give_tasks();
        while self.state.is_checked_out() {
            self.await_checkpointer();
            self.give_tasks();
        }
        self.shared.closed.store(true, Ordering::Release);
        let closing = self.last_checkpoints();
        let rows = self.state.rows_mut();
        let journal = rows.and_then(|rows| rows.journal.take());
        let had_journal = journal.is_some();
        drop(journal);
        let database = match self.state.fail() {
            Some(DatabaseHolder::Committer(database)) => Some(database),
            Some(DatabaseHolder::Checkpointer) | None => None,
        };
        self.lose_database();
        self.expire_all();
        let closed = match (database, closing) {
            (Some(database), Some(checkpoints)) => {
                let last = |database: &StoreDatabase| {
                    checkpoints.iter().try_for_each(|checkpoint| {
                        let io = &self.shared.io;
                        match database.checkpoint(checkpoint, io, self.shared.faults)? {
                            Step::Done => Ok(()),
                            Step::Stuck(stuck) => Err(stays_in_the_journal(stuck.rows.len())),
                        }
                    })
                };
                failure::guarded_on(database, last).and_then(|(database, ())| {
                    guarded(|| database.file.close().map_err(failure::database))
                })
            }
            // Nothing was written.
            _ if self.state.lacks_space() => Ok(()),
            _ => Err(reopening()),
        };
        let held = std::mem::take(&mut self.known.held);
        if closed.is_ok()
            && had_journal
            && let Err(error) = held.remove()
        {
            tracing::warn!(%error, "the files of the journal are left");
        }
        // Before the lock of the store is released, so that the next opening finds them free.
        drop(held);
        let unlocked = self.database.file.close().map_err(failure::unlock);
        closed.and(unlocked)
    }

    /// Opens the database again if a part that could not be read can be read now.
    fn look_again(&mut self) {
        let unreadable = self.shared.io.unreadable();
        if !self.state.is_open() || unreadable.count() == 0 || !unreadable.can_be_read_again() {
            return;
        }
        self.lose_database();
        if let Err(error) = self.try_reopen() {
            tracing::warn!(%error, "the store cannot be reopened");
        }
    }

    /// The checkpoints that bring the rest into redb, in order; none if the files are not open.
    fn last_checkpoints(&mut self) -> Option<Vec<Checkpoint>> {
        let up_to = self.number;
        let rows = self.state.open_rows_mut()?;
        let Some((journal, named)) = &rows.journal else {
            return Some(Vec::new());
        };
        let last = Checkpoint {
            memtable: rows.view.active.clone(),
            number: rows.view.number,
            up_to,
            covered: journal.last(),
            file: None,
            closes: Some(*named),
            left: LeftOut::default(),
        };
        let unfinished = rows.unfinished.take().map(|(checkpoint, _)| checkpoint);
        Some(unfinished.into_iter().chain([last]).collect())
    }
}
