//! What the merge reads, and why it may refuse: the rows as they are now.

use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{ContainerId, Mark, StaleCommute};

/// The rows as the engine sees them now. It is given the rows that were read since [`ChangeSet::since`], so that it need
/// not look where nothing can have changed.
pub(crate) trait CurrentRows {
    /// Without `read`, there was none.
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>>;
    /// Without `read`, it may not have been read.
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>>;
    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>>;
    /// The time by the clock as it is: that of a change set may lie long back.
    fn now(&self) -> Timestamp;
    /// Whether the session of a client was ended by a commit after this mark, or may have been.
    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool;
    /// Whether the session of a client that has been swept was over after this time only, or may have been.
    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool;
    /// Whether a session was founded before under an id that was fresh when the transaction packed it, or may have been
    /// (C4.8). `founder` tells this only of sessions that this process founded.
    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool;
    /// Counts the containers registered and unregistered so far.
    fn registry(&self) -> u64;
}

/// Why a change set cannot be applied as it stands.
#[derive(Debug)]
pub(crate) enum MergeRefusal {
    Failed(Error, Option<ClientKey>),
    Stale(Vec<StaleCommute>),
}

impl From<Error> for MergeRefusal {
    fn from(error: Error) -> Self {
        Self::Failed(error, None)
    }
}
