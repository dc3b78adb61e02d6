//! Group commit: the jobs that wait become batches, each durable by one frame of the journal.

use crate::error::{Error, ErrorKind};
use crate::storage::redb::EngineCounters;
use crate::storage::redb::commit::batch::{BatchExtras, BatchWrites, CommitBatch};
use crate::storage::redb::commit::committer::core::Committer;
use crate::storage::redb::commit::committer::state::UnknownBatch;
use crate::storage::redb::commit::errors::{outcome_unknown, reopening};
use crate::storage::redb::commit::job::CommitJob;
use crate::storage::redb::commit::member::{Member, not_written};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::journal::AppendFailure;
use crate::storage::redb::memtable::read_view::ReadView;
#[cfg(feature = "encryption")]
use crate::storage::redb::memtable::row_key::RowKey;
use crate::storage::redb::memtable::write_batch::WriteBatch;
use crate::storage::{ForeignCommit, Outcome};
use crate::throttle::Throttle;
use std::sync::Arc;
use std::time::Instant;

fn journal_full() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the journal is full, and what is in it cannot be brought into the store's file",
    )
}

/// What failed while a batch was committed.
enum BatchFailure {
    /// The journal's file cannot grow.
    NoRoom(Error),
    /// A row could not be read.
    Redb(Error),
    /// The frame could not be written or synced.
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

impl Committer {
    /// Commits jobs in as many batches as their writes need. Their answers are left for later. Returns how many
    /// tombstones were removed.
    pub(super) fn commit(&mut self, jobs: Vec<CommitJob>, extras: BatchExtras) -> u64 {
        let (mut left, settled) = self.commit_batch(jobs, &extras);
        while !left.is_empty() {
            (left, _) = self.commit_batch(left, &BatchExtras::default());
        }
        settled
    }

    /// Encrypts rows with the current key, in a batch of their own. Returns how many.
    #[cfg(feature = "encryption")]
    pub(super) fn reseal(&mut self, rows: Vec<RowKey>) -> Result<u64, Error> {
        let extras = BatchExtras {
            reseal: rows,
            ..BatchExtras::default()
        };
        self.resealed = Ok(0);
        self.commit_batch(Vec::new(), &extras);
        std::mem::replace(&mut self.resealed, Ok(0))
    }

    /// Commits as many of the jobs as make a batch. Returns the others, and how many tombstones were removed.
    fn commit_batch(
        &mut self,
        jobs: Vec<CommitJob>,
        extras: &BatchExtras,
    ) -> (Vec<CommitJob>, u64) {
        let begun = Instant::now();
        let _span = tracing::trace_span!("cloakroom.batch", commits = jobs.len()).entered();
        self.make_space_for(jobs.first().map_or(0, CommitJob::bytes));
        let (view, before) = match self.next_view() {
            Ok(next) => next,
            Err(error) => {
                let refused = |job| (job, Outcome::Failed(error.clone(), None));
                self.answers.extend(jobs.into_iter().map(refused));
                #[cfg(feature = "encryption")]
                {
                    self.resealed = Err(error);
                }
                return (Vec::new(), 0);
            }
        };
        self.number = view.number;
        let enough_bytes = self.enough();
        let mut batch = CommitBatch {
            shared: &self.shared,
            view: &view,
            quota: self.quota.as_ref(),
            kept_back: &mut self.kept_back,
            retired: &self.retired,
            bytes: 0,
            enough_bytes,
            most_bytes: self.rules.largest_group,
            written: BatchWrites::default(),
        };
        let mut members = Vec::with_capacity(jobs.len());
        let gathered = guarded(|| batch.gather(jobs, extras, &mut members));
        let written = batch.written;
        let (left, result) = match gathered {
            Ok(left) => {
                let result = self.make_durable(&written, &view);
                (left, result.map_err(BatchFailure::from))
            }
            Err(e) => (Vec::new(), Err(BatchFailure::Redb(e))),
        };
        let wrote = !written.is_empty();
        let mut settled = 0;
        match result {
            Ok(()) => {
                settled = written.settled;
                #[cfg(feature = "encryption")]
                {
                    self.resealed = written.resealed();
                }
                self.complete(written, view, before);
                let first = self.answers.len();
                self.answers.extend(members.into_iter().map(Member::ended));
                self.count(self.answers.get(first..).unwrap_or_default(), begun);
            }
            Err(failure) => {
                let error = self.fail(failure, written);
                let answers = members.into_iter().map(|member| member.failed(&error));
                self.answers.extend(answers);
            }
        }
        // From now on, readers find in the rows that the sessions were used, or that the batch failed.
        self.shared.touches.release();
        if self.rules.in_the_foreground && wrote {
            self.give_tasks();
        }
        (left, settled)
    }

    /// The view that the next batch works on, and the number of the commit before it.
    fn next_view(&self) -> Result<(ReadView, u64), Error> {
        let rows = self.state.open_rows().ok_or_else(reopening)?;
        if self.filled() >= 1.0 && rows.view.immutable.is_some() {
            return Err(journal_full());
        }
        let view = ReadView {
            number: self.number + 1,
            pending: Some(Arc::new(WriteBatch::over(&rows.view.active))),
            ..rows.view.clone()
        };
        Ok((view, rows.view.number))
    }

    /// Publishes a durable batch.
    fn complete(&mut self, mut written: BatchWrites, view: ReadView, before: u64) {
        let touches = std::mem::take(&mut written.touches);
        let accesses = std::mem::take(&mut written.accesses);
        let touched = written.touched;
        self.settle_after = written.settle_after.take();
        let foreign = std::mem::take(&mut written.foreign);
        ForeignCommit::show_all(foreign, || {
            if !written.is_empty() {
                self.show_written(written, view, before);
            }
        });
        // Only now, or a transaction that begins in between would see neither the touches nor the rows.
        self.shared.touches.settle(&touches);
        accesses.into_iter().for_each(|it| self.shared.touch(it));
        if !touches.is_empty() {
            self.touched = None;
        }
        EngineCounters::add(&self.shared.counters.touches, touched);
        if touched > 0 {
            metrics::counter!("cloakroom_touches_written_total").increment(touched);
        }
    }

    /// Drops what failed. Returns the error for the members whose writes were in the batch.
    fn fail(&mut self, failure: BatchFailure, written: BatchWrites) -> Error {
        let error = match failure {
            BatchFailure::NoRoom(cause) => {
                self.found_less(written.founded);
                let error = not_written(cause);
                static FULL: Throttle = Throttle::new(1);
                if let Some(left_out) = FULL.pass() {
                    tracing::error!(%error, left_out, "the journal cannot grow");
                }
                return error;
            }
            BatchFailure::Redb(cause) => {
                self.found_less(written.founded);
                self.lose_database();
                not_written(cause)
            }
            BatchFailure::Unknown(cause) => {
                let unknown = self.state.journal().map(|journal| UnknownBatch {
                    frame: journal.last() + 1,
                    foreign: written.foreign,
                });
                self.lose_journal(unknown);
                outcome_unknown(cause)
            }
        };
        tracing::error!(%error, "a commit failed; reopening the store");
        error
    }

    /// Sessions were not founded after all.
    fn found_less(&self, founded: u64) {
        if let Some(quota) = self.quota.as_ref().filter(|_| founded > 0) {
            quota.give_back(founded);
        }
    }

    fn make_durable(
        &mut self,
        written: &BatchWrites,
        view: &ReadView,
    ) -> Result<(), AppendFailure> {
        if written.is_empty() {
            return Ok(());
        }
        if self.shared.faults.shows_early() {
            let pending = view.pending.iter();
            pending
                .for_each(|pending| written.rows.iter().for_each(|row| pending.put(row.clone())));
            self.show(view.clone());
        }
        let Some(journal) = self.state.journal_mut() else {
            return match self.database.location {
                Some(_) => Err(AppendFailure::NoRoom(reopening())),
                None => Ok(()),
            };
        };
        journal.append(&written.rows)?;
        self.count_journal_len();
        Ok(())
    }

    fn count(&self, answers: &[(CommitJob, Outcome)], begun: Instant) {
        let tally = &self.shared.counters;
        let committed = |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Committed(_));
        let conflicted =
            |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Failed(e, _) if e.is_conflict());
        let commits = answers.iter().filter(committed).count() as u64;
        EngineCounters::add(&tally.commits, commits);
        let conflicts = answers.iter().filter(conflicted).count() as u64;
        EngineCounters::add(&tally.conflicts, conflicts);
        if commits > 0 {
            EngineCounters::add(&tally.groups, 1);
            metrics::histogram!("cloakroom_batch_seconds").record(begun.elapsed());
            metrics::histogram!("cloakroom_batch_commits").record(commits as f64);
        }
        metrics::counter!("cloakroom_commits_total").increment(commits);
        if conflicts > 0 {
            metrics::counter!("cloakroom_conflicts_total").increment(conflicts);
        }
    }
}
