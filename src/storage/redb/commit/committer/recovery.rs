//! What the writer thread lets go of after a failure, how it opens the files again, and how it ends.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::redb::EngineCounters;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::checkpoint::checkpointer::CheckpointerTask;
use crate::storage::redb::checkpoint::task::{Checkpoint, Databases, LeftOut, Step};
use crate::storage::redb::commit::committer::{Committer, FIRST_RETRY, LAST_RETRY, PATIENCE};
use crate::storage::redb::commit::errors::{full, reopening};
use crate::storage::redb::commit::queue::QueueJob;
use crate::storage::redb::commit::taker::Help;
use crate::storage::redb::failure::{self, guarded};
use crate::storage::redb::memtable::row_key::DatabaseKind;
use crate::storage::redb::open::database::reopen;
use crate::storage::redb::open::enter::enter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

fn stays_in_the_journal(rows: usize) -> Error {
    let why = "a part of the store's file cannot be read, and";
    let what = "rows that belong there stay in the journal, whose files are left beside it";
    Error::new(ErrorKind::Corrupt, format!("{why} {rows} {what}"))
}

impl Committer {
    /// Drops the databases after a failure. What is in the journal stays there, and in memory; snapshots are
    /// read past redb from now on, until it is written again.
    pub(super) fn lose_databases(&mut self) {
        self.is_broken = true;
        self.tell_broken();
        if let Some(newest) = &self.newest {
            newest.readers.life.end();
        }
        while self.is_lent {
            match self.checkpointer.wait() {
                // If that failed, too, it makes no difference any more.
                Ok(returned) => drop(self.settle(returned)),
                Err(_) => self.is_lent = false,
            }
        }
        for (task, _) in self.tasks.drain(..) {
            task.refuse(reopening());
        }
        if let Some(databases) = self.databases.take() {
            databases.life.end();
            failure::discard(databases);
            self.orphaned.get_or_insert_with(Instant::now);
        }
    }

    /// The files are opened for writing as after a failure; until then what there is can be read.
    pub(super) fn wait_for_room(&mut self) {
        self.waits_for_room = true;
        self.lose_databases();
        self.newest = None;
        self.begun = None;
    }

    fn tell_broken(&self) {
        let told = &self.shared.counters.is_read_only;
        told.store(self.is_broken, Ordering::Relaxed);
    }

    /// Takes back every snapshot.
    fn expire_all(&mut self) {
        if let Some(last) = self.shared.published.swap(None) {
            last.expire();
        }
        self.shared.superseded.expire_all();
        self.orphaned = None;
    }

    /// Whether redb may be written. Since it was opened again it does not know of older snapshots, and would
    /// use their pages again: they come first, unless somebody waits for it who has waited for long enough.
    pub(super) fn may_write(&mut self) -> bool {
        let Some(since) = self.orphaned else {
            return true;
        };
        let waits =
            |(task, _): &(CheckpointerTask, u64)| !matches!(task, CheckpointerTask::Freeze { .. });
        let is_urgent = self.filled() >= 1.0 || self.tasks.iter().any(waits);
        let has_waited = is_urgent && since.elapsed() >= PATIENCE;
        if self.rules.in_the_foreground || has_waited {
            self.shared.superseded.expire_orphans();
        } else if self.shared.superseded.has_orphans() {
            return false;
        }
        self.orphaned = None;
        true
    }

    /// Drops the journal after a failure of its own, and the rows that are in it, to read them again. Those
    /// that are in no file are kept.
    pub(super) fn lose_journal(&mut self) {
        // Before anybody is told, who would begin with one of them.
        self.is_broken = true;
        self.expire_all();
        self.lose_databases();
        if let Some(newest) = self.newest.take() {
            let memtables = newest.frozen.iter().chain([&newest.active]);
            let rows = memtables.flat_map(|memtable| memtable.rows(newest.number));
            let in_memory = rows.filter(|row| row.key.home() == DatabaseKind::Memory);
            self.kept.extend(in_memory);
        }
        self.begun = None;
        self.unfinished = None;
        self.journal = None;
    }

    /// Opens the files again, with bounded back-off; false if the store is closing instead.
    /// Those who wait are told as soon as it does not succeed at once.
    pub(super) fn reopen(&mut self, waiting: &mut Vec<QueueJob>) -> bool {
        self.lose_databases();
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
            self.lose_databases();
            let until = Instant::now() + delay;
            delay = (delay * 2).min(LAST_RETRY);
            loop {
                QueueJob::refuse_all(waiting.drain(..), &refusal);
                let taken = self.shared.queue.take(Some(until), Help::Refused);
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
        if self.before.is_some() {
            // It is written at once.
            self.expire_all();
        }
        let (places, known) = (&self.places, &mut self.known);
        let file = reopen(&places.file, self.options, &self.shared.io)?;
        let memory = reopen(
            &places.memory,
            self.options.in_memory(),
            &Arc::<FileIo>::default(),
        )?;
        let databases = Databases {
            file,
            memory,
            disks: [places.file.clone(), places.memory.clone()],
            life: Arc::default(),
            step: self.options.step(),
        };
        let largest = self.rules.largest_file();
        let recovers = self.newest.is_none();
        self.shared.io.begin_commit();
        let opened = failure::guarded_on(databases, |databases| {
            if let Some(before) = self.before.as_ref() {
                before.restore(&databases.file, &self.shared.io)?;
            }
            let location = places.location.as_ref();
            let io = &self.shared.io;
            let enter = || enter(location, largest, &databases.file, io, known);
            let entered = recovers.then(enter).transpose()?;
            Ok((entered, databases.readers()?))
        });
        if opened.is_err() && self.shared.io.may_be_durable() {
            // The next attempt would be the second since those snapshots, and use their pages.
            self.expire_all();
        }
        let (databases, (entered, readers)) = opened?;
        self.before = None;
        self.is_broken = false;
        if let Some(entered) = entered {
            self.begin(databases, readers, entered.journal, &entered.recovered)?;
        } else {
            self.databases = Some(databases);
            self.show_readers(readers);
        }
        self.tell_broken();
        Ok(())
    }

    /// The end: everything durable and in one file, nothing held.
    pub(super) fn finish(mut self) -> Result<()> {
        if self.shared.touches.len() > 0 {
            self.flush();
        }
        self.shared.io.last();
        self.shared.superseded.expire_orphans();
        self.look_again();
        self.give_tasks();
        while self.is_lent {
            self.await_keeper();
            self.give_tasks();
        }
        self.shared.closed.store(true, Ordering::Release);
        let closing = self.last_checkpoints();
        let databases = self.databases.take();
        let had_journal = self.journal.take().is_some();
        self.lose_databases();
        self.expire_all();
        let closed = match (databases, closing) {
            (Some(databases), Some(checkpoints)) => {
                let last = |databases: &Databases| {
                    checkpoints.iter().try_for_each(|checkpoint| {
                        let io = &self.shared.io;
                        match databases.checkpoint(checkpoint, io, self.shared.bugs)? {
                            Step::Done => Ok(()),
                            Step::Stuck(rows) => Err(stays_in_the_journal(rows.len())),
                        }
                    })
                };
                failure::guarded_on(databases, last).and_then(|(databases, ())| {
                    guarded(|| {
                        let _ = databases.memory.close();
                        databases.file.close().map_err(failure::database)
                    })
                })
            }
            // What there was is as it was.
            _ if self.waits_for_room => Ok(()),
            _ => Err(reopening()),
        };
        let held = std::mem::take(&mut self.known.held);
        if closed.is_ok()
            && had_journal
            && let Err(error) = held.remove()
        {
            tracing::warn!(%error, "the files of the journal are left");
        }
        // Let go before the store is, so that the next opening finds them free.
        drop(held);
        let unlocked = self.places.file.close().map_err(failure::unlock);
        closed.and(unlocked)
    }

    /// Opens the databases again if what could not be read of them can be.
    fn look_again(&mut self) {
        let unreadable = self.shared.io.unreadable();
        if self.is_broken || unreadable.count() == 0 || !unreadable.can_be_read_again() {
            return;
        }
        self.lose_databases();
        if let Err(error) = self.try_reopen() {
            tracing::warn!(%error, "the store cannot be reopened");
        }
    }

    /// What brings the rest into redb, in order; none if the files are not open.
    fn last_checkpoints(&mut self) -> Option<Vec<Checkpoint>> {
        let newest = self.newest.as_ref().filter(|_| !self.is_broken)?;
        let Some((journal, named)) = &self.journal else {
            return Some(Vec::new());
        };
        let last = Checkpoint {
            memtable: newest.active.clone(),
            number: newest.number,
            up_to: self.number,
            covered: journal.last(),
            file: None,
            closes: Some(*named),
            left: LeftOut::default(),
        };
        let unfinished = self.unfinished.take().map(|(checkpoint, _)| checkpoint);
        Some(unfinished.into_iter().chain([last]).collect())
    }
}
