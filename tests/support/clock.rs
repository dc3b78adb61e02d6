//! A clock that is moved by hand.

use cloakroom::Clock;
use std::time::Duration;

pub(crate) const MOMENT: Duration = Duration::from_millis(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// It stands at the beginning of 2026.
pub(crate) fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
