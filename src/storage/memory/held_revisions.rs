//! The revisions that snapshots hold, and since when each of them is not the newest.

use crate::clock::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct HeldRevisions {
    held: BTreeMap<u64, HeldRevision>,
    /// Snapshots up to this revision were held too long.
    expired: Option<u64>,
}

#[derive(Debug, Default)]
struct HeldRevision {
    snapshots: usize,
    superseded: Option<Moment>,
}

impl HeldRevisions {
    pub(super) fn hold(&mut self, revision: u64) {
        self.held.entry(revision).or_default().snapshots += 1;
    }

    pub(super) fn give_back(&mut self, revision: u64) {
        if let Some(held) = self.held.get_mut(&revision) {
            held.snapshots -= 1;
            if held.snapshots == 0 {
                self.held.remove(&revision);
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.held.keys().next().copied()
    }

    pub(super) fn is_expired(&self, revision: u64) -> bool {
        self.expired >= Some(revision)
    }

    /// The revision `newest` came to be by now. Gives up those that have not been the newest for longer than `max_age`.
    pub(super) fn supersede(&mut self, newest: u64, now: Moment, max_age: Duration) {
        for (_, held) in self.held.range_mut(..newest).rev() {
            if held.superseded.is_some() {
                break;
            }
            held.superseded = Some(now);
        }
        while let Some((revision, held)) = self.held.first_key_value()
            && held
                .superseded
                .is_some_and(|since| now.since(since) > max_age)
        {
            self.expired = Some(*revision);
            self.held.pop_first();
        }
    }

    /// How many snapshots are held that are not of the newest revision, and since when the oldest is not.
    pub(super) fn superseded(&self, now: Moment) -> (usize, Option<Duration>) {
        let superseded = self.held.values().filter(|held| held.superseded.is_some());
        let oldest = self.held.values().next().and_then(|held| held.superseded);
        (
            superseded.map(|held| held.snapshots).sum(),
            oldest.map(|since| now.since(since)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C2.14
    #[test]
    fn a_revision_is_given_up_when_it_was_held_too_long_after_a_newer_one_came() {
        let at = |secs| Moment::after(Duration::from_secs(secs));
        let max_age = Duration::from_secs(30);
        let mut held = HeldRevisions::default();
        held.hold(1);
        held.hold(1);
        held.supersede(2, at(10), max_age);
        held.hold(2);
        held.supersede(3, at(40), max_age);
        assert_eq!(held.oldest(), Some(1));
        let oldest = Some(Duration::from_secs(30));
        assert_eq!(held.superseded(at(40)), (3, oldest));
        held.supersede(4, at(41), max_age);
        assert_eq!((held.oldest(), held.is_expired(1)), (Some(2), true));
        assert!(!held.is_expired(2));
        held.give_back(1);
        held.give_back(2);
        assert_eq!((held.oldest(), held.superseded(at(41))), (None, (0, None)));
    }
}
