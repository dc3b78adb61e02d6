//! What the answers of the server tell beside what was asked: the epoch of the settings, and the server's time.

use crate::clock::{Clock, ClockOffset};
use crate::throttle::Throttle;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A clock offset changes the clock of the store if it differs by more than this from the one in force, in milliseconds:
/// each measurement is wrong by some part of the time that the answer took.
const JITTER: i64 = 50;
/// A clock that differs from the server's by more than this is worth a warning, in milliseconds.
const SKEW: i64 = 1000;

pub(super) struct ServerNews {
    epoch: AtomicU64,
    time: Mutex<HeardTime>,
    offset: Arc<ClockOffset>,
    /// The server's time may lag behind what is known of it by no more than this, unless its clock was set back.
    slowest: Duration,
}

struct HeardTime {
    /// A time that the server's clock had reached at `at`.
    server: i64,
    at: Instant,
    /// The offset in force.
    offset: i64,
}

impl ServerNews {
    pub(super) fn new(slowest: Duration) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            time: Mutex::new(HeardTime {
                server: i64::MIN,
                at: Instant::now(),
                offset: 0,
            }),
            offset: Arc::default(),
            slowest,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    pub(super) fn hear_epoch(&self, epoch: u64) {
        self.epoch.fetch_max(epoch, Ordering::AcqRel);
    }

    pub(super) fn offset(&self) -> Arc<ClockOffset> {
        self.offset.clone()
    }

    /// A time that the server's clock has reached.
    pub(super) fn server_time(&self) -> i64 {
        let time = self.lock();
        time.server.saturating_add(millis(time.at.elapsed()))
    }

    /// Notes the server's time from an answer.
    pub(super) fn hear_time(&self, server: i64) {
        let mut time = self.lock();
        let known = time.server.saturating_add(millis(time.at.elapsed()));
        let was_set_back = server < known.saturating_sub(millis(self.slowest));
        if server > known || was_set_back {
            (time.server, time.at) = (server, Instant::now());
        }
    }

    /// Notes how far the server's clock is ahead, from an answer to a request that was sent at `sent`.
    pub(super) fn measure(&self, server: i64, sent: Instant) {
        let half = millis(sent.elapsed()) / 2;
        let own = Clock::system().timestamp().0;
        let ahead = server.saturating_add(half).saturating_sub(own);
        let mut time = self.lock();
        if (ahead - time.offset).abs() > JITTER.max(2 * half) {
            time.offset = ahead;
            self.offset.set(ahead);
            static SKEWED: Throttle = Throttle::new(1);
            if ahead.abs() > SKEW
                && let Some(left_out) = SKEWED.pass()
            {
                tracing::warn!(
                    ahead_ms = ahead,
                    left_out,
                    "the server's clock differs from this machine's: the server's counts"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HeardTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    // C10.3
    #[test]
    fn the_servers_time_goes_on_and_is_set_back_only_by_much() {
        let heard = ServerNews::new(Duration::from_secs(5));
        heard.hear_time(1_000_000);
        assert!(heard.server_time() >= 1_000_000);
        heard.hear_time(999_000);
        assert!(heard.server_time() >= 1_000_000, "an answer that was slow");
        heard.hear_time(900_000);
        assert!(
            heard.server_time() < 1_000_000,
            "a server whose clock is behind"
        );
    }

    #[test]
    fn epochs_are_heard_in_any_order() {
        let heard = ServerNews::new(Duration::from_secs(5));
        for epoch in [3, 7, 5] {
            heard.hear_epoch(epoch);
        }
        assert_eq!(heard.epoch(), 7);
    }
}
