//! The one source of time (C3.9): the system's clocks, or one that a test moves by hand. The wall clock tells when
//! something was; the monotonic one, how long it lasted (C2.14).

use chrono::{DateTime, Utc};
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Timestamp {
    pub(crate) fn from_datetime(time: DateTime<Utc>) -> Self {
        Self(time.timestamp_millis())
    }

    pub(crate) fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(if self.0 < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        })
    }

    /// The time elapsed since `earlier`; zero if `earlier` lies ahead.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let ms = i128::from(self.0) - i128::from(earlier.0);
        Duration::from_millis(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// A reading of the monotonic clock, which is never set back: for spans inside the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    /// The time elapsed since `earlier`; zero if `earlier` lies ahead.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time elapsed since the clock began.
    pub(crate) fn since_start(self) -> Duration {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn after(elapsed: Duration) -> Self {
        Self(elapsed)
    }
}

/// How many milliseconds the clock of an engine is ahead of the system's.
#[derive(Debug, Default)]
pub(crate) struct ClockOffset(AtomicI64);

impl ClockOffset {
    #[allow(
        dead_code,
        reason = "the engine in this crate has the clock of its process"
    )]
    pub(crate) fn set(&self, ahead: i64) {
        self.0.store(ahead, Ordering::Relaxed);
    }
}

/// The clock of a store. Clones share one clock.
///
/// The wall clock gives the times at which sessions were created and used. The monotonic clock measures durations
/// inside the process, such as the age of a snapshot and the interval between sweeps. So setting the wall clock does
/// no harm. A manual clock serves as both: moving it forward moves both, and setting it back changes only the wall
/// clock.
///
/// ```
/// use cloakroom::Clock;
/// use std::time::Duration;
///
/// let clock = Clock::manual("2026-01-01T00:00:00Z".parse()?);
/// clock.advance(Duration::from_secs(90));
/// assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:01:30+00:00");
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Clock(TimeSource);

#[derive(Clone)]
enum TimeSource {
    System,
    /// The system's clocks, with a wall clock that an engine corrects.
    Corrected(Arc<ClockOffset>),
    Manual(Arc<Manual>),
}

struct Manual {
    now: AtomicI64,
    /// Milliseconds that it was moved forward in all.
    elapsed: AtomicU64,
    watchers: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

impl Clock {
    /// Returns the system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self(TimeSource::System)
    }

    /// Returns a manual clock, which stays at `start` until it is moved.
    #[must_use]
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(TimeSource::Manual(Arc::new(Manual {
            now: AtomicI64::new(Timestamp::from_datetime(start).0),
            elapsed: AtomicU64::new(0),
            watchers: Mutex::new(Vec::new()),
        })))
    }

    /// The same clock, corrected by an engine that has a clock of its own. One that is moved by hand stays as it is.
    pub(crate) fn corrected_by(self, offset: Option<Arc<ClockOffset>>) -> Self {
        match (self.0, offset) {
            (TimeSource::System, Some(offset)) => Self(TimeSource::Corrected(offset)),
            (source, _) => Self(source),
        }
    }

    /// Returns the time, in whole milliseconds.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.timestamp().to_datetime()
    }

    /// Moves a manual clock forward.
    ///
    /// # Panics
    ///
    /// If this is the system's clock.
    pub fn advance(&self, by: Duration) {
        self.change(|now| now + by);
    }

    /// Sets a manual clock, forward or back. Setting it back is like correcting a wall clock: no duration becomes
    /// shorter.
    ///
    /// # Panics
    ///
    /// If this is the system's clock.
    pub fn set(&self, to: DateTime<Utc>) {
        self.change(|_| Timestamp::from_datetime(to));
    }

    #[allow(
        clippy::panic,
        reason = "moving the system's clock is a mistake in a test"
    )]
    fn change(&self, next: impl Fn(Timestamp) -> Timestamp) {
        let TimeSource::Manual(manual) = &self.0 else {
            panic!("only a clock made by Clock::manual can be moved");
        };
        let moved = manual
            .now
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                Some(next(Timestamp(now)).0)
            });
        if let Ok(before) = moved {
            let by = next(Timestamp(before)).0.saturating_sub(before);
            let by = u64::try_from(by).unwrap_or(0);
            manual.elapsed.fetch_add(by, Ordering::SeqCst);
        }
        let watchers: Vec<_> = {
            let mut watchers = manual
                .watchers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            watchers.retain(|w| w.strong_count() > 0);
            watchers.iter().filter_map(Weak::upgrade).collect()
        };
        for watcher in watchers {
            watcher();
        }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp(match &self.0 {
            TimeSource::System => system_millis(),
            TimeSource::Corrected(offset) => {
                system_millis().saturating_add(offset.0.load(Ordering::Relaxed))
            }
            TimeSource::Manual(manual) => manual.now.load(Ordering::SeqCst),
        })
    }

    /// How far the monotonic clock is.
    pub(crate) fn moment(&self) -> Moment {
        static START: OnceLock<Instant> = OnceLock::new();
        Moment(match &self.0 {
            TimeSource::System | TimeSource::Corrected(_) => {
                START.get_or_init(Instant::now).elapsed()
            }
            TimeSource::Manual(manual) => {
                Duration::from_millis(manual.elapsed.load(Ordering::SeqCst))
            }
        })
    }

    /// Calls `watcher` after each move by hand, as long as it lives. The system's clock calls no watcher.
    pub(crate) fn watch(&self, watcher: Weak<dyn Fn() + Send + Sync>) {
        if let TimeSource::Manual(manual) = &self.0 {
            manual
                .watchers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(watcher);
        }
    }
}

fn system_millis() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => i64::try_from(d.as_millis()).unwrap_or(i64::MAX),
        Err(e) => -i64::try_from(e.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            TimeSource::System | TimeSource::Corrected(_) => "Clock::system",
            TimeSource::Manual(_) => "Clock::manual",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C2.14, C3.9
    #[test]
    fn a_clock_that_is_set_back_goes_on_measuring_spans() {
        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::manual(start);
        let begun = clock.moment();
        let span = || clock.moment().since(begun).as_secs();
        clock.advance(Duration::from_secs(5));
        assert_eq!((clock.now() - start).num_seconds(), 5);
        assert_eq!(span(), 5);
        clock.set(start - Duration::from_secs(3600));
        assert_eq!((clock.now() - start).num_seconds(), -3600);
        assert_eq!(span(), 5);
        clock.set(start);
        assert_eq!(span(), 3605);
        assert_eq!(begun.since(clock.moment()), Duration::ZERO);
    }

    // C3.9
    #[test]
    fn an_engine_corrects_the_systems_clock_and_no_other() {
        let offset = Arc::new(ClockOffset::default());
        let corrected = Clock::system().corrected_by(Some(offset.clone()));
        let ahead = || corrected.timestamp().since(Clock::system().timestamp());
        let an_hour = Duration::from_secs(3600);
        assert!(ahead() < an_hour / 2);
        offset.set(3_600_000);
        assert!(ahead() > an_hour / 2);

        let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let by_hand = Clock::manual(start).corrected_by(Some(offset));
        assert_eq!(by_hand.now(), start);
    }

    #[test]
    fn the_systems_monotonic_clock_moves_by_itself() {
        let clock = Clock::system();
        let begun = clock.moment();
        while clock.moment() == begun {
            std::hint::spin_loop();
        }
        assert!(clock.moment() > begun);
    }
}
