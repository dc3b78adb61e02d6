//! Packs the changes to the rows that came with the request (C8.6).

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerId;
use crate::storage::carried::CarriedRows;
use crate::transaction::carrier::CarriedCommit;
use crate::transaction::commit::pack::PackedCommit;
use crate::transaction::state::subject::{SessionView, SubjectId};
use crate::transaction::state::txn_state::TxnState;

fn no_carrier() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the container lives in the visitor's cookie, which only the visitor's request can change, through a session \
         layer with a cookie",
    )
}

impl TxnState {
    /// Whether the session's row in a container comes from the visitor's cookie.
    pub(crate) fn is_carried(&self, view: &SessionView) -> bool {
        self.registry.container(view.container).id().is_in_cookie()
    }

    /// Checks that the transaction has a cookie for each change to a container that lives in the visitor's cookie. Only
    /// the visitor's own session has one.
    pub(crate) fn check_carried(&self, visitor: Option<SubjectId>) -> Result<()> {
        if !self.registry.has_cookie_containers() {
            return Ok(());
        }
        let carried = self.carrier.as_ref().and(visitor);
        let subjects = self.changes.iter().flat_map(|changes| &changes.subjects);
        for (id, changes) in subjects.enumerate() {
            if carried == Some(id) {
                continue;
            }
            for package in changes.packages.iter() {
                let container = self.registry.container(package.container);
                if container.id().is_in_cookie() {
                    return Err(no_carrier()
                        .in_container(&*container.container_ref.name)
                        .in_package(&*package.package));
                }
            }
        }
        Ok(())
    }

    /// The rows of the visitor's cookie as the transaction saw them, with the accesses that are due.
    pub(crate) fn pack_carried(&self, visitor: Option<SubjectId>, packed: &mut PackedCommit) {
        if !self.registry.has_cookie_containers() {
            return;
        }
        let in_engine = |id: ContainerId| !id.is_in_cookie();
        packed.touches.retain(|it| in_engine(it.session.container));
        packed.renews.retain(|it| in_engine(it.session.container));
        let subject = visitor.and_then(|id| self.subject(id).ok());
        let (Some(carrier), Some(subject)) = (&self.carrier, subject) else {
            return;
        };
        // A new visitor has no rows yet.
        let client = subject.key().unwrap_or_else(no_client);
        let mut rows = CarriedRows::clone(&carrier.rows());
        let views = || {
            let views = subject.sessions.iter();
            views.filter(|view| self.is_carried(view) && view.row.is_some())
        };
        rows.retain(|container, of| {
            let is_it =
                |view: &SessionView| self.registry.container(view.container).id() == container;
            of == client && views().any(is_it)
        });
        let came = subject.came.map_or(self.looked_at, |came| came.mark);
        let mut change = carrier.change(client, came, rows);
        let now = self.env().clock.timestamp();
        for view in views() {
            if let Some(at) = self.touch_of(subject, view) {
                change.touch(self.registry.container(view.container).id(), at, now);
            }
        }
        packed.carried = Some(CarriedCommit::new(carrier, change));
    }
}

/// A key that no client has.
fn no_client() -> ClientKey {
    ClientKey::from_bytes([0; 16])
}
