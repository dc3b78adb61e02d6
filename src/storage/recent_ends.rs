//! When something last happened to each of many keys, in bounded memory: of the forgotten entries the latest number is
//! kept.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// How many keys are remembered: some 6 MB.
pub(crate) const REMEMBERED: usize = 65_536;

/// When something last happened to each key, by number or time. The lowest are forgotten first.
#[derive(Debug)]
pub(crate) struct RecentEnds<K, N> {
    by: HashMap<K, N>,
    /// The same in the order of the numbers.
    order: BTreeSet<(N, K)>,
    /// The greatest number that was forgotten.
    forgotten: Option<N>,
}

impl<K, N> Default for RecentEnds<K, N> {
    fn default() -> Self {
        Self {
            by: HashMap::new(),
            order: BTreeSet::new(),
            forgotten: None,
        }
    }
}

impl<K: Copy + Ord + Hash, N: Copy + Ord> RecentEnds<K, N> {
    pub(crate) fn note(&mut self, who: K, number: N) {
        if let Some(before) = self.by.get(&who) {
            // A session in several containers ends in each.
            if *before >= number {
                return;
            }
            self.order.remove(&(*before, who));
        }
        self.by.insert(who, number);
        self.order.insert((number, who));
        if self.order.len() > REMEMBERED
            && let Some((number, who)) = self.order.pop_first()
        {
            self.by.remove(&who);
            self.forgotten = self.forgotten.max(Some(number));
        }
    }

    /// Whether it happened after this number, or may have, if that is forgotten.
    pub(crate) fn since(&self, who: K, number: N) -> bool {
        self.known(who).any(|by| by > number)
    }

    /// Whether it happened after `from` and not after `to`, or may have.
    pub(crate) fn within(&self, who: K, from: N, to: N) -> bool {
        self.known(who).any(|by| by > from && by <= to)
    }

    /// Whether it happened, as far as that is remembered.
    pub(crate) fn has(&self, who: &K) -> bool {
        self.by.contains_key(who)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// When it happened, and the latest number at which it may have.
    fn known(&self, who: K) -> impl Iterator<Item = N> {
        let by = self.by.get(&who).copied();
        by.into_iter().chain(self.forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C3.2
    #[test]
    fn what_happens_to_one_again_and_again_makes_nothing_forgotten() {
        let mut lately = RecentEnds::default();
        lately.note(1, 1);
        for n in 2..=(2 * REMEMBERED) as u64 {
            lately.note(0, n);
        }
        assert_eq!((lately.by.len(), lately.order.len()), (2, 2));
        assert!(lately.since(0, 2 * REMEMBERED as u64 - 1));
        assert!(!lately.since(1, 1));
        assert!(!lately.since(2, 0));
    }
}
