//! The seam to the engines: snapshots to read from, change sets to commit. Bytes and versions only:
//! no serde value, no HTTP, no policy about time.

pub(crate) mod admission;
mod memory_size;
pub(crate) mod merge;
pub(crate) mod quota;
pub(crate) mod record;
pub(crate) mod redb;

use crate::block_on::WakeGroup;
use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::value::Arithmetic;
use bytes::Bytes;
use record::{ContainerRecord, PackageRow, SessionRow};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

/// The number of a container; no file uses one twice, so what an unregistered container left
/// behind is never seen by a later one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContainerId(pub(crate) u32);

impl ContainerId {
    /// The container `""`, which always exists.
    pub(crate) const UNNAMED: Self = Self(0);
    const IN_MEMORY: u32 = 1 << 31;

    /// The number of a container that lives in memory (C1.7).
    pub(crate) fn in_memory(number: u32) -> Self {
        Self(number | Self::IN_MEMORY)
    }

    pub(crate) fn is_in_memory(self) -> bool {
        self.0 & Self::IN_MEMORY != 0
    }

    /// The number without the mark of its kind.
    pub(crate) fn number(self) -> u32 {
        self.0 & !Self::IN_MEMORY
    }
}

/// A container as a change set names it: by number, and by name for the errors.
#[derive(Clone, Debug)]
pub(crate) struct ContainerRef {
    pub(crate) id: ContainerId,
    pub(crate) name: Arc<str>,
}

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

#[derive(Debug)]
pub(crate) struct StaleCommute {
    pub(crate) index: usize,
    pub(crate) current: Option<Bytes>,
}

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

/// A changed access time of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) incarnation: u64,
    /// How many sessions had been found expired when its transaction began: none of those found so since is
    /// brought back by it.
    pub(crate) looks: u64,
    pub(crate) at: TouchAt,
}

/// An access time, merged by maximum, except that a recorded time which was wrong gives way (C3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TouchAt {
    pub(crate) time: Timestamp,
    /// A recorded time that lies further ahead than this is that of a clock that was wrong, and gives way.
    pub(crate) slack: Duration,
    /// The time when the session was founded, where it lay too far ahead, and what it is lowered to.
    pub(crate) founded: Option<(Timestamp, Timestamp)>,
}

impl TouchAt {
    /// The recorded time after this access; `now` is by the clock as it is.
    pub(crate) fn merged_with(self, recorded: Timestamp, now: Timestamp) -> Timestamp {
        if recorded > now + self.slack {
            self.time
        } else {
            recorded.max(self.time)
        }
    }

    /// The time of the founding, which is lowered where it was wrong.
    pub(crate) fn founding(self, recorded: Timestamp) -> Timestamp {
        match self.founded {
            Some((wrong, lowered)) if wrong == recorded => lowered,
            _ => recorded,
        }
    }

    pub(crate) fn put_on(self, row: &mut SessionRow, now: Timestamp) {
        row.last_access = self.merged_with(row.last_access, now);
        row.created = self.founding(row.created);
    }
}

/// How long the ids of ended sessions are refused (C4.8).
#[derive(Clone, Copy, Debug)]
pub(crate) struct TombstonePolicy {
    pub(crate) now: Timestamp,
    pub(crate) lasts: Duration,
    /// A tombstone that lies further ahead than one made now, by more than this, is that of a clock that was
    /// wrong, and counts as made now (C3.5).
    pub(crate) slack: Duration,
}

impl TombstonePolicy {
    /// Until when an id that ends now is refused.
    pub(crate) fn until(&self) -> Timestamp {
        self.now + self.lasts
    }

    /// What is to become of a tombstone: `None` if it stands as it is, else until when it is to last.
    pub(crate) fn lowered(&self, until: Timestamp) -> Option<Timestamp> {
        (until > self.until() + self.slack).then(|| self.until())
    }

    pub(crate) fn is_over(&self, until: Timestamp) -> bool {
        until <= self.now
    }
}

/// All that a transaction read and changed: plain data.
#[derive(Clone, Debug)]
pub(crate) struct ChangeSet {
    pub(crate) now: Timestamp,
    /// The commit as of which its rows were read; where it was more than one, the first.
    pub(crate) as_of: u64,
    /// How many sessions had been found expired when it began, as in [`Touch::looks`].
    pub(crate) looks: u64,
    pub(crate) clients: Vec<ClientChange>,
    /// How long the ids that it ends are refused; counts from when it is queued.
    pub(crate) refusals: TombstonePolicy,
    pub(crate) limits: Limits,
    /// The containers that this transaction knew of; registering or unregistering one counts on.
    pub(crate) registry: u64,
}

impl ChangeSet {
    /// The accesses that are due with it, to sessions that are picked.
    pub(crate) fn accesses(&self, pick: impl Fn(&ClientChange, &Seen) -> bool) -> Vec<Touch> {
        let mut accesses = Vec::new();
        for client in &self.clients {
            let picked = client.seen.iter().filter(|seen| pick(client, seen));
            accesses.extend(picked.filter_map(|seen| seen.access(client.client, self.looks)));
        }
        accesses
    }
}

/// What a session may hold (C5.3).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) name: usize,
    pub(crate) package: usize,
    pub(crate) packages: usize,
    /// Of one package.
    pub(crate) keys: usize,
}

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// The number of the commit that was the newest then.
    pub(crate) newest: u64,
    pub(crate) at: Timestamp,
}

/// What a transaction saw of one client and wants changed.
#[derive(Clone, Debug)]
pub(crate) struct ClientChange {
    pub(crate) client: ClientKey,
    /// Each container whose session row was looked at.
    pub(crate) seen: Vec<Seen>,
    /// Whether the session was observed to exist.
    pub(crate) exists: Option<bool>,
    /// The changes give this client up for a new one: it must still be without a session, or be
    /// ended with it, and must not have been ended lately, nor since its request came (C4.8).
    pub(crate) replaced: Option<Arrival>,
    /// Of the id under which a session may begin with this, its own or the one that it moves to. Another commit
    /// may have used it up meanwhile (C4.8).
    pub(crate) founder: Option<Freshness>,
    pub(crate) packages: Vec<PackageChange>,
    /// Where the session begins if its timeout or its owner found it and no package does (C8.1).
    pub(crate) home: Option<ContainerId>,
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) owner: Option<Option<Arc<str>>>,
    pub(crate) end: SessionEnd,
    /// About how many bytes of packages it writes again where the session moves.
    pub(crate) carries: usize,
}

impl ClientChange {
    /// Whether anything is to be written for this client, touches aside.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.end, SessionEnd::Stays)
            || self.timeout.is_some()
            || self.owner.is_some()
            || self.packages.iter().any(PackageChange::writes)
    }

    /// Whether anything is written into a session that goes on, under its id or another one.
    pub(crate) fn goes_on(&self) -> bool {
        matches!(self.end, SessionEnd::Stays | SessionEnd::Moves(_)) && self.writes()
    }

    /// Whether anything is written to the session in a container, an access time aside.
    pub(crate) fn writes_in(&self, container: ContainerId) -> bool {
        let in_it = |p: &PackageChange| p.writes() && p.place.id == container;
        !matches!(self.end, SessionEnd::Stays)
            || self.timeout.is_some()
            || self.owner.is_some()
            || self.packages.iter().any(in_it)
    }

    /// Whether more than access times may be written to the file.
    pub(crate) fn writes_to_file(&self) -> bool {
        let in_file = |p: &PackageChange| p.writes() && !p.place.id.is_in_memory();
        !matches!(self.end, SessionEnd::Stays)
            || self.timeout.is_some()
            || self.owner.is_some()
            || self.packages.iter().any(in_file)
    }
}

/// What becomes of a client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    Stays,
    /// It goes on under another id; the old one is refused for a while (C4.7).
    Moves(ClientKey),
    /// It ends, and its id is refused for a while (C4.7).
    Destroyed,
    /// It was over at this time, and is swept; if it was touched meanwhile, it stays (C3.7).
    Swept(Timestamp),
}

/// A session row as a transaction saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) place: ContainerRef,
    /// The row as it was read; none where there was none. There was none under an id that was made later than
    /// what was read: whoever has put one there since has done so in a later commit.
    pub(crate) row: Option<SessionRow>,
    pub(crate) state: SeenState,
    /// Whether its existence was observed.
    pub(crate) observed: bool,
    /// An access time that is due with this commit.
    pub(crate) touch: Option<TouchAt>,
}

impl Seen {
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.state, SeenState::Live { .. })
    }

    /// The access that is due with this commit, of a transaction that knew of so many looks.
    pub(crate) fn access(&self, client: ClientKey, looks: u64) -> Option<Touch> {
        let (SeenState::Live { incarnation }, Some(at)) = (self.state, self.touch) else {
            return None;
        };
        Some(Touch {
            container: self.place.id,
            client,
            incarnation,
            looks,
            at,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeenState {
    Absent,
    Live {
        incarnation: u64,
    },
    Expired {
        incarnation: u64,
        last_access: Timestamp,
        timeout: Option<Duration>,
    },
}

/// What a transaction saw of one package and wants changed.
#[derive(Clone, Debug)]
pub(crate) struct PackageChange {
    pub(crate) place: ContainerRef,
    pub(crate) package: Arc<str>,
    pub(crate) observed: Observed,
    pub(crate) clear: bool,
    pub(crate) keys: Vec<(Arc<str>, KeyChange)>,
}

impl PackageChange {
    pub(crate) fn writes(&self) -> bool {
        self.clear || !self.keys.is_empty()
    }
}

/// The row of a package as it was read, where it was, and the keys whose values count as read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    pub(crate) row: Option<PackageRow>,
    pub(crate) keys: ObservedKeys,
}

#[derive(Clone, Debug)]
pub(crate) enum ObservedKeys {
    Some(Vec<Arc<str>>),
    All,
}

impl ObservedKeys {
    pub(crate) fn are_none(&self) -> bool {
        matches!(self, Self::Some(keys) if keys.is_empty())
    }
}

impl Default for ObservedKeys {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// What becomes of one key: first `base`, then each step on the value that is then current (C2.9).
#[derive(Clone, Debug)]
pub(crate) struct KeyChange {
    pub(crate) base: ChangeBase,
    pub(crate) steps: Vec<ChangeStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeBase {
    Current,
    Put(Bytes),
    Removed,
}

#[derive(Clone, Debug)]
pub(crate) enum ChangeStep {
    Arithmetic(Arithmetic),
    Commute(Commute),
}

/// A closure's result, valid as long as the value it started from is current. Plain data: the
/// closure itself stays with the transaction, at `index`.
#[derive(Clone, Debug)]
pub(crate) struct Commute {
    pub(crate) index: usize,
    pub(crate) input: Option<Bytes>,
    pub(crate) output: Bytes,
}
