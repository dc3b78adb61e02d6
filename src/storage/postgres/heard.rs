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

/// The digest of the stored settings.
pub(super) type SettingsDigest = [u8; 32];

pub(super) struct ServerNews {
    epoch: AtomicU64,
    /// The number and the digest of the newest settings that were read or written.
    settings: Mutex<(u64, SettingsDigest)>,
    time: Mutex<HeardTime>,
    offset: Arc<ClockOffset>,
    /// The server's time may lag behind what is known of it by no more than this, unless its clock was set back.
    slowest: Duration,
}

/// What was known of the server when a request was sent.
pub(super) struct KnownState {
    epoch: u64,
    settings: (u64, SettingsDigest),
}

impl KnownState {
    /// Whether the answer proves that the server has lost settings that it had: it tells an earlier number, or other
    /// settings under the same one.
    pub(super) fn is_lost(&self, epoch: u64, digest: &SettingsDigest) -> bool {
        let (known, expected) = &self.settings;
        epoch < self.epoch || (epoch == *known && digest != expected)
    }
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
            settings: Mutex::default(),
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

    /// Notes the digest of settings.
    pub(super) fn know_settings(&self, epoch: u64, digest: SettingsDigest) {
        let mut known = self.settings();
        if epoch >= known.0 {
            *known = (epoch, digest);
        }
    }

    /// What is known before a request is sent.
    pub(super) fn known(&self) -> KnownState {
        KnownState {
            epoch: self.epoch(),
            settings: *self.settings(),
        }
    }

    fn settings(&self) -> MutexGuard<'_, (u64, SettingsDigest)> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
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

    // C1.3, C9.1
    #[test]
    fn a_server_that_lost_settings_is_found_out() {
        let heard = ServerNews::new(Duration::from_secs(5));
        heard.hear_epoch(7);
        heard.know_settings(7, [7; 32]);
        heard.know_settings(6, [6; 32]);
        let known = heard.known();
        assert!(!known.is_lost(7, &[7; 32]) && !known.is_lost(8, &[8; 32]));
        assert!(known.is_lost(6, &[6; 32]), "it went back");
        assert!(known.is_lost(7, &[9; 32]), "it went back and on");
        // An answer to a request from before may tell less.
        heard.hear_epoch(9);
        assert!(!known.is_lost(8, &[8; 32]) && heard.known().is_lost(8, &[8; 32]));
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
