//! Access times that wait to be written (C3.4): bounded, merged by maximum, and visible to loads,
//! commits and sweeps from the moment they are recorded.

use super::ended::Lately;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::{ContainerId, Touch, TouchAt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) type Pending = Touch;

/// Beyond this many the writer is woken at once.
pub(super) const MANY: usize = 8192;

/// Beyond this many none is recorded: the disk is stuck. A session that is used on finds its touch due
/// again.
const MOST: usize = 65_536;

#[derive(Default)]
pub(super) struct Touches {
    waiting: Mutex<HashMap<(ContainerId, ClientKey), (u64, TouchAt)>>,
    /// How many wait, so that the common case - none - takes no lock.
    count: AtomicUsize,
    lost: AtomicU64,
    /// Sessions that somebody found expired, by the number of that look. Changed only while `waiting` is locked.
    expired: Mutex<Lately<(ContainerId, ClientKey), u64>>,
    looks: AtomicU64,
}

impl Touches {
    /// How often a session was found expired so far.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    /// Notes that a session was found expired: no touch of a transaction that began before brings it back. Whoever
    /// found it so looks again after this.
    pub(super) fn found_expired(&self, container: ContainerId, client: ClientKey) {
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.looks.load(Ordering::Relaxed) + 1;
        self.expired().note((container, client), look);
        self.looks.store(look, Ordering::Release);
    }

    /// Whether a session was found expired after so many looks.
    pub(super) fn is_expired_since(
        &self,
        container: ContainerId,
        client: ClientKey,
        looks: u64,
    ) -> bool {
        looks < self.looks() && self.expired().since((container, client), looks)
    }

    fn expired(&self) -> MutexGuard<'_, Lately<(ContainerId, ClientKey), u64>> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a touch; returns how many wait now.
    pub(super) fn add(&self, touch: Touch, now: Timestamp) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (touch.container, touch.client);
        if self.is_expired_since(touch.container, touch.client, touch.looks) {
            return waiting.len();
        }
        if waiting.len() >= MOST && !waiting.contains_key(&key) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return waiting.len();
        }
        let entry = waiting.entry(key).or_insert((touch.generation, touch.at));
        if entry.0 == touch.generation {
            entry.1.time = touch.at.merged_with(entry.1.time, now);
            entry.1.slack = touch.at.slack;
            entry.1.founded = entry.1.founded.or(touch.at.founded);
        } else if entry.0 < touch.generation {
            // The earlier session is over.
            *entry = (touch.generation, touch.at);
        }
        self.count.store(waiting.len(), Ordering::Release);
        waiting.len()
    }

    /// Merges a touch with the one that waits for its session, if one does.
    pub(super) fn amend(&self, touch: Touch, now: Timestamp) {
        let waits = self.get(touch.container, touch.client, touch.generation);
        if waits.is_some() {
            self.add(touch, now);
        }
    }

    pub(super) fn get(
        &self,
        container: ContainerId,
        client: ClientKey,
        generation: u64,
    ) -> Option<TouchAt> {
        if self.len() == 0 {
            return None;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .get(&(container, client))
            .filter(|(waiting, _)| *waiting == generation)
            .map(|(_, at)| *at)
    }

    /// How many were not recorded.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Those that wait, in the order of their rows; they stay until they are settled.
    pub(super) fn list(&self) -> Vec<Pending> {
        if self.len() == 0 {
            return Vec::new();
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = waiting
            .iter()
            .map(|(&(container, client), &(generation, at))| Touch {
                container,
                client,
                generation,
                looks: u64::MAX,
                at,
            })
            .collect();
        drop(waiting);
        list.sort_unstable_by_key(|touch| (touch.container, touch.client));
        list
    }

    /// Forgets touches that are in the rows now, unless another one came in between.
    pub(super) fn settle(&self, written: &[Pending]) {
        if written.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for touch in written {
            let key = (touch.container, touch.client);
            if waiting.get(&key) == Some(&(touch.generation, touch.at)) {
                waiting.remove(&key);
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(2);

    fn touch(client: u32, time: i64) -> Touch {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&client.to_be_bytes());
        Touch {
            container: ContainerId::UNNAMED,
            client: ClientKey::from_bytes(key),
            generation: 1,
            looks: 0,
            at: TouchAt {
                time: Timestamp(time),
                slack: Duration::ZERO,
                founded: None,
            },
        }
    }

    // C3.2, C3.4
    #[test]
    fn looks_at_one_expired_session_lose_no_touches_of_others() {
        let touches = Touches::default();
        let dead = touch(0, 1);
        for _ in 0..=MOST {
            touches.found_expired(dead.container, dead.client);
        }
        assert_eq!(touches.add(dead, NOW), 0);
        assert_eq!(touches.add(touch(1, 1), NOW), 1);
    }

    // C3.4
    #[test]
    fn beyond_a_bound_no_other_session_is_touched_and_the_loss_is_counted() {
        let touches = Touches::default();
        let most = u32::try_from(MOST).unwrap();
        for client in 0..most {
            touches.add(touch(client, 1), NOW);
        }
        assert_eq!(touches.lost(), 0);
        assert_eq!(touches.add(touch(most, 1), NOW), MOST);
        assert_eq!((touches.len(), touches.lost()), (MOST, 1));
        // One that waits already is still merged.
        let known = touch(0, 2);
        touches.add(known, NOW);
        let found = touches.get(known.container, known.client, 1).unwrap();
        assert_eq!((found.time, touches.lost()), (Timestamp(2), 1));
        touches.settle(&[known]);
        touches.add(touch(most, 1), NOW);
        assert_eq!((touches.len(), touches.lost()), (MOST, 1));
    }
}
