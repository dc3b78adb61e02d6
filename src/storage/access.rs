//! Access times: a session, and an access to it. The access is merged with the recorded time by maximum.

use super::container_id::ContainerId;
use super::record::AccessPart;
use super::version::{Mark, Version};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::expiry::Times;
use std::time::Duration;

/// A session in one container. A later session of the same client has another incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRef {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) incarnation: Version,
}

/// The times of a session that its engine has recorded, those included that are not in its row yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordedTimes {
    pub(crate) created: Timestamp,
    pub(crate) last_access: Timestamp,
    pub(crate) is_id_confirmed: bool,
}

impl RecordedTimes {
    pub(crate) fn of(part: &AccessPart) -> Self {
        Self {
            created: part.created,
            last_access: part.last_access,
            is_id_confirmed: part.is_id_confirmed,
        }
    }

    /// Replaces the times of a row by the recorded ones.
    pub(crate) fn replace(self, times: &mut Times) {
        (times.created, times.last_access) = (self.created, self.last_access);
        if self.is_id_confirmed {
            times.unconfirmed_since = None;
        }
    }
}

/// A changed access time of one session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touch {
    pub(crate) session: SessionRef,
    /// The first look of its transaction. The access does not revive a session that was found expired since.
    pub(crate) since: Mark,
    pub(crate) at: TouchAt,
}

/// An access time, merged by maximum, except that a recorded time which was wrong gives way (C3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TouchAt {
    pub(crate) time: Timestamp,
    /// If a recorded time lies further ahead than this, a wrong clock recorded it, and it gives way.
    pub(crate) slack: Duration,
    /// The time when the session was founded, if it lay too far ahead, and the time that replaces it.
    pub(crate) founded: Option<(Timestamp, Timestamp)>,
    /// The time that it had, if that lay too far ahead. It may be recorded by now, and gives way. Of a clock that was set back
    /// twice meanwhile, this is the first time.
    pub(crate) lowered_from: Option<Timestamp>,
}

impl TouchAt {
    /// This access by the clock as it is. Times of it that lie too far ahead count as now (C3.5).
    pub(crate) fn by(self, now: Timestamp) -> Self {
        let lowered = |time| match time > now + self.slack {
            true => now,
            false => time,
        };
        let time = lowered(self.time);
        let before = (time != self.time).then_some(self.time);
        Self {
            time,
            slack: self.slack,
            founded: self.founded.map(|(wrong, right)| (wrong, lowered(right))),
            lowered_from: self.lowered_from.or(before),
        }
    }

    /// The recorded time after this access; `now` is by the clock as it is.
    pub(crate) fn merged_with(self, recorded: Timestamp, now: Timestamp) -> Timestamp {
        if recorded > now + self.slack || Some(recorded) == self.lowered_from {
            self.time
        } else {
            recorded.max(self.time)
        }
    }

    /// The time of the founding, which is lowered where it was wrong.
    pub(crate) fn founding(self, recorded: Timestamp) -> Timestamp {
        match self.founded {
            Some((wrong, lowered)) if wrong == recorded => lowered,
            _ => recorded,
        }
    }

    /// Lowers and raises times as this access does. Changes nothing else: see [`put_on`](Self::put_on).
    pub(crate) fn correct(self, part: &mut AccessPart, now: Timestamp) {
        part.last_access = self.merged_with(part.last_access, now);
        part.created = self.founding(part.created);
        // An id is never younger than its last use.
        part.id_issued = part.id_issued.min(part.last_access);
    }

    /// Records this access, of a transaction that came with the session's id.
    pub(crate) fn put_on(self, part: &mut AccessPart, now: Timestamp) {
        self.correct(part, now);
        part.is_id_confirmed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // C3.5
    #[test]
    fn an_access_that_lies_ahead_counts_as_now() {
        let now = Timestamp(1000);
        let by = |time, founded: Option<i64>| {
            let at = TouchAt {
                time: Timestamp(time),
                slack: Duration::from_millis(10),
                founded: founded.map(|right| (Timestamp(9000), Timestamp(right))),
                lowered_from: None,
            };
            let at = at.by(now);
            (
                at.time.0,
                at.founded.map(|(wrong, right)| [wrong.0, right.0]),
            )
        };
        assert_eq!(by(900, None), (900, None));
        assert_eq!(by(1010, None), (1010, None), "within the slack");
        assert_eq!(by(1011, None), (1000, None));
        assert_eq!(by(5000, Some(5000)), (1000, Some([9000, 1000])));
        assert_eq!(by(900, Some(900)), (900, Some([9000, 900])));
    }

    // C3.5: it may be recorded as it was, and the clock goes on meanwhile.
    #[test]
    fn an_access_that_was_lowered_is_lowered_where_it_is_recorded() {
        let at = TouchAt {
            time: Timestamp(5000),
            slack: Duration::from_millis(10),
            founded: None,
            lowered_from: None,
        };
        let (lowered, later) = (at.by(Timestamp(1000)), Timestamp(6000));
        let after = |recorded| lowered.merged_with(Timestamp(recorded), later).0;
        assert_eq!(after(5000), 1000);
        assert_eq!(after(4999), 4999, "a later access");
        assert_eq!(at.merged_with(Timestamp(5000), later).0, 5000);
        assert_eq!(
            lowered.by(Timestamp(500)).lowered_from,
            Some(Timestamp(5000))
        );
    }
}
