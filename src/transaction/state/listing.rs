//! The packages of a session.

use crate::error::Result;
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::subject::{SessionView, SubjectId};
use crate::transaction::state::txn_state::TxnState;
use std::collections::BTreeSet;
use std::sync::Arc;

impl TxnState {
    /// The packages that have a key in a container, as this transaction sees them. The set of packages counts as read
    /// (C2.7).
    pub(crate) fn packages_in(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
    ) -> Result<BTreeSet<Arc<str>>> {
        self.session(id, container)?;
        self.use_container(id, container)?;
        let is_gone = self.fate(id) == SessionFate::Destroyed;
        let mut names = BTreeSet::new();
        let sessions = &mut self.subject_mut(id)?.sessions;
        if let Some(view) = sessions.find_mut(container, "").filter(|_| !is_gone) {
            view.listed = true;
            let row = SessionView::live_row(view);
            names.extend(row.iter().flat_map(|row| row.packages.iter().cloned()));
        }
        let changes = self.changed(id).into_iter();
        let changes = changes.flat_map(|changes| changes.packages.iter());
        let changes = changes.filter(|changes| changes.container == container);
        let changes = changes.map(|it| (it.package.clone(), it.leaves_keys()));
        for (package, leaves_keys) in changes.collect::<Vec<_>>() {
            let has_keys = match leaves_keys {
                Some(leaves_keys) => leaves_keys,
                None => !self.read_all(id, container, &package)?.is_empty(),
            };
            if has_keys {
                names.insert(package);
            } else {
                names.remove(&package);
            }
        }
        Ok(names)
    }

    /// The packages that have a key, each in the container of its handle.
    pub(crate) fn packages(&mut self, id: SubjectId) -> Result<BTreeSet<Arc<str>>> {
        self.look_at(id)?;
        let mut names = BTreeSet::new();
        for container in self.registry.indices() {
            let mut found = self.packages_in(id, container)?;
            found.retain(|package| self.registry.for_package(package) == container);
            names.append(&mut found);
        }
        Ok(names)
    }

    /// Removes all values of a session. The session stays.
    pub(crate) fn clear_all(&mut self, id: SubjectId) -> Result<()> {
        self.look_at(id)?;
        for container in self.registry.indices() {
            for package in self.packages_in(id, container)? {
                self.clear(id, container, &package)?;
            }
        }
        Ok(())
    }
}
