//! The writer thread: takes whatever waits, commits it as one group, and opens the file again when
//! storage failed (C2.13).

use super::failure::{self, Moment, guarded};
use super::file::{Disk, Io};
use super::group::{Databases, Group};
use super::inspect::{Frozen, Side};
use super::open::{self, Identity, OpenOptionsOf};
use super::queue::{CommitJob, Job, gone, reopening};
use super::snapshot::{Readers, RedbSnapshot};
use super::tables::Reader;
use super::unsettled::Unsettled;
use super::{Shared, Tally, touches};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::quota::Quota;
use crate::storage::{ContainerId, Outcome, Settings};
use redb::Database;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a touch may wait; the promise is a second (C3.4).
const TOUCH_WAIT: Duration = Duration::from_millis(500);
const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);

fn not_written(cause: Error) -> Error {
    Error::new(
        ErrorKind::NotWritten,
        "storage failed; nothing of the commit was kept",
    )
    .with_source(cause)
}

fn outcome_unknown(cause: Error) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "storage failed while the commit was made durable; it may or may not be kept",
    )
    .with_source(cause)
}

/// Answers everyone when the thread ends, however it ends.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        let jobs = self.0.queue.end();
        if let Some(last) = self.0.published.swap(None) {
            last.expire();
        }
        for job in jobs {
            job.refuse(gone());
        }
    }
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    options: OpenOptionsOf,
    file_disk: Disk,
    memory_disk: Disk,
    databases: Option<Databases>,
    retired: Vec<ContainerId>,
    unsettled: Unsettled,
    number: u64,
    quota: Option<Quota>,
    touched: Option<(Instant, Timestamp)>,
}

impl Committer {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: OpenOptionsOf,
        (file_disk, file): (Disk, Database),
        (memory_disk, memory): (Disk, Database),
        identity: &Identity,
        quota: Option<Quota>,
    ) -> Result<Self> {
        let mut committer = Self {
            shared,
            options: OpenOptionsOf {
                verify: false,
                ..options
            },
            file_disk,
            memory_disk,
            databases: Some(Databases {
                file,
                memory,
                opened: Moment::now(),
            }),
            retired: identity.retired.clone(),
            unsettled: Unsettled::default(),
            // Numbers grow within a process and from one opening of the file to the next.
            number: identity.epoch << 40,
            quota,
            touched: None,
        };
        committer.publish(true, true)?;
        Ok(committer)
    }

    /// Serves until the store is closed.
    pub(super) fn run(mut self) -> Result<()> {
        let _last_word = LastWord(self.shared.clone());
        loop {
            let deadline = self.deadline();
            let mut taken = self.shared.queue.take(deadline);
            let working = self.databases.is_some();
            if (taken.suspect || !working) && !self.reopen(&mut taken.jobs) {
                return self.finish();
            }
            self.serve(taken.jobs);
            if self.touches_due() {
                self.commit(Vec::new(), true);
            }
            self.expire_snapshots();
            if taken.finish {
                return self.finish();
            }
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let mut group = Vec::new();
        for job in jobs {
            match job {
                Job::Commit(job) => group.push(job),
                Job::Configure(settings, reply) => {
                    let result = self.exclusive(|group| group.configure(&settings));
                    if let (Ok(()), Settings::PutContainer(_)) = (&result, &settings) {
                        tracing::debug!("container settings stored");
                    }
                    drop(reply.send(result));
                }
                Job::Reclaim(now, reply) => {
                    let result = self.exclusive(|group| group.reclaim(now));
                    drop(reply.send(result));
                }
                Job::Freeze(reply) => drop(reply.send(self.freeze())),
            }
        }
        if !group.is_empty() {
            self.commit(group, false);
        }
    }

    /// Commits a group and answers its members.
    fn commit(&mut self, jobs: Vec<CommitJob>, flush: bool) {
        let Some(databases) = &mut self.databases else {
            return;
        };
        self.number += 1;
        let before = self.quota.clone();
        let mut group = Group {
            databases,
            shared: &self.shared,
            retired: &mut self.retired,
            number: self.number,
            unsettled: &mut self.unsettled,
            quota: self.quota.as_mut(),
        };
        let mut answers = Vec::with_capacity(jobs.len());
        let result = guarded(|| group.commit(jobs, flush, &mut answers));
        match result {
            Ok(written) => {
                self.show(written.file, written.memory);
                // Only now, or a session that begins in between would see neither.
                self.shared.touches.settle(&written.touches);
                if !written.touches.is_empty() {
                    self.touched = None;
                }
                Tally::add(&self.shared.counters.touches, written.touched);
                self.count(&answers);
            }
            Err(e) => {
                let error = self.failed(e);
                if error.kind() == ErrorKind::NotWritten {
                    self.quota = before;
                }
                for (_, outcome) in &mut answers {
                    match outcome {
                        Outcome::Committed => *outcome = Outcome::Failed(error.clone(), None),
                        // It may have been refused for what another member did, which never was.
                        Outcome::Failed(..) => {
                            *outcome = Outcome::Failed(not_written(error.clone()), None);
                        }
                        Outcome::Stale(..) => {}
                    }
                }
                self.let_go();
            }
        }
        for (job, outcome) in answers {
            job.answer(outcome);
        }
    }

    /// What is stored as of the newest commit, to look at while commits go on.
    fn freeze(&self) -> Result<Frozen> {
        let Some(databases) = &self.databases else {
            return Err(reopening());
        };
        let side = |disk: &Disk, database: &Database| Side::new(disk.clone(), database);
        guarded(|| {
            Ok(Frozen {
                file: side(&self.file_disk, &databases.file)?,
                memory: side(&self.memory_disk, &databases.memory)?,
                reopened: self.shared.counters.reopened.load(Ordering::Relaxed),
            })
        })
    }

    fn count(&self, answers: &[(CommitJob, Outcome)]) {
        let tally = &self.shared.counters;
        let committed = |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Committed);
        let conflicted =
            |(_, o): &&(CommitJob, Outcome)| matches!(o, Outcome::Failed(e, _) if e.is_conflict());
        let commits = answers.iter().filter(committed).count() as u64;
        Tally::add(&tally.commits, commits);
        Tally::add(
            &tally.conflicts,
            answers.iter().filter(conflicted).count() as u64,
        );
        if commits > 0 {
            Tally::add(&tally.groups, 1);
        }
        metrics::counter!("cloakroom_commits_total").increment(commits);
    }

    /// Runs a job that has a write transaction to itself.
    fn exclusive<T>(&mut self, work: impl FnOnce(&mut Group<'_>) -> Result<T>) -> Result<T> {
        let Some(databases) = &mut self.databases else {
            return Err(reopening());
        };
        self.number += 1;
        let mut group = Group {
            databases,
            shared: &self.shared,
            retired: &mut self.retired,
            number: self.number,
            unsettled: &mut self.unsettled,
            quota: None,
        };
        match guarded(|| work(&mut group)) {
            Ok(value) => {
                self.show(true, true);
                Ok(value)
            }
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt) => {
                let error = self.failed(e);
                self.let_go();
                Err(error)
            }
            Err(e) => Err(e),
        }
    }

    /// What a storage failure means to those whose changes were in the group.
    fn failed(&mut self, cause: Error) -> Error {
        let unknown = self.shared.io.may_be_durable();
        if !unknown {
            self.unsettled = Unsettled::default();
        }
        tracing::error!(error = %cause, unknown, "a commit failed; reopening the store");
        if unknown {
            outcome_unknown(cause)
        } else {
            not_written(cause)
        }
    }

    /// Publishes what was committed. It counts also where that fails.
    fn show(&mut self, file: bool, memory: bool) {
        if let Err(e) = self.publish(file, memory) {
            tracing::error!(error = %e, "a commit cannot be shown; reopening the store");
            self.let_go();
        }
    }

    /// Shows the newest commit to all that begin from now on.
    fn publish(&mut self, file: bool, memory: bool) -> Result<()> {
        let Some(databases) = &self.databases else {
            return Err(reopening());
        };
        let old = self.shared.published.load_full();
        if !file && !memory && old.is_some() {
            return Ok(());
        }
        let kept = old.as_ref().and_then(|old| old.readers());
        let reader = |changed: bool, kept: Option<&Arc<Reader>>, database: &Database| match kept {
            Some(kept) if !changed => Ok(kept.clone()),
            _ => guarded(|| Reader::open(database)).map(Arc::new),
        };
        let readers = Readers {
            file: reader(file, kept.as_ref().map(|k| &k.file), &databases.file)?,
            memory: reader(memory, kept.as_ref().map(|k| &k.memory), &databases.memory)?,
        };
        let snapshot = RedbSnapshot::new(readers, Arc::downgrade(&self.shared));
        self.shared.published.store(Some(Arc::new(snapshot)));
        if let Some(old) = old {
            let now = self.shared.clock.timestamp();
            self.shared.superseded.add(&old, now);
        }
        Ok(())
    }

    /// When there is something to do although nobody asks.
    fn deadline(&mut self) -> Option<Instant> {
        let now = Instant::now();
        if self.databases.is_none() {
            return Some(now);
        }
        if self.shared.touches.len() > 0 && self.touched.is_none() {
            self.touched = Some((now, self.shared.clock.timestamp()));
        }
        let touches = self.touched.map(|(since, _)| since + TOUCH_WAIT);
        let snapshots = self.shared.superseded.first().map(|since| {
            let age = self.shared.clock.timestamp().since(since);
            let left = self.shared.snapshot_max_age.saturating_sub(age);
            now + left.clamp(Duration::from_millis(10), Duration::from_secs(3600))
        });
        touches.into_iter().chain(snapshots).min()
    }

    fn touches_due(&self) -> bool {
        let waiting = self.shared.touches.len();
        waiting >= touches::MANY
            || (waiting > 0
                && self.touched.is_some_and(|(since, then)| {
                    since.elapsed() >= TOUCH_WAIT
                        || self.shared.clock.timestamp().since(then) >= TOUCH_WAIT
                }))
    }

    /// Takes back snapshots that were superseded too long ago (C2.14).
    fn expire_snapshots(&mut self) {
        let now = self.shared.clock.timestamp();
        let max_age = self.shared.snapshot_max_age;
        self.shared.superseded.expire(now, max_age);
    }

    /// Drops the databases after a failure, and every snapshot with them.
    fn let_go(&mut self) {
        if let Some(last) = self.shared.published.swap(None) {
            last.expire();
        }
        self.shared.superseded.expire_all();
        if let Some(databases) = self.databases.take() {
            let opened = databases.opened;
            failure::discard(databases, opened);
        }
    }

    /// Opens the databases again, with bounded back-off; false if the store is closing instead.
    /// Those who wait are told as soon as it does not succeed at once.
    fn reopen(&mut self, waiting: &mut Vec<Job>) -> bool {
        self.let_go();
        let mut delay = FIRST_RETRY;
        loop {
            match self.try_reopen() {
                Ok(()) => {
                    Tally::add(&self.shared.counters.reopened, 1);
                    tracing::info!("the store is open again");
                    return true;
                }
                Err(e) => tracing::warn!(error = %e, "the store cannot be reopened yet"),
            }
            self.let_go();
            let until = Instant::now() + delay;
            delay = (delay * 2).min(LAST_RETRY);
            loop {
                for job in waiting.drain(..) {
                    job.refuse(reopening());
                }
                let taken = self.shared.queue.take(Some(until));
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
        let opened = Moment::now();
        let file = open::reopen(&self.file_disk, self.options, &self.shared.io)?;
        let memory = open::reopen(&self.memory_disk, self.options, &Arc::<Io>::default())?;
        let databases = Databases {
            file,
            memory,
            opened,
        };
        let (databases, ()) =
            failure::guarded_on(databases, |databases| self.unsettled.settle(databases))?;
        self.databases = Some(databases);
        self.publish(true, true)
    }

    /// The end: everything durable, nothing held.
    fn finish(mut self) -> Result<()> {
        if self.shared.touches.len() > 0 {
            self.commit(Vec::new(), true);
        }
        self.shared.closed.store(true, Ordering::Release);
        let databases = self.databases.take();
        self.let_go();
        let closed = match databases {
            None => Err(reopening()),
            Some(databases) => guarded(|| {
                let _ = databases.memory.close();
                databases.file.close().map_err(failure::database)
            }),
        };
        let unlocked = self.file_disk.close().map_err(failure::unlock);
        closed.and(unlocked)
    }
}
