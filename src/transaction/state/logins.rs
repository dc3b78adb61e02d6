//! The owners of sessions, the times of their log-ins, and the ends of sessions by owner or by key (C8.1, C8.2).

use crate::client_id::{ClientId, ClientKey};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::events::EndReason;
use crate::storage::record::SessionRow;
use crate::storage::{ContainerId, Snapshot};
use crate::transaction::env::{OwnerLimit, WhenFull};
use crate::transaction::state::attributes::{Attributes, SessionFate};
use crate::transaction::state::subject::{SessionView, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The result of ending sessions by their keys.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// How many live sessions end.
    pub(crate) sessions: u64,
    /// The sessions that cannot be read, and so cannot be ended.
    pub(crate) damaged: Vec<(ClientKey, Error)>,
}

/// Whether the log-in that a row records is still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoginState {
    Lasts,
    /// The log-in is older than the container's `max_lifetime`.
    Over,
}

impl TxnState {
    /// Gives a session a new id and an owner. The time of this transaction becomes the time of the log-in.
    ///
    /// Blocks if the owner's sessions are limited and the engine cannot answer at once.
    pub(crate) fn log_in(&mut self, id: SubjectId, owner: &str) -> Result<ClientId> {
        let others = match self.look_for_login(id)? {
            Some(snapshot) => clients_of(snapshot.owned(owner).wait()?),
            None => Vec::new(),
        };
        self.log_in_beside(id, owner, &others)
    }

    /// The snapshot in which a login finds the owner's sessions. `None` if their number is not limited.
    pub(crate) fn look_for_login(&mut self, id: SubjectId) -> Result<Option<Arc<dyn Snapshot>>> {
        self.check_replaceable(id)?;
        if self.env().rules.owner_limit.is_none() {
            return Ok(None);
        }
        self.live_anywhere(id)?;
        Ok(self.snapshot.clone())
    }

    /// Logs an owner in. `others` are the clients of the owner's sessions as of the snapshot. They are needed only if
    /// the number of sessions is limited.
    pub(crate) fn log_in_beside(
        &mut self,
        id: SubjectId,
        owner: &str,
        others: &[ClientKey],
    ) -> Result<ClientId> {
        self.check_replaceable(id)?;
        if let Some(limit) = self.env().rules.owner_limit {
            self.make_room(id, owner, others, limit)?;
        }
        let issued = self.rotate(id)?;
        let now = self.now;
        let attributes = self.give(id)?;
        attributes.owner = Some(Some(owner.into()));
        attributes.authenticated_at = Some(Some(now));
        Ok(issued)
    }

    pub(crate) fn owner(&mut self, id: SubjectId) -> Result<Option<Arc<str>>> {
        let set = |changes: &Attributes| changes.owner.clone();
        self.attribute(id, set, |row, login| {
            row.owner.clone().filter(|_| login != LoginState::Over)
        })
    }

    pub(crate) fn label(&mut self, id: SubjectId) -> Result<Option<Arc<str>>> {
        let set = |changes: &Attributes| changes.label.clone();
        self.attribute(id, set, |row, _| row.optional.label.clone())
    }

    pub(crate) fn authenticated_at(&mut self, id: SubjectId) -> Result<Option<Timestamp>> {
        let set = |changes: &Attributes| changes.authenticated_at;
        self.attribute(id, set, |row, login| {
            row.optional
                .authenticated_at
                .filter(|_| login != LoginState::Over)
        })
    }

    pub(crate) fn own_timeout(&mut self, id: SubjectId) -> Result<Option<Duration>> {
        self.attribute(id, |it| it.timeout, |row, _| row.timeout)
    }

    pub(crate) fn own_end(&mut self, id: SubjectId) -> Result<Option<Timestamp>> {
        self.attribute(id, |it| it.ends_at, |row, _| row.optional.ends_at)
    }

    /// The attribute that this transaction sets, or else the stored one. Counts as an access.
    fn attribute<T>(
        &mut self,
        id: SubjectId,
        set: impl FnOnce(&Attributes) -> Option<Option<T>>,
        mut stored: impl FnMut(&SessionRow, LoginState) -> Option<T>,
    ) -> Result<Option<T>> {
        self.live_anywhere(id)?;
        self.use_live_containers(id)?;
        let changes = self.changed(id).map(|changes| &changes.attributes);
        if let Some(set) = changes.and_then(set) {
            return Ok(set);
        }
        if self.fate(id) == SessionFate::Destroyed {
            return Ok(None);
        }
        let mut rows = self.subject(id)?.sessions.iter();
        Ok(rows.find_map(|view| {
            let row = view.live_row()?;
            let policy = &self.registry.container(view.container).policy;
            let is_over = |at| policy.is_login_over(at, self.now);
            let login = match row.optional.authenticated_at.is_some_and(is_over) {
                true => LoginState::Over,
                false => LoginState::Lasts,
            };
            stored(row, login)
        }))
    }

    /// Ends the other sessions of a session's owner, as of the snapshot, and returns their number.
    pub(crate) fn end_others(&mut self, id: SubjectId) -> Result<u64> {
        let Some(owner) = self.owner(id)? else {
            return Ok(0);
        };
        let owned = self.snapshot()?.owned(&owner).wait()?;
        self.end_of_owner(id, &owner, &clients_of(owned))
    }

    /// Ends the sessions of these clients, except this one, that have this owner as of the snapshot. Returns their
    /// number.
    pub(crate) fn end_of_owner(
        &mut self,
        id: SubjectId,
        owner: &Arc<str>,
        clients: &[ClientKey],
    ) -> Result<u64> {
        let subjects = self.others_of(id, owner, clients)?;
        self.end_all(subjects, Some(owner), EndReason::Revoked)
    }

    /// The sessions of these clients, except this one, that have this owner as of the snapshot. If one cannot be read,
    /// this fails before any session ends.
    fn others_of(
        &mut self,
        id: SubjectId,
        owner: &str,
        clients: &[ClientKey],
    ) -> Result<Vec<SubjectId>> {
        let mut subjects = Vec::with_capacity(clients.len());
        for client in clients {
            let other = self.subject_of(*client);
            if other != id && self.is_of(other, Some(owner))? {
                subjects.push(other);
            }
        }
        Ok(subjects)
    }

    /// Makes sure that the limit allows an owner one more session. Sessions that end in this transaction do not count.
    fn make_room(
        &mut self,
        id: SubjectId,
        owner: &str,
        clients: &[ClientKey],
        limit: OwnerLimit,
    ) -> Result<()> {
        let mut others = Vec::new();
        for other in self.others_of(id, owner, clients)? {
            let views = self.subject(other)?.sessions.iter();
            let times = views.filter_map(SessionView::live_times);
            let last_access = times.map(|times| times.last_access).max();
            if self.fate(other) != SessionFate::Destroyed {
                others.extend(last_access.map(|last_access| (last_access, other)));
            }
        }
        let surplus = (others.len() + 1).saturating_sub(limit.sessions);
        if surplus == 0 {
            return Ok(());
        }
        if limit.when_full == WhenFull::Refuse {
            let why = "the owner has as many sessions as one may have (max_sessions_per_owner)";
            return Err(Error::new(ErrorKind::NotAdmitted, why));
        }
        others.sort_unstable();
        let oldest = others.into_iter().take(surplus).map(|(_, other)| other);
        let owner = Arc::from(owner);
        self.end_all(oldest.collect(), Some(&owner), EndReason::Limit)?;
        Ok(())
    }

    /// Ends sessions by their keys. If an owner is given, ends only the sessions that still have this owner.
    pub(crate) fn end_by_key(
        &mut self,
        keys: &[ClientKey],
        owner: Option<&Arc<str>>,
    ) -> Result<Ended> {
        let mut ended = Ended::default();
        let mut subjects = Vec::with_capacity(keys.len());
        let mut found = BTreeSet::new();
        for key in keys {
            let subject = self.subject_of(*key);
            match self.is_of(subject, owner.map(|owner| &**owner)) {
                // Two keys may lead to the same session.
                Ok(true) if found.insert(self.subject(subject)?.key()) => subjects.push(subject),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    ended.damaged.push((*key, error));
                }
                Err(error) => return Err(error),
            }
        }
        ended.sessions = self.end_all(subjects, owner, EndReason::Revoked)?;
        Ok(ended)
    }

    /// Whether a client has a stored session of this owner. Without an owner, whether it has any stored session.
    fn is_of(&mut self, id: SubjectId, owner: Option<&str>) -> Result<bool> {
        self.live_anywhere(id)?;
        let rows = self.subject(id)?.sessions.iter();
        let mut rows = rows.filter_map(|view| view.row.as_ref());
        Ok(rows.any(|row| owner.is_none() || row.owner.as_deref() == owner))
    }

    /// Ends sessions, and returns how many of them were live. If an owner is given, each session must still have this
    /// owner at the commit.
    fn end_all(
        &mut self,
        subjects: Vec<SubjectId>,
        owner: Option<&Arc<str>>,
        reason: EndReason,
    ) -> Result<u64> {
        let mut sessions = 0;
        for subject in subjects {
            let has_ended = self.fate(subject) == SessionFate::Destroyed;
            sessions += u64::from(!has_ended && self.live_anywhere(subject)?);
            self.destroy(subject)?;
            if !has_ended {
                let change = self.change(subject)?;
                change.ends_of = owner.cloned();
                change.end_reason = Some(reason);
            }
        }
        Ok(sessions)
    }
}

/// The clients in a list of an owner's sessions, each once.
pub(crate) fn clients_of(owned: Vec<(ContainerId, ClientKey)>) -> Vec<ClientKey> {
    let mut clients: Vec<_> = owned.into_iter().map(|(_, client)| client).collect();
    clients.sort_unstable();
    clients.dedup();
    clients
}
