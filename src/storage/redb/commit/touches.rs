//! Access times that wait to be written (C3.4): bounded, merged by maximum, and visible to loads,
//! commits and sweeps from the moment they are recorded.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::storage::recent_ends::RecentEnds;
use crate::storage::redb::mark::RedbMark;
use crate::storage::{ContainerId, Mark, SessionRef, Touch, TouchAt, Version};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) type WaitingTouches = Touch;

/// From this many on, the writer is woken at once.
pub(crate) const MANY: usize = 8192;

/// Beyond this many none is recorded: the disk is stuck. The next request of the session finds its touch due again.
const MOST: usize = 65_536;

/// Access times by session, each with the session's incarnation.
type AccessTimes = HashMap<(ContainerId, ClientKey), (Version, TouchAt)>;

#[derive(Default)]
pub(crate) struct Touches {
    waiting: Mutex<AccessTimes>,
    /// How many wait. The common case, none, takes no lock.
    count: AtomicUsize,
    /// Those of the batch that is being committed. Changed only while `waiting` is locked.
    claimed: Mutex<AccessTimes>,
    claims: AtomicUsize,
    lost: AtomicU64,
    /// Sessions that were found expired, by the number of that look. Changed only while `waiting` is locked.
    expired: Mutex<RecentEnds<(ContainerId, ClientKey), u64>>,
    looks: AtomicU64,
}

impl Touches {
    /// How often a session was found expired so far.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Acquire)
    }

    /// Notes that a session was found expired. No touch of an earlier transaction brings it back. The caller looks again
    /// after this.
    pub(crate) fn found_expired(&self, container: ContainerId, client: ClientKey) {
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let look = self.looks.load(Ordering::Relaxed) + 1;
        self.expired().note((container, client), look);
        self.looks.store(look, Ordering::Release);
    }

    /// Whether a session was found expired after this mark.
    pub(crate) fn is_expired_since(
        &self,
        container: ContainerId,
        client: ClientKey,
        mark: Mark,
    ) -> bool {
        let looks = RedbMark::from(mark).looks;
        looks < self.looks() && self.expired().since((container, client), looks)
    }

    /// Makes the accesses of a change set visible until its batch is published or has failed: those to sessions that it
    /// writes into, and those `beside`. If one of the former was found expired since the transaction began, it is
    /// returned, and nothing is made visible. Of the latter, those that were found expired are dropped from the list.
    pub(crate) fn claim(
        &self,
        written: &[Touch],
        beside: &mut Vec<Touch>,
        now: Timestamp,
    ) -> Result<(), Touch> {
        if written.is_empty() && beside.is_empty() {
            return Ok(());
        }
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_expired = |it: &Touch| self.is_over(it);
        if let Some(expired) = written.iter().find(|it| is_expired(it)) {
            return Err(*expired);
        }
        beside.retain(|it| !is_expired(it));
        // A later look first notes itself, then sees the access, and does not find the session expired. So it does not
        // keep the access from being recorded.
        let after_all = Mark::from(RedbMark::AFTER_ALL_LOOKS);
        beside.iter_mut().for_each(|it| it.since = after_all);
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let all = written.iter().chain(&*beside);
        all.for_each(|it| merge(&mut claimed, *it, now));
        self.claims.store(claimed.len(), Ordering::Release);
        Ok(())
    }

    /// Ends the claims: the batch is published, or has failed.
    pub(crate) fn release(&self) {
        if self.claims.load(Ordering::Acquire) == 0 {
            return;
        }
        let _waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.clear();
        self.claims.store(0, Ordering::Release);
    }

    fn expired(&self) -> MutexGuard<'_, RecentEnds<(ContainerId, ClientKey), u64>> {
        self.expired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session of a touch was found expired after its transaction looked first.
    fn is_over(&self, touch: &Touch) -> bool {
        let SessionRef {
            container, client, ..
        } = touch.session;
        self.is_expired_since(container, client, touch.since)
    }

    /// Records a touch; returns how many wait now.
    pub(crate) fn add(&self, mut touch: Touch, now: Timestamp) -> usize {
        touch.at = touch.at.by(now);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key_of(touch.session);
        if self.is_over(&touch) {
            return waiting.len();
        }
        if waiting.len() >= MOST && !waiting.contains_key(&key) {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return waiting.len();
        }
        merge(&mut waiting, touch, now);
        self.count.store(waiting.len(), Ordering::Release);
        waiting.len()
    }

    /// Lowers the waiting access time of a session, if it lies too far ahead (C3.5).
    pub(crate) fn lower(&self, touch: Touch, now: Timestamp) {
        if self.len() == 0 {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((incarnation, at)) = waiting.get_mut(&key_of(touch.session))
            && *incarnation == touch.session.incarnation
        {
            let lowered = touch.at.by(now).merged_with(at.time, now);
            at.time = at.time.min(lowered);
        }
    }

    pub(crate) fn get(&self, session: SessionRef) -> Option<TouchAt> {
        if self.len() == 0 && self.claims.load(Ordering::Acquire) == 0 {
            return None;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = time_of(&waiting, session);
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let claimed = time_of(&claimed, session);
        waits.into_iter().chain(claimed).max_by_key(|at| at.time)
    }

    /// How many touches were not recorded.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The waiting touches, in the order of their rows. They stay until they are settled.
    pub(crate) fn list(&self) -> Vec<WaitingTouches> {
        if self.len() == 0 {
            return Vec::new();
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = waiting
            .iter()
            .map(|(&(container, client), &(incarnation, at))| Touch {
                session: SessionRef {
                    container,
                    client,
                    incarnation,
                },
                since: RedbMark::AFTER_ALL_LOOKS.into(),
                at,
            })
            .collect();
        drop(waiting);
        list.sort_unstable_by_key(|touch| key_of(touch.session));
        list
    }

    /// Forgets touches that are in the rows now, unless a newer one came in between.
    pub(crate) fn settle(&self, written: &[WaitingTouches]) {
        if written.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for touch in written {
            let key = key_of(touch.session);
            if waiting.get(&key) == Some(&(touch.session.incarnation, touch.at)) {
                waiting.remove(&key);
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}

fn key_of(session: SessionRef) -> (ContainerId, ClientKey) {
    (session.container, session.client)
}

/// The access time of a session of this incarnation.
fn time_of(times: &AccessTimes, session: SessionRef) -> Option<TouchAt> {
    let (of, at) = times.get(&key_of(session))?;
    (*of == session.incarnation).then_some(*at)
}

/// Merges an access time with the waiting one of its session.
fn merge(times: &mut AccessTimes, touch: Touch, now: Timestamp) {
    let incarnation = touch.session.incarnation;
    let entry = times.entry(key_of(touch.session));
    let entry = entry.or_insert((incarnation, touch.at));
    if entry.0 == incarnation {
        entry.1.time = touch.at.merged_with(entry.1.time, now);
        entry.1.slack = touch.at.slack;
        entry.1.founded = entry.1.founded.or(touch.at.founded);
        entry.1.lowered_from = entry.1.lowered_from.or(touch.at.lowered_from);
    } else if entry.0.0 < incarnation.0 {
        // The earlier session is over.
        *entry = (incarnation, touch.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(2);

    fn touch(client: u32, time: i64) -> Touch {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&client.to_be_bytes());
        Touch {
            session: SessionRef {
                container: ContainerId::UNNAMED,
                client: ClientKey::from_bytes(key),
                incarnation: Version(1),
            },
            since: RedbMark {
                commit: 0,
                looks: 0,
            }
            .into(),
            at: TouchAt {
                time: Timestamp(time),
                slack: Duration::ZERO,
                founded: None,
                lowered_from: None,
            },
        }
    }

    // C3.2, C3.4
    #[test]
    fn looks_at_one_expired_session_lose_no_touches_of_others() {
        let touches = Touches::default();
        let dead = touch(0, 1);
        for _ in 0..=MOST {
            touches.found_expired(dead.session.container, dead.session.client);
        }
        assert_eq!(touches.add(dead, NOW), 0);
        assert_eq!(touches.add(touch(1, 1), NOW), 1);
    }

    // C2.11, C3.2
    #[test]
    fn what_is_claimed_is_seen_until_it_is_released_and_nothing_that_was_found_expired_is() {
        let touches = Touches::default();
        let (used, over) = (touch(0, 1), touch(1, 1));
        let seen = |one: Touch| touches.get(one.session);
        touches.claim(&[used], &mut Vec::new(), NOW).unwrap();
        assert_eq!(seen(used), Some(used.at));
        // It is written with the changes, and by nobody else.
        touches.lower(used, NOW);
        assert!(touches.list().is_empty());
        touches.release();
        assert_eq!(seen(used), None);
        touches.found_expired(over.session.container, over.session.client);
        let mut beside = vec![over];
        let both = touches.claim(&[used, over], &mut beside, NOW);
        assert_eq!(both.unwrap_err().session, over.session);
        assert_eq!((seen(used), seen(over)), (None, None));
        touches.claim(&[used], &mut beside, NOW).unwrap();
        assert_eq!((seen(used), seen(over)), (Some(used.at), None));
        assert!(beside.is_empty());
    }

    // C3.2, C3.4: a look notes first that the session is expired, and then sees the claimed access.
    #[test]
    fn a_look_at_what_is_claimed_does_not_lose_its_access() {
        let touches = Touches::default();
        let used = touch(0, 1);
        let mut beside = vec![used];
        touches.claim(&[], &mut beside, NOW).unwrap();
        touches.found_expired(used.session.container, used.session.client);
        assert!(touches.get(used.session).is_some());
        for access in beside {
            touches.add(access, NOW);
        }
        touches.release();
        assert!(touches.get(used.session).is_some());
    }

    // C3.4
    #[test]
    fn beyond_a_bound_no_other_session_is_touched_and_the_loss_is_counted() {
        let touches = Touches::default();
        let most = u32::try_from(MOST).unwrap();
        for client in 0..most {
            touches.add(touch(client, 1), NOW);
        }
        assert_eq!(touches.lost(), 0);
        assert_eq!(touches.add(touch(most, 1), NOW), MOST);
        assert_eq!((touches.len(), touches.lost()), (MOST, 1));
        // One that waits already is still merged.
        let known = touch(0, 2);
        touches.add(known, NOW);
        let found = touches.get(known.session).unwrap();
        assert_eq!((found.time, touches.lost()), (Timestamp(2), 1));
        touches.settle(&[known]);
        touches.add(touch(most, 1), NOW);
        assert_eq!((touches.len(), touches.lost()), (MOST, 1));
    }
}
