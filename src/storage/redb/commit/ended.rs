//! The sessions that ended lately: by which commit, or when they expired, if they were swept. Requests that arrived
//! before the end and act after it need this (C4.8).

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::recent_ends::RecentEnds;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(crate) struct EndedSessions {
    by_commits: Mutex<RecentEnds<ClientKey, u64>>,
    /// Swept sessions, by the time when they expired. A sweep may come long after that, and end very many.
    swept: Mutex<RecentEnds<ClientKey, Timestamp>>,
}

impl EndedSessions {
    /// Notes that a commit ends a session, before the commit is published.
    pub(crate) fn note(&self, client: ClientKey, commit: u64) {
        self.lock().note(client, commit);
    }

    /// Whether a session was ended by a later commit than this one, or may have been.
    pub(crate) fn since(&self, client: ClientKey, commit: u64) -> bool {
        self.lock().since(client, commit)
    }

    /// Notes when swept sessions expired, before the sweep's commit is published.
    pub(crate) fn note_swept(&self, swept: &[(ClientKey, Timestamp)]) {
        if swept.is_empty() {
            return;
        }
        let mut lately = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        for (client, over) in swept {
            lately.note(*client, *over);
        }
    }

    /// Whether a swept session expired after this time, or may have. An end that lies ahead came from a wrong clock, and
    /// does not count.
    pub(crate) fn expired_since(&self, client: ClientKey, time: Timestamp, now: Timestamp) -> bool {
        let lately = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        lately.within(client, time, now)
    }

    fn lock(&self) -> MutexGuard<'_, RecentEnds<ClientKey, u64>> {
        self.by_commits
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::recent_ends::REMEMBERED;

    fn key(n: usize) -> ClientKey {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        ClientKey::from_bytes(bytes)
    }

    // C4.8
    #[test]
    fn what_is_forgotten_counts_as_ended_for_those_who_came_before() {
        let ended = EndedSessions::default();
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
        assert_eq!(ended.lock().len(), REMEMBERED);
    }

    // C4.8: does not concern clients that came after the end, or when the session had only expired by a wrong clock.
    #[test]
    fn what_was_swept_counts_for_those_who_came_before_it_was_over() {
        let ended = EndedSessions::default();
        ended.note(key(0), 1);
        ended.note_swept(&[(key(1), Timestamp(100))]);
        let since = |n: usize, time| ended.expired_since(key(n), Timestamp(time), Timestamp(200));
        assert!(since(1, 99));
        assert!(!since(1, 100));
        assert!(!ended.expired_since(key(1), Timestamp(50), Timestamp(99)));
        // A large sweep of sessions that expired long ago does not displace the ends and the later expiries that are
        // remembered.
        let old: Vec<_> = (2..=2 * REMEMBERED)
            .map(|n| (key(n), Timestamp(10)))
            .collect();
        ended.note_swept(&old);
        assert!(since(1, 99));
        assert!(!since(0, 10));
        assert!(since(0, 9));
        assert!(!ended.since(key(0), 1));
        assert!(!ended.since(key(2), 0));
    }

    // C1.9
    #[test]
    fn a_session_in_several_containers_is_remembered_once() {
        let ended = EndedSessions::default();
        ended.note(key(0), 1);
        ended.note(key(0), 1);
        assert_eq!(ended.lock().len(), 1);
    }
}
