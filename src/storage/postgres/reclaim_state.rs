//! How far the search for sessions of unregistered containers is.

use crate::client_id::ClientKey;
use crate::storage::ContainerId;
use std::collections::BTreeSet;

/// How far this process has searched for sessions of unregistered containers.
#[derive(Debug, Default)]
pub(super) struct ReclaimState {
    /// The containers that had no session when the last search began at the first client.
    pub(super) searched: BTreeSet<ContainerId>,
    /// Those of the search that is under way, and how far it is.
    pub(super) searching: Option<(BTreeSet<ContainerId>, ClientKey)>,
}
