//! The rows that one engine lends to another, for a change set that concerns both (C1.7).

use super::access::Touch;
use super::container_id::ContainerId;
use super::record::{PackageRow, SessionRow};
use super::row_writes::MemoryWrites;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

/// The rows of containers in memory that a change set concerns. They do not change until its commit ends. The engine
/// that keeps the other containers merges with them, and returns the rows to write to them.
#[derive(Clone, Debug, Default)]
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
    pub(crate) commit: ForeignCommit,
}

/// The part of a commit that concerns the containers in memory. The engine that commits publishes it together with its
/// own part. If the commit fails, the engine drops it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForeignCommit {
    /// The rows that it writes to those containers. The engine that commits stores them here.
    pub(crate) written: MemoryWrites,
    /// The accesses that are due with it, to sessions that it does not write into.
    pub(crate) accesses: Vec<Touch>,
    pub(crate) hold: Option<Arc<dyn ForeignHold>>,
}

/// Keeps the rows of some clients in memory unchanged. Dropping it releases them.
pub(crate) trait ForeignHold: Debug + Send + Sync {
    /// Calls `show`, which makes the parts of another engine visible, and adds these parts. A snapshot of both engines
    /// sees all of this or nothing.
    fn publish_together(&self, commits: Vec<ForeignCommit>, show: &mut dyn FnMut());
}

impl ForeignCommit {
    /// Makes commits visible: what `show` shows of them, and their parts in memory.
    pub(crate) fn show_all(commits: Vec<Self>, show: impl FnOnce()) {
        let hold = commits.first().and_then(|commit| commit.hold.clone());
        let Some(hold) = hold else {
            return show();
        };
        let mut show = Some(show);
        hold.publish_together(commits, &mut || {
            if let Some(show) = show.take() {
                show();
            }
        });
    }
}
