//! Pure decisions about time (C3): is a session expired, is a touch due. Knows no clock and no
//! storage; callers pass in the times.

use crate::clock::Timestamp;
use std::time::Duration;

/// The times that govern the sessions of one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryPolicy {
    pub(crate) timeout: Duration,
    pub(crate) resolution: Duration,
    pub(crate) max_lifetime: Option<Duration>,
    /// How long a session lasts whose id has not come back (C8.5).
    pub(crate) unconfirmed: Option<Duration>,
}

/// The times of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) created: Timestamp,
    pub(crate) last_access: Timestamp,
    /// Its own timeout, which replaces that of the container (C3.8).
    pub(crate) timeout: Option<Duration>,
    /// When it ends at the latest, where it has an end of its own.
    pub(crate) ends_at: Option<Timestamp>,
    /// When it got its id, if that has not come back.
    pub(crate) unconfirmed_since: Option<Timestamp>,
}

impl Times {
    /// Those of a session that begins now.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            created: now,
            last_access: now,
            timeout: None,
            ends_at: None,
            unconfirmed_since: Some(now),
        }
    }
}

/// How long the visitor's client keeps its id, for example in a cookie. The id is sent again when an access is recorded
/// (C4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Without an own timeout of the session; `None` where it needs no renewal.
    pub(crate) usual: Option<Duration>,
    /// The longest it can last, which stands for "never".
    pub(crate) longest: Duration,
}

impl Keeping {
    /// How long it lasts for a session with this timeout of its own.
    pub(crate) fn of(&self, own: Option<Duration>) -> Option<Duration> {
        match own {
            Some(Duration::ZERO) => Some(self.longest),
            Some(own) => Some(own.min(self.longest)),
            None => self.usual,
        }
    }
}

impl ExpiryPolicy {
    fn timeout_of(&self, times: &Times) -> Duration {
        times.timeout.unwrap_or(self.timeout)
    }

    /// The resolution in force: never more than half the timeout in force (C3.1), nor than half of how long a
    /// visitor keeps the id (C4.3).
    pub(crate) fn resolution_of(&self, times: &Times, keeping: Option<Keeping>) -> Duration {
        let timeout = Some(self.timeout_of(times)).filter(|timeout| !timeout.is_zero());
        let kept = keeping.and_then(|keeping| keeping.of(times.timeout));
        let halves = timeout.into_iter().chain(kept).map(|span| span / 2);
        halves.fold(self.resolution, Duration::min)
    }

    /// Up to where a recorded time may lie: one further ahead is that of a clock that was wrong (C3.5).
    pub(crate) fn latest(&self, times: &Times, now: Timestamp) -> Timestamp {
        now + self.resolution_of(times, None)
    }

    /// Whether a recorded time lies so far ahead that it must be lowered.
    pub(crate) fn is_ahead(&self, times: &Times, now: Timestamp) -> bool {
        times.created.max(times.last_access) > self.latest(times, now)
    }

    /// Whether a session must not be served any more: idle for longer than its timeout (C3.2), or
    /// older than the absolute lifetime, or past its own end (C3.8). A timeout of zero never ends it (C3.3).
    pub(crate) fn is_expired(&self, times: &Times, now: Timestamp) -> bool {
        let timeout = self.timeout_of(times);
        // A time in the future counts as now.
        let idle = now.since(times.last_access);
        let age = now.since(times.created);
        (!timeout.is_zero() && idle > timeout)
            || self.max_lifetime.is_some_and(|max| age > max)
            || times.ends_at.is_some_and(|end| now >= end)
            || self
                .unconfirmed_since(times)
                .is_some_and(|(since, limit)| now.since(since) > limit)
    }

    /// When a session got its id, and how long it waits for that to come back.
    fn unconfirmed_since(&self, times: &Times) -> Option<(Timestamp, Duration)> {
        times.unconfirmed_since.zip(self.unconfirmed)
    }

    /// Whether a session ends because its id has not come back, unless that comes back yet.
    pub(crate) fn is_unconfirmed(&self, times: &Times) -> bool {
        self.unconfirmed_since(times).is_some()
    }

    /// Whether a log-in at this time is over: it lasts no longer than a session may, whatever the session has since gained
    /// in other containers (C3.8).
    pub(crate) fn is_login_over(&self, authenticated_at: Timestamp, now: Timestamp) -> bool {
        let age = now.since(authenticated_at);
        self.max_lifetime.is_some_and(|max| age > max)
    }

    /// From when on a session is over if nothing is recorded of it any more.
    pub(crate) fn over_at(&self, times: &Times) -> Timestamp {
        let timeout = Some(self.timeout_of(times)).filter(|timeout| !timeout.is_zero());
        let idle = timeout.map(|timeout| times.last_access + timeout);
        let age = self.max_lifetime.map(|max| times.created + max);
        let unconfirmed = self.unconfirmed_since(times);
        let unconfirmed = unconfirmed.map(|(since, limit)| since + limit);
        let last = idle.into_iter().chain(age).chain(unconfirmed);
        let over = last.map(|last| last + Duration::from_millis(1));
        let over = over.chain(times.ends_at).min();
        over.unwrap_or(Timestamp(i64::MAX))
    }

    /// Whether a session is live and no access is due, so that accesses which are not recorded yet change nothing.
    pub(crate) fn is_settled(
        &self,
        times: &Times,
        now: Timestamp,
        keeping: Option<Keeping>,
    ) -> bool {
        !self.is_expired(times, now) && !self.is_touch_due(times, now, keeping)
    }

    /// Whether an access now must be recorded: the recorded one is older than the resolution
    /// (C3.4), or lies so far ahead that it must be put right (C3.5). Where the session never expires, only
    /// if what its id is kept in must be renewed (C3.3). An access with an id that has not come back before confirms it.
    pub(crate) fn is_touch_due(
        &self,
        times: &Times,
        now: Timestamp,
        keeping: Option<Keeping>,
    ) -> bool {
        if self.is_ahead(times, now) || self.unconfirmed_since(times).is_some() {
            return true;
        }
        let kept = keeping.and_then(|keeping| keeping.of(times.timeout));
        if self.timeout_of(times).is_zero() && kept.is_none() {
            return false;
        }
        now.since(times.last_access) > self.resolution_of(times, keeping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ExpiryPolicy = ExpiryPolicy {
        timeout: Duration::from_secs(3600),
        resolution: Duration::from_secs(600),
        max_lifetime: None,
        unconfirmed: None,
    };

    fn seen_at(seconds: i64) -> Times {
        Times {
            created: Timestamp(0),
            last_access: Timestamp(seconds * 1000),
            timeout: None,
            ends_at: None,
            unconfirmed_since: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn a_session_expires_when_idle_for_longer_than_its_timeout() {
        assert!(!POLICY.is_expired(&seen_at(0), at(3600)));
        assert!(POLICY.is_expired(&seen_at(0), Timestamp(3_600_001)));
    }

    #[test]
    fn a_touch_is_due_only_after_the_resolution() {
        assert!(!POLICY.is_touch_due(&seen_at(0), at(600), None));
        assert!(POLICY.is_touch_due(&seen_at(0), Timestamp(600_001), None));
    }

    #[test]
    fn the_resolution_in_force_is_at_most_half_the_timeout() {
        let policy = ExpiryPolicy {
            timeout: Duration::from_secs(60),
            ..POLICY
        };
        assert!(policy.is_touch_due(&seen_at(0), at(31), None));
        let mut own = seen_at(0);
        own.timeout = Some(Duration::from_secs(10));
        assert_eq!(POLICY.resolution_of(&own, None), Duration::from_secs(5));
    }

    #[test]
    fn timeout_zero_never_expires_and_is_never_touched() {
        let policy = ExpiryPolicy {
            timeout: Duration::ZERO,
            ..POLICY
        };
        assert!(!policy.is_expired(&seen_at(0), at(i64::MAX / 1000)));
        assert!(!policy.is_touch_due(&seen_at(0), at(1_000_000), None));
    }

    #[test]
    fn the_absolute_lifetime_ends_a_busy_session() {
        let policy = ExpiryPolicy {
            max_lifetime: Some(Duration::from_secs(100)),
            ..POLICY
        };
        assert!(!policy.is_expired(&seen_at(100), at(100)));
        assert!(policy.is_expired(&seen_at(100), at(101)));
    }

    #[test]
    fn a_session_is_over_from_when_on_it_is_expired() {
        let lasting = ExpiryPolicy {
            max_lifetime: Some(Duration::from_secs(100)),
            ..POLICY
        };
        let mut ending = seen_at(50);
        ending.ends_at = Some(at(77));
        let cases = [
            (POLICY, seen_at(50)),
            (lasting, seen_at(50)),
            (POLICY, ending),
        ];
        for (policy, times) in cases {
            let over = policy.over_at(&times);
            assert!(policy.is_expired(&times, over));
            assert!(!policy.is_expired(&times, Timestamp(over.0 - 1)));
        }
    }

    // C8.5
    #[test]
    fn a_session_whose_id_did_not_come_back_ends_where_that_is_a_setting() {
        let policy = ExpiryPolicy {
            unconfirmed: Some(Duration::from_secs(60)),
            ..POLICY
        };
        let mut times = seen_at(20);
        times.unconfirmed_since = Some(at(10));
        assert!(!policy.is_expired(&times, at(70)) && policy.is_expired(&times, at(71)));
        assert_eq!(policy.over_at(&times), Timestamp(70_001));
        assert!(policy.is_touch_due(&times, at(20), None));
        assert!(!POLICY.is_expired(&times, at(71)) && !POLICY.is_touch_due(&times, at(20), None));
        assert!(!policy.is_touch_due(&seen_at(20), at(21), None));
    }

    #[test]
    fn an_end_of_its_own_ends_a_session_that_never_times_out_and_lengthens_none() {
        let mut times = seen_at(0);
        (times.timeout, times.ends_at) = (Some(Duration::ZERO), Some(at(9)));
        assert!(!POLICY.is_expired(&times, Timestamp(8_999)));
        assert!(POLICY.is_expired(&times, at(9)));
        (times.timeout, times.ends_at) = (None, Some(at(1 << 30)));
        assert!(POLICY.is_expired(&times, at(3601)));
    }

    #[test]
    fn a_time_far_ahead_counts_as_now_and_is_put_right() {
        assert!(!POLICY.is_expired(&seen_at(5000), at(1000)));
        assert!(POLICY.is_touch_due(&seen_at(5000), at(1000), None));
        assert!(!POLICY.is_touch_due(&seen_at(1500), at(1000), None));
    }

    // C3.5, C3.8: also of a session that never expires by being idle.
    #[test]
    fn a_founding_far_ahead_is_put_right() {
        let policy = ExpiryPolicy {
            timeout: Duration::ZERO,
            ..POLICY
        };
        let mut times = seen_at(1000);
        times.created = at(1600);
        assert!(!policy.is_touch_due(&times, at(1000), None));
        times.created = at(1601);
        assert!(policy.is_touch_due(&times, at(1000), None));
    }

    #[test]
    fn resolution_zero_records_every_access() {
        let policy = ExpiryPolicy {
            resolution: Duration::ZERO,
            ..POLICY
        };
        assert!(policy.is_touch_due(&seen_at(0), Timestamp(1), None));
        assert!(!policy.is_touch_due(&seen_at(0), Timestamp(0), None));
    }

    // C4.3, C3.3
    #[test]
    fn what_an_id_is_kept_in_is_renewed_at_half_its_time() {
        let keeping = |usual: Option<u64>| {
            Some(Keeping {
                usual: usual.map(Duration::from_secs),
                longest: Duration::from_secs(100),
            })
        };
        let of =
            |policy: ExpiryPolicy, keeping| policy.resolution_of(&seen_at(0), keeping).as_secs();
        assert_eq!(of(POLICY, keeping(None)), 600);
        assert_eq!(of(POLICY, keeping(Some(300))), 150);
        assert_eq!(of(POLICY, keeping(Some(100_000))), 600);
        let endless = ExpiryPolicy {
            timeout: Duration::ZERO,
            ..POLICY
        };
        assert_eq!(of(endless, keeping(Some(300))), 150);
        assert!(!endless.is_touch_due(&seen_at(0), at(10_000), keeping(None)));
        assert!(endless.is_touch_due(&seen_at(0), at(151), keeping(Some(300))));
        // A timeout of its own replaces the usual time, and zero is as long as there is.
        let mut own = seen_at(0);
        own.timeout = Some(Duration::ZERO);
        assert_eq!(POLICY.resolution_of(&own, keeping(None)).as_secs(), 50);
        assert!(POLICY.is_touch_due(&own, at(51), keeping(None)));
        assert!(!POLICY.is_touch_due(&own, at(51_000), None));
    }
}
