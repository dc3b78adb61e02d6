//! How the committer publishes the state after a commit, and takes old states back.

use crate::error::Result;
use crate::storage::redb::EngineShared;
use crate::storage::redb::commit::batch::BatchWrites;
use crate::storage::redb::commit::committer::core::Committer;
use crate::storage::redb::commit::errors::reopening;
use crate::storage::redb::memtable::read_view::{ReadView, TableReaders};
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

impl Committer {
    /// Publishes a state to all transactions that begin from now on.
    pub(super) fn show(&mut self, view: ReadView) {
        let owner: Weak<EngineShared> = Arc::downgrade(&self.shared);
        let snapshot = RedbSnapshot::new(view.clone(), owner);
        let number = view.number;
        if let Some(rows) = self.state.rows_mut() {
            rows.view = view;
        }
        let old = self.shared.published.swap(Some(Arc::new(snapshot)));
        // A request that arrives in between counts as having come before the commit.
        self.shared.shown.store(number, Ordering::Release);
        if let Some(old) = old {
            let now = self.shared.clock.moment();
            self.shared.snapshots.add(&old, now);
        }
    }

    /// Publishes the writes of a batch, over the state of the commit `before` it.
    pub(super) fn show_written(&mut self, written: BatchWrites, mut view: ReadView, before: u64) {
        if let Some(rows) = self.state.rows_mut() {
            rows.active.since.get_or_insert_with(Instant::now);
        }
        let oldest = self.oldest_read(before);
        let pending = view.pending.take();
        written.apply(&view.active, view.number, oldest);
        for (key, record) in pending.iter().flat_map(|pending| pending.found()) {
            view.active.put_copy(&key, record);
        }
        self.show(view);
    }

    /// The oldest commit, up to `newest`, as of which a snapshot reads the active memtable. Snapshots from before the
    /// memtable became active do not read it.
    pub(super) fn oldest_read(&self, newest: u64) -> u64 {
        let first = self.state.rows().map_or(0, |rows| rows.active.from);
        let oldest = self.shared.snapshots.oldest_since(first);
        oldest.map_or(newest, |oldest| oldest.min(newest))
    }

    /// Publishes the same state, read through newer tables.
    pub(super) fn publish_readers(&mut self, readers: TableReaders) {
        if let Some(rows) = self.state.open_rows() {
            let view = rows.view.clone();
            self.show(ReadView { readers, ..view });
        }
    }

    /// The state of the newest commit, for a long read. It does not become too old (C2.14). The accesses that wait are
    /// part of it.
    pub(super) fn keep_snapshot(&mut self) -> Result<Arc<RedbSnapshot>> {
        if self.shared.touches.len() > 0 {
            self.flush();
        }
        let view = self.state.open_rows().ok_or_else(reopening)?.view.clone();
        let owner: Weak<EngineShared> = Arc::downgrade(&self.shared);
        let snapshot = Arc::new(RedbSnapshot::new(view, owner));
        let now = self.shared.clock.moment();
        self.shared.snapshots.keep(&snapshot, now);
        Ok(snapshot)
    }

    pub(super) fn count_journal_len(&self) {
        let len = self.state.rows().map_or(0, |rows| rows.journal_len());
        let counter = &self.shared.counters.journal_len;
        counter.store(len, Ordering::Relaxed);
        metrics::gauge!("cloakroom_journal_bytes").set(len as f64);
    }

    /// Takes back snapshots that were superseded too long ago (C2.14).
    pub(super) fn expire_snapshots(&mut self) {
        let now = self.shared.clock.moment();
        let max_age = self.shared.snapshot_max_age;
        self.shared.snapshots.expire(now, max_age);
    }

    /// Takes back every snapshot.
    pub(super) fn expire_all(&mut self) {
        if let Some(last) = self.shared.published.swap(None) {
            last.expire();
        }
        self.shared.snapshots.expire_all();
        self.orphaned = None;
    }
}
