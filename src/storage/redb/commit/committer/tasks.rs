//! What the writer thread has the checkpointer do, in which order, and what it makes of what comes of it.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::SettingsChange;
use crate::storage::redb::EngineCounters;
use crate::storage::redb::checkpoint::checkpointer::{
    CheckpointOutcome, CheckpointerTask, ReturnedDatabases, TaskReport, perform,
};
use crate::storage::redb::checkpoint::task::{Checkpoint, LeftOut};
use crate::storage::redb::commit::committer::{
    Committer, FIRST_RETRY, LAST_RETRY, LAST_RETRY_IN_VAIN, not_written, outcome_unknown,
};
use crate::storage::redb::integrity::inspect::over_redb;
use crate::storage::redb::journal::AppendFailure;
use crate::storage::redb::memtable::row_key::RowWrite;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Committer {
    /// Checks the databases out to the checkpointer for what is next: a checkpoint where one is due, or asked for by
    /// what waits, else that.
    pub(super) fn give_tasks(&mut self) {
        self.collect();
        while let Some(task) = self.next_task() {
            let Some(databases) = self.databases.take() else {
                return;
            };
            if self.rules.in_the_foreground {
                let returned = perform(databases, task, &self.shared);
                self.take_back(returned);
                continue;
            }
            match self.checkpointer.lend(databases, task) {
                Ok(()) => {
                    self.is_lent = true;
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "checkpoints are made no more");
                    return self.lose_databases();
                }
            }
        }
    }

    fn next_task(&mut self) -> Option<CheckpointerTask> {
        self.databases.as_ref()?;
        if self.is_broken {
            return None;
        }
        if !self.may_write() {
            let looks = matches!(
                self.tasks.front(),
                Some((CheckpointerTask::Freeze { .. }, 0))
            );
            return looks.then(|| self.pop_task(|_| true)).flatten();
        }
        if let Some((checkpoint, at)) = self.unfinished.take() {
            if at <= Instant::now() {
                return Some(CheckpointerTask::Checkpoint(checkpoint));
            }
            self.unfinished = Some((checkpoint, at));
            // What waits for a checkpoint waits for this one.
            return self.pop_task(|after| after == 0);
        }
        let newest = self.newest.as_ref()?;
        if newest.active.is_empty() {
            self.drained = newest.number;
        }
        let asked_for = self.tasks.front().map_or(0, |task| self.after(task));
        // One task between two checkpoints, however much is committed.
        if std::mem::take(&mut self.is_tasks_turn)
            && asked_for <= self.drained
            && let Some(task) = self.pop_task(|_| true)
        {
            return Some(task);
        }
        let newest = self.newest.as_ref()?;
        // Where nothing was committed since the last one, there are only rows that it could not bring into redb.
        let is_due =
            |begun: Instant| self.filled() >= 1.0 || begun.elapsed() >= self.rules.interval;
        let is_due = self.begun.is_some_and(is_due);
        let is_asked_for = asked_for > self.drained && !newest.active.is_empty();
        if is_due || is_asked_for {
            return self.freeze().map(CheckpointerTask::Checkpoint);
        }
        self.pop_task(|_| true)
    }

    /// The commit that must be in redb before a task is done. What an ended container has must all be there,
    /// to be found.
    fn after(&self, (task, after): &(CheckpointerTask, u64)) -> u64 {
        match task {
            CheckpointerTask::Reclaim { .. } => self.retired.last().map_or(0, |(_, last)| *last),
            _ => *after,
        }
    }

    fn pop_task(&mut self, may: impl Fn(u64) -> bool) -> Option<CheckpointerTask> {
        self.tasks.front().filter(|task| may(self.after(task)))?;
        let (task, _) = self.tasks.pop_front()?;
        Some(match task {
            CheckpointerTask::Reclaim {
                refusals,
                buried,
                reply,
                ..
            } => CheckpointerTask::Reclaim {
                refusals,
                // Some of its rows may be where they cannot be read, or kept back from there.
                retired: (self.retired.last().map(|(id, _)| *id))
                    .filter(|_| !self.shared.io.unreadable().is_expected()),
                buried,
                reply,
            },
            CheckpointerTask::Freeze { disks, reply, .. } => CheckpointerTask::Freeze {
                disks,
                newer: self.newest.as_ref().map(over_redb).unwrap_or_default(),
                reply,
            },
            task => task,
        })
    }

    /// Begins a new memtable, and a new journal file with it; what there was is for a checkpoint.
    fn freeze(&mut self) -> Option<Checkpoint> {
        let (file, covered) = match &mut self.journal {
            Some((journal, _)) => {
                let covered = journal.last();
                match journal.turn() {
                    Ok(file) => (Some(file?), covered),
                    Err(failed) => {
                        let error = failed.into_error();
                        tracing::error!(%error, "the journal cannot be written; reopening the store");
                        self.lose_journal();
                        return None;
                    }
                }
            }
            None => (None, 0),
        };
        let newest = self.newest.as_mut()?;
        self.is_crowded = false;
        let next = Arc::new(newest.active.successor());
        let memtable = std::mem::replace(&mut newest.active, next);
        newest.frozen = Some(memtable.clone());
        self.begun = None;
        self.active_from = newest.number;
        Some(Checkpoint {
            memtable,
            number: newest.number,
            up_to: self.number,
            covered,
            file,
            closes: None,
            left: LeftOut::default(),
        })
    }

    /// Commits once more what a checkpoint cannot bring into redb, so that it can go on without it and the journal's
    /// file be used again. What has been changed since is in the journal's other file already.
    fn keep_back(
        &mut self,
        rows: Vec<RowWrite>,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), AppendFailure> {
        let Some(newest) = self.newest.as_ref() else {
            return Ok(());
        };
        let (active, number) = (newest.active.clone(), newest.number);
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
            if let Some((journal, _)) = &mut self.journal {
                journal.append(&rows)?;
            }
            for row in rows {
                checkpoint.left.keys.insert(row.key.clone());
                // Whoever reads as of this commit found the same in the memtable before.
                active.put(row, number, oldest);
            }
        }
        self.tell_journal();
        Ok(())
    }

    /// Takes back what the checkpointer is done with.
    pub(super) fn collect(&mut self) {
        while let Some(returned) = self.checkpointer.returned() {
            self.take_back(returned);
        }
    }

    pub(super) fn await_keeper(&mut self) {
        match self.checkpointer.wait() {
            Ok(returned) => self.take_back(returned),
            Err(error) => {
                tracing::error!(%error, "checkpoints are made no more");
                self.is_lent = false;
                self.lose_databases();
            }
        }
    }

    pub(super) fn take_back(&mut self, returned: ReturnedDatabases) {
        if let Err(error) = self.settle(returned) {
            tracing::error!(%error, "the store's file cannot be written; reopening it");
            self.lose_databases();
        }
    }

    /// Goes on with what came of a task; an error means that the files must be opened again.
    pub(super) fn settle(&mut self, returned: ReturnedDatabases) -> Result<()> {
        self.databases = Some(returned.databases);
        self.is_lent = false;
        match returned.report {
            TaskReport::Nothing => Ok(()),
            TaskReport::Checkpoint(CheckpointOutcome::Done {
                number,
                up_to,
                file,
                readers,
            }) => {
                self.drained = up_to;
                self.is_tasks_turn = true;
                if let (Some((journal, _)), Some(file)) = (&mut self.journal, file) {
                    journal.give_back(file);
                }
                self.tell_journal();
                self.retry = FIRST_RETRY;
                EngineCounters::add(&self.shared.counters.checkpoints, 1);
                if let Some(newest) = &mut self.newest
                    && let Some(frozen) = newest.frozen.take()
                {
                    self.checkpointer.retire(frozen);
                    newest.base = number;
                }
                self.show_readers(readers);
                Ok(())
            }
            TaskReport::Checkpoint(CheckpointOutcome::Stuck(rows, checkpoint)) => {
                self.go_on(rows, checkpoint)
            }
            TaskReport::Checkpoint(CheckpointOutcome::Cured(checkpoint)) => {
                tracing::info!("a part of the store's file can be read again; reopening it");
                self.unfinished = Some((checkpoint, Instant::now()));
                self.lose_databases();
                Ok(())
            }
            TaskReport::Checkpoint(CheckpointOutcome::Failed(error, checkpoint)) => {
                self.try_later(&error, checkpoint);
                Err(error)
            }
            TaskReport::Checkpoint(CheckpointOutcome::Spoilt(error)) => {
                self.lose_journal();
                Err(error)
            }
            TaskReport::Configure {
                settings,
                result,
                before,
                reply,
            } => {
                let counts = !matches!(settings, SettingsChange::PutSecrets(_));
                let is_new = before.as_ref().is_none_or(|before| before.row.is_none());
                let answer = self.answer_to(result);
                if answer.as_ref().is_err_and(is_unknown) {
                    self.before = before;
                } else if answer.is_ok() {
                    if let (SettingsChange::RemoveContainer(_), Some(before)) = (&settings, &before)
                    {
                        self.retired.push((before.id, self.number));
                    }
                    let removes = matches!(settings, SettingsChange::RemoveContainer(_));
                    if counts && (removes || is_new) {
                        self.shared.registry.fetch_add(1, Ordering::AcqRel);
                    }
                }
                drop(reply.send(answer.map(|readers| self.show_readers(readers))));
                Ok(())
            }
            TaskReport::Reclaim { result, reply } => {
                let answer = self.answer_to(result).map(|(removed, is_empty, readers)| {
                    if is_empty {
                        self.retired.pop();
                    }
                    self.show_readers(readers);
                    removed
                });
                drop(reply.send(answer));
                Ok(())
            }
        }
    }

    /// Has a checkpoint go on without rows that are stuck.
    fn go_on(&mut self, rows: Vec<RowWrite>, mut checkpoint: Checkpoint) -> Result<()> {
        // While the files are not in order, that waits: it is looked again what is stuck.
        let kept = if self.is_broken {
            Ok(())
        } else {
            self.keep_back(rows, &mut checkpoint)
        };
        match kept {
            Ok(()) => self.unfinished = Some((checkpoint, Instant::now())),
            Err(AppendFailure::NoRoom(error)) => {
                self.try_later(&error, checkpoint);
                return Err(error);
            }
            Err(AppendFailure::Unknown(error)) => {
                self.lose_journal();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Tries a checkpoint again after a while.
    fn try_later(&mut self, error: &Error, checkpoint: Checkpoint) {
        let wait = if self.rules.in_the_foreground {
            Duration::ZERO
        } else {
            self.retry
        };
        self.unfinished = Some((checkpoint, Instant::now() + wait));
        let most = match error.kind() {
            ErrorKind::Corrupt => LAST_RETRY_IN_VAIN,
            _ => LAST_RETRY,
        };
        self.retry = (self.retry * 2).min(most);
    }

    /// The answer to whoever asked for a change. After a failure of the storage it is given once the
    /// databases are let go, so that nobody who has it still finds them.
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
                self.lose_databases();
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
