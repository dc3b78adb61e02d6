//! The accesses that a transaction records, and what they mean for the cookie.

use crate::client_id::ClientId;
use crate::error::Result;
use crate::storage::{Mark, SessionRef, Touch, TouchAt};
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::SubjectChanges;
use crate::transaction::state::subject::{SessionView, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::time::Duration;

/// What a response must do with the session's cookie once the commit is certain (C4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Keep,
    /// Hand out this id; a session's own timeout is also its cookie's lifetime.
    Send {
        id: ClientId,
        timeout: Option<Duration>,
    },
    /// The session was destroyed; remove the cookie.
    Withdraw,
}

/// A session in one container, and when its transaction looked first.
pub(crate) struct LoadedSession {
    pub(crate) session: SessionRef,
    pub(crate) since: Mark,
}

impl TxnState {
    pub(in crate::transaction) fn touch_of(
        &self,
        subject: &Subject,
        view: &SessionView,
    ) -> Option<TouchAt> {
        let times = view.live_times()?;
        let policy = &self.registry.container(view.container).policy;
        // An id that was issued in this process has not come back from anybody. Its use confirms nothing (C8.5).
        if policy.is_unconfirmed(&times) && subject.presented.as_ref().is_some_and(ClientId::is_own)
        {
            return None;
        }
        let is_asked_for = subject.is_touched && times.last_access < self.now;
        let is_due = is_asked_for || policy.is_touch_due(&times, self.now, subject.keeping);
        let due = view.used && is_due;
        if !due && !policy.is_ahead(&times, self.now) {
            return None;
        }
        // By the clock as it is: the transaction's own time may lie long before another's access.
        let now = self.env().clock.timestamp();
        let latest = policy.latest(&times, now);
        let at = TouchAt {
            time: self.now,
            slack: policy.resolution_of(&times, None),
            founded: (times.created > latest).then_some((times.created, self.now)),
        };
        // What lies too far ahead is lowered by whoever meets it (C3.5).
        (due || policy.is_ahead(&times, now)).then_some(at)
    }

    pub(super) fn touches_of(&self, subject: &Subject) -> Vec<Touch> {
        let Some(client) = subject.key() else {
            return Vec::new();
        };
        let due = subject.sessions.iter().filter_map(|view| {
            let container = self.registry.container(view.container);
            Some(Touch {
                session: container.session_ref(client, view.live_row()?),
                since: self.looked_at,
                at: self.touch_of(subject, view)?,
            })
        });
        due.collect()
    }

    /// The cookie action of a client, and the session that one is for which was there before.
    pub(super) fn cookie_action(
        &self,
        id: SubjectId,
    ) -> Result<(CookieAction, Vec<LoadedSession>)> {
        let none = SubjectChanges::default();
        let changes = self.changed(id).unwrap_or(&none);
        let subject = self.subject(id)?;
        let stored = subject
            .sessions
            .iter()
            .find_map(|view| view.live_row()?.timeout);
        let timeout = changes.timeout.unwrap_or(match changes.fate {
            SessionFate::Destroyed => None,
            SessionFate::Stays | SessionFate::Rotated => stored,
        });
        let send = |id: &ClientId| CookieAction::Send {
            id: id.clone(),
            timeout,
        };
        let live = subject.sessions.iter().any(|view| view.live);
        let cookie_action = match (changes.fate, &changes.id, &subject.presented) {
            (SessionFate::Rotated, Some(id), _) => send(id),
            (_, Some(id), _) if changes.founds() => send(id),
            (SessionFate::Destroyed, _, _) => CookieAction::Withdraw,
            (_, None, Some(presented)) if !live && changes.founds() => send(presented),
            // The session's own id has been handed out.
            (_, None, Some(_)) if live && subject.moved_to.is_some() => CookieAction::Keep,
            (_, None, Some(presented)) if live => {
                let is_set = changes
                    .timeout
                    .is_some_and(|own| own.is_some() || stored.is_some());
                if is_set || self.is_renewed(subject, changes, timeout) {
                    return Ok((send(presented), self.lives(subject)));
                }
                CookieAction::Keep
            }
            _ => CookieAction::Keep,
        };
        Ok((cookie_action, Vec::new()))
    }

    /// Whether a commit records an access of the visitor, and what the id is kept in must be renewed with it.
    fn is_renewed(
        &self,
        subject: &Subject,
        changes: &SubjectChanges,
        timeout: Option<Duration>,
    ) -> bool {
        let kept = subject.keeping.and_then(|keeping| keeping.of(timeout));
        // To go on in a further container is recorded there.
        let begins = |container| subject.session(container).is_none_or(|view| !view.live);
        kept.is_some()
            && (!self.touches_of(subject).is_empty() || changes.containers_inserted().any(begins))
    }

    fn lives(&self, subject: &Subject) -> Vec<LoadedSession> {
        let Some(client) = subject.key() else {
            return Vec::new();
        };
        let lives = subject.sessions.iter().filter_map(|view| {
            let container = self.registry.container(view.container);
            Some(LoadedSession {
                session: container.session_ref(client, view.live_row()?),
                since: self.looked_at,
            })
        });
        lives.collect()
    }
}
