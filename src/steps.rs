//! Counts the steps that work takes, so that tests can tell how they grow (C5.5). Elsewhere than in the unit
//! tests there is nothing of it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

#[cfg(test)]
thread_local! {
    static TAKEN: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that `n` steps were taken on this thread.
#[inline]
pub(crate) fn count(n: usize) {
    #[cfg(test)]
    TAKEN.set(TAKEN.get() + n);
    #[cfg(not(test))]
    let _ = n;
}

/// How many steps `work` takes on this thread.
#[cfg(test)]
pub(crate) fn of(work: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    work();
    TAKEN.get() - before
}

/// A key whose comparisons are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<T>(pub(crate) T);

impl<T: Ord> Ord for Counted<T> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        count(1);
        self.0.cmp(&other.0)
    }
}

impl<T: Ord> PartialOrd for Counted<T> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Counted<T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Counted<T> {}

impl<T: Hash> Hash for Counted<T> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// To be looked for without an `Arc`; those comparisons are not counted.
impl Borrow<str> for Counted<Arc<str>> {
    fn borrow(&self) -> &str {
        &self.0
    }
}
