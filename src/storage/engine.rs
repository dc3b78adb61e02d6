//! The traits that an engine implements: snapshots to read from, change sets to commit. Bytes and versions only: no
//! serde value, no HTTP, no policy about time.

use super::access::{RecordedTimes, SessionRef, Touch};
use super::answer::Answer;
use super::backup::{BackupSummary, PreviousBackup, ProgressFn};
use super::change_set::{ChangeSet, StaleCommute, TombstonePolicy};
use super::container_id::ContainerId;
use super::progress::RowProgressFn;
use super::record::{PackageRow, SessionRow};
use super::settings::{SettingsChange, StoreSettings};
use super::version::Mark;
use crate::block_on::{WakeGroup, block_on, block_on_leading};
use crate::client_id::ClientKey;
use crate::clock::{ClockOffset, Timestamp};
#[cfg(feature = "encryption")]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use std::any::Any;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Sessions of one container, in the order of their keys. A damaged row is an error in its place.
pub(crate) type SessionPage = Vec<(ClientKey, Result<SessionRow>)>;

/// The newest times of sessions, in the order in which they were asked for. `None` for one that has ended.
pub(crate) type NewestTimes = Vec<Result<Option<RecordedTimes>>>;

/// How many sessions one commit of a sweep removes at most in an engine of this process. Other commits wait for it.
pub(crate) const SWEPT_TOGETHER: usize = 32;

/// Candidates for a sweep.
pub(crate) struct StalePage {
    /// A moment before the sessions were read.
    pub(crate) mark: Mark,
    pub(crate) sessions: SessionPage,
    pub(crate) times: ShownTimes,
}

/// What times the rows of a page show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShownTimes {
    /// Those of a snapshot: newer ones may be recorded.
    Recorded,
    /// The newest ones, so that the engine need not be asked for them.
    #[cfg(feature = "postgres")]
    Newest,
}

/// The store as of one commit. Transactions read from it.
///
/// The rows of a client are read once the client is loaded. Reading them then waits for nothing.
pub(crate) trait Snapshot: Send + Sync {
    /// Fetches everything that may be read of these clients.
    fn load(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>>;
    /// Why a load failed, and of which client, if another transaction was in the way. The whole transaction must run again.
    fn load_conflict(&self) -> Option<(Error, ClientKey)> {
        None
    }
    /// How often a load has moved the moment that the snapshot shows. Of most engines no load does. Of others, each load may,
    /// and fails if the clients that were loaded before have changed.
    fn moved(&self) -> u64 {
        0
    }
    /// As [`load`](Self::load), but if loads move the moment, to one within this call.
    fn load_now(&self, clients: &[ClientKey]) -> Answer<'_, Result<()>> {
        self.load(clients)
    }
    /// Whether a client is loaded. An engine that can read any row at once always says so.
    fn is_loaded(&self, client: ClientKey) -> bool;
    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>>;
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>>;
    /// About the length of a package's row in bytes; 0 if there is no row.
    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        let row = self.package(container, client, package)?;
        Ok(row.map_or(0, |row| row.memory_size()))
    }
    /// Until when the id of a client is refused, if its session ended. The client is loaded.
    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>>;
    /// At most `limit` sessions of a container in the order of their keys, beginning after `after`.
    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>>;
    /// The sessions whose owner is `owner`.
    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>>;
    /// The sessions in these containers whose owner is `owner`, of the first `limit` clients after `after`. An engine
    /// whose index is not in the order of clients reads the whole list, as this does.
    fn owned_page(
        &self,
        owner: &str,
        containers: &[ContainerId],
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let (all, containers) = (self.owned(owner), containers.to_vec());
        Answer::later(async move {
            let mut owned = all.await?;
            owned.retain(|(container, _)| containers.contains(container));
            Ok(of_first_clients(owned, after, limit))
        })
    }
}

/// The sessions of the first `limit` clients after `after`, each once.
pub(crate) fn of_first_clients(
    mut owned: Vec<(ContainerId, ClientKey)>,
    after: Option<ClientKey>,
    limit: usize,
) -> Vec<(ContainerId, ClientKey)> {
    owned.retain(|(_, client)| after.is_none_or(|after| *client > after));
    owned.sort_unstable_by_key(|(container, client)| (*client, container.0));
    owned.dedup();
    let mut clients = 0;
    let mut last = None;
    let is_among = |(_, client): &(ContainerId, ClientKey)| {
        clients += usize::from(last.replace(*client) != Some(*client));
        clients <= limit
    };
    owned.into_iter().take_while(is_among).collect()
}

/// A damaged item, and the session concerned.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// use cloakroom::Store;
///
/// let store = Store::open(path)?;
/// for damage in store.check()?.findings {
///     if let Some(client) = damage.client {
///         store.end(client)?; // the visitor begins anew
///     }
/// }
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Damage {
    /// The container, if known. The unnamed container is `Some("")`.
    pub container: Option<String>,
    /// The client whose session is damaged, if known.
    pub client: Option<ClientKey>,
    /// The package, if the item is one.
    pub package: Option<String>,
    /// The damage.
    pub error: Error,
}

/// Damage that an engine found in its storage.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// A record that is damaged, lost, or not where it belongs.
    Record(Damage),
    /// A damaged part of the structure that holds the records.
    Structure(Damage),
}

/// The result of a salvage, which copies a damaged store into a new one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    pub(crate) mended: u64,
    pub(crate) new_identity: bool,
    pub(crate) new_secrets: bool,
}

/// A step of encrypting all rows with the current key.
#[cfg(feature = "encryption")]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ResealStep {
    /// Sessions that were looked at.
    pub(crate) sessions: u64,
    /// Sessions that there were at the last checkpoint.
    pub(crate) of: u64,
    /// Records that were encrypted again.
    pub(crate) records: u64,
    /// Sessions and packages that cannot be read.
    pub(crate) unreadable: u64,
    /// Where the next step goes on, if there is one.
    pub(crate) last: Option<[u8; 20]>,
}

/// How much a check has read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    /// Bytes of the file's pages that hold something; 0 without a file.
    pub(crate) bytes_in_use: u64,
    /// Whether it was not broken off.
    pub(crate) is_complete: bool,
}

/// How a commit ended.
pub(crate) enum Outcome {
    /// Durable and visible. The change set goes back to the thread that made it, which frees it more cheaply.
    Committed(Box<ChangeSet>),
    /// Nothing was written. If the session of one client was at fault, its key.
    Failed(Error, Option<ClientKey>),
    /// A commute started from a value that is no longer current. The caller computes it again from the bytes given
    /// here and submits the change set again: through [`Resubmit`] if the engine gives one.
    Stale(Box<ChangeSet>, Vec<StaleCommute>, Option<Box<dyn Resubmit>>),
}

/// The state of a stale commit that an engine keeps while the caller computes the commit again.
///
/// An engine that limits admission keeps the commit's place, so that the commit never waits behind those that wait
/// for it. Dropping this gives the place up.
pub(crate) trait Resubmit: Send {
    fn resubmit(self: Box<Self>, set: Box<ChangeSet>, done: CommitCallback);
}

/// Called once with the outcome of a commit, on a thread of the engine. It must not block.
pub(crate) type CommitCallback = Box<dyn FnOnce(Outcome) + Send>;

/// A change set that was submitted. Dropping this withdraws it if the engine has not admitted it yet.
#[must_use = "dropping it may withdraw the change set"]
pub(crate) struct Submission {
    _withdrawal: Option<Box<dyn Any + Send>>,
}

impl Submission {
    /// The commit takes place even if nobody waits for it.
    pub(crate) fn admitted() -> Self {
        Self { _withdrawal: None }
    }

    /// The change set waits for admission. Dropping `withdrawal` withdraws it.
    pub(crate) fn pending(withdrawal: impl Any + Send) -> Self {
        Self {
            _withdrawal: Some(Box::new(withdrawal)),
        }
    }
}

/// What became of an access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchOutcome {
    /// The session was alive.
    Alive,
    /// The session has ended, or was found expired after the transaction looked first. Nothing is recorded.
    Ended,
    /// The engine cannot tell now. It records the time once it finds the session.
    Unknown,
}

/// Who waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaiterKind {
    /// A thread in [`block_on`](<dyn Storage>::block_on).
    Thread,
    /// A task among others, or nobody yet.
    Task,
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: u64,
    pub(crate) groups: u64,
    pub(crate) conflicts: u64,
    pub(crate) touches: u64,
    /// Commits refused because too many sessions were founded.
    pub(crate) refused: u64,
    /// Access times that were not recorded because too many waited.
    pub(crate) lost_touches: u64,
    /// Change sets that are queued or being committed, and about how many bytes of memory they take.
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    /// Change sets that wait for admission.
    pub(crate) pending_admission: usize,
    /// Snapshots that transactions hold although newer ones exist, and since when the oldest of them is not the
    /// newest.
    pub(crate) held: usize,
    pub(crate) oldest_held: Option<Duration>,
    /// Snapshots that maintenance reads, such as a backup, and for how long the oldest of them has been read.
    pub(crate) maintenance: usize,
    pub(crate) oldest_maintenance: Option<Duration>,
}

/// Counters of an engine that keeps files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FileCounters {
    pub(crate) bytes_written: u64,
    pub(crate) syncs: u64,
    pub(crate) reopened: u64,
    pub(crate) checkpoints: u64,
    /// Bytes of the journal's files.
    pub(crate) journal_len: u64,
    /// Commits are refused until the files can be written again.
    pub(crate) is_read_only: bool,
    /// Parts of the file that cannot be read.
    pub(crate) unreadable: usize,
}

/// An engine that keeps sessions.
pub(crate) trait Storage: Send + Sync {
    /// The moment in the engine's history that it is now. Reads nothing that is stored, and does not wait.
    fn mark(&self) -> Mark;
    /// Whether the engine answers looks and loads at once. Only then may asynchronous code read data that it did not
    /// fetch.
    fn answers_at_once(&self) -> bool {
        false
    }
    /// Whether the engine can read and write now, as far as this process knows. Does not wait.
    fn ready(&self) -> Result<()>;
    /// The newest committed state.
    fn snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>>;
    /// The newest state, for maintenance: it does not become too old. Of what was loaded, it may keep the last clients only.
    fn lasting_snapshot(&self) -> Answer<'_, Result<Arc<dyn Snapshot>>> {
        self.snapshot()
    }
    /// Submits a change set and calls `done` with the outcome. A [`WaiterKind::Thread`] calls
    /// [`lead_commit`](LocalEngine::lead_commit) next, so that a local engine need not wake its own thread.
    fn submit(&self, set: Box<ChangeSet>, waiter: WaiterKind, done: CommitCallback) -> Submission;
    /// Submits a change set that does not wait for admission and is never withdrawn: commits that were admitted may
    /// wait for it.
    fn submit_unbounded(&self, set: Box<ChangeSet>, done: CommitCallback);
    /// Records an access time, whether or not the answer is awaited. It becomes durable with the next commit or within
    /// a second (C3.4). Nothing is recorded if the session has ended or was found expired after [`Touch::since`].
    fn touch(&self, touch: Touch) -> Answer<'static, TouchOutcome>;
    /// Whether one of these sessions is still there and was not found expired after this mark.
    fn is_any_alive(&self, sessions: &[SessionRef], since: Mark) -> Answer<'_, Result<bool>>;
    /// The newest times of sessions, including accesses that are not in their rows yet.
    fn recorded_times(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes>;
    /// Notes that sessions were found expired, then returns their newest times: an access that came before the note may
    /// have kept one alive. After the note, no transaction that looked first before it brings the session back (C3.2).
    fn found_expired(&self, sessions: &[SessionRef]) -> Answer<'_, NewestTimes>;
    /// The newest settings of the store, with the changes that other processes made.
    fn settings(&self) -> Answer<'_, Result<Arc<StoreSettings>>>;
    /// The version of the newest settings that the engine knows of. Does not wait: each transaction asks when it
    /// begins. An engine that several processes use keeps it up to date by itself.
    fn settings_version(&self) -> u64;
    /// Changes the settings durably, by [`StoreSettings::changed`]. Returns the settings after that.
    fn configure(&self, change: SettingsChange) -> Answer<'_, Result<Arc<StoreSettings>>>;
    /// Removes a bounded number of rows that unregistered containers and old tombstones left, and lowers the
    /// tombstones that lie too far ahead. Returns how many.
    fn reclaim(&self, refusals: TombstonePolicy) -> Answer<'_, Result<u64>>;
    /// Whether this process is to sweep by itself now: of the processes that use the same engine, one at a time does. It
    /// sweeps again after `every`.
    fn may_sweep(&self, every: Duration) -> Answer<'_, Result<bool>> {
        let _ = every;
        Answer::now(Ok(true))
    }
    /// How many sessions of a container one commit of a sweep removes at most.
    fn swept_together(&self, container: ContainerId) -> usize {
        let _ = container;
        SWEPT_TOGETHER
    }
    /// At most `limit` sessions of a container that may have expired by `now`, or whose times may lie ahead of it, in the
    /// order of their keys, beginning after `after`. They are candidates: the sweep judges each, and its commit judges
    /// again. An engine that keeps no index by time gives every session, as this does.
    fn stale(
        &self,
        container: ContainerId,
        now: Timestamp,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<StalePage>> {
        let _ = now;
        Answer::later(async move {
            let mark = self.mark();
            let snapshot = self.snapshot().await?;
            let sessions = snapshot.sessions(container, after, limit).await?;
            Ok(StalePage {
                mark,
                sessions,
                times: ShownTimes::Recorded,
            })
        })
    }
    /// Reads all stored data as of one commit, and reports damage. Commits continue meanwhile. It may read on the
    /// thread that waits for it. If `progress` breaks off, the answer has what was read.
    fn check<'a>(
        &'a self,
        found: &'a mut (dyn FnMut(Finding) + Send),
        progress: &'a mut RowProgressFn<'a>,
    ) -> Answer<'a, Result<Checked>>;
    /// Encrypts the rows of some sessions with the current key, of those after a key.
    #[cfg(feature = "encryption")]
    fn reseal(&self, after: Option<[u8; 20]>) -> Answer<'_, Result<ResealStep>> {
        let _ = after;
        let why = "only a store in a file or on a server can be encrypted again";
        Answer::now(Err(Error::new(ErrorKind::Unsupported, why)))
    }
    /// Lets other keys be used again after rows were met that cannot be encrypted again.
    #[cfg(feature = "encryption")]
    fn leave_reseal(&self) -> Answer<'_, Result<()>> {
        Answer::now(Ok(()))
    }
    /// Notes that all rows are encrypted with the current key. Returns whether that is so: not while the rows of
    /// unregistered containers are being removed.
    #[cfg(feature = "encryption")]
    fn finish_reseal(&self) -> Answer<'_, Result<bool>> {
        Answer::now(Ok(false))
    }
    fn counters(&self) -> Counters;
    /// How far the engine's clock is ahead of that of the process, where its clock decides. The engine keeps it up to
    /// date. A clock that a test moves by hand is not corrected.
    fn clock_offset(&self) -> Option<Arc<ClockOffset>> {
        None
    }
    /// Makes everything durable and closes the engine. Later calls give `Closed`.
    fn close(&self) -> Result<()>;
    /// The engine's files and commit threads, if it has them in this process.
    fn local(&self) -> Option<&dyn LocalEngine> {
        None
    }
}

/// An engine that keeps files and commits on threads of this process. An engine over a network has none of this.
pub(crate) trait LocalEngine {
    /// Commits the queued change sets on this thread, unless the engine's thread does so already. Returns whether it
    /// committed. A thread that waits for a commit asks this each time before it sleeps.
    fn lead_commit(&self) -> bool;
    /// Wakes a thread that waits for the commit which it submits next.
    fn wake_group(&self) -> &Arc<WakeGroup>;
    /// Writes all commits so far to the main file. They are durable before.
    fn checkpoint(&self) -> Answer<'_, Result<()>>;
    /// Writes a backup as of a commit that is no older than the call: whole, or what changed since a previous one. It
    /// reads on this thread.
    fn backup(
        &self,
        out: &mut dyn Write,
        previous: Option<PreviousBackup<'_>>,
        progress: &mut ProgressFn<'_>,
    ) -> Result<BackupSummary>;
    /// Whether commits are about to be delayed until earlier ones are in the main file. Background work waits while
    /// this is so. It ends by itself.
    fn has_backpressure(&self) -> bool;
    /// Bytes of the main file. 0 in memory.
    fn file_len(&self) -> Result<u64>;
    fn file_counters(&self) -> FileCounters;
}

impl dyn Storage {
    /// Runs a future that waits for a commit to its end on this thread. A local engine commits on it meanwhile.
    pub(crate) fn block_on<F: Future>(&self, commit: F) -> F::Output {
        match self.local() {
            Some(local) => block_on_leading(commit, local.wake_group(), || local.lead_commit()),
            None => block_on(commit),
        }
    }

    /// Whether background work is to wait: see [`LocalEngine::has_backpressure`].
    pub(crate) fn has_backpressure(&self) -> bool {
        self.local().is_some_and(LocalEngine::has_backpressure)
    }
}
