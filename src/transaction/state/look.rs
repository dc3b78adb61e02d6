//! The first look of a transaction, and loading rows.

use crate::block_on::wait;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Keeping;
use crate::storage::record::PackageRow;
use crate::storage::{Snapshot, merge};
use crate::transaction::lookup::{FirstLook, OpenSession, RowLook};
use crate::transaction::registry::{ContainerIndex, Registry};
use crate::transaction::state::attributes::SessionFate;
use crate::transaction::state::changes::SubjectChanges;
use crate::transaction::state::indexed_list::IndexedList;
use crate::transaction::state::subject::{
    BlindChanges, FoundSession, PackageView, SessionView, Subject, SubjectId,
};
use crate::transaction::state::txn_state::{TxnState, broken};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The maximum number of renewals of one session that are followed. A session keeps each id for a while, so there are
/// few.
pub(crate) const MOST_MOVES: usize = 8;

fn renamed() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "a container was registered or unregistered meanwhile",
    )
}

impl TxnState {
    /// Switches to the registry of the first look (C1.2). Handles find their containers in it. Changes of packages were
    /// recorded under the old containers, so a transaction with such changes conflicts. A transaction without them
    /// never conflicts (C2.7).
    fn change_registry(&mut self, other: Arc<Registry>) -> Result<()> {
        if !self.is_named || other.number == self.registry.number {
            self.registry = other;
            return Ok(());
        }
        let mut subjects = self.changes.iter().flat_map(|it| &it.subjects);
        if subjects.any(|subject| !subject.packages.is_empty()) {
            return Err(renamed());
        }
        // Changes that were rolled back leave accesses behind.
        for subject in &mut self.subjects {
            let used = std::mem::take(&mut subject.blind.containers).into_iter();
            let used = used.filter_map(|at| other.find_same(self.registry.container(at)));
            subject.blind.containers = used.collect();
        }
        self.former = Some(std::mem::replace(&mut self.registry, other));
        Ok(())
    }

    /// Takes the newest snapshot, if this is the first look (C2.1). Then makes the decisions that the client's earlier
    /// changes left open.
    pub(crate) fn look_at(&mut self, id: SubjectId) -> Result<()> {
        if self.snapshot.is_none() {
            let look = FirstLook::take(self.store.env(), &self.registry, self.carrier.as_deref());
            let look = wait(look)?;
            self.adopt(look)?;
            self.settle_all();
        }
        self.settle(id)
    }

    /// Takes over the snapshot, the times and the registry of the first look.
    pub(crate) fn adopt(&mut self, look: FirstLook) -> Result<()> {
        if let Some(other) = look.registry {
            self.change_registry(other)?;
        }
        (self.looked_at, self.now, self.taken) = (look.at, look.now, look.taken);
        self.snapshot = Some(look.snapshot);
        Ok(())
    }

    /// Makes the decisions that the changes of all clients left open. This follows the first look at once, while ids
    /// are as fresh as they were at the insert. A client whose decisions fail keeps them open, and its next look
    /// returns the error.
    pub(crate) fn settle_all(&mut self) {
        for id in 0..self.subjects.len() {
            let _ = self.settle(id);
        }
    }

    fn settle(&mut self, id: SubjectId) -> Result<()> {
        let blind = &mut self.subject_mut(id)?.blind;
        if blind.is_none() {
            return Ok(());
        }
        let blind = std::mem::take(blind);
        let settled = self.settle_blind(id, &blind);
        if settled.is_err() {
            self.subject_mut(id)?.blind = blind;
        }
        settled
    }

    fn settle_blind(&mut self, id: SubjectId, blind: &BlindChanges) -> Result<()> {
        for container in &blind.containers {
            self.use_container(id, *container)?;
        }
        if blind.is_given {
            self.live_anywhere(id)?;
        }
        if blind.is_unfounded && self.changed(id).is_some_and(SubjectChanges::founds) {
            let place = self.founding_container(id);
            self.found(id, place)?;
        }
        Ok(())
    }

    /// Loads all rows of a client: its owner and its timeout concern all of them. Before the first look, only notes
    /// that they are needed.
    pub(crate) fn use_attributes(&mut self, id: SubjectId) -> Result<()> {
        if self.snapshot.is_none() {
            self.subject_mut(id)?.blind.is_given = true;
            return Ok(());
        }
        self.live_anywhere(id).map(drop)
    }

    /// The snapshot. An error before the first look.
    pub(crate) fn snapshot(&self) -> Result<&dyn Snapshot> {
        self.snapshot.as_deref().ok_or_else(broken)
    }

    /// Drops a snapshot that became too old before anything was read from it. A request can wait long for its body, and
    /// then sees the newest state (C2.1).
    pub(crate) fn drop_unread(&mut self) {
        let is_too_old = self.snapshot.is_some() && self.check_age().is_err();
        if !is_too_old || !self.subjects.iter().all(Subject::is_unread) {
            return;
        }
        self.snapshot = None;
        for subject in &mut self.subjects {
            (subject.fetched, subject.moved_to) = (None, None);
        }
    }

    /// Whether the snapshot may still be read (C2.14).
    fn check_age(&self) -> Result<()> {
        let age = self.env().clock.moment().since(self.taken);
        if age > self.env().rules.snapshot_max_age {
            return Err(Error::new(
                ErrorKind::SnapshotTooOld,
                "the transaction is older than its snapshot may become",
            ));
        }
        Ok(())
    }

    /// The session row of a client in a container. Loads it at the first call.
    pub(crate) fn session(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
    ) -> Result<&SessionView> {
        self.look_at(id)?;
        let found = self.subject(id)?.sessions.position(container, "");
        let at = match found {
            Some(at) => at,
            None => {
                let mut view = self.load_session(id, container)?;
                for _ in 0..MOST_MOVES {
                    let Some(to) = view.leads_to() else { break };
                    self.follow(id, to)?;
                    view = self.load_session(id, container)?;
                }
                // After too many renewals, the row still only leads to another session. Such a row does not count as
                // live.
                view.live &= view.leads_to().is_none();
                self.subject_mut(id)?.sessions.push(view)
            }
        };
        self.subject(id)?.sessions.get(at).ok_or_else(broken)
    }

    /// Switches to the session to which the client's id leads, because the id was renewed a short time ago (C8.4).
    pub(crate) fn follow(&mut self, id: SubjectId, to: ClientKey) -> Result<()> {
        let subject = self.subject_mut(id)?;
        (subject.moved_to, subject.fetched, subject.live) = (Some(to), None, None);
        // The look under the old id found no session.
        subject.sessions = IndexedList::default();
        if self.subjects.first().and_then(Subject::came_with) != Some(to) {
            self.by_key.entry(to).or_insert(id);
        }
        Ok(())
    }

    fn load_session(&self, id: SubjectId, container: ContainerIndex) -> Result<SessionView> {
        crate::steps::count(1);
        let subject = self.subject(id)?;
        // A fresh id has no session unless another transaction created it.
        let FoundSession {
            row,
            times,
            is_live,
        } = match subject.key() {
            Some(client) => {
                self.check_age()?;
                match subject.fetched(container) {
                    Some(found) => found.clone(),
                    None => self.find_session(container, client, subject.keeping)?,
                }
            }
            None => FoundSession::default(),
        };
        Ok(SessionView {
            container,
            row,
            times,
            live: is_live,
            used: false,
            observed: false,
            listed: false,
        })
    }

    /// Blocks if the engine cannot answer at once.
    fn find_session(
        &self,
        container: ContainerIndex,
        client: ClientKey,
        keeping: Option<Keeping>,
    ) -> Result<FoundSession> {
        let container = self.registry.container(container);
        let (env, snapshot) = (self.env(), self.snapshot()?);
        if !snapshot.is_loaded(client) {
            snapshot.load(&[client]).wait()?;
        }
        let row = match RowLook::at(snapshot, container, client, (self.now, keeping))? {
            RowLook::Found(found) => return Ok(found),
            RowLook::Open(row) => row,
        };
        let open = OpenSession {
            container,
            client,
            keeping,
            row,
        };
        let found = wait(OpenSession::look_again(env, vec![open], self.now));
        found.into_iter().next().ok_or_else(broken)?
    }

    /// Loads the session rows of a client in all containers. Returns whether any is live.
    pub(crate) fn live_anywhere(&mut self, id: SubjectId) -> Result<bool> {
        if let Some(live) = self.subject(id)?.live {
            return Ok(live);
        }
        self.look_at(id)?;
        let mut live = false;
        for container in self.registry.indices() {
            live |= self.session(id, container)?.live;
        }
        self.subject_mut(id)?.live = Some(live);
        Ok(live)
    }

    /// The package as of the snapshot. Loads it at the first call. `None` if this transaction destroyed the session.
    pub(crate) fn package(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
    ) -> Result<Option<&PackageRow>> {
        self.look_at(id)?;
        if self.fate(id) == SessionFate::Destroyed {
            return Ok(None);
        }
        if self.subject(id)?.package(container, package).is_none() {
            self.session(id, container)?;
            let row = self.load_package(id, container, package)?;
            let subject = self.subject_mut(id)?;
            subject.packages.push(PackageView {
                container,
                package: package.clone(),
                row,
                read_all: false,
                read: BTreeSet::new(),
            });
        }
        let subject = self.subject(id)?;
        let view = subject.package(container, package).ok_or_else(broken)?;
        Ok(view.row.as_ref())
    }

    fn load_package(
        &self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
    ) -> Result<Option<PackageRow>> {
        let subject = self.subject(id)?;
        let listed = subject
            .session(container)
            .and_then(SessionView::live_row)
            .is_some_and(|row| row.has(package));
        let (true, Some(client)) = (listed, subject.key()) else {
            return Ok(None);
        };
        self.check_age()?;
        let container = self.registry.container(container);
        let row = self.snapshot()?.package(container.id(), client, package);
        row.and_then(|row| row.map_or_else(|| Err(merge::lost_package()), |row| Ok(Some(row))))
            .map_err(|e| {
                e.in_container(&*container.container_ref.name)
                    .in_package(&**package)
            })
    }
}
