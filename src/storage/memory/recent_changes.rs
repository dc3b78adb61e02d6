//! The clients whose rows changed lately.

use crate::client_id::ClientKey;
use std::collections::{HashSet, VecDeque};

/// How many changes are remembered.
const REMEMBERED: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct RecentChanges {
    /// Each with the event of the change, in their order.
    changes: VecDeque<(u64, ClientKey)>,
    /// The newest event of which a change is forgotten.
    forgotten: Option<u64>,
}

impl RecentChanges {
    pub(super) fn note(&mut self, event: u64, client: ClientKey) {
        if self.changes.back() == Some(&(event, client)) {
            return;
        }
        self.changes.push_back((event, client));
        if self.changes.len() > REMEMBERED {
            let oldest = self.changes.pop_front();
            self.forgotten = oldest.map(|(event, _)| event);
        }
    }

    /// One of these clients whose rows changed after an event, or may have.
    pub(super) fn since(&self, event: u64, clients: &HashSet<ClientKey>) -> Option<ClientKey> {
        if self.forgotten > Some(event) {
            return clients.iter().next().copied();
        }
        let later = self.changes.iter().rev();
        let mut later = later.take_while(|(of, _)| *of > event);
        let found = later.find(|(_, client)| clients.contains(client));
        found.map(|(_, client)| *client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u64) -> ClientKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&n.to_be_bytes());
        ClientKey::from_bytes(key)
    }

    // C1.7, C2.1
    #[test]
    fn a_change_is_found_by_those_who_looked_before_it_and_what_is_forgotten_may_be_one() {
        let mut changes = RecentChanges::default();
        let one = HashSet::from([client(1)]);
        changes.note(5, client(1));
        changes.note(6, client(2));
        assert_eq!(changes.since(4, &one), Some(client(1)));
        assert_eq!(changes.since(5, &one), None);
        assert_eq!(changes.since(0, &HashSet::new()), None);
        let other = HashSet::from([client(9)]);
        assert_eq!(changes.since(0, &other), None);
        for n in 0..REMEMBERED as u64 {
            changes.note(7 + n, client(3));
        }
        assert_eq!(changes.since(5, &other), Some(client(9)), "forgotten");
        assert_eq!(changes.since(6, &other), None);
    }
}
