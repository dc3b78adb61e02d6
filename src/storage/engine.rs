//! The traits that an engine implements: snapshots to read from, change sets to commit. Bytes and versions only: no
//! serde value, no HTTP, no policy about time.

use super::change_set::{ChangeSet, StaleCommute, TombstonePolicy, Touch, TouchAt};
use super::container_id::ContainerId;
use super::record::{ContainerRecord, PackageRow, SessionRow};
use crate::block_on::WakeGroup;
use crate::client_id::ClientKey;
use crate::error::{Error, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// What a transaction reads: the store as it was at one commit.
pub(crate) trait Snapshot: Send + Sync {
    /// The number of that commit.
    fn number(&self) -> u64;
    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>>;
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>>;
    /// How many bytes the row of a package has; 0 where there is none.
    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize>;
    /// The sessions of a container in the order of their keys, from the one after `after`; damaged
    /// rows are reported in their place.
    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<Vec<(ClientKey, Result<SessionRow>)>>;
    /// The sessions that bear `owner`.
    fn owned(&self, owner: &str) -> Result<Vec<(ContainerId, ClientKey)>>;
}

/// A damaged item, and the session concerned.
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

/// What an engine found in its storage.
#[derive(Clone, Debug)]
pub(crate) enum Finding {
    /// A record that is damaged, lost, or not where it belongs.
    Record(Damage),
    /// A part of the structure that holds the records.
    Structure(Damage),
}

/// What of a damaged store is in a new one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Salvaged {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    pub(crate) mended: u64,
    pub(crate) new_identity: bool,
    pub(crate) new_secrets: bool,
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checked {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
}

/// How a commit ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// With the change set, to be let go of where it was made: an allocator has that cheaper than on
    /// another thread.
    Committed(ChangeSet),
    /// Nothing of it was written. Where one client's session was at fault, its key.
    Failed(Error, Option<ClientKey>),
    /// The value that a commute started from has changed: compute it again from the bytes given
    /// here, and commit the same change set with that.
    Stale(ChangeSet, Vec<StaleCommute>, Option<Permit>),
}

/// The room that a change set takes among those that wait, given back when it is dropped. One that
/// must be computed again keeps it, and so never waits for those that wait for it.
pub(crate) type Permit = Box<dyn Any + Send>;

/// A change set that waits to be queued until there is room; dropping this takes it back.
pub(crate) type PendingAdmission = Box<dyn Any + Send>;

/// Called once, on a thread of the engine, with the outcome of a commit. It must not wait.
pub(crate) type CommitCallback = Box<dyn FnOnce(Outcome) + Send>;

/// Who waits for a commit: a thread that does nothing else meanwhile, or a task among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaiterKind {
    Thread,
    Task,
}

/// A change to the store itself.
#[derive(Clone, Debug)]
pub(crate) enum SettingsChange {
    PutContainer(ContainerRecord),
    /// Forgets a container; what it holds is removed by `reclaim`.
    RemoveContainer(String),
    PutSecrets(Vec<SecretRecord>),
}

/// A secret of the client ids, as stored: the byte that names it, and the key.
#[derive(Clone)]
pub(crate) struct SecretRecord(pub(crate) u8, pub(crate) [u8; 32]);

impl std::fmt::Debug for SecretRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretRecord({}, ..)", self.0)
    }
}

/// Counters since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: u64,
    pub(crate) groups: u64,
    pub(crate) conflicts: u64,
    pub(crate) touches: u64,
    pub(crate) bytes_written: u64,
    pub(crate) syncs: u64,
    pub(crate) reopened: u64,
    /// Commits refused because too many sessions were founded.
    pub(crate) refused: u64,
    /// Access times that were not recorded because too many waited.
    pub(crate) lost_touches: u64,
    pub(crate) checkpoints: u64,
    /// Bytes of the journal's files.
    pub(crate) journal_len: u64,
    /// Change sets that are queued or being committed, and about how many bytes they take.
    pub(crate) waiting: usize,
    pub(crate) waiting_bytes: usize,
    /// Change sets that wait for room.
    pub(crate) pending_admission: usize,
    /// Snapshots held by transactions although newer ones are there, and for how long the oldest of
    /// them has not been the newest.
    pub(crate) held: usize,
    pub(crate) oldest_held: Option<Duration>,
    /// Commits are refused until the files can be written again.
    pub(crate) is_read_only: bool,
    /// Parts of the file that cannot be read.
    pub(crate) unreadable: usize,
}

/// An engine that keeps sessions.
pub(crate) trait Storage: Send + Sync {
    /// The number of the newest commit. It touches nothing that is stored.
    fn newest(&self) -> u64;
    /// Whether it can be read and written now.
    fn ready(&self) -> Result<()>;
    /// The newest committed state.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>>;
    /// Queues a change set. Once it is queued, the commit takes place whoever still waits for it. Where
    /// there is no room yet it waits, in the order of coming, for as long as what is returned is kept.
    /// A thread that waits calls [`help`](Self::help) next.
    #[must_use = "dropping it takes the change set back"]
    fn commit(
        &self,
        set: ChangeSet,
        done: CommitCallback,
        waiter: WaiterKind,
    ) -> Option<PendingAdmission>;
    /// Commits on this thread what is queued, where the engine's own need not be woken for it; tells whether
    /// it did. To be asked again whenever a thread that waits for a commit would sleep.
    fn lead_commit(&self) -> bool;
    /// By which a thread that waits for the commit which it queues next is best woken.
    fn wake_group(&self) -> &Arc<WakeGroup>;
    /// Queues a change set that was computed again, by whoever keeps its permit.
    fn commit_again(&self, set: ChangeSet, done: CommitCallback);
    /// Records an access time; it becomes durable with the next commit or within a second (C3.4).
    fn touch(&self, touch: Touch);
    /// How often a session was found expired so far.
    fn looks(&self) -> u64;
    /// Notes that a session was found expired; whoever found it so looks again after this.
    fn found_expired(&self, container: ContainerId, client: ClientKey);
    /// Whether a session was found expired after so many looks, or may have been.
    fn is_expired_since(&self, container: ContainerId, client: ClientKey, looks: u64) -> bool;
    /// The access time that waits to be written for a session of this incarnation. It waits until a
    /// snapshot shows it.
    fn pending_touch(
        &self,
        container: ContainerId,
        client: ClientKey,
        incarnation: u64,
    ) -> Option<TouchAt>;
    /// Changes containers or secrets, durably; waits for it.
    fn configure(&self, settings: SettingsChange) -> Result<()>;
    /// Removes a bounded number of rows that unregistered containers and old tombstones left, and lowers the
    /// tombstones that lie too far ahead; returns how many.
    fn reclaim(&self, refusals: TombstonePolicy) -> Result<u64>;
    /// Looks at all that is stored as of one commit, while commits go on, and reports what is damaged.
    fn check(&self, found: &mut dyn FnMut(Finding)) -> Result<Checked>;
    /// Brings all commits so far to where an engine keeps them for good; they are durable before.
    fn checkpoint(&self) -> Result<()>;
    /// Whether commits are about to be held up until those before them are where an engine keeps them for
    /// good. Whoever is in no hurry waits for that; it ends.
    fn has_backpressure(&self) -> bool;
    fn counters(&self) -> Counters;
    /// Counts the containers registered and unregistered so far.
    fn registry(&self) -> u64;
    /// Bytes of the file, where there is one.
    fn file_len(&self) -> Result<u64>;
    /// Makes everything durable and lets go of the file. Later calls give `Closed`.
    fn close(&self) -> Result<()>;
}
