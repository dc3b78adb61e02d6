//! Reads of a transaction, and which of them count as a read or an access.

use crate::error::{ErrorKind, Result};
use crate::storage::record::PackageRow;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::KeyBase;
use crate::transaction::state::subject::SubjectId;
use crate::transaction::state::txn_state::TxnState;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The keys and values of a package. A value that cannot be computed is an error.
pub(crate) type Content = BTreeMap<Arc<str>, Result<Bytes>>;

impl TxnState {
    /// Notes that a package was used, which is an access to the session in its container. Does not start the first
    /// look.
    pub(crate) fn use_container(&mut self, id: SubjectId, container: ContainerIndex) -> Result<()> {
        if self.snapshot.is_none() {
            self.subject_mut(id)?.blind.containers.insert(container);
            return Ok(());
        }
        self.session(id, container)?;
        let ends_unconfirmed = self
            .registry
            .container(container)
            .policy
            .unconfirmed
            .is_some();
        let sessions = &mut self.subject_mut(id)?.sessions;
        let mut confirms = false;
        if let Some(view) = sessions.find_mut(container, "") {
            view.used = true;
            let times = view.live_times().filter(|_| ends_unconfirmed);
            confirms = times.is_some_and(|times| times.unconfirmed_since.is_some());
        }
        if confirms {
            // The id has come back for the session in all its containers (C8.5).
            self.live_anywhere(id)?;
            self.use_live_containers(id)?;
        }
        Ok(())
    }

    /// Notes an access in every container where the session is live.
    pub(crate) fn use_live_containers(&mut self, id: SubjectId) -> Result<()> {
        for view in self.subject_mut(id)?.sessions.iter_mut() {
            view.used |= view.live;
        }
        Ok(())
    }

    /// Notes that the existence of a session was read, in one container or in all. Counts as an access where the
    /// session exists.
    pub(crate) fn observe_existence(
        &mut self,
        id: SubjectId,
        container: Option<ContainerIndex>,
    ) -> Result<()> {
        let subject = self.subject_mut(id)?;
        let mut live = false;
        for view in subject.sessions.iter_mut() {
            if container.is_none_or(|container| container == view.container) {
                view.used |= view.live;
                view.observed |= container.is_some();
                live |= view.live;
            }
        }
        if container.is_none() {
            subject.exists = Some(live);
        }
        Ok(())
    }

    /// The value of a key as this transaction sees it, without observing it.
    pub(crate) fn peek(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        key: &str,
    ) -> Result<Option<Bytes>> {
        match self.own(id, container, package, key) {
            Some(KeyBase::Put(value)) => return Ok(Some(value.clone())),
            Some(KeyBase::Refused(error)) => return Err(error.clone()),
            Some(KeyBase::Removed) => return Ok(None),
            Some(KeyBase::Current) | None => {}
        }
        let stored = self.package(id, container, package)?;
        let before = stored.and_then(|row| row.get(key));
        let changes = self.changes.as_mut();
        let subject = changes.and_then(|changes| changes.subjects.get_mut(id));
        let package = subject.and_then(|subject| subject.packages.find_mut(container, package));
        match package.and_then(|package| package.keys.get_mut(key)) {
            Some(change) => change.value_to_keep(before),
            None => Ok(before),
        }
    }

    /// The value of a key as this transaction sees it. If it depends on the stored value, the key counts as read
    /// (C2.7).
    pub(crate) fn read(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        key: &str,
    ) -> Result<Option<Bytes>> {
        // The stored value counts as read even if the result is an error, as when a sum overflows.
        let value = self.peek(id, container, package, key);
        if matches!(&value, Err(e) if e.kind() == ErrorKind::Unavailable) {
            // Nothing was read. The engine has waited for its server, and must not wait again.
            return value;
        }
        self.use_container(id, container)?;
        let own = self.own(id, container, package, key).is_some();
        // After the transaction destroyed the session, its packages are empty whatever is stored.
        let own = own || self.fate(id) == SessionFate::Destroyed;
        if let Some(view) = self.subject_mut(id)?.package_mut(container, package)
            && !own
        {
            view.note(key);
        }
        value
    }

    /// All keys and values as this transaction sees them. The whole package counts as read.
    pub(crate) fn read_all(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
    ) -> Result<Content> {
        let stored = self.package(id, container, package)?;
        let mut content: Content = stored
            .into_iter()
            .flat_map(PackageRow::iter)
            .map(|(key, value)| (Arc::from(key), Ok(value)))
            .collect();
        self.use_container(id, container)?;
        let destroyed = self.fate(id) == SessionFate::Destroyed;
        if let Some(view) = self.subject_mut(id)?.package_mut(container, package)
            && !destroyed
        {
            view.read_all = true;
        }
        let Some(changes) = self
            .changed(id)
            .and_then(|changes| changes.package(container, package))
        else {
            return Ok(content);
        };
        if changes.cleared {
            content.clear();
        }
        for (key, change) in &changes.keys {
            let before = content.remove(key).and_then(Result::ok);
            match change.value(before) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    content.insert(key.clone(), Ok(value));
                }
                Err(e) => {
                    content.insert(key.clone(), Err(e));
                }
            }
        }
        Ok(content)
    }
}
