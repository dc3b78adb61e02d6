//! Limits the rate of log lines that visitors can cause.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Lets so many pass a second, and counts the others.
pub(crate) struct Throttle {
    most: u32,
    state: Mutex<ThrottleState>,
}

struct ThrottleState {
    /// Since the process's first question; `None` before the first that passed.
    begun: Option<Duration>,
    passed: u32,
    left_out: u64,
}

impl Throttle {
    pub(crate) const fn new(most: u32) -> Self {
        Self {
            most,
            state: Mutex::new(ThrottleState {
                begun: None,
                passed: 0,
                left_out: 0,
            }),
        }
    }

    /// Whether one more may pass; how many were left out since the last that did.
    pub(crate) fn pass(&self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        self.pass_at(START.elapsed())
    }

    fn pass_at(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun| now.saturating_sub(begun) >= SECOND;
        if state.begun.is_none_or(is_over) {
            state.begun = Some(now);
            state.passed = 0;
        }
        if state.passed < self.most {
            state.passed += 1;
            Some(std::mem::take(&mut state.left_out))
        } else {
            state.left_out += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_a_second_passes_and_tells_of_the_others() {
        let throttle = Throttle::new(1);
        assert_eq!(throttle.pass_at(at(0)), Some(0));
        for n in 0..20_000 {
            assert_eq!(throttle.pass_at(at(n % 1000)), None);
        }
        assert_eq!(throttle.pass_at(at(1000)), Some(20_000));
        assert_eq!(throttle.pass_at(at(1999)), None);
        assert_eq!(throttle.pass_at(at(9000)), Some(1));
    }

    #[test]
    fn a_few_pass_where_they_are_allowed() {
        let throttle = Throttle::new(3);
        let passed = |now| {
            (0..10)
                .filter(|_| throttle.pass_at(at(now)).is_some())
                .count()
        };
        assert_eq!((passed(5), passed(900), passed(1005)), (3, 0, 3));
    }
}
