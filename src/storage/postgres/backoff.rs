//! The pauses between the attempts of one request. Knows no server.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long the first pause is.
const FIRST: Duration = Duration::from_millis(20);
/// How long a pause is at most.
const LONGEST: Duration = Duration::from_millis(100);

/// Pauses that grow up to a bound.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The second attempt comes at once: a connection that was idle may have ended long ago.
    pub(super) fn after_second() -> Self {
        Self {
            next: Duration::ZERO,
        }
    }

    pub(super) fn after_first() -> Self {
        Self { next: FIRST }
    }

    /// Waits for the next attempt. False at once if there is no time for it.
    pub(super) async fn pause(&mut self, until: Instant) -> bool {
        let next = Instant::now() + self.take();
        if next >= until {
            return false;
        }
        sleep_until(next).await;
        true
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).clamp(FIRST, LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C10.2
    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::after_second();
        let pauses: Vec<_> = (0..6).map(|_| backoff.take().as_millis()).collect();
        assert_eq!(pauses, [0, 20, 40, 80, 100, 100]);
        assert_eq!(Backoff::after_first().take(), FIRST);
    }
}
