//! The rows that a commit writes.

use super::container_id::ContainerId;
use super::record::{PackageRow, RecordCipher, SessionRow};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use bytes::Bytes;
use std::sync::Arc;

/// The rows that a commit writes. `None` removes a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct MergedWrites {
    pub(crate) sessions: Vec<SessionWrite>,
    pub(crate) packages: Vec<PackageWrite>,
    pub(crate) tombstones: Vec<(ContainerId, ClientKey, Timestamp)>,
    /// Sessions that are swept, and from when on each was over.
    pub(crate) swept: Vec<(ClientKey, Timestamp)>,
    /// How many clients begin a session with it (C4.8).
    pub(crate) founded: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct SessionWrite {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) old_owner: Option<Arc<str>>,
    pub(crate) row: Option<SessionRow>,
}

#[derive(Clone, Debug)]
pub(crate) struct PackageWrite {
    pub(crate) container: ContainerId,
    pub(crate) key: Vec<u8>,
    pub(crate) row: Option<Vec<u8>>,
}

/// The rows that a commit writes to containers in memory. Their packages are decoded, so that nothing can fail any more
/// when they are put in.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryWrites {
    pub(crate) sessions: Vec<SessionWrite>,
    pub(crate) packages: Vec<(Vec<u8>, Option<PackageRow>)>,
    pub(crate) tombstones: Vec<(ContainerId, ClientKey, Timestamp)>,
    pub(crate) swept: Vec<(ClientKey, Timestamp)>,
}

impl MemoryWrites {
    /// Decodes the packages.
    ///
    /// # Errors
    ///
    /// A package that the merge made cannot be decoded: a defect of this crate.
    pub(crate) fn decode(writes: MergedWrites) -> Result<Self> {
        let packages = writes.packages.into_iter().map(|write| {
            let row = write.row.map(Bytes::from);
            let row = row.map(|row| PackageRow::decode(&write.key, row, &RecordCipher::Plain));
            Ok((write.key, row.transpose()?))
        });
        Ok(Self {
            packages: packages.collect::<Result<_>>()?,
            sessions: writes.sessions,
            tombstones: writes.tombstones,
            swept: writes.swept,
        })
    }
}

impl MergedWrites {
    /// Takes out the writes to containers in memory.
    pub(crate) fn split_off_memory(&mut self) -> Self {
        self.split_off(ContainerId::is_in_memory)
    }

    /// Takes out the writes to containers in the visitor's cookie. The tombstones of ids that end there stay, as
    /// tombstones of the unnamed container.
    pub(crate) fn split_off_carried(&mut self) -> Self {
        let mut carried = self.split_off(ContainerId::is_in_cookie);
        for (_, client, until) in carried.tombstones.drain(..) {
            if self.tombstones.iter().all(|(_, it, _)| *it != client) {
                self.tombstones.push((ContainerId::UNNAMED, client, until));
            }
        }
        carried
    }

    fn split_off(&mut self, is_picked: impl Fn(ContainerId) -> bool) -> Self {
        let mut picked = Self::default();
        let sessions = std::mem::take(&mut self.sessions).into_iter();
        (picked.sessions, self.sessions) = sessions.partition(|write| is_picked(write.container));
        let packages = std::mem::take(&mut self.packages).into_iter();
        (picked.packages, self.packages) = packages.partition(|write| is_picked(write.container));
        let tombstones = std::mem::take(&mut self.tombstones).into_iter();
        (picked.tombstones, self.tombstones) =
            tombstones.partition(|(container, ..)| is_picked(*container));
        picked
    }
}
