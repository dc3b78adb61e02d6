//! One batch of group commit: validates each change set against the newest rows, and gathers the writes.

use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::{self, MergeRefusal, found_expired, resolve};
use crate::storage::quota::SharedQuota;
use crate::storage::record::{
    PackageRow, RecordCipher, RecordKind, SessionRow, seal_plain, session_key,
};
use crate::storage::redb::EngineCounters;
use crate::storage::redb::EngineShared;
use crate::storage::redb::commit::ended::EndedSessions;
use crate::storage::redb::commit::errors::stopped_during_commit;
use crate::storage::redb::commit::job::CommitJob;
use crate::storage::redb::commit::kept_back::KeptBack;
use crate::storage::redb::commit::member::{BatchVerdict, Member};
use crate::storage::redb::commit::touches::{Touches, WaitingTouches};
use crate::storage::redb::fault_injection::FaultInjection;
use crate::storage::redb::mark::RedbMark;
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::memtable::table::Memtable;
use crate::storage::redb::tables::{TableReader, owner_key};
use crate::storage::{
    ChangeSet, ClientChange, ContainerId, ForeignCommit, Mark, MemoryWrites, MergedWrites, Seen,
    SessionRef, TombstonePolicy, Touch, Version,
};
use bytes::Bytes;
use std::sync::atomic::Ordering;

/// A batch while it is put together.
pub(crate) struct CommitBatch<'a> {
    pub(crate) shared: &'a EngineShared,
    /// The newest state, with the writes of the batch so far.
    pub(crate) view: &'a ReadView,
    /// How many sessions may still be founded, where that is limited.
    pub(crate) quota: Option<&'a SharedQuota>,
    pub(crate) kept_back: &'a mut KeptBack,
    /// Unregistered containers whose rows are being removed.
    pub(crate) retired: &'a [(ContainerId, u64)],
    /// How many bytes it writes so far.
    pub(crate) bytes: usize,
    /// The batch ends before a job that would take it above this.
    pub(crate) enough_bytes: usize,
    /// How many bytes one job may write at most.
    pub(crate) most_bytes: usize,
    pub(crate) written: BatchWrites,
}

/// The writes of a batch, with the touches that it includes.
#[derive(Default)]
pub(crate) struct BatchWrites {
    pub(crate) rows: Vec<RowWrite>,
    /// Whether there will be any rows.
    has_rows: bool,
    /// The parts that another engine keeps in memory.
    pub(crate) foreign: Vec<ForeignCommit>,
    /// How many sessions it founds.
    pub(crate) founded: u64,
    pub(crate) touches: Vec<WaitingTouches>,
    /// Accesses of its members that it does not write. They are recorded once it is committed.
    pub(crate) accesses: Vec<Touch>,
    pub(crate) touched: u64,
    pub(crate) settled: u64,
    /// Rows that are encrypted again.
    #[cfg(feature = "encryption")]
    pub(crate) resealed: u64,
    /// A row that was to be encrypted with the current key and cannot be read.
    #[cfg(feature = "encryption")]
    pub(crate) not_resealed: Option<Error>,
    /// The search for old tombstones goes on after this one.
    pub(crate) settle_after: Option<RowKey>,
}

#[cfg(feature = "encryption")]
impl BatchWrites {
    /// How many rows were encrypted with the current key, or why one was not.
    pub(crate) fn resealed(&self) -> Result<u64> {
        match &self.not_resealed {
            Some(error) => Err(error.clone()),
            None => Ok(self.resealed),
        }
    }
}

/// The work of a batch besides its jobs.
#[derive(Clone, Default)]
pub(crate) struct BatchExtras {
    /// Writes the waiting touches, even if nothing else is written.
    pub(crate) flush: bool,
    /// Removes old tombstones, of those that are not in redb yet.
    pub(crate) retire: Option<TombstonePolicy>,
    /// Only those after this key.
    pub(crate) settle_after: Option<RowKey>,
    /// Encrypts these rows with the current key.
    #[cfg(feature = "encryption")]
    pub(crate) reseal: Vec<RowKey>,
}

/// How many tombstones one batch removes at most.
const SETTLED: usize = 1000;

impl BatchWrites {
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Puts the rows into the active memtable.
    pub(crate) fn apply(self, active: &Memtable, number: u64, oldest: u64) {
        for row in self.rows {
            active.put(row, number, oldest);
        }
    }
}

impl CommitBatch<'_> {
    /// Validates and applies each job, then the waiting touches. The rows of a job are computed in full before the first
    /// is put in, so a job that fails leaves no trace. The jobs go into `members` with their verdicts, also if this
    /// fails. Returns the jobs that do not fit into the batch.
    pub(crate) fn gather(
        &mut self,
        jobs: Vec<CommitJob>,
        extras: &BatchExtras,
        members: &mut Vec<Member>,
    ) -> Result<Vec<CommitJob>> {
        // A job that is not reached before the storage fails stays undecided.
        members.extend(jobs.into_iter().map(Member::from));
        let mut taken = 0;
        for member in members.iter_mut() {
            let Some(verdict) = self.apply(&mut member.job)? else {
                break;
            };
            member.verdict = verdict;
            taken += 1;
        }
        let left = members
            .split_off(taken)
            .into_iter()
            .map(|member| member.job);
        if let Some(refusals) = extras.retire {
            let after = extras.settle_after.as_ref();
            let (settled, next) = self.view.settled_tombstones(refusals, SETTLED, after)?;
            self.written.settle_after = next;
            self.written.settled = settled.len() as u64;
            settled.into_iter().for_each(|row| self.put(row));
        }
        #[cfg(feature = "encryption")]
        for key in &extras.reseal {
            self.reseal(key)?;
        }
        if extras.flush || self.written.has_rows {
            self.written.touches = self.shared.touches.list();
            let accesses = std::mem::take(&mut self.written.accesses);
            self.written.touches.extend(accesses);
            if !self.written.touches.is_empty() {
                let now = self.shared.clock.timestamp();
                for touch in self.written.touches.clone() {
                    self.touch(&touch, now)?;
                }
            }
        }
        if let Some(pending) = &self.view.pending {
            self.written.rows = pending.take().collect();
        }
        Ok(left.collect())
    }

    /// Merges one job into the batch; none if it does not fit. An error is the storage's, and fails the whole batch.
    fn apply(&mut self, job: &mut CommitJob) -> Result<Option<BatchVerdict>> {
        let Some(mut set) = job.take_set() else {
            return Ok(Some(BatchVerdict::Refused(stopped_during_commit(), None)));
        };
        let faults: FaultInjection = self.shared.faults;
        faults.before_merging(&mut set);
        let registry = self.shared.registry.load(Ordering::Acquire);
        let rows = BatchView {
            view: self.view,
            touches: &self.shared.touches,
            ended: &self.shared.ended,
            registry,
            reads_since: self.reads_since(&set, registry),
            // The time now: the job may have waited.
            refusals: TombstonePolicy {
                now: self.shared.clock.timestamp(),
                ..set.refusals
            },
        };
        let mut writes = match resolve(&set, &rows, Version(self.view.number)) {
            Ok(writes) => writes,
            Err(MergeRefusal::Stale(commutes)) => {
                return Ok(Some(BatchVerdict::Stale(set, commutes)));
            }
            // The file cannot be read: not the fault of this job.
            Err(MergeRefusal::Failed(e, _)) if e.kind() == ErrorKind::Unavailable => return Err(e),
            Err(MergeRefusal::Failed(e, client)) => {
                return Ok(Some(BatchVerdict::Refused(e, client)));
            }
        };
        faults.before_writing(&mut writes);
        self.accept(job, set, writes)
    }

    /// Puts the writes of a job into the batch; none if they do not fit.
    fn accept(
        &mut self,
        job: &mut CommitJob,
        mut set: Box<ChangeSet>,
        mut writes: MergedWrites,
    ) -> Result<Option<BatchVerdict>> {
        let swept = std::mem::take(&mut writes.swept);
        let founded = writes.founded;
        let foreign = match &set.foreign {
            Some(_) => MemoryWrites::decode(writes.split_off_memory())?,
            None => MemoryWrites::default(),
        };
        let ended: Vec<_> = writes.tombstones.iter().map(|(_, it, _)| *it).collect();
        let rows = rows_of(writes, &self.shared.cipher)?;
        let bytes = rows.iter().map(RowWrite::len).sum::<usize>();
        if bytes > self.most_bytes {
            let error = too_large(bytes, self.most_bytes);
            return Ok(Some(BatchVerdict::Refused(error, None)));
        }
        if self.bytes > 0 && self.bytes + bytes > self.enough_bytes {
            job.give_back(set);
            return Ok(None);
        }
        let admitted = self
            .kept_back
            .admit(&rows, &self.view.active, self.view.number);
        if let Err(refusal) = admitted {
            return Ok(Some(BatchVerdict::Refused(refusal, None)));
        }
        if let Err(refusal) = self.may_found(founded) {
            return Ok(Some(BatchVerdict::Refused(refusal, None)));
        }
        if let Err((expired, client)) = self.claim(&set) {
            self.found_less(founded);
            return Ok(Some(BatchVerdict::Refused(expired, Some(client))));
        }
        // Only now: a refused job ends no session.
        for client in ended {
            self.shared.ended.note(client, self.view.number);
        }
        self.shared.ended.note_swept(&swept);
        set.swept = swept.len() as u64;
        self.bytes += bytes;
        self.kept_back.add(&rows);
        self.lower_touches(&set);
        if let Some(lent) = set.foreign.take() {
            self.written.foreign.push(ForeignCommit {
                written: foreign,
                ..lent.commit
            });
        }
        rows.into_iter().for_each(|row| self.put(row));
        Ok(Some(BatchVerdict::Accepted(set)))
    }

    /// The commit as of which the change set's transaction read its rows, or which came before, if all later commits are in
    /// memtables: a row is as it was read unless one of them has it. redb has removed rows only of containers that the set
    /// knows to be gone.
    fn reads_since(&self, set: &ChangeSet, registry: u64) -> Option<u64> {
        let as_of = RedbMark::from(set.since).commit;
        let is_covered = as_of >= self.view.base || self.shared.faults.trusts_old_reads();
        (is_covered && set.registry == registry).then_some(as_of)
    }

    /// Whether the change set may still write into the sessions that its transaction saw live. A session that another
    /// transaction has found expired since must not come back (C2.11, C3.2). Until the batch is committed, other
    /// transactions see that the sessions are used.
    fn claim(&mut self, set: &ChangeSet) -> std::result::Result<(), (Error, ClientKey)> {
        let touches = &self.shared.touches;
        let mut claims = Vec::new();
        for client in set.clients.iter().filter(|client| client.goes_on()) {
            let is_over = |seen: &Seen| {
                let of = (seen.container_ref.id, client.client);
                let lent = set.foreign.as_ref();
                touches.is_expired_since(seen.container_ref.id, client.client, set.since)
                    || lent.is_some_and(|lent| lent.expired.contains(&of))
            };
            if let Some(seen) = client.over(is_over) {
                return Err((found_expired(&seen.container_ref.name), client.client));
            }
            let seen = client.seen.iter().filter(|seen| seen.is_live());
            let written = seen.filter(|seen| writes_here(client, seen));
            claims.extend(written.filter_map(|seen| seen.access(client.client, set.since)));
        }
        let is_here = |seen: &Seen| !seen.container_ref.id.is_in_memory();
        let mut beside =
            set.accesses(|client, seen| is_here(seen) && !client.writes_in(seen.container_ref.id));
        if claims.is_empty() && beside.is_empty() {
            return Ok(());
        }
        let now = self.shared.clock.timestamp();
        let claimed = touches.claim(&claims, &mut beside, now);
        claimed.map_err(|over| {
            let mut seen = set.clients.iter().flat_map(|client| &client.seen);
            let place = seen.find(|seen| seen.container_ref.id == over.session.container);
            let error = found_expired(place.map_or("", |seen| &seen.container_ref.name));
            (error, over.session.client)
        })?;
        self.written.accesses.append(&mut beside);
        Ok(())
    }

    /// A waiting touch must not raise a time again that the rows of the change set lower (C3.5).
    fn lower_touches(&self, set: &ChangeSet) {
        for touch in set.accesses(writes_here) {
            let now = self.shared.clock.timestamp();
            self.shared.touches.lower(touch, now);
        }
    }

    /// Takes founded sessions off the quota.
    fn may_found(&mut self, founded: u64) -> Result<()> {
        let Some(quota) = self.quota.filter(|_| founded > 0) else {
            return Ok(());
        };
        let now = self.shared.clock.moment();
        let taken = quota.take_or_refuse(founded, now);
        match &taken {
            Ok(()) => self.written.founded += founded,
            Err(_) => EngineCounters::add(&self.shared.counters.refused, 1),
        }
        taken
    }

    /// Gives sessions that a job does not found after all back to the quota.
    fn found_less(&mut self, founded: u64) {
        if let Some(quota) = self.quota.filter(|_| founded > 0) {
            quota.give_back(founded);
            self.written.founded -= founded;
        }
    }

    /// Encrypts a row with the current key, unless it is, or is gone. A damaged row stays.
    #[cfg(feature = "encryption")]
    fn reseal(&mut self, key: &RowKey) -> Result<()> {
        let is_retired = |id: ContainerId| self.retired.iter().any(|(retired, _)| *retired == id);
        match self.view.resealed(key, is_retired) {
            Ok(rows) => {
                self.written.resealed += u64::from(!rows.is_empty());
                rows.into_iter().for_each(|row| self.put(row));
                Ok(())
            }
            // It was not damaged when it was looked for, so the caller is told.
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                self.written.not_resealed = Some(e);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn put(&mut self, row: RowWrite) {
        self.written.has_rows = true;
        if let Some(pending) = &self.view.pending {
            pending.put(row);
        }
    }

    /// Writes an access time into the row of the touched session, if the row is still of that session.
    fn touch(&mut self, touch: &WaitingTouches, now: Timestamp) -> Result<()> {
        let SessionRef {
            container,
            client,
            incarnation,
        } = touch.session;
        if self.retired.iter().any(|(id, _)| *id == container) {
            return Ok(());
        }
        let key = session_key(container, client);
        let record = self.view.session_record(container, client);
        let accessed = record.and_then(|record| match record {
            Some(record) => SessionRow::accessed(&key, &record, incarnation, |part| {
                touch.at.by(now).put_on(part, now);
            }),
            None => Ok(None),
        });
        let accessed = match accessed {
            Ok(Some(accessed)) => accessed,
            Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e),
            // A damaged row is reported to its readers. It must not fail the batch.
            _ => return Ok(()),
        };
        self.put(RowWrite {
            key: RowKey::new(RowTree::Sessions, &key),
            value: Some(accessed.into()),
        });
        self.written.touched += 1;
        Ok(())
    }
}

/// Whether a change writes to a session that this engine keeps.
fn writes_here(client: &ClientChange, seen: &Seen) -> bool {
    !seen.container_ref.id.is_in_memory() && client.writes_in(seen.container_ref.id)
}

fn too_large(bytes: usize, most: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the commit is too large: {bytes} bytes, of {most} bytes at most"),
    )
}

/// The rows as a change set of the batch sees them.
struct BatchView<'a> {
    view: &'a ReadView,
    touches: &'a Touches,
    ended: &'a EndedSessions,
    registry: u64,
    /// See [`CommitBatch::reads_since`].
    reads_since: Option<u64>,
    refusals: TombstonePolicy,
}

impl merge::CurrentRows for BatchView<'_> {
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>> {
        let below = |redb: &TableReader| match self.reads_since {
            Some(_) => Ok(read.cloned()),
            None => redb.session(container, client),
        };
        let read_since = read.zip(self.reads_since);
        let row = self.view.session_or(container, client, read_since, below)?;
        Ok(row.map(|mut row| {
            let session = SessionRef {
                container,
                client,
                incarnation: row.incarnation,
            };
            if let Some(at) = self.touches.get(session) {
                at.put_on(&mut row.access, self.now());
            }
            row
        }))
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>> {
        let current = read.filter(|_| self.reads_since.is_some());
        let below = |redb: &TableReader, key: &[u8]| match current {
            Some(row) => Ok(Some(row.clone())),
            None => redb.package(key),
        };
        self.view
            .package_or(container, client, package, read, below)
    }

    /// A tombstone that lies too far ahead is lowered, whether or not the commit that met it succeeds (C3.5).
    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let until = self.view.tombstone(client)?;
        let Some(lowered) = until.and_then(|until| self.refusals.lowered(until)) else {
            return Ok(until);
        };
        if let Some(pending) = &self.view.pending {
            let row = self.view.lowered_tombstone(self.refusals, client)?;
            row.into_iter().for_each(|row| pending.put(row));
        }
        Ok(Some(lowered))
    }

    fn now(&self) -> Timestamp {
        self.refusals.now
    }

    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool {
        self.ended.since(client, RedbMark::from(mark).commit)
    }

    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool {
        self.ended.expired_since(client, time, self.now())
    }

    /// One process has the store: it knows which of its ids it has used.
    fn is_used(&self, _: ClientKey, founder: &Freshness) -> bool {
        !founder.is_fresh()
    }

    fn registry(&self) -> u64 {
        self.registry
    }
}

/// The rows of a commit's writes. The index of owners follows the sessions.
fn rows_of(writes: MergedWrites, cipher: &RecordCipher) -> Result<Vec<RowWrite>> {
    let mut rows = Vec::with_capacity(writes.packages.len() + writes.sessions.len());
    let mut put = |tree, key: &[u8], value: Option<Bytes>| {
        let key = RowKey::new(tree, key);
        rows.push(RowWrite { key, value });
    };
    for write in writes.packages {
        let encrypt = |row| PackageRow::encrypt(&write.key, row, cipher);
        let value = write.row.map(encrypt).transpose()?;
        put(RowTree::Packages, &write.key, value.map(Bytes::from));
    }
    for write in writes.sessions {
        let key = session_key(write.container, write.client);
        let owner = write.row.as_ref().and_then(|row| row.owner.as_ref());
        if owner != write.old_owner.as_ref() || cipher.has_former_hashes() {
            let old = write.old_owner.iter();
            for hash in old.flat_map(|old| cipher.owner_hashes(old).all()) {
                put(RowTree::Owners, &owner_key(hash, key), None);
            }
            if let Some(new) = owner {
                let hash = cipher.owner_hashes(new).current;
                put(RowTree::Owners, &owner_key(hash, key), Some(Bytes::new()));
            }
        }
        let value = write.row.map(|row| row.encode(&key, cipher)).transpose()?;
        put(RowTree::Sessions, &key, value.map(Bytes::from));
    }
    for (_, client, until) in writes.tombstones {
        let key = client.as_bytes();
        let record = seal_plain(RecordKind::Tombstone, key, until.0)?;
        put(RowTree::Tombstones, key, Some(record.into()));
    }
    Ok(rows)
}
