//! The rows that a commit writes.

use super::container_id::ContainerId;
use super::record::SessionRow;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
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
