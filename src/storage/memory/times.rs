//! The access times, which stand apart from the session rows, and the looks that found a session expired.

use super::revision::Revision;
use crate::client_id::ClientKey;
use crate::storage::recent_ends::RecentEnds;
use crate::storage::record::{AccessPart, SessionRow};
use crate::storage::{ContainerId, SessionRef, Version};
use std::collections::HashMap;

/// The session of a client in a container.
type SessionOf = (ContainerId, ClientKey);

#[derive(Debug, Default)]
pub(super) struct RecordedAccesses {
    /// The times that accesses have changed since the rows were written, each with the session's incarnation.
    accesses: HashMap<SessionOf, (Version, AccessPart)>,
    /// By which event a session was found expired. No access of an earlier transaction brings it back.
    found_expired: RecentEnds<SessionOf, u64>,
}

impl RecordedAccesses {
    /// The row with its newest access times.
    pub(super) fn shown(
        &self,
        container: ContainerId,
        client: ClientKey,
        row: &SessionRow,
    ) -> SessionRow {
        let mut row = row.clone();
        if let Some((incarnation, part)) = self.accesses.get(&(container, client))
            && *incarnation == row.incarnation
        {
            row.access = *part;
        }
        row
    }

    /// Records the times of a session after an access.
    pub(super) fn record(&mut self, session: SessionRef, part: AccessPart) {
        let of = (session.container, session.client);
        self.accesses.insert(of, (session.incarnation, part));
    }

    /// The row is written with its newest times, or removed.
    pub(super) fn settle(&mut self, of: SessionOf) {
        self.accesses.remove(&of);
    }

    pub(super) fn note_expired(&mut self, session: SessionRef, event: u64) {
        let of = (session.container, session.client);
        self.found_expired.note(of, event);
    }

    /// Whether a session was found expired by a later event than `since`, or may have been.
    pub(super) fn is_expired_since(&self, session: SessionRef, since: Revision) -> bool {
        let of = (session.container, session.client);
        self.found_expired.since(of, since.0)
    }
}
