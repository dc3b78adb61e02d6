//! A snapshot, shared by all transactions that begin between two commits. It is dropped when the last of them ends, or
//! when it is too old (C2.14).

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "encryption")]
use crate::storage::ResealStep;
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::redb::commit::errors;
use crate::storage::redb::memtable::read_view::ReadView;
#[cfg(feature = "encryption")]
use crate::storage::redb::memtable::reseal::ResealPlan;
use crate::storage::{Answer, ContainerId, SessionPage, Snapshot};
use arc_swap::ArcSwapOption;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

/// The engine that a snapshot is of, as far as the snapshot needs it.
pub(crate) trait SnapshotOwner: Send + Sync {
    fn is_closed(&self) -> bool;

    /// A read failed, perhaps in a way that only reopening the file cures.
    fn note_failed_read(&self, error: &Error);

    /// redb has stopped its work and must be reopened.
    fn request_reopening(&self);
}

pub(crate) struct RedbSnapshot {
    number: u64,
    view: ArcSwapOption<ReadView>,
    /// Set before the view is dropped.
    expired: AtomicBool,
    owner: Weak<dyn SnapshotOwner>,
}

impl RedbSnapshot {
    pub(crate) fn new(view: ReadView, owner: Weak<dyn SnapshotOwner>) -> Self {
        Self {
            number: view.number,
            view: ArcSwapOption::from_pointee(view),
            expired: AtomicBool::new(false),
            owner,
        }
    }

    /// The number of its commit.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Drops the pages and the rows that it holds. Rows that were read stay with their reader.
    pub(crate) fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.view.store(None);
    }

    fn expired_error(&self) -> Error {
        let owner = self.owner.upgrade();
        if owner.is_none_or(|owner| owner.is_closed()) {
            return errors::closed();
        }
        Error::new(
            ErrorKind::SnapshotTooOld,
            "the transaction outlived its snapshot",
        )
    }

    /// Whether it shows a state of a database that was dropped.
    pub(crate) fn is_orphan(&self) -> bool {
        let view = self.view.load();
        let view = view.as_ref();
        view.is_some_and(|view| view.readers.life.is_over())
    }

    /// [`ReadView::plan_reseal`], as a read of this snapshot.
    #[cfg(feature = "encryption")]
    pub(crate) fn plan_reseal(&self, after: Option<[u8; 20]>) -> Result<(ResealPlan, ResealStep)> {
        self.read(|layers| layers.plan_reseal(after))
    }

    /// Reads as of its commit.
    pub(crate) fn read<T>(&self, read: impl Fn(&ReadView) -> Result<T>) -> Result<T> {
        let view = self.view.load();
        let Some(view) = &*view else {
            return Err(self.expired_error());
        };
        let life = &view.readers.life;
        let had_failed = life.has_failed();
        let mut result = read(view);
        if let Err(error) = &result
            && !had_failed
        {
            // redb stops its work after an error: this one, or an earlier one.
            let stopped = [ErrorKind::Unavailable, ErrorKind::SnapshotTooOld];
            if stopped.contains(&error.kind()) {
                life.fail();
            }
            if life.has_failed() {
                result = read(view);
            }
        }
        // The snapshot may have expired meanwhile. Then row versions that it alone kept may be gone, and the rows that were
        // read may be older than the snapshot. `expired` is set before the versions go.
        if self.expired.load(Ordering::Acquire) {
            return Err(self.expired_error());
        }
        let needs_opening = life.has_failed() && !life.is_over();
        if (needs_opening || result.is_err())
            && let Some(owner) = self.owner.upgrade()
        {
            match &result {
                Err(error) if !needs_opening => owner.note_failed_read(error),
                _ => owner.request_reopening(),
            }
        }
        result
    }
}

impl Snapshot for RedbSnapshot {
    fn load(&self, _: &[ClientKey]) -> Answer<'_, Result<()>> {
        Answer::now(Ok(()))
    }

    fn is_loaded(&self, _: ClientKey) -> bool {
        true
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        self.read(|view| view.session(container, client))
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        self.read(|view| view.package(container, client, package))
    }

    fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        self.read(|view| view.package_len(container, client, package))
    }

    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        self.read(|layers| layers.tombstone(client))
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<SessionPage>> {
        Answer::now(self.read(|view| view.sessions(container, after, limit)))
    }

    fn owned(&self, owner: &str) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        Answer::now(self.read(|view| view.owned(owner)))
    }

    fn owned_page(
        &self,
        owner: &str,
        containers: &[ContainerId],
        after: Option<ClientKey>,
        limit: usize,
    ) -> Answer<'_, Result<Vec<(ContainerId, ClientKey)>>> {
        let page = |view: &ReadView| view.owned_page(owner, containers, after, limit);
        Answer::now(self.read(page))
    }
}

/// Snapshots of an empty store, as if of these commits.
#[cfg(test)]
pub(crate) fn snapshots(
    numbers: std::ops::Range<u64>,
) -> impl Iterator<Item = std::sync::Arc<RedbSnapshot>> {
    thread_local! {
        static EMPTY: ReadView = tests::view();
    }
    numbers.map(|number| {
        let view = EMPTY.with(|empty| ReadView {
            number,
            ..empty.clone()
        });
        std::sync::Arc::new(RedbSnapshot::new(view, tests::no_owner()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::record::RecordCipher;
    use crate::storage::redb::EngineShared;
    use crate::storage::redb::memtable::detached::DatabaseLife;
    use crate::storage::redb::memtable::read_view::TableReaders;
    use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
    use crate::storage::redb::memtable::table::Memtable;
    use crate::storage::redb::open::database::in_memory;
    use crate::storage::redb::open::options::OpenOptions;
    use crate::storage::redb::tables::TableReader;
    use bytes::Bytes;
    use std::sync::Arc;

    fn row(value: Option<Bytes>) -> RowWrite {
        RowWrite {
            key: RowKey::new(RowTree::Tombstones, &[7; 16]),
            value,
        }
    }

    /// The engine is gone.
    pub(crate) fn no_owner() -> Weak<dyn SnapshotOwner> {
        Weak::<EngineShared>::new()
    }

    pub(crate) fn view() -> ReadView {
        let options = OpenOptions {
            cache_size: 1 << 20,
            verify: false,
            wait: std::time::Duration::ZERO,
            private: false,
            creates: true,
            migrates: true,
            faults: crate::storage::redb::fault_injection::FaultInjection::default(),
        };
        let (disk, database) = in_memory(options, &Arc::default()).unwrap();
        let life = Arc::<DatabaseLife>::default();
        let reader =
            Arc::new(TableReader::open(&database, &disk, &life, &RecordCipher::Plain).unwrap());
        ReadView {
            number: 1,
            base: 0,
            pending: None,
            active: Arc::new(Memtable::default()),
            immutable: None,
            readers: TableReaders {
                tables: reader,
                life,
            },
        }
    }

    // C2.14
    #[test]
    fn a_read_that_the_end_of_the_snapshot_overtakes_gives_nothing() {
        let view = self::view();
        let active = view.active.clone();
        active.put(row(None), 1, 1);
        let snapshot = RedbSnapshot::new(view, no_owner());
        let read = snapshot.read(|view| {
            snapshot.expire();
            for number in 2..4 {
                active.put(row(None), number, number);
            }
            let key = row(None).key;
            Ok(view.active.get(key.as_bytes(), view.number))
        });
        assert!(read.is_err(), "the row was removed, but it read {read:?}");
    }
}
