//! The engine on redb: the store's file with its journal, and the writer thread.

use crate::block_on::WakeGroup;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
#[cfg(feature = "encryption")]
use crate::storage::ResealStep;
use crate::storage::record::SessionRow;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::backup::write_backup;
use crate::storage::redb::commit::committer::{CommitLeader, Committer, DatabaseLocation};
use crate::storage::redb::commit::errors;
use crate::storage::redb::commit::job::QueueJob;
use crate::storage::redb::failure;
use crate::storage::redb::integrity::inspect;
use crate::storage::redb::mark::RedbMark;
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use crate::storage::redb::open::database::in_memory;
use crate::storage::redb::open::enter::{JournalAtOpening, enter, peek};
use crate::storage::redb::open::identify::OpeningPlan;
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::open::taken_over::put_settings;
use crate::storage::redb::open::{identify, locks};
use crate::storage::redb::reply::Reply;
use crate::storage::redb::{EngineRules, EngineShared};
use crate::storage::{
    Answer, BackupSummary, ChangeSet, Checked, CommitCallback, Counters, FileCounters, Finding,
    LocalEngine, Mark, NewestTimes, PreviousBackup, ProgressFn, RecordedTimes, RowProgressFn,
    SessionRef, SettingsChange, Snapshot, Storage, StoreSettings, Submission, TombstonePolicy,
    Touch, TouchOutcome, WaiterKind,
};
use futures_channel::oneshot;
use redb::Database;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A store in redb: in a file, or in memory, with its writer thread.
pub(crate) struct Engine {
    shared: Arc<EngineShared>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
    leader: Arc<CommitLeader>,
    /// None for a store in memory.
    disk: Option<Disk>,
    process: Process,
    _watcher: Arc<dyn Fn() + Send + Sync>,
}

impl Engine {
    /// Opens the store at `path`, or a new one in memory. If the file is verified and damage is found, the damage is
    /// reported to `found`, and opening fails.
    pub(crate) fn open(
        path: Option<&Path>,
        options: OpenOptions,
        clock: Clock,
        rules: EngineRules,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Self> {
        match path {
            Some(path) => locks::waiting(options.wait, || {
                let location = identify::location(path)?;
                Self::open_once(&location, options, clock.clone(), rules.clone(), found)
            }),
            None => {
                let io = Arc::<FileIo>::default();
                let (disk, file) = in_memory(options, &io)?;
                if let Some(settings) = &rules.initial {
                    put_settings(&file, settings, &rules.cipher)?;
                }
                Self::start((disk, file, None), None, io, options, clock, rules)
            }
        }
    }

    /// Opens the store at a location.
    #[cfg(feature = "torture")]
    pub(crate) fn open_at(
        location: &Location,
        options: OpenOptions,
        clock: Clock,
        rules: EngineRules,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Self> {
        locks::waiting(options.wait, || {
            Self::open_once(location, options, clock.clone(), rules.clone(), found)
        })
    }

    fn open_once(
        location: &Location,
        options: OpenOptions,
        clock: Clock,
        rules: EngineRules,
        found: &mut dyn FnMut(Finding),
    ) -> Result<Self> {
        let io = Arc::<FileIo>::default();
        #[cfg(feature = "encryption")]
        let rules = EngineRules {
            cipher: rules.cipher.afresh(),
            ..rules
        };
        let terms = (&rules.cipher, rules.initial.as_deref());
        let opened = identify::open_or_create(location, options, &io, terms, found)?;
        Self::start(opened, Some(location), io, options, clock, rules)
    }

    fn start(
        (disk, file, foreseen): (Disk, Database, Option<OpeningPlan>),
        location: Option<&Location>,
        io: Arc<FileIo>,
        options: OpenOptions,
        clock: Clock,
        rules: EngineRules,
    ) -> Result<Self> {
        let mut known = JournalAtOpening::of(foreseen);
        let largest = rules.journal.largest_file();
        let entered = failure::guarded_on(file, |file| {
            let seen = (&rules.cipher, clock.timestamp());
            enter(location, largest, file, &io, &mut known, seen)
        });
        let entered = match (entered, location) {
            (Err(error), Some(location)) if failure::is_full(&error) => {
                peek(location, &disk, options, &error, &mut known, &rules.cipher)
            }
            (entered, _) => entered,
        };
        let (file, entered) = entered.map_err(|e| {
            let _ = disk.close();
            match location {
                Some(location) => failure::at(&location.path, e),
                None => e,
            }
        })?;
        let settings = entered.identity.settings();
        let file_disk = location.map(|_| disk.clone());
        let location = DatabaseLocation {
            location: location.cloned(),
            file: disk,
        };
        let shared = Arc::new(EngineShared::new(
            &rules,
            io,
            clock,
            options.faults,
            settings,
        )?);
        let committer = Committer::new(
            shared.clone(),
            options,
            rules.journal,
            location,
            file,
            (entered, known),
            rules.new_sessions,
        )?;
        Self::serve(shared, committer, file_disk)
    }

    /// Starts the writer thread.
    fn serve(shared: Arc<EngineShared>, committer: Committer, disk: Option<Disk>) -> Result<Self> {
        let watcher: Arc<dyn Fn() + Send + Sync> = {
            let shared = Arc::downgrade(&shared);
            Arc::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.queue.wake();
                }
            })
        };
        shared.clock.watch(Arc::downgrade(&watcher));
        let leader = Arc::new(CommitLeader::new(shared.clone(), committer));
        let thread = std::thread::Builder::new()
            .name("cloakroom-commit".into())
            .spawn({
                let leader = leader.clone();
                move || leader.run()
            })
            .map_err(|e| Error::new(ErrorKind::Io, "no thread can be started").with_source(e))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
            leader,
            disk,
            process: Process::this(),
            _watcher: watcher,
        })
    }

    /// Hands a job to the writer thread. The answer comes when the job is done.
    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(Reply<T>) -> QueueJob,
    ) -> Answer<'static, Result<T>> {
        if let Err(error) = self.process.check() {
            return Answer::now(Err(error));
        }
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(job(reply));
        Answer::later(async { answer.await.unwrap_or_else(|_| Err(errors::gone())) })
    }
}

impl Engine {
    /// The error of a reader that finds no published snapshot.
    fn away(&self) -> Error {
        if self.shared.closed.load(Ordering::Acquire) {
            return errors::closed();
        }
        self.shared
            .queue
            .refusal()
            .unwrap_or_else(errors::reopening)
    }
}

impl Engine {
    fn newest(&self) -> Result<Arc<RedbSnapshot>> {
        let newest = self.shared.published.load_full();
        newest.ok_or_else(|| self.away())
    }

    /// The row of a session in the newest state, if it is still of this incarnation.
    fn newest_row(&self, session: SessionRef) -> Result<Option<SessionRow>> {
        let row = self.newest()?.session(session.container, session.client)?;
        Ok(row.filter(|row| row.incarnation == session.incarnation))
    }

    /// Whether a session is still there and was not found expired after this mark.
    fn finds(&self, session: SessionRef, since: Mark) -> Result<bool> {
        let row = self.newest_row(session)?;
        let SessionRef {
            container, client, ..
        } = session;
        let touches = &self.shared.touches;
        Ok(row.is_some() && !touches.is_expired_since(container, client, since))
    }

    fn times_of(&self, session: SessionRef) -> Result<Option<RecordedTimes>> {
        // First: a touch waits until a snapshot shows it.
        let waiting = self.shared.touches.get(session);
        let Some(mut row) = self.newest_row(session)? else {
            return Ok(None);
        };
        if let Some(touch) = waiting {
            touch.put_on(&mut row.access, self.shared.clock.timestamp());
        }
        Ok(Some(RecordedTimes::of(&row.access)))
    }
}

impl Storage for Engine {
    fn ready(&self) -> Result<()> {
        match &*self.shared.published.load() {
            Some(_) => Ok(()),
            None => Err(self.away()),
        }
    }

    fn mark(&self) -> Mark {
        // A snapshot that is taken after this shows the commit, or a later one.
        let commit = self.shared.shown.load(Ordering::Acquire);
        let looks = self.shared.touches.looks();
        RedbMark { commit, looks }.into()
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn lasting_snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        let snapshot = self.ask(QueueJob::KeepSnapshot);
        Answer::later(async move {
            let snapshot: Arc<dyn Snapshot> = snapshot.await?;
            Ok(snapshot)
        })
    }

    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        Answer::now(self.newest().map(|it| it as Arc<dyn Snapshot>))
    }

    fn submit(&self, set: Box<ChangeSet>, waiter: WaiterKind, done: CommitCallback) -> Submission {
        let pending = self.shared.queue.commit(set, done, waiter);
        pending.map_or_else(Submission::admitted, Submission::pending)
    }

    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback) {
        self.shared.queue.commit_unbounded(set, done);
    }

    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome> {
        let outcome = match self.finds(touch.session, touch.since) {
            Ok(true) => TouchOutcome::Alive,
            Ok(false) => TouchOutcome::Ended,
            Err(_) => TouchOutcome::Unknown,
        };
        if outcome != TouchOutcome::Ended {
            self.shared.touch(touch);
        }
        Answer::now(outcome)
    }

    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>> {
        let mut unreadable = None;
        for session in sessions {
            match self.finds(*session, since) {
                Ok(true) => return Answer::now(Ok(true)),
                Ok(false) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        Answer::now(unreadable.map_or(Ok(false), Err))
    }

    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        let times = sessions.iter().map(|session| self.times_of(*session));
        Answer::now(times.collect())
    }

    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes> {
        for session in sessions {
            let touches = &self.shared.touches;
            touches.found_expired(session.container, session.client);
        }
        self.recorded_times(sessions)
    }

    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>> {
        Answer::now(Ok(self.shared.settings.load_full()))
    }

    fn settings_version(&self) -> u64 {
        self.shared.settings_version.load(Ordering::Acquire)
    }

    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>> {
        let settings = self.shared.settings.load_full();
        if matches!(settings.changed(&change), Ok(None)) {
            // Nothing is to be written. A store that was closed says so all the same.
            return Answer::now(self.ready().map(|()| settings));
        }
        self.ask(|reply| QueueJob::Configure(change, reply))
    }

    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>> {
        self.ask(|reply| QueueJob::Reclaim(refusals, reply))
    }

    fn check<'a>(
        &'a self,
        found: &'a mut (dyn FnMut(Finding) + Send),
        progress: &'a mut RowProgressFn<'a>,
    ) -> Answer<'a, Result<Checked>> {
        let snapshot = self.ask(QueueJob::Inspect);
        Answer::later(async move {
            let snapshot = snapshot.await?;
            let reopened = snapshot.reopened;
            let disk = snapshot.disk();
            let checked = snapshot.inspect(&self.shared.cipher, found, progress);
            for offset in self.shared.io.copies().still_used(&disk) {
                found(Finding::Structure(inspect::page_of_copy(offset)));
            }
            // A reopened database does not know that the inspection still reads its pages.
            self.ready()?;
            if reopened != self.shared.counters.reopened.load(Ordering::Relaxed) {
                return Err(errors::reopening());
            }
            checked
        })
    }

    fn counters(&self) -> Counters {
        let tally = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let load = self.shared.queue.load();
        let now = self.shared.clock.moment();
        let (held, oldest_held) = self.shared.snapshots.held(now);
        let (maintenance, oldest_maintenance) = self.shared.snapshots.maintenance(now);
        Counters {
            commits: get(&tally.commits),
            groups: get(&tally.groups),
            conflicts: get(&tally.conflicts),
            touches: get(&tally.touches),
            refused: get(&tally.refused),
            lost_touches: self.shared.touches.lost(),
            waiting: load.commits,
            waiting_bytes: load.bytes,
            pending_admission: load.pending_admission,
            held,
            oldest_held,
            maintenance,
            oldest_maintenance,
        }
    }

    fn close(&self) -> Result<()> {
        self.process.check()?;
        self.shared.queue.close();
        // A second caller waits here until the file is closed.
        let mut slot = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            // The last handle may be dropped by a callback on the writer thread itself.
            Some(thread) if thread.thread().id() != std::thread::current().id() => {
                thread.join().unwrap_or_else(|_| Err(errors::gone()))
            }
            _ => Ok(()),
        }
    }

    #[cfg(feature = "encryption")]
    fn reseal(&self, after: Option<[u8; 20]>) -> Answer<'_, Result<ResealStep>> {
        Answer::later(async move {
            if !self.shared.cipher.encrypts() {
                let why = "the store was opened without keys";
                return Err(Error::new(ErrorKind::Unsupported, why));
            }
            let (plan, mut step) = self.newest()?.plan_reseal(after)?;
            for part in plan.parts {
                step.records += self.ask(|reply| QueueJob::Reseal(part, reply)).await?;
            }
            Ok(step)
        })
    }

    #[cfg(feature = "encryption")]
    fn finish_reseal(&self) -> Answer<'_, Result<bool>> {
        self.ask(QueueJob::FinishReseal)
    }

    fn local(&self) -> Option<&dyn LocalEngine> {
        Some(self)
    }
}

impl LocalEngine for Engine {
    fn lead_commit(&self) -> bool {
        self.leader.lead()
    }

    fn wake_group(&self) -> &Arc<WakeGroup> {
        self.shared.queue.wake_group()
    }

    fn checkpoint(&self) -> Answer<'_, Result<()>> {
        self.ask(QueueJob::Checkpoint)
    }

    fn backup(
        &self,
        out: &mut dyn Write,
        previous: Option<PreviousBackup<'_>>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<BackupSummary> {
        let snapshot = self.ask(QueueJob::KeepSnapshot).wait()?;
        write_backup((&snapshot, &self.shared), out, previous, progress)
    }

    fn has_backpressure(&self) -> bool {
        self.shared.io.has_backpressure()
    }

    fn file_len(&self) -> Result<u64> {
        let len = self.disk.as_ref().map_or(Ok(0), |disk| disk.len());
        len.map_err(|e| Error::new(ErrorKind::Io, "the file's size cannot be read").with_source(e))
    }

    fn file_counters(&self) -> FileCounters {
        let tally = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FileCounters {
            bytes_written: self.shared.io.bytes_written(),
            syncs: self.shared.io.syncs(),
            reopened: get(&tally.reopened),
            checkpoints: get(&tally.checkpoints),
            journal_len: get(&tally.journal_len),
            is_read_only: tally.is_read_only.load(Ordering::Relaxed),
            unreadable: self.shared.io.unreadable().count() + self.shared.io.copies().used().len(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests;
