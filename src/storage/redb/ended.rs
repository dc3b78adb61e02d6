//! Which sessions were ended lately, and by which commit: for requests that came before that and act after it
//! (C4.8). Bounded; of what it has forgotten it still knows how late that was.

use crate::client_id::ClientKey;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// So many are remembered: some 4 MB.
const REMEMBERED: usize = 65_536;

#[derive(Default)]
pub(super) struct Ended(Mutex<Lately>);

#[derive(Default)]
struct Lately {
    /// By which commit each was ended.
    by: HashMap<ClientKey, u64>,
    /// The same in the order of the commits.
    order: VecDeque<(ClientKey, u64)>,
    /// The newest commit of which some are forgotten.
    forgotten: u64,
}

impl Ended {
    /// Notes that a commit ends a session, before it is shown.
    pub(super) fn note(&self, client: ClientKey, commit: u64) {
        let mut lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = &mut *lately;
        // A session in several containers ends in each.
        if lately.by.insert(client, commit) == Some(commit) {
            return;
        }
        lately.order.push_back((client, commit));
        if lately.order.len() > REMEMBERED
            && let Some((client, commit)) = lately.order.pop_front()
        {
            lately.forgotten = lately.forgotten.max(commit);
            if lately.by.get(&client) == Some(&commit) {
                lately.by.remove(&client);
            }
        }
    }

    /// Whether a session was ended by a later commit than this one. Where that is forgotten, it may have been.
    pub(super) fn since(&self, client: ClientKey, commit: u64) -> bool {
        let lately = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by = lately.by.get(&client);
        by.is_some_and(|by| *by > commit) || lately.forgotten > commit
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
