//! Counts the steps that work takes, so that tests can tell how they grow (C5.5). Elsewhere than in the unit
//! tests there is nothing of it.

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
