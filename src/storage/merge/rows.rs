//! The newest rows, as the merge reads them, and its refusals.

use crate::client_id::{ClientKey, Freshness};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{PackageRow, SessionRow};
use crate::storage::{ContainerId, Mark, StaleCommute};

/// The newest rows of an engine. The engine gets the rows that the transaction read. It may return them if it knows that
/// nothing has changed since [`ChangeSet::since`].
pub(crate) trait CurrentRows {
    /// Without `read`, the transaction found no row.
    fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<&SessionRow>,
    ) -> Result<Option<SessionRow>>;
    /// Without `read`, the transaction found no row, or did not look.
    fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
    ) -> Result<Option<PackageRow>>;
    fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>>;
    /// The time now. The time of a change set may be long ago.
    fn now(&self) -> Timestamp;
    /// Whether a commit after this mark ended the client's session. Also `true` if the engine does not remember.
    fn ended_since(&self, client: ClientKey, mark: Mark) -> bool;
    /// Whether the client's session was swept and expired after this time. Also `true` if the engine does not remember.
    fn expired_since(&self, client: ClientKey, time: Timestamp) -> bool;
    /// Whether a session was created under an id that was fresh when the transaction was packed (C4.8). Also `true` if
    /// the engine does not know. `founder` knows only of sessions that this process created.
    fn is_used(&self, client: ClientKey, founder: &Freshness) -> bool;
    /// How many times a container was registered or unregistered so far.
    fn registry(&self) -> u64;
}

/// The reason why a change set cannot be committed as it is.
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
