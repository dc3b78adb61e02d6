//! A snapshot shared by all transactions that begin between two commits. It is let go when the last
//! of them ends, or when it is too old (C2.14).

use super::tables::Reader;
use super::{Shared, queue};
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{ContainerId, Loading, Snapshot};
use arc_swap::ArcSwapOption;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// The file's tables and those in memory, as of one commit.
pub(super) struct Readers {
    pub(super) file: Arc<Reader>,
    pub(super) memory: Arc<Reader>,
}

pub(super) struct RedbSnapshot {
    readers: ArcSwapOption<Readers>,
    shared: Weak<Shared>,
}

impl RedbSnapshot {
    pub(super) fn new(readers: Readers, shared: Weak<Shared>) -> Self {
        Self {
            readers: ArcSwapOption::from_pointee(readers),
            shared,
        }
    }

    /// Lets go of the pages it holds. What was read from it stays with its reader.
    pub(super) fn expire(&self) {
        self.readers.store(None);
    }

    /// The readers, to take over the half that a commit did not change.
    pub(super) fn readers(&self) -> Option<Arc<Readers>> {
        self.readers.load_full()
    }

    fn why_it_is_gone(&self) -> Error {
        let shared = self.shared.upgrade();
        if shared.is_none_or(|shared| shared.closed.load(Ordering::Acquire)) {
            return queue::closed();
        }
        Error::new(
            ErrorKind::SnapshotTooOld,
            "the transaction outlived its snapshot",
        )
    }

    fn read<T>(&self, read: impl FnOnce(&Readers) -> Result<T>) -> Result<T> {
        let readers = self.readers.load();
        let Some(readers) = &*readers else {
            return Err(self.why_it_is_gone());
        };
        let result = read(readers);
        if let Err(e) = &result
            && e.kind() == ErrorKind::Unavailable
            && let Some(shared) = self.shared.upgrade()
        {
            shared.suspect();
        }
        result
    }

    fn read_in<T>(
        &self,
        container: ContainerId,
        read: impl FnOnce(&Reader) -> Result<T>,
    ) -> Result<T> {
        self.read(|readers| {
            read(if container.is_in_memory() {
                &readers.memory
            } else {
                &readers.file
            })
        })
    }
}

impl Snapshot for RedbSnapshot {
    fn load(&self, _client: ClientKey) -> Option<Loading> {
        None
    }

    fn session(&self, container: ContainerId, client: ClientKey) -> Result<Option<SessionRow>> {
        self.read_in(container, |reader| reader.session(container, client))
    }

    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        self.read_in(container, |reader| {
            reader.package(container, client, package)
        })
    }

    fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<Vec<(ClientKey, Result<SessionRow>)>> {
        self.read_in(container, |reader| reader.sessions(container, after, limit))
    }

    fn owned(&self, owner: &str) -> Result<Vec<(ContainerId, ClientKey)>> {
        self.read(|readers| {
            let mut found = readers.file.owned(owner)?;
            found.extend(readers.memory.owned(owner)?);
            Ok(found)
        })
    }
}
