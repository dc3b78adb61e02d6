//! The superseded snapshots that transactions still hold, so that they can be expired (C2.14) and counted.

use crate::clock::Moment;
use crate::storage::redb::memtable::snapshot::RedbSnapshot;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct SnapshotTracker {
    superseded: Mutex<SupersededList>,
    /// Those of maintenance, which are not too old at any age.
    kept: Mutex<SupersededList>,
}

/// The commit that a snapshot shows, and how many snapshots were superseded before it. Snapshots come, and age, in this
/// order.
type SnapshotOrder = (u64, u64);

#[derive(Default)]
struct SupersededList {
    old: BTreeMap<SnapshotOrder, SupersededSnapshot>,
    /// How many were tracker.
    count: u64,
    /// The last one that was checked in turn.
    looked_at: SnapshotOrder,
}

struct SupersededSnapshot {
    snapshot: Weak<RedbSnapshot>,
    since: Moment,
}

impl SupersededSnapshot {
    fn is_held(&self) -> bool {
        crate::steps::count(1);
        self.snapshot.strong_count() > 0
    }
}

impl SupersededList {
    /// Checks the next two in turn, and removes those that no transaction holds. So they do not gather behind one that is
    /// held for long.
    fn look_on(&mut self) {
        for _ in 0..2 {
            let rest = (Bound::Excluded(self.looked_at), Bound::Unbounded);
            let Some((place, old)) = self.old.range(rest).next() else {
                self.looked_at = SnapshotOrder::default();
                return;
            };
            self.looked_at = *place;
            if !old.is_held() {
                self.old.remove(&self.looked_at);
            }
        }
    }

    /// The oldest that is held, of those that show a commit from `first` on.
    fn first_held(&mut self, first: u64) -> Option<(SnapshotOrder, Moment)> {
        loop {
            let (place, old) = self.old.range((first, 0)..).next()?;
            if old.is_held() {
                return Some((*place, old.since));
            }
            let place = *place;
            self.old.remove(&place);
        }
    }
}

impl SupersededList {
    fn add(&mut self, snapshot: &Arc<RedbSnapshot>, since: Moment) {
        let number = snapshot.number();
        let snapshot = Arc::downgrade(snapshot);
        self.count += 1;
        let place = (number, self.count);
        let superseded = SupersededSnapshot { snapshot, since };
        self.old.insert(place, superseded);
        self.look_on();
    }

    fn held(&self, now: Moment) -> (usize, Option<Duration>) {
        let held = self.old.values().filter(|old| old.is_held());
        let ages = held.clone().map(|old| now.since(old.since));
        (held.count(), ages.max())
    }

    /// Orphans come first: later transactions read a database that was opened later.
    fn is_orphan(&self, place: &SnapshotOrder) -> bool {
        let snapshot = self.old.get(place).and_then(|old| old.snapshot.upgrade());
        snapshot.is_some_and(|snapshot| snapshot.is_orphan())
    }
}

impl SnapshotTracker {
    fn lock(&self) -> MutexGuard<'_, SupersededList> {
        let superseded = self.superseded.lock();
        superseded.unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, SupersededList> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, snapshot: &Arc<RedbSnapshot>, since: Moment) {
        self.lock().add(snapshot, since);
    }

    /// Adds a snapshot that maintenance reads. It is held, however old it becomes (C2.14).
    pub(crate) fn keep(&self, snapshot: &Arc<RedbSnapshot>, since: Moment) {
        self.kept().add(snapshot, since);
    }

    /// How many maintenance reads there are, and how old the oldest of them is.
    pub(crate) fn maintenance(&self, now: Moment) -> (usize, Option<Duration>) {
        self.kept().held(now)
    }

    /// Since when the oldest held snapshot is tracker.
    pub(crate) fn first(&self) -> Option<Moment> {
        self.lock().first_held(0).map(|(_, since)| since)
    }

    /// The oldest commit, from `first` on, that a held snapshot shows.
    pub(crate) fn oldest_since(&self, first: u64) -> Option<u64> {
        let oldest = |line: &mut SupersededList| line.first_held(first);
        let [superseded, kept] = [oldest(&mut self.lock()), oldest(&mut self.kept())];
        let first = superseded.into_iter().chain(kept).map(|(place, _)| place);
        first.min().map(|(number, _)| number)
    }

    /// How many are held, and for how long the oldest of them has been tracker.
    pub(crate) fn held(&self, now: Moment) -> (usize, Option<Duration>) {
        self.lock().held(now)
    }

    /// Expires those that were superseded longer than `max_age` ago.
    pub(crate) fn expire(&self, now: Moment, max_age: Duration) {
        expire_while(self.lock(), |_, (_, since)| now.since(*since) > max_age);
    }

    /// Whether a held one shows a state of a database that was dropped.
    pub(crate) fn has_orphans(&self) -> bool {
        let mut line = self.lock();
        line.first_held(0)
            .is_some_and(|(place, _)| line.is_orphan(&place))
    }

    /// Expires those of maintenance, which may last too long to be waited for.
    pub(crate) fn expire_kept_orphans(&self) {
        expire_while(self.kept(), |line, (place, _)| line.is_orphan(place));
    }

    /// Expires these.
    pub(crate) fn expire_orphans(&self) {
        for line in [self.lock(), self.kept()] {
            expire_while(line, |line, (place, _)| line.is_orphan(place));
        }
    }

    pub(crate) fn expire_all(&self) {
        for line in [self.lock(), self.kept()] {
            expire_while(line, |_, _| true);
        }
    }
}

fn expire_while(
    mut line: MutexGuard<'_, SupersededList>,
    is_due: impl Fn(&SupersededList, &(SnapshotOrder, Moment)) -> bool,
) {
    let mut due = Vec::new();
    while let Some(first) = line.first_held(0)
        && is_due(&line, &first)
    {
        let old = line.old.remove(&first.0);
        due.extend(old.and_then(|old| old.snapshot.upgrade()));
    }
    drop(line);
    for snapshot in due {
        snapshot.expire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::redb::memtable::snapshot::snapshots;

    fn at(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    // C2.14
    #[test]
    fn those_that_are_held_are_found_in_order_and_taken_back_in_time() {
        let tracker = SnapshotTracker::default();
        let mut held: Vec<_> = snapshots(1..7).collect();
        for (n, snapshot) in held.iter().enumerate() {
            tracker.add(snapshot, at(n as u64));
        }
        for gone in [3, 2, 0] {
            held.remove(gone);
        }
        assert_eq!(tracker.first(), Some(at(1)));
        for (first, oldest) in [(0, 2), (2, 2), (3, 5), (5, 5), (6, 6)] {
            assert_eq!(tracker.oldest_since(first), Some(oldest));
        }
        assert_eq!(tracker.oldest_since(7), None);
        let seconds = Duration::from_secs;
        assert_eq!(tracker.held(at(9)), (3, Some(seconds(8))));
        tracker.expire(at(9), seconds(8));
        assert_eq!(tracker.first(), Some(at(1)), "not longer than that");
        tracker.expire(at(9), seconds(4));
        assert_eq!(tracker.held(at(9)), (1, Some(seconds(4))));
        tracker.expire_all();
        assert_eq!(tracker.held(at(9)), (0, None));
        assert_eq!(tracker.first(), None);
    }

    // C2.14
    #[test]
    fn those_of_maintenance_have_no_age_that_ends_them_and_keep_their_versions() {
        let tracker = SnapshotTracker::default();
        let held: Vec<_> = snapshots(3..5).collect();
        tracker.keep(&held[0], at(0));
        tracker.add(&held[1], at(1));
        assert_eq!(tracker.oldest_since(0), Some(3));
        assert_eq!(tracker.oldest_since(4), Some(4));
        tracker.expire(at(1000), Duration::from_secs(1));
        assert_eq!(tracker.first(), None);
        assert_eq!(tracker.held(at(1000)), (0, None));
        let age = Duration::from_secs(1000);
        assert_eq!(tracker.maintenance(at(1000)), (1, Some(age)));
        assert_eq!(tracker.oldest_since(0), Some(3));
        drop(held);
        assert_eq!(tracker.maintenance(at(1000)), (0, None));
        assert_eq!(tracker.oldest_since(0), None);
    }

    // C5.5
    #[test]
    fn however_many_are_held_a_commit_looks_at_a_few() {
        let tracker = SnapshotTracker::default();
        let held: Vec<_> = snapshots(1..1001).collect();
        for snapshot in &held {
            tracker.add(snapshot, at(0));
        }
        let steps = crate::steps::of(|| {
            for number in 1001..11_001 {
                snapshots(number..number + 1).for_each(|one| tracker.add(&one, at(1)));
                tracker.first();
                assert_eq!(tracker.oldest_since(500), Some(500));
                tracker.expire(at(1), Duration::from_secs(9));
            }
        });
        assert!(steps < 10 * 10_000, "{steps} steps for 10,000 commits");
        let left = tracker.lock().old.len();
        assert!(left < 4 * 1000, "{left} are remembered");
        drop(held);
        assert_eq!(tracker.first(), None);
        assert_eq!(tracker.lock().old.len(), 0);
    }
}
