//! The tasks that the committer gives to the checkpointer, their order, and how it goes on with their results.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::StoreSettings;
use crate::storage::redb::EngineCounters;
use crate::storage::redb::checkpoint::checkpointer::{
    CheckpointOutcome, CheckpointerTask, ReturnedDatabase, TaskReport, perform,
};
use crate::storage::redb::checkpoint::configure::SettingsBefore;
use crate::storage::redb::checkpoint::task::{Checkpoint, LeftOut, StuckRows};
use crate::storage::redb::commit::committer::core::{Committer, FIRST_RETRY, LAST_RETRY, TaskTurn};
use crate::storage::redb::commit::committer::state::ActiveMemtable;
use crate::storage::redb::commit::errors::outcome_unknown;
use crate::storage::redb::commit::member::not_written;
use crate::storage::redb::integrity::inspect::over_redb;
use crate::storage::redb::journal::{AppendFailure, JournalFile};
use crate::storage::redb::memtable::read_view::TableReaders;
use crate::storage::redb::memtable::row_key::RowWrite;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait before a checkpoint that met damage is tried again. Trying again seldom helps, and all commits wait
/// while the file is reopened after that.
const LAST_RETRY_AFTER_DAMAGE: Duration = Duration::from_secs(60);

impl Committer {
    /// Checks the database out to the checkpointer for the next task. A checkpoint comes first where one is due, or
    /// where the task needs one.
    pub(super) fn give_tasks(&mut self) {
        self.collect();
        while let Some(task) = self.next_task() {
            let Some(database) = self.state.check_out() else {
                return;
            };
            if self.rules.in_the_foreground {
                let returned = perform(database, task, &self.shared);
                self.take_back(returned);
                continue;
            }
            if let Err(error) = self.checkpointer.start_task(database, task) {
                tracing::error!(%error, "checkpoints are made no more");
                self.lose_database();
            }
            return;
        }
    }

    fn next_task(&mut self) -> Option<CheckpointerTask> {
        if !self.state.has_database() {
            return None;
        }
        if !self.may_write() {
            let reads_only = matches!(
                self.tasks.line.front(),
                Some((CheckpointerTask::Inspect { .. }, 0))
            );
            return reads_only.then(|| self.pop_task(|_| true)).flatten();
        }
        let rows = self.state.open_rows_mut()?;
        if let Some((checkpoint, _)) = rows.unfinished.take_if(|(_, at)| *at <= Instant::now()) {
            return Some(CheckpointerTask::Checkpoint(checkpoint));
        }
        if rows.unfinished.is_some() {
            // A task that needs a checkpoint waits for this one.
            return self.pop_task(|after| after == 0);
        }
        if rows.view.active.is_empty() {
            self.tasks.drained = rows.view.number;
        }
        let asked_for = self.tasks.line.front().map_or(0, |task| self.after(task));
        // Between two checkpoints comes one task, however much is committed.
        if std::mem::take(&mut self.tasks.turn) == TaskTurn::Task
            && asked_for <= self.tasks.drained
            && let Some(task) = self.pop_task(|_| true)
        {
            return Some(task);
        }
        let rows = self.state.open_rows()?;
        // Without a commit since the last checkpoint there are only rows that it could not bring into redb.
        let is_due =
            |since: Instant| self.filled() >= 1.0 || since.elapsed() >= self.rules.interval;
        let is_due = rows.active.since.is_some_and(is_due);
        let is_asked_for = asked_for > self.tasks.drained && !rows.view.active.is_empty();
        if is_due || is_asked_for {
            return self.switch_memtable().map(CheckpointerTask::Checkpoint);
        }
        self.pop_task(|_| true)
    }

    /// The commit that must be in redb before a task is done. A task that removes the rows of unregistered containers
    /// needs all of these rows in redb.
    fn after(&self, (task, after): &(CheckpointerTask, u64)) -> u64 {
        match task {
            CheckpointerTask::Reclaim { .. } => self.retired.last().map_or(0, |(_, last)| *last),
            _ => *after,
        }
    }

    fn pop_task(&mut self, may: impl Fn(u64) -> bool) -> Option<CheckpointerTask> {
        let front = self.tasks.line.front();
        front.filter(|task| may(self.after(task)))?;
        let (task, _) = self.tasks.line.pop_front()?;
        Some(match task {
            CheckpointerTask::Reclaim {
                refusals,
                settled,
                reply,
                ..
            } => CheckpointerTask::Reclaim {
                refusals,
                // Some of the container's rows may be in a part that cannot be read, or be left out of it.
                retired: (self.retired.last().map(|(id, _)| *id))
                    .filter(|_| !self.shared.io.unreadable().is_expected()),
                settled,
                reply,
            },
            CheckpointerTask::Inspect { disk, reply, .. } => {
                let rows = self.state.rows();
                CheckpointerTask::Inspect {
                    disk,
                    newer: rows.map(|rows| over_redb(&rows.view)).unwrap_or_default(),
                    reply,
                }
            }
            task => task,
        })
    }

    /// Makes the active memtable immutable, for a checkpoint. A new one becomes active, and with it the other journal
    /// file.
    fn switch_memtable(&mut self) -> Option<Checkpoint> {
        let up_to = self.number;
        let rows = self.state.open_rows_mut()?;
        let (file, covered) = match &mut rows.journal {
            Some((journal, _)) => {
                let covered = journal.last();
                match journal.turn() {
                    Ok(file) => (Some(file?), covered),
                    Err(failed) => {
                        let error = failed.into_error();
                        tracing::error!(%error, "the journal cannot be written; reopening the store");
                        self.lose_journal(None);
                        return None;
                    }
                }
            }
            None => (None, 0),
        };
        let view = &mut rows.view;
        let next = Arc::new(view.active.successor());
        let memtable = std::mem::replace(&mut view.active, next);
        view.immutable = Some(memtable.clone());
        rows.active = ActiveMemtable::after(view.number);
        Some(Checkpoint {
            memtable,
            number: view.number,
            up_to,
            covered,
            file,
            closes: None,
            left: LeftOut::default(),
        })
    }

    /// Commits rows again that a checkpoint cannot bring into redb, so that it can go on without them and free its
    /// journal file. Rows that were changed since are in the other journal file already.
    fn keep_back(
        &mut self,
        stuck: StuckRows,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), AppendFailure> {
        let Some(live) = self.state.open_rows() else {
            return Ok(());
        };
        let (active, number) = (live.view.active.clone(), live.view.number);
        self.kept_back.check_keys(&stuck.ranges);
        let rows = stuck.rows;
        let oldest = self.oldest_read(number);
        tracing::warn!(
            rows = rows.len(),
            "a part of the store's file cannot be read; what belongs there stays in the journal"
        );
        let is_newest = |row: &RowWrite| active.get(row.key.as_bytes(), number).is_none();
        let (rows, changed): (Vec<RowWrite>, Vec<RowWrite>) = rows.into_iter().partition(is_newest);
        let changed = changed.into_iter().map(|row| row.key);
        checkpoint.left.keys.extend(changed);
        for rows in in_frames(rows, self.rules.largest_group) {
            if let Some(journal) = self.state.journal_mut() {
                journal.append(&rows)?;
            }
            for row in rows {
                checkpoint.left.keys.insert(row.key.clone());
                // A reader as of this commit found the same in the immutable memtable.
                active.put(row, number, oldest);
            }
        }
        self.kept_back.recount(&active, number);
        self.count_journal_len();
        Ok(())
    }

    /// Takes the database back if the checkpointer has done its task.
    pub(super) fn collect(&mut self) {
        while let Some(returned) = self.checkpointer.returned() {
            self.take_back(returned);
        }
    }

    /// Waits until the checkpointer has done its task.
    pub(super) fn await_checkpointer(&mut self) {
        match self.checkpointer.wait() {
            Ok(returned) => self.take_back(returned),
            Err(error) => {
                tracing::error!(%error, "checkpoints are made no more");
                self.lose_database();
            }
        }
    }

    fn take_back(&mut self, returned: ReturnedDatabase) {
        if let Some(database) = self.state.check_in(returned.database) {
            self.drop_database(database);
        }
        if let Err(error) = self.settle(returned.report) {
            tracing::error!(%error, "the store's file cannot be written; reopening it");
            self.lose_database();
        }
    }

    /// Goes on with the result of a task. An error means that the files must be opened again.
    pub(super) fn settle(&mut self, report: TaskReport) -> Result<()> {
        match report {
            TaskReport::Nothing => {}
            TaskReport::Checkpoint(outcome) => return self.settle_checkpoint(outcome),
            TaskReport::Configure {
                result,
                before,
                reply,
            } => {
                let answer = self.settle_configured(result, before);
                drop(reply.send(answer));
            }
            #[cfg(feature = "encryption")]
            TaskReport::FinishReseal { result, reply } => {
                let answer = self.answer_to(result);
                let answer = answer.map(|readers| self.publish_readers(readers));
                drop(reply.send(answer.map(|()| true)));
            }
            TaskReport::Reclaim { result, reply } => {
                let answer = self.answer_to(result).map(|(removed, is_empty, readers)| {
                    if is_empty {
                        self.retired.pop();
                    }
                    self.publish_readers(readers);
                    removed
                });
                drop(reply.send(answer));
            }
        }
        Ok(())
    }

    fn settle_checkpoint(&mut self, outcome: CheckpointOutcome) -> Result<()> {
        match outcome {
            CheckpointOutcome::Done {
                number,
                up_to,
                file,
                readers,
            } => {
                self.end_checkpoint(number, up_to, file);
                self.publish_readers(readers);
                Ok(())
            }
            CheckpointOutcome::Stuck(rows, checkpoint) => self.go_on(rows, checkpoint),
            CheckpointOutcome::Cured(checkpoint) => {
                tracing::info!("a part of the store's file can be read again; reopening it");
                self.set_unfinished(checkpoint, Instant::now());
                self.lose_database();
                Ok(())
            }
            CheckpointOutcome::Failed(error, checkpoint) => {
                self.schedule_retry(&error, checkpoint);
                Err(error)
            }
            CheckpointOutcome::Spoilt(error) => {
                self.lose_journal(None);
                Err(error)
            }
        }
    }

    /// The rows of the immutable memtable are in redb.
    fn end_checkpoint(&mut self, number: u64, up_to: u64, file: Option<JournalFile>) {
        self.tasks.drained = up_to;
        self.tasks.turn = TaskTurn::Task;
        if let (Some(journal), Some(file)) = (self.state.journal_mut(), file) {
            journal.give_back(file);
        }
        self.count_journal_len();
        self.retry = FIRST_RETRY;
        EngineCounters::add(&self.shared.counters.checkpoints, 1);
        if let Some(rows) = self.state.rows_mut()
            && let Some(immutable) = rows.view.immutable.take()
        {
            self.checkpointer.retire(immutable);
            rows.view.base = number;
            self.kept_back
                .end_checkpoint(&rows.view.active, rows.view.number);
        }
    }

    /// The settings were changed, or could not be.
    fn settle_configured(
        &mut self,
        result: Result<(Arc<StoreSettings>, TableReaders)>,
        before: Option<SettingsBefore>,
    ) -> Result<Arc<StoreSettings>> {
        let answer = self.answer_to(result);
        if answer.as_ref().is_err_and(is_unknown) {
            self.state.set_before(before);
            return answer.map(|(settings, _)| settings);
        }
        let (settings, readers) = answer?;
        if let Some(SettingsBefore::Container(container)) = before
            && !settings
                .containers
                .values()
                .any(|record| record.id == container.id().0)
        {
            self.retired.push((container.id(), self.number));
        }
        self.shared.show_settings(settings.clone());
        self.publish_readers(readers);
        Ok(settings)
    }

    /// Lets a checkpoint go on without rows that redb cannot put.
    fn go_on(&mut self, rows: StuckRows, mut checkpoint: Checkpoint) -> Result<()> {
        // In a broken store this waits: the checkpoint finds these rows again later.
        match self.keep_back(rows, &mut checkpoint) {
            Ok(()) => self.set_unfinished(checkpoint, Instant::now()),
            Err(AppendFailure::NoRoom(error)) => {
                self.schedule_retry(&error, checkpoint);
                return Err(error);
            }
            Err(AppendFailure::Unknown(error)) => {
                self.lose_journal(None);
                return Err(error);
            }
        }
        Ok(())
    }

    fn set_unfinished(&mut self, checkpoint: Checkpoint, at: Instant) {
        if let Some(rows) = self.state.rows_mut() {
            rows.unfinished = Some((checkpoint, at));
        }
    }

    /// Tries a checkpoint again after a while.
    fn schedule_retry(&mut self, error: &Error, checkpoint: Checkpoint) {
        let wait = if self.rules.in_the_foreground {
            Duration::ZERO
        } else {
            self.retry
        };
        self.set_unfinished(checkpoint, Instant::now() + wait);
        let most = match error.kind() {
            ErrorKind::Corrupt => LAST_RETRY_AFTER_DAMAGE,
            _ => LAST_RETRY,
        };
        self.retry = (self.retry * 2).min(most);
    }

    /// The answer to a change of the store's settings. After a failure of the storage the database is dropped first,
    /// so that a caller who has the answer does not find them.
    fn answer_to<T>(&mut self, result: Result<T>) -> Result<T> {
        match result {
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt) => {
                let is_unknown = self.shared.io.may_be_durable();
                let error = if is_unknown {
                    outcome_unknown(e)
                } else {
                    not_written(e)
                };
                tracing::error!(%error, "the store's file cannot be written; reopening it");
                self.lose_database();
                Err(error)
            }
            other => other,
        }
    }
}

/// Rows cut into parts of so many bytes at most, but one row at least.
fn in_frames(rows: Vec<RowWrite>, bytes: usize) -> Vec<Vec<RowWrite>> {
    let mut frames = Vec::new();
    let (mut frame, mut len) = (Vec::new(), 0);
    for row in rows {
        if !frame.is_empty() && len + row.len() > bytes {
            frames.push(std::mem::take(&mut frame));
            len = 0;
        }
        len += row.len();
        frame.push(row);
    }
    if !frame.is_empty() {
        frames.push(frame);
    }
    frames
}

fn is_unknown(error: &Error) -> bool {
    error.kind() == ErrorKind::OutcomeUnknown
}
