//! The rows that one engine lends to another, for a change set that concerns both (C1.7).

use super::container_id::ContainerId;
use super::record::{PackageRow, SessionRow};
use super::row_writes::MergedWrites;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use std::collections::{HashMap, HashSet};

/// The rows of containers in memory that a change set concerns. They stay as they are until its commit ends. The engine
/// that keeps the other containers merges with them, and gives back what is to be written to them.
#[derive(Clone, Debug, Default)]
#[cfg_attr(
    not(any(test, feature = "torture")),
    allow(
        dead_code,
        reason = "the composite of engines is used in tests only so far"
    )
)]
pub(crate) struct ForeignRows {
    pub(crate) sessions: HashMap<(ContainerId, ClientKey), SessionRow>,
    pub(crate) packages: HashMap<Vec<u8>, PackageRow>,
    pub(crate) tombstones: HashMap<ClientKey, Timestamp>,
    /// Clients whose request came before their session ended there.
    pub(crate) ended: HashSet<ClientKey>,
    /// Clients who have had a session there.
    pub(crate) used: HashSet<ClientKey>,
    /// Sessions that were seen live there, and were found expired since.
    pub(crate) expired: HashSet<(ContainerId, ClientKey)>,
    /// What the commit writes to those containers. The engine that commits puts it here.
    pub(crate) written: MergedWrites,
}
