//! How many sessions may be founded in an interval. Pure, and of one size however many there are.

use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The parts that an interval is counted in.
const PARTS: usize = 16;

/// At most `count` in any interval of length `per`. A count lasts for at least that interval, and for a sixteenth
/// longer at most.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    count: u64,
    /// Milliseconds of a part.
    part: u64,
    /// The part that the newest count is of.
    newest: u64,
    /// Counts of the newest part, and of as many before it as may reach into the interval.
    counted: [u64; PARTS + 1],
}

impl Quota {
    pub(crate) fn new(count: u64, per: Duration) -> Self {
        let part = per.as_millis().div_ceil(PARTS as u128).max(1);
        Self {
            count,
            part: u64::try_from(part).unwrap_or(u64::MAX),
            newest: 0,
            counted: [0; PARTS + 1],
        }
    }

    /// Counts `n` more, if that many may still be.
    pub(crate) fn take(&mut self, n: u64, now: Moment) -> bool {
        let millis = u64::try_from(now.since_start().as_millis()).unwrap_or(u64::MAX);
        self.move_to(millis / self.part);
        let so_far: u64 = self.counted.iter().sum();
        let sum = so_far.checked_add(n);
        let fits = sum.is_some_and(|sum| sum <= self.count);
        if let ([newest, ..], true) = (&mut self.counted, fits) {
            *newest += n;
        }
        fits
    }

    /// [`take`](Self::take), with an error that tells how long to wait.
    pub(crate) fn take_or_refuse(&mut self, n: u64, now: Moment) -> Result<()> {
        if self.take(n, now) {
            return Ok(());
        }
        let error = Error::new(
            ErrorKind::Unavailable,
            "too many new sessions: the store's limit for an interval (max_new_sessions) is reached",
        );
        Err(error.lasting(self.wait(n, now)))
    }

    /// Takes a count of `n` back, the newest first.
    fn give_back(&mut self, mut n: u64) {
        for count in &mut self.counted {
            let back = n.min(*count);
            *count -= back;
            n -= back;
        }
    }

    /// How long it takes until `n` more may be: for ever where there are never so many. As of the last
    /// [`take`](Self::take).
    fn wait(&self, n: u64, now: Moment) -> Duration {
        let counted: u64 = self.counted.iter().sum();
        let mut over = counted.saturating_add(n).saturating_sub(self.count);
        let mut part = self.newest;
        // The oldest count is no longer one of the interval in the next part, the one after it in the part after that.
        for count in self.counted.iter().rev() {
            over = over.saturating_sub(*count);
            part = part.saturating_add(1);
            if over == 0 {
                let until = part.saturating_mul(self.part);
                return Duration::from_millis(until).saturating_sub(now.since_start());
            }
        }
        Duration::MAX
    }

    fn move_to(&mut self, part: u64) {
        let passed = usize::try_from(part.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        self.newest = self.newest.max(part);
        let passed = passed.min(self.counted.len());
        self.counted.rotate_right(passed);
        self.counted.iter_mut().take(passed).for_each(|n| *n = 0);
    }
}

/// A quota that the engines of one store take from together.
#[derive(Clone, Debug)]
pub(crate) struct SharedQuota(Arc<Mutex<Quota>>);

impl SharedQuota {
    pub(crate) fn new(count: u64, per: Duration) -> Self {
        Self(Arc::new(Mutex::new(Quota::new(count, per))))
    }

    /// Counts `n` more.
    ///
    /// # Errors
    ///
    /// That many may not be now. The error tells how long to wait.
    pub(crate) fn take_or_refuse(&self, n: u64, now: Moment) -> Result<()> {
        self.lock().take_or_refuse(n, now)
    }

    /// Takes a count of `n` back, because the counted event did not take place.
    pub(crate) fn give_back(&self, n: u64) {
        self.lock().give_back(n);
    }

    fn lock(&self) -> MutexGuard<'_, Quota> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> Moment {
        Moment::after(Duration::from_millis(millis))
    }

    #[test]
    fn no_interval_holds_more_and_each_count_ends() {
        // Wherever in a part it begins.
        for start in [0, 1, 1_874, 3_749, 3_750, 59_999] {
            let mut quota = Quota::new(3, MINUTE);
            assert!(quota.take(2, at(start)));
            assert!(quota.take(1, at(start + 30_000)));
            for later in [30_000, 59_999, 60_000] {
                assert!(!quota.take(1, at(start + later)), "{start} {later}");
            }
            assert!(quota.take(2, at(start + 63_750)), "{start}");
            assert!(!quota.take(1, at(start + 63_750)), "{start}");
            assert!(quota.take(1, at(start + 93_750)), "{start}");
        }
    }

    #[test]
    fn a_client_that_waits_as_long_as_told_is_admitted() {
        for start in [0, 1, 1_874, 3_749, 3_750, 59_999] {
            let mut quota = Quota::new(3, MINUTE);
            assert!(quota.take(1, at(start)));
            assert!(quota.take(2, at(start + 20_000)));
            let now = start + 30_000;
            for n in 1..=3 {
                assert!(!quota.take(n, at(now)));
                let wait = u64::try_from(quota.wait(n, at(now)).as_millis()).unwrap();
                assert!(!quota.clone().take(n, at(now + wait - 1)), "{start} {n}");
                assert!(quota.clone().take(n, at(now + wait)), "{start} {n}");
            }
            assert!(!quota.take(4, at(now)));
            assert_eq!(quota.wait(4, at(now)), Duration::MAX);
        }
    }

    #[test]
    fn what_does_not_fit_whole_is_not_counted() {
        let mut quota = Quota::new(3, MINUTE);
        assert!(!quota.take(4, at(0)));
        assert!(quota.take(3, at(0)));
        assert!(!Quota::new(0, MINUTE).take(1, at(0)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut quota = Quota::new(3, MINUTE);
        assert!(quota.take(2, at(0)));
        assert!(quota.take(1, at(30_000)));
        quota.give_back(2);
        assert!(!quota.take(3, at(30_000)));
        assert!(quota.take(2, at(30_000)));
        quota.give_back(u64::MAX);
        assert!(quota.take(3, at(30_000)));
    }

    #[test]
    fn any_interval_and_any_time_can_be_asked_about() {
        for per in [Duration::ZERO, Duration::MAX] {
            for millis in [0, 1, u64::MAX] {
                let mut quota = Quota::new(u64::MAX, per);
                assert!(quota.take(1, at(millis)));
                assert!(quota.take(1, at(millis)));
                assert!(!quota.take(u64::MAX, at(millis)));
            }
        }
    }
}
