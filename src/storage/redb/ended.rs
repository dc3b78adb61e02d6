//! Which sessions were ended lately, and by which commit: for requests that came before that and act after it
//! (C4.8). Bounded; of what it has forgotten it still knows how late that was.

use crate::client_id::ClientKey;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are remembered: some 4 MB.
const REMEMBERED: usize = 65_536;

#[derive(Default)]
pub(super) struct Ended(Mutex<Lately<ClientKey>>);

/// What happened to whom lately, by a number that grows.
pub(super) struct Lately<K> {
    by: HashMap<K, u64>,
    /// The same in the order of the numbers.
    order: VecDeque<(K, u64)>,
    /// The greatest number of which some are forgotten.
    forgotten: u64,
}

impl<K> Default for Lately<K> {
    fn default() -> Self {
        Self {
            by: HashMap::new(),
            order: VecDeque::new(),
            forgotten: 0,
        }
    }
}

impl<K: Copy + Eq + Hash> Lately<K> {
    pub(super) fn note(&mut self, who: K, number: u64) {
        // A session in several containers ends in each.
        if self.by.insert(who, number) == Some(number) {
            return;
        }
        self.order.push_back((who, number));
        if self.order.len() > REMEMBERED
            && let Some((who, number)) = self.order.pop_front()
        {
            self.forgotten = self.forgotten.max(number);
            if self.by.get(&who) == Some(&number) {
                self.by.remove(&who);
            }
        }
    }

    /// Whether it happened after this number. Where that is forgotten, it may have.
    pub(super) fn since(&self, who: K, number: u64) -> bool {
        let by = self.by.get(&who);
        by.is_some_and(|by| *by > number) || self.forgotten > number
    }
}

impl Ended {
    /// Notes that a commit ends a session, before it is shown.
    pub(super) fn note(&self, client: ClientKey, commit: u64) {
        self.lock().note(client, commit);
    }

    /// Whether a session was ended by a later commit than this one, or may have been.
    pub(super) fn since(&self, client: ClientKey, commit: u64) -> bool {
        self.lock().since(client, commit)
    }

    fn lock(&self) -> MutexGuard<'_, Lately<ClientKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ClientKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        ClientKey::from_bytes(bytes)
    }

    // C4.8
    #[test]
    fn what_is_forgotten_counts_as_ended_for_those_who_came_before() {
        let ended = Ended::default();
        ended.note(key(0), 1);
        assert!(ended.since(key(0), 0));
        assert!(!ended.since(key(0), 1));
        assert!(!ended.since(key(1), 0));
        for n in 1..=REMEMBERED {
            ended.note(key(n), 1 + n as u64);
        }
        // The first is forgotten: of those who came before it, nobody knows.
        assert!(ended.since(key(0), 0));
        assert!(ended.since(key(usize::MAX), 0));
        assert!(!ended.since(key(usize::MAX), 1));
        let lately = ended.0.lock().unwrap();
        assert_eq!(
            (lately.by.len(), lately.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }

    // C1.9
    #[test]
    fn a_session_in_several_containers_is_remembered_once() {
        let ended = Ended::default();
        ended.note(key(0), 1);
        ended.note(key(0), 1);
        assert_eq!(ended.0.lock().unwrap().order.len(), 1);
    }
}
