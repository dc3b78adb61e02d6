//! The accesses that a transaction records, and their effect on the cookie.

use crate::client_id::ClientId;
use crate::error::Result;
use crate::storage::{Mark, SessionRef, Touch, TouchAt};
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::SubjectChanges;
use crate::transaction::state::subject::{SessionView, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::time::Duration;

/// The action of a response on the session's cookie, once the commit has succeeded (C4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CookieAction {
    Keep,
    /// Send this id. A timeout of the session's own is also the cookie's lifetime.
    Send {
        id: ClientId,
        timeout: Option<Duration>,
    },
    /// Remove the cookie: the session was destroyed.
    Withdraw,
}

/// A session in one container, and when its transaction first looked.
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
        // An id that was issued in this process has not come back from a visitor. Its use confirms nothing (C8.5).
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
        // By the current clock: another transaction's access may be later than the time of this transaction.
        let now = self.env().clock.timestamp();
        let latest = policy.latest(&times, now);
        let at = TouchAt {
            time: self.now,
            slack: policy.resolution_of(&times, None),
            founded: (times.created > latest).then_some((times.created, self.now)),
            lowered_from: None,
        };
        // A time too far in the future is lowered by the first transaction that reads it (C3.5).
        (due || policy.is_ahead(&times, now)).then(|| at.by(now))
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

    /// The cookie action of a client. Also returns its session, if that existed before.
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
            // The session's own id has been sent.
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

    /// Whether a commit records an access of the visitor that also renews the cookie.
    fn is_renewed(
        &self,
        subject: &Subject,
        changes: &SubjectChanges,
        timeout: Option<Duration>,
    ) -> bool {
        let kept = subject.keeping.and_then(|keeping| keeping.of(timeout));
        // A session that begins in a further container is recorded there.
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
