//! The clients whose rows a commit of another engine has validated, until that commit has ended.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::record::AccessPart;
use crate::storage::{SessionRef, Touch};
use std::collections::HashMap;

#[derive(Debug, Default)]
pub(super) struct ClientHolds(HashMap<ClientKey, ClientHold>);

#[derive(Debug, Default)]
struct ClientHold {
    /// The accesses that come with the commit. Who looks meanwhile sees them, and does not find a session expired that is
    /// being renewed (C3.2).
    claims: Vec<Touch>,
    /// Accesses that came meanwhile. The commit knows nothing of them.
    later: Vec<Touch>,
}

impl ClientHolds {
    pub(super) fn has(&self, client: ClientKey) -> bool {
        self.0.contains_key(&client)
    }

    pub(super) fn begin(&mut self, clients: &[ClientKey], claims: Vec<Touch>) {
        for client in clients {
            self.0.entry(*client).or_default();
        }
        for claim in claims {
            let hold = self.0.entry(claim.session.client).or_default();
            hold.claims.push(claim);
        }
    }

    /// Ends a hold. Returns the accesses that came meanwhile.
    pub(super) fn end(&mut self, clients: &[ClientKey]) -> Vec<Touch> {
        let holds = clients.iter().filter_map(|client| self.0.remove(client));
        holds.flat_map(|hold| hold.later).collect()
    }

    /// Keeps an access back until the hold of its client ends. Returns whether there is one.
    pub(super) fn keep(&mut self, touch: Touch) -> bool {
        let hold = self.0.get_mut(&touch.session.client);
        hold.map(|hold| hold.later.push(touch)).is_some()
    }

    /// Puts the accesses of a session that are not in its row yet on its times.
    pub(super) fn put_on(&self, session: SessionRef, part: &mut AccessPart, now: Timestamp) {
        let hold = self.0.get(&session.client).into_iter();
        let accesses = hold.flat_map(|hold| hold.claims.iter().chain(&hold.later));
        for access in accesses.filter(|access| access.session == session) {
            access.at.put_on(part, now);
        }
    }
}
