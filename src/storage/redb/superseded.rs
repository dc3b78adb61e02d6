//! The snapshots that transactions hold although newer ones are there, so that they can be taken back
//! (C2.14) and counted.

use super::snapshot::RedbSnapshot;
use crate::clock::Timestamp;
use crate::storage::Snapshot;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

#[derive(Default)]
pub(super) struct Superseded(Mutex<VecDeque<Old>>);

struct Old {
    snapshot: Weak<RedbSnapshot>,
    since: Timestamp,
}

impl Old {
    fn is_held(&self) -> bool {
        self.snapshot.strong_count() > 0
    }
}

impl Superseded {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Old>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, snapshot: &Arc<RedbSnapshot>, since: Timestamp) {
        let snapshot = Arc::downgrade(snapshot);
        self.lock().push_back(Old { snapshot, since });
    }

    /// Since when the first of those that are held has not been the newest.
    pub(super) fn first(&self) -> Option<Timestamp> {
        let mut old = self.lock();
        while old.front().is_some_and(|old| !old.is_held()) {
            old.pop_front();
        }
        old.front().map(|old| old.since)
    }

    /// The oldest commit that one of those shows, of those from `first` on.
    pub(super) fn oldest_since(&self, first: u64) -> Option<u64> {
        let old = self.lock();
        let numbers = old
            .iter()
            .filter_map(|old| Some(old.snapshot.upgrade()?.number()));
        numbers.filter(|number| *number >= first).min()
    }

    /// How many are held, and for how long the oldest of them has not been the newest.
    pub(super) fn held(&self, now: Timestamp) -> (usize, Option<Duration>) {
        let old = self.lock();
        let held = old.iter().filter(|old| old.is_held());
        let ages = held.clone().map(|old| now.since(old.since));
        (held.count(), ages.max())
    }

    /// Takes back those that were superseded longer than `max_age` ago.
    pub(super) fn expire(&self, now: Timestamp, max_age: Duration) {
        self.expire_if(|old| now.since(old.since) > max_age);
    }

    pub(super) fn expire_all(&self) {
        self.expire_if(|_| true);
    }

    fn expire_if(&self, is_due: impl Fn(&Old) -> bool) {
        let mut due = Vec::new();
        self.lock().retain(|old| {
            let is_due = is_due(old);
            if is_due {
                due.extend(old.snapshot.upgrade());
            }
            !is_due && old.is_held()
        });
        for snapshot in due {
            snapshot.expire();
        }
    }
}
