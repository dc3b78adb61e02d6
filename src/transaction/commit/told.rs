//! The events of a successful commit (C8.9).

use crate::client_id::ClientId;
use crate::events::{CreatedEvent, EndReason, EndedEvent, RenewedEvent};
use crate::transaction::events::SessionEvent;
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::SubjectChanges;
use crate::transaction::state::subject::{SessionView, Subject};
use crate::transaction::state::txn_state::TxnState;
use std::sync::Arc;

impl TxnState {
    /// The events of one client's changes.
    pub(super) fn events_of(
        &self,
        subject: &Subject,
        changes: &SubjectChanges,
    ) -> Vec<SessionEvent> {
        let is_live = subject.sessions.iter().any(|view| view.live);
        let key = subject.key();
        let founds = changes.founds();
        let mut events = Vec::new();
        match (changes.fate, key, &changes.id) {
            (SessionFate::Rotated, Some(former), Some(id)) => {
                events.push(SessionEvent::Renewed(RenewedEvent {
                    client: id.key(),
                    former,
                    owner: owner_after(subject, changes),
                }));
                return events;
            }
            (SessionFate::Destroyed, Some(client), _) => {
                let rows = subject.sessions.iter().filter(|view| view.row.is_some());
                let mut containers: Vec<_> = rows.map(|view| self.name(view)).collect();
                containers.sort_unstable();
                let reason = match (is_live, changes.end_reason) {
                    (false, _) => EndReason::Expired,
                    (true, Some(reason)) => reason,
                    (true, None) if founds => EndReason::Replaced,
                    (true, None) => EndReason::Logout,
                };
                events.push(SessionEvent::Ended(EndedEvent {
                    client,
                    reason,
                    containers,
                    owner: owner_before(subject),
                }));
            }
            _ => {}
        }
        let id = changes.id.as_ref().or(subject.presented.as_ref());
        let lives_on = is_live && changes.fate == SessionFate::Stays;
        if let Some(id) = id.filter(|id| founds && !lives_on && id.is_fresh()) {
            events.push(created(id, changes));
        }
        events
    }

    fn name(&self, view: &SessionView) -> String {
        self.registry
            .container(view.container)
            .container_ref
            .name
            .to_string()
    }
}

fn created(id: &ClientId, changes: &SubjectChanges) -> SessionEvent {
    let owner = changes.owner.clone().flatten();
    let event = CreatedEvent {
        client: id.key(),
        owner: owner.map(|owner| owner.to_string()),
    };
    SessionEvent::Created(id.clone(), event)
}

fn owner_before(subject: &Subject) -> Option<String> {
    let mut rows = subject.sessions.iter();
    let owner = rows.find_map(|view| view.row.as_ref()?.owner.clone());
    owner.map(|owner| owner.to_string())
}

fn owner_after(subject: &Subject, changes: &SubjectChanges) -> Option<String> {
    match &changes.owner {
        Some(owner) => owner.as_ref().map(Arc::to_string),
        None => owner_before(subject),
    }
}
