//! A client's session inside a transaction: its id, its existence, its times, its rotation and its end.

use crate::client_id::{ClientId, ClientKey};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::expiry::Times;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::{Attributes, SessionFate};
#[cfg(feature = "http")]
use crate::transaction::state::changes::SubjectChanges;
use crate::transaction::state::subject::{SessionView, Subject, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use crate::transaction::state::write::FoundingContainer;
use chrono::{DateTime, Utc};
#[cfg(feature = "http")]
use std::time::Duration;

impl TxnState {
    /// The session's own id after the commit, if the client has a session then (C8.1). An id that was renewed a short
    /// time ago is not its own: it only leads to the session (C8.4).
    pub(crate) fn own_client_id(&mut self, id: SubjectId) -> Result<Option<ClientId>> {
        let found_by = self.client_id(id)?;
        let subject = self.subject(id)?;
        let leads_on =
            |it: &ClientId| subject.moved_to.is_some() && Some(it.key()) == subject.came_with();
        Ok(found_by.filter(|it| !leads_on(it)))
    }

    /// The session's client key after the commit, if the client has a session then.
    pub(crate) fn client_key(&mut self, id: SubjectId) -> Result<Option<ClientKey>> {
        let found_by = self.client_id(id)?.map(|it| it.key());
        let subject = self.subject(id)?;
        let is_own = found_by.is_some() && found_by == subject.came_with();
        Ok(if is_own { subject.key() } else { found_by })
    }

    /// Whether this transaction holds the turn of a client's session.
    #[cfg(feature = "http")]
    pub(crate) fn holds_turn(&self, id: SubjectId) -> bool {
        let key = self.subject(id).ok().and_then(Subject::key);
        self.turn
            .as_ref()
            .is_some_and(|turn| Some(turn.session()) == key)
    }

    /// The id that finds the session after the commit, if the client has a session then.
    pub(crate) fn client_id(&mut self, id: SubjectId) -> Result<Option<ClientId>> {
        if self.subject(id)?.may_move() {
            self.look_at(id)?;
        }
        let subject = self.subject(id)?;
        // A session that was seen live needs no further look. An old snapshot would refuse one (C2.14).
        let seen = subject.sessions.iter().any(|view| view.live);
        let presented = subject.presented.clone();
        if let Some(changes) = self.changed(id) {
            let founds = changes.founds();
            match (self.final_fate(id), changes.id.clone()) {
                (SessionFate::Rotated, issued) => return Ok(issued),
                (_, Some(issued)) => return Ok(founds.then_some(issued)),
                (SessionFate::Destroyed, None) => return Ok(None),
                (SessionFate::Stays, None) if founds => return Ok(presented),
                (SessionFate::Stays, None) => {}
            }
        }
        let Some(presented) = presented else {
            return Ok(None);
        };
        let known = seen || self.live_anywhere(id)?;
        Ok(known.then_some(presented))
    }

    /// Whether the commit creates a session for a client that has none. An error if that cannot be determined.
    #[cfg(feature = "http")]
    pub(crate) fn founds(&mut self, id: SubjectId) -> Result<bool> {
        let is_founding = self.changed(id).is_some_and(|changes| changes.founds());
        if !is_founding || self.subject(id)?.is_live() {
            return Ok(false);
        }
        // After a blind insert, the transaction may not know yet whether a session exists.
        Ok(!self.live_anywhere(id)?)
    }

    /// Reads the rows of a client that was changed without a read, as the commit would. If the read would wait, the
    /// commit fetches the rows instead.
    #[cfg(feature = "http")]
    pub(crate) fn look_before_commit(&mut self, id: SubjectId) {
        if self.snapshot.is_none() && !self.env().storage.answers_at_once() {
            return;
        }
        let is_blind = |subject: &Subject| !subject.blind.is_none() && !subject.is_new();
        if self.subject(id).is_ok_and(is_blind) {
            // If this fails, the commit fails too.
            let _ = self.look_at(id);
        }
    }

    /// Whether a client presented an id that has no session in any container. False until all containers were read.
    /// Loads nothing.
    #[cfg(feature = "http")]
    pub(crate) fn presents_dead_id(&self, id: SubjectId) -> bool {
        if self.subject(id).is_ok_and(Subject::is_new) {
            return false;
        }
        let containers = self.registry.containers().len();
        self.subject(id)
            .is_ok_and(|subject| subject.is_known_absent(containers))
    }

    /// The container of a session that its attributes alone create: a container that this transaction has used, the
    /// unnamed one first. Otherwise the unnamed one.
    ///
    /// Not one where the session ends (`ends_in`), if there is another.
    pub(crate) fn home(&self, subject: &Subject, ends_in: &[ContainerIndex]) -> ContainerIndex {
        let is_used = |view: &SessionView| view.used && !ends_in.contains(&view.container);
        let unnamed = subject.session(ContainerIndex::UNNAMED);
        if unnamed.is_some_and(is_used) {
            return ContainerIndex::UNNAMED;
        }
        let mut used = subject.sessions.iter().filter(|view| is_used(view));
        let used = used.find(|view| !self.is_carried(view));
        used.map_or(ContainerIndex::UNNAMED, |view| view.container)
    }

    /// Whether this transaction creates a session, in one container or in any.
    fn founds_in(&self, id: SubjectId, container: Option<ContainerIndex>) -> Result<bool> {
        let Some(changes) = self.changed(id) else {
            return Ok(false);
        };
        if changes.inserts_in(container) {
            return Ok(true);
        }
        let subject = self.subject(id)?;
        let mut views = subject.sessions.iter();
        let lives_on = views.any(|view| self.lives_on(id, view) && !self.is_carried(view))
            && changes.fate != SessionFate::Destroyed;
        let alone = changes.attributes.is_founding() && !changes.inserts_in(None) && !lives_on;
        Ok(alone
            && container.is_none_or(|container| container == self.home(subject, &changes.ends_in)))
    }

    /// Whether the session exists, or will exist once this transaction is committed.
    pub(crate) fn exists(
        &mut self,
        id: SubjectId,
        container: Option<ContainerIndex>,
    ) -> Result<bool> {
        let stored = match container {
            Some(container) => self.session(id, container)?.live && !self.ends_in(id, container),
            None => {
                self.live_anywhere(id)?;
                let mut views = self.subject(id)?.sessions.iter();
                views.any(|view| self.lives_on(id, view))
            }
        };
        self.observe_existence(id, container)?;
        let founds = self.founds_in(id, container)?;
        Ok(founds || (stored && self.fate(id) != SessionFate::Destroyed))
    }

    /// The times of the earliest creation and the latest access, in one container or over all.
    pub(crate) fn times(
        &mut self,
        id: SubjectId,
        container: Option<ContainerIndex>,
    ) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>> {
        match container {
            Some(container) => drop(self.session(id, container)?),
            None => drop(self.live_anywhere(id)?),
        }
        let gone = self.fate(id) == SessionFate::Destroyed;
        let subject = self.subject(id)?;
        let here =
            |view: &&SessionView| container.is_none_or(|container| container == view.container);
        let rows = subject.sessions.iter().filter(here);
        let rows = rows.filter(|view| self.lives_on(id, view));
        let times: Vec<_> = rows
            .filter_map(|view| view.times.filter(|_| !gone))
            .collect();
        let created = times.iter().map(|t| t.created).min();
        let last_access = times.iter().map(|t| t.last_access).max();
        let founds = created.is_none() && self.founds_in(id, container)?;
        let (created, last_access) = if founds {
            (Some(self.now), Some(self.now))
        } else {
            (created, last_access)
        };
        Ok(created
            .zip(last_access)
            .map(|(c, l)| (c.to_datetime(), l.to_datetime())))
    }

    /// When the session expires if no request uses it any more, in one container, or the latest time over all. `None` if
    /// it never expires, or does not exist.
    pub(crate) fn expires_at(
        &mut self,
        id: SubjectId,
        container: Option<ContainerIndex>,
    ) -> Result<Option<Timestamp>> {
        // The row decides where the session is live and unchanged. Then no other container is read.
        let is_settled = match container {
            Some(container) => self.session(id, container)?.live && self.changed(id).is_none(),
            None => false,
        };
        let own = match is_settled {
            true => None,
            false => Some((self.own_timeout(id)?, self.own_end(id)?)),
        };
        let (subject, now) = (self.subject(id)?, self.now);
        let over = |at, mut times: Times| {
            if let Some((timeout, ends_at)) = own {
                (times.timeout, times.ends_at) = (timeout, ends_at);
            }
            self.registry.container(at).policy.over_at(&times)
        };
        let is_gone = self.fate(id) == SessionFate::Destroyed;
        let lives = subject.sessions.iter().filter(|_| !is_gone);
        let is_here = |at| container.is_none_or(|container| container == at);
        let lives = lives.filter(|view| is_here(view.container) && self.lives_on(id, view));
        let lives = lives.filter_map(|view| {
            let mut times = view.times?;
            if self.touch_of(subject, view).is_some() {
                (times.last_access, times.unconfirmed_since) = (now, None);
            }
            Some(over(view.container, times))
        });
        let mut latest = lives.max();
        for at in self.registry.indices().filter(|at| is_here(*at)) {
            if self.founds_in(id, Some(at))? {
                latest = latest.max(Some(over(at, Times::new(now))));
            }
        }
        Ok(latest.filter(|over| *over < Timestamp(i64::MAX)))
    }

    /// Makes the commit record an access, even if none is due.
    pub(crate) fn touch(&mut self, id: SubjectId) -> Result<()> {
        self.live_anywhere(id)?;
        self.use_live_containers(id)?;
        self.subject_mut(id)?.is_touched = true;
        Ok(())
    }

    /// The attributes of the session, for setting a timeout or an owner. If there is no session, this creates one
    /// (C8.1).
    pub(crate) fn give(&mut self, id: SubjectId) -> Result<&mut Attributes> {
        self.use_attributes(id)?;
        self.found(id, FoundingContainer::Store)?;
        self.change(id)
    }

    /// The attributes of the session, for removing a timeout or an owner. This creates no session.
    pub(crate) fn take_back(&mut self, id: SubjectId) -> Result<&mut Attributes> {
        self.use_attributes(id)?;
        self.change(id)
    }

    pub(crate) fn rotate(&mut self, id: SubjectId) -> Result<ClientId> {
        self.check_replaceable(id)?;
        if self.fate(id) != SessionFate::Destroyed {
            if self.live_anywhere(id)? {
                self.use_live_containers(id)?;
                self.change(id)?.fate = SessionFate::Rotated;
            } else {
                self.observe_existence(id, None)?;
            }
        }
        self.issue(id)
    }

    /// Gives a session a new id if its id is older than `after` and this transaction used it. The old id leads to the
    /// session for the time `grace` (C8.4).
    #[cfg(feature = "http")]
    pub(crate) fn renew_if_due(
        &mut self,
        id: SubjectId,
        after: Duration,
        grace: Duration,
    ) -> Result<()> {
        let is_changed = |it: &SubjectChanges| it.fate != SessionFate::Stays || it.id.is_some();
        let subject = self.subject(id)?;
        if subject.moved_to.is_some() || self.changed(id).is_some_and(is_changed) {
            return Ok(());
        }
        // Only stored rows lead from the old id to the new one.
        let is_stored = |view: &&SessionView| view.used && !self.is_carried(view);
        let used = subject.sessions.iter().filter(is_stored);
        let issued = used.filter_map(|view| Some(view.live_row()?.access.id_issued));
        let is_due = issued
            .min()
            .is_some_and(|issued| self.now.since(issued) > after);
        if is_due && self.check_replaceable(id).is_ok() {
            self.rotate(id)?;
            self.change(id)?.leads_on = Some(grace).filter(|grace| !grace.is_zero());
        }
        Ok(())
    }

    /// Ends the stored session, whether it is live or has expired. An access from before the expiry may still wait to
    /// be recorded, and must not revive the session (C2.11).
    pub(crate) fn destroy(&mut self, id: SubjectId) -> Result<()> {
        self.live_anywhere(id)?;
        let stored = self.subject(id)?.sessions.iter().any(|v| v.row.is_some());
        if !stored {
            self.observe_existence(id, None)?;
        }
        self.forget_changes(id);
        // Later inserts create another session.
        self.subject_mut(id)?.successor = None;
        if stored {
            self.change(id)?.fate = SessionFate::Destroyed;
        }
        Ok(())
    }
}
