//! Changes of keys, and where a session is created for them.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerHome;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::SessionFate;
#[cfg(feature = "http")]
use crate::transaction::state::changes::PackageChanges;
use crate::transaction::state::changes::{KeyBase, KeyChanges, KeyStep, SubjectChanges};
use crate::transaction::state::subject::SubjectId;
use crate::transaction::state::txn_state::TxnState;
use std::sync::Arc;

/// Where a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoundingContainer {
    /// In the file, on a server or in memory.
    Store,
    /// In the visitor's cookie.
    Cookie,
}

impl TxnState {
    /// Makes sure that an insert into a container has a session to go to: the existing one, or a new one under the
    /// presented id if that is fresh, or else a new one under an id issued here (C4.8). Before the first look, this is
    /// decided later.
    pub(crate) fn found_in(&mut self, id: SubjectId, container: ContainerIndex) -> Result<()> {
        // If the session is live here, no other container is read: its state there causes no conflict (C2.7).
        let stays = self.fate(id) != SessionFate::Destroyed;
        // A client that may not create a session learns at once whether it has one.
        let is_told = self.subject(id)?.founding.refusal().is_some();
        if (self.snapshot.is_some() || is_told) && stays && self.session(id, container)?.live {
            return Ok(());
        }
        let place = match self.registry.container(container).id().home() {
            ContainerHome::Cookie => FoundingContainer::Cookie,
            ContainerHome::Durable | ContainerHome::Memory => FoundingContainer::Store,
        };
        self.found(id, place)
    }

    /// As above, for changes that belong to no container.
    pub(crate) fn found(&mut self, id: SubjectId, place: FoundingContainer) -> Result<()> {
        // A session that this transaction ends was live, and is none any more.
        if let Some(why) = self.subject(id)?.founding.refusal()
            && (self.fate(id) == SessionFate::Destroyed || !self.live_anywhere(id)?)
        {
            return Err(Error::new(ErrorKind::MissingClientId, why));
        }
        if self.changed(id).is_some_and(|changes| changes.id.is_some()) {
            return Ok(());
        }
        if self.fate(id) == SessionFate::Destroyed {
            self.check_replaceable(id)?;
            self.issue(id)?;
            return Ok(());
        }
        let subject = self.subject(id)?;
        let mut live = subject.sessions.iter().filter(|view| view.live);
        if live.any(|view| place == FoundingContainer::Cookie || !self.is_carried(view)) {
            return Ok(());
        }
        if let Some(presented) = subject.presented.clone() {
            if self.snapshot.is_none() {
                self.subject_mut(id)?.blind.is_unfounded = true;
                return Ok(());
            }
            // Read in all containers, so that the commit detects whether another transaction created the session
            // since.
            let is_live = self.live_anywhere(id)?;
            if is_live && !presented.is_fresh() && self.lives_in_cookie_only(id)? {
                if place == FoundingContainer::Store {
                    self.move_into_store(id)?;
                }
                return Ok(());
            }
            if is_live || presented.is_fresh() {
                return Ok(());
            }
            // The session is created elsewhere because there is none here (C2.7).
            self.observe_existence(id, None)?;
        }
        let successor = match self.subject(id)?.successor.clone() {
            Some(successor) => successor,
            None => self.issue(id)?,
        };
        let subject = self.subject_mut(id)?;
        (subject.successor, subject.has_moved) = (Some(successor.clone()), true);
        self.change(id)?.id = Some(successor);
        Ok(())
    }

    /// Whether the store may give a client another id. It may not if somebody else made the id (C4.5).
    pub(crate) fn check_replaceable(&self, id: SubjectId) -> Result<()> {
        match &self.subject(id)?.presented {
            Some(presented) if presented.is_adopted() => Err(Error::new(
                ErrorKind::Unsupported,
                "the client's id was made by somebody else, and cannot be replaced",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a client's live session is only in the visitor's cookie, once all containers were read.
    fn lives_in_cookie_only(&self, id: SubjectId) -> Result<bool> {
        let mut live = self.subject(id)?.sessions.iter().filter(|view| view.live);
        Ok(live.all(|view| self.is_carried(view)))
    }

    /// Gives a session that is only in the visitor's cookie a new id, because a part of it begins in the store. The
    /// cookie does not prove that its id did not end long ago (C4.8).
    fn move_into_store(&mut self, id: SubjectId) -> Result<()> {
        let successor = match self.subject(id)?.successor.clone() {
            Some(successor) => successor,
            None => self.issue(id)?,
        };
        let subject = self.subject_mut(id)?;
        (subject.successor, subject.has_moved) = (Some(successor.clone()), true);
        let attributes = self.change(id)?;
        (attributes.id, attributes.fate) = (Some(successor), SessionFate::Rotated);
        Ok(())
    }

    /// The id of the session that inserts create.
    pub(crate) fn founding_container(&self, id: SubjectId) -> FoundingContainer {
        let Some(changes) = self.changed(id) else {
            return FoundingContainer::Cookie;
        };
        let in_store = |at| !self.registry.container(at).id().is_in_cookie();
        match changes.attributes.is_founding() || changes.containers_inserted().any(in_store) {
            true => FoundingContainer::Store,
            false => FoundingContainer::Cookie,
        }
    }

    /// The observations that decided where inserts go may have been rolled back, while the inserts were not.
    pub(crate) fn find_out_again(&mut self) {
        let changes = self.changes.as_ref();
        let moved = self.subjects.iter_mut().enumerate();
        for (id, subject) in moved.filter(|(_, subject)| subject.has_moved) {
            let changes = changes.and_then(|changes| changes.subjects.get(id));
            let founds = changes.is_some_and(SubjectChanges::founds);
            subject.blind.is_unfounded = true;
            subject.successor.take_if(|_| !founds);
        }
    }

    /// Whether this transaction only writes one key of a client's session.
    #[cfg(feature = "http")]
    pub(crate) fn writes_only(&self, id: SubjectId, package: &str, key: &str) -> bool {
        let is_it = |it: &PackageChanges| {
            !it.cleared && &*it.package == package && it.keys.keys().all(|k| &**k == key)
        };
        let mut subjects = self.changes.iter().flat_map(|it| &it.subjects).enumerate();
        subjects.all(|(at, changes)| {
            !changes.attributes.is_set() && changes.packages.iter().all(|it| at == id && is_it(it))
        })
    }

    /// The result for a key, if this transaction decides it whatever is stored.
    pub(crate) fn own(
        &self,
        id: SubjectId,
        container: ContainerIndex,
        package: &str,
        key: &str,
    ) -> Option<&KeyBase> {
        self.changed(id)?.package(container, package)?.own(key)
    }

    /// Adds a step to the changes of a key whose value depends on the stored one.
    pub(crate) fn step(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        key: &str,
        step: KeyStep,
    ) -> Result<()> {
        self.use_container(id, container)?;
        let (changes, log) = self.changes();
        changes.step(id, (container, package), key, step, log);
        Ok(())
    }

    /// Removes all keys of a package.
    pub(crate) fn clear(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
    ) -> Result<()> {
        self.use_container(id, container)?;
        let (changes, log) = self.changes();
        let cleared = changes.clear(id, container, package, log);
        self.discarded
            .extend(cleared.map(|keys| Box::new(keys) as _));
        Ok(())
    }

    /// Replaces the changes of a key.
    pub(crate) fn write(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        key: &str,
        change: KeyChanges,
    ) -> Result<()> {
        self.use_container(id, container)?;
        let (changes, log) = self.changes();
        let replaced = changes.write(id, (container, package), key, change, log);
        if let Some(replaced) = replaced.filter(|key| !key.steps.is_empty()) {
            self.discard(replaced);
        }
        Ok(())
    }
}
