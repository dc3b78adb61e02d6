//! The end of a session in one container, while it goes on in others (C1.9).

use crate::error::Result;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::subject::{SessionView, SubjectId};
use crate::transaction::state::txn_state::TxnState;

impl TxnState {
    /// Whether this transaction ends a session in a container alone.
    pub(crate) fn ends_in(&self, id: SubjectId, container: ContainerIndex) -> bool {
        self.changed(id)
            .is_some_and(|changes| changes.ends_in.contains(&container))
    }

    /// Whether a session is live in a container and goes on there.
    pub(crate) fn lives_on(&self, id: SubjectId, view: &SessionView) -> bool {
        view.live && !self.ends_in(id, view.container)
    }

    /// What becomes of a session in the end. One that has ended in each container, and is founded in none, has ended.
    pub(crate) fn final_fate(&self, id: SubjectId) -> SessionFate {
        let Some(changes) = self.changed(id) else {
            return SessionFate::Stays;
        };
        if changes.ends_in.is_empty() || changes.founds() {
            return changes.fate;
        }
        let mut views = self
            .subject(id)
            .into_iter()
            .flat_map(|it| it.sessions.iter());
        match views.any(|view| self.lives_on(id, view)) {
            true => changes.fate,
            false => SessionFate::Destroyed,
        }
    }

    /// Ends a session as a whole that has ended in each of its containers.
    pub(crate) fn end_if_over(&mut self, id: SubjectId) -> Result<()> {
        if self.final_fate(id) != self.fate(id) {
            self.observe_everywhere(id)?;
            self.change(id)?.fate = SessionFate::Destroyed;
        }
        Ok(())
    }

    /// Ends a session in one container. In its last one, it ends as a whole.
    pub(crate) fn destroy_in(&mut self, id: SubjectId, container: ContainerIndex) -> Result<()> {
        self.live_anywhere(id)?;
        let is_live = self.session(id, container)?.live;
        let stays = self.fate(id) != SessionFate::Destroyed;
        if is_live && stays && !self.goes_on_beside(id, container)? {
            self.observe_everywhere(id)?;
            return self.destroy(id);
        }
        self.observe_existence(id, Some(container))?;
        for package in self.packages_in(id, container)? {
            self.clear(id, container, &package)?;
        }
        if is_live && stays && !self.ends_in(id, container) {
            self.change(id)?.ends_in.push(container);
        }
        Ok(())
    }

    /// Notes in which containers the session was found, because it ends as a whole for being in no other one (C2.7).
    fn observe_everywhere(&mut self, id: SubjectId) -> Result<()> {
        let views = self.subject_mut(id)?.sessions.iter_mut();
        views.for_each(|view| view.observed = true);
        Ok(())
    }

    /// Whether a session is in another container too, or will be once this transaction is committed.
    fn goes_on_beside(&self, id: SubjectId, container: ContainerIndex) -> Result<bool> {
        let inserted = self.changed(id).into_iter();
        let mut inserted = inserted.flat_map(|changes| changes.containers_inserted());
        if inserted.any(|at| at != container) {
            return Ok(true);
        }
        let mut views = self.subject(id)?.sessions.iter();
        Ok(views.any(|view| view.container != container && self.lives_on(id, view)))
    }
}
