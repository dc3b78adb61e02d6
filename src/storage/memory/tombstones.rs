//! Until when the ids of ended sessions are refused (C4.8).

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::TombstonePolicy;
use std::collections::{BTreeSet, HashMap};

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    by_client: HashMap<ClientKey, Timestamp>,
    by_time: BTreeSet<(Timestamp, ClientKey)>,
}

impl Tombstones {
    pub(super) fn get(&self, client: ClientKey) -> Option<Timestamp> {
        self.by_client.get(&client).copied()
    }

    pub(super) fn put(&mut self, client: ClientKey, until: Timestamp) {
        if let Some(before) = self.by_client.insert(client, until) {
            self.by_time.remove(&(before, client));
        }
        self.by_time.insert((until, client));
    }

    /// Removes those that are over, and lowers those that lie too far ahead: `limit` of each at most. Returns how many.
    pub(super) fn settle(&mut self, refusals: TombstonePolicy, limit: usize) -> u64 {
        let mut settled = 0;
        for _ in 0..limit {
            let first = self.by_time.first().copied();
            let Some((until, client)) = first.filter(|(until, _)| refusals.is_over(*until)) else {
                break;
            };
            self.by_time.remove(&(until, client));
            self.by_client.remove(&client);
            settled += 1;
        }
        for _ in 0..limit {
            let last = self.by_time.last().copied();
            let lowered = last.and_then(|(until, client)| Some((client, refusals.lowered(until)?)));
            let Some((client, until)) = lowered else {
                break;
            };
            self.put(client, until);
            settled += 1;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    // C3.5, C4.8
    #[test]
    fn those_that_are_over_go_and_those_too_far_ahead_are_lowered() {
        let client = |n| ClientKey::from_bytes([n; 16]);
        let refusals = TombstonePolicy {
            now: Timestamp(1_000),
            lasts: Duration::from_millis(100),
            slack: Duration::from_millis(10),
        };
        let mut tombstones = Tombstones::default();
        for (n, until) in [(1, 900), (2, 5_000), (3, 1_050), (4, 990), (1, 1_000)] {
            tombstones.put(client(n), Timestamp(until));
        }
        assert_eq!(tombstones.settle(refusals, 1), 2);
        assert_eq!(tombstones.get(client(4)), None);
        assert_eq!(tombstones.get(client(2)), Some(refusals.until()));
        assert_eq!(tombstones.settle(refusals, 5), 1);
        assert_eq!(tombstones.settle(refusals, 5), 0);
        assert_eq!(tombstones.get(client(1)), None);
        assert_eq!(tombstones.get(client(3)), Some(Timestamp(1_050)));
    }
}
