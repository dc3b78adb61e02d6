//! When a session ends.

use super::Session;
use crate::clock::Timestamp;
use crate::error::Result;
use chrono::{DateTime, Utc};
use std::time::Duration;

impl Session {
    /// Sets a fixed end: from then on the session is expired, however often it is used. Its timeout still ends it
    /// earlier if it is idle. `None` removes the end. Milliseconds are kept. An end that has passed ends the session with
    /// the commit.
    ///
    /// If there is no session, `Some` creates one, [as a timeout does](Self::set_timeout).
    ///
    /// ```
    /// use chrono::TimeDelta;
    /// use cloakroom::{Clock, Store};
    ///
    /// let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    /// let store = Store::builder().clock(clock.clone()).in_memory()?;
    /// let id = store.client_ids().issue();
    /// let end = clock.now() + TimeDelta::minutes(5);
    /// store.transact(|txn| txn.session(&id)?.set_expires_at(Some(end)))?;
    /// let txn = store.begin()?;
    /// assert_eq!(txn.session(&id)?.expires_at()?, Some(end));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn set_expires_at(&self, end: Option<DateTime<Utc>>) -> Result<()> {
        self.with(|state| {
            let attributes = match end {
                Some(_) => state.give(self.subject)?,
                None => state.take_back(self.subject)?,
            };
            attributes.ends_at = Some(end.map(Timestamp::from_datetime));
            Ok(())
        })
    }

    /// Returns when the session expires if it is not used any more: by its timeout, its end, or the longest lifetime of its
    /// containers, in the container where it lasts longest. `None` if it does not expire, or if there is no session. An
    /// access that this transaction records counts. Counts as an access, but not as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn expires_at(&self) -> Result<Option<DateTime<Utc>>> {
        let at = self.with(|state| state.expires_at(self.subject, None))?;
        Ok(at.map(Timestamp::to_datetime))
    }

    /// Returns the session's own timeout, which [`set_timeout`](Self::set_timeout) set. `None` if the timeouts of its
    /// containers apply, or if there is no session. Counts as an access, but not as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn timeout(&self) -> Result<Option<Duration>> {
        self.with(|state| state.own_timeout(self.subject))
    }

    /// Records an access now, in all containers where the session is live, although the recorded one may not be older than
    /// the resolution. Creates nothing, and does not count as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn touch(&self) -> Result<()> {
        self.with(|state| state.touch(self.subject))
    }
}
