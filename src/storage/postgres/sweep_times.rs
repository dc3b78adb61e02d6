//! From when on a sweep looks at the row of a client. Pure.
//!
//! The time is no later than that at which a session of the client may be over, and no further ahead than the longest timeout
//! of a container. Accesses leave it as it is, so that they stay cheap. A sweep that finds the sessions live moves it. A row
//! whose time lies further ahead was written by a clock that was wrong.

use super::client_rows::RowSession;
use crate::clock::Timestamp;
use crate::expiry::ExpiryPolicy;
use crate::storage::record::SessionRow;
use crate::storage::{ContainerId, StoreSettings};
use std::collections::HashMap;
use std::time::Duration;

/// How often a sweep looks at sessions that never expire.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The times that govern the sessions of all containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SweepTimes {
    policies: HashMap<ContainerId, ExpiryPolicy>,
}

impl SweepTimes {
    /// `unconfirmed`: how long a session lasts whose id has not come back.
    pub(super) fn of(settings: &StoreSettings, unconfirmed: Option<Duration>) -> Self {
        let policies = settings.containers.values().map(|record| {
            let policy = ExpiryPolicy {
                timeout: Duration::from_millis(record.timeout_ms),
                resolution: Duration::from_millis(record.resolution_ms),
                max_lifetime: record.max_lifetime_ms.map(Duration::from_millis),
                unconfirmed,
            };
            (ContainerId(record.id), policy)
        });
        Self {
            policies: policies.collect(),
        }
    }

    pub(super) fn policy(&self, container: ContainerId) -> Option<&ExpiryPolicy> {
        self.policies.get(&container)
    }

    /// No row is to be looked at later than this.
    pub(super) fn latest(&self, now: Timestamp) -> Timestamp {
        let longest = self.policies.values().map(longest).max();
        now + longest.unwrap_or(LONGEST)
    }

    /// Whether a sweep may remove a session, or lower its times.
    pub(super) fn may_be_over(
        &self,
        container: ContainerId,
        row: &SessionRow,
        now: Timestamp,
    ) -> bool {
        self.policy(container).is_none_or(|policy| {
            let times = row.times();
            policy.over_at(&times) <= now || policy.is_ahead(&times, now)
        })
    }

    /// The time for a row whose sessions are these.
    pub(super) fn next(&self, sessions: &[RowSession], now: Timestamp) -> Timestamp {
        let times = sessions.iter().map(|session| {
            let policy = self.policy(session.record.container);
            let latest = now + policy.map_or(LONGEST, longest);
            match (&session.row, policy) {
                (Ok(row), Some(policy)) => policy.over_at(&row.times()).min(latest),
                _ => latest,
            }
        });
        times.min().unwrap_or(now + LONGEST)
    }

    /// The time for a row that had another one before. That stays if it is no later: a row whose time stays is written
    /// faster.
    pub(super) fn keep_or_next(
        &self,
        before: Option<Timestamp>,
        sessions: &[RowSession],
        now: Timestamp,
    ) -> Timestamp {
        let next = self.next(sessions, now);
        before.filter(|before| *before <= next).unwrap_or(next)
    }

    /// Another time for a row, if its own lies too early or too late.
    pub(super) fn put_right(
        &self,
        at: Option<Timestamp>,
        sessions: &[RowSession],
        now: Timestamp,
    ) -> Option<Timestamp> {
        let mut sessions_over = sessions.iter().filter(|session| match &session.row {
            Ok(row) => self.may_be_over(session.record.container, row, now),
            Err(_) => false,
        });
        if sessions_over.next().is_some() {
            // It is to be found.
            let is_found = at.is_some_and(|at| at <= now || at > self.latest(now));
            return (!is_found).then_some(now);
        }
        let next = self.next(sessions, now);
        let is_right = at.is_some_and(|at| at > now && at <= next);
        (!is_right).then_some(next)
    }
}

fn longest(policy: &ExpiryPolicy) -> Duration {
    match policy.timeout.is_zero() {
        true => LONGEST,
        false => policy.timeout.min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Version;
    use crate::storage::postgres::body::SessionRecord;
    use crate::storage::postgres::settings::new_settings;

    const HOUR: Duration = Duration::from_secs(3600);

    fn times() -> SweepTimes {
        SweepTimes::of(&new_settings([0; 16], [0; 32], Timestamp(0)), None)
    }

    fn sessions(row: SessionRow) -> [RowSession; 1] {
        let record = SessionRecord {
            container: ContainerId::UNNAMED,
            record: bytes::Bytes::new(),
            packages: Vec::new(),
        };
        [RowSession {
            record,
            row: Ok(row),
        }]
    }

    // C3.2, C3.7
    #[test]
    fn a_row_is_looked_at_when_its_session_may_be_over_and_once_a_timeout() {
        let (times, now) = (times(), Timestamp(0) + 10 * HOUR);
        let row = SessionRow::new(now, Version(1));
        let next = times.next(&sessions(row.clone()), now);
        assert_eq!(next, now + HOUR);
        assert!(next <= times.latest(now), "it is no row of a wrong clock");
        let lasting = SessionRow {
            timeout: Some(Duration::ZERO),
            ..row.clone()
        };
        assert_eq!(times.next(&sessions(lasting), now), now + HOUR);
        let short = SessionRow {
            timeout: Some(HOUR / 2),
            ..row.clone()
        };
        let over = now + HOUR / 2 + Duration::from_millis(1);
        assert_eq!(times.next(&sessions(short.clone()), now), over);
        assert!(!times.may_be_over(ContainerId::UNNAMED, &short, now));
        assert!(times.may_be_over(ContainerId::UNNAMED, &short, over));

        let later = now + HOUR / 4;
        let kept =
            |before, row: &SessionRow| times.keep_or_next(before, &sessions(row.clone()), later);
        assert_eq!(kept(Some(next), &SessionRow::new(later, Version(1))), next);
        assert_eq!(kept(Some(next), &short), over, "it may be over sooner");
        assert_eq!(kept(None, &row), now + HOUR + Duration::from_millis(1));
    }

    // C3.7
    #[test]
    fn a_sweep_moves_the_time_of_a_live_row_and_leaves_that_of_one_to_be_found() {
        let (times, now) = (times(), Timestamp(0) + 10 * HOUR);
        let put_right = |at, row: SessionRow, now| times.put_right(at, &sessions(row), now);
        let row = || SessionRow::new(now, Version(1));
        let next = times.next(&sessions(row()), now);
        assert_eq!(put_right(Some(next), row(), now), None);
        assert_eq!(put_right(Some(now), row(), now), Some(next), "too early");
        let late = next + HOUR;
        assert_eq!(put_right(Some(late), row(), now), Some(next), "too late");
        assert_eq!(put_right(None, row(), now), Some(next));
        let over = now + 2 * HOUR;
        assert_eq!(put_right(Some(next), row(), over), None, "it is found");
        assert_eq!(put_right(None, row(), over), Some(over));
    }

    // C3.5
    #[test]
    fn a_row_that_a_wrong_clock_wrote_lies_too_far_ahead() {
        let (times, now) = (times(), Timestamp(0) + 10 * HOUR);
        let wrong = now + Duration::from_secs(1200);
        let row = SessionRow::new(wrong, Version(1));
        assert!(times.next(&sessions(row.clone()), wrong) > times.latest(now));
        assert!(times.may_be_over(ContainerId::UNNAMED, &row, now));
    }
}
