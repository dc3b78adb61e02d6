//! The first look of a transaction, and the rows that it loads.

use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::record::PackageRow;
use crate::storage::{Snapshot, merge};
use crate::transaction::env::Env;
use crate::transaction::registry::{ContainerIndex, Registry};
use crate::transaction::state::changes::{SessionFate, SubjectChanges};
use crate::transaction::state::subject::{BlindChanges, PackageView, SessionView, SubjectId};
use crate::transaction::state::txn_state::{TxnState, broken};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A snapshot, and the containers as they were registered then, where they are not those known.
type NewestState = (Arc<dyn Snapshot>, Option<Arc<Registry>>);

fn newest(env: &Env, known: &Arc<Registry>) -> Result<NewestState> {
    let mut other = None;
    loop {
        let snapshot = env.storage.snapshot().wait()?;
        let now = env.registry.load();
        if Arc::ptr_eq(&now, other.as_ref().unwrap_or(known)) {
            return Ok((snapshot, other));
        }
        other = Some(Arc::clone(&now));
    }
}

fn renamed() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "a container was registered or unregistered meanwhile",
    )
}

impl TxnState {
    /// Goes over to the registry of the first look (C1.2). Handles find their containers there. Changes of packages,
    /// which were recorded under the containers of before, cannot: their transaction conflicts. Without any it never
    /// does (C2.7).
    fn change_registry(&mut self, other: Arc<Registry>) -> Result<()> {
        if !self.is_named || other.number == self.registry.number {
            self.registry = other;
            return Ok(());
        }
        let mut subjects = self.changes.iter().flat_map(|it| &it.subjects);
        if subjects.any(|subject| !subject.packages.is_empty()) {
            return Err(renamed());
        }
        // What was rolled back has left accesses.
        for subject in &mut self.subjects {
            let used = std::mem::take(&mut subject.blind.containers).into_iter();
            let used = used.filter_map(|at| other.find_same(self.registry.container(at)));
            subject.blind.containers = used.collect();
        }
        self.former = Some(std::mem::replace(&mut self.registry, other));
        Ok(())
    }

    /// Takes the newest state, at the first look (C2.1), and finds out what the client's changes before it
    /// left open.
    pub(crate) fn look_at(&mut self, id: SubjectId) -> Result<()> {
        if self.snapshot.is_none() {
            let env = self.store.env();
            // Before the time is read: what happens in between counts as having happened since.
            let looked_at = env.storage.mark();
            let (now, taken) = (env.clock.timestamp(), env.clock.moment());
            let (snapshot, other) = newest(env, &self.registry)?;
            if let Some(other) = other {
                self.change_registry(other)?;
            }
            (self.looked_at, self.now, self.taken) = (looked_at, now, taken);
            self.snapshot = Some(snapshot);
            // While ids are fresh that were so when they were inserted under. What fails is said to who asks.
            for other in 0..self.subjects.len() {
                let _ = self.look_at(other);
            }
        }
        let blind = &mut self.subject_mut(id)?.blind;
        if blind.is_none() {
            return Ok(());
        }
        let blind = std::mem::take(blind);
        let settled = self.settle(id, &blind);
        if settled.is_err() {
            self.subject_mut(id)?.blind = blind;
        }
        settled
    }

    fn settle(&mut self, id: SubjectId, blind: &BlindChanges) -> Result<()> {
        for container in &blind.containers {
            self.use_container(id, *container)?;
        }
        if blind.is_given {
            self.live_anywhere(id)?;
        }
        if blind.is_unfounded && self.changed(id).is_some_and(SubjectChanges::founds) {
            self.found(id)?;
        }
        Ok(())
    }

    /// Makes sure that all of a client's rows are known that its owner and its timeout concern, once something is
    /// looked at.
    pub(crate) fn use_attributes(&mut self, id: SubjectId) -> Result<()> {
        if self.snapshot.is_none() {
            self.subject_mut(id)?.blind.is_given = true;
            return Ok(());
        }
        self.live_anywhere(id).map(drop)
    }

    /// The snapshot, once something was looked at.
    pub(crate) fn snapshot(&self) -> Result<&dyn Snapshot> {
        self.snapshot.as_deref().ok_or_else(broken)
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

    /// The session row of a client in a container, loaded at the first call.
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
                let view = self.load_session(id, container)?;
                self.subject_mut(id)?.sessions.push(view)
            }
        };
        self.subject(id)?.sessions.get(at).ok_or_else(broken)
    }

    fn load_session(&self, id: SubjectId, container: ContainerIndex) -> Result<SessionView> {
        crate::steps::count(1);
        let (mut row, mut times) = (None, None);
        let at = container;
        let container = self.registry.container(at);
        let is_expired = |times: Times| container.policy.is_expired(&times, self.now);
        // A fresh id has no session unless another transaction founded it.
        let subject = self.subject(id)?;
        if let Some(client) = subject.key() {
            let keeping = subject.keeping;
            self.check_age()?;
            let snapshot = self.snapshot()?;
            if !snapshot.is_loaded(client) {
                snapshot.load(&[client]).wait()?;
            }
            row = snapshot
                .session(container.id(), client)
                .map_err(|e| e.in_container(&*container.place.name))?;
            let known = |row| {
                self.env()
                    .times_of(container, client, row, self.now, keeping)
            };
            times = row.as_ref().map(known).transpose()?;
            if let (Some(row), true) = (&row, times.is_some_and(is_expired)) {
                // From now on no access brings it back that came before this look (C3.2). One that came in
                // between is seen now.
                let found = self
                    .env()
                    .storage
                    .found_expired(container.session_ref(client, row));
                let recorded = found
                    .wait()
                    .map_err(|e| e.in_container(&*container.place.name))?;
                if let (Some(times), Some(recorded)) = (&mut times, recorded) {
                    (times.created, times.last_access) = (recorded.created, recorded.last_access);
                }
            }
        }
        Ok(SessionView {
            container: at,
            row,
            times,
            live: times.is_some_and(|times| !is_expired(times)),
            used: false,
            observed: false,
        })
    }

    /// Loads the session rows of a client in all containers; tells whether any is live.
    pub(crate) fn live_anywhere(&mut self, id: SubjectId) -> Result<bool> {
        if let Some(live) = self.subject(id)?.live {
            return Ok(live);
        }
        self.look_at(id)?;
        let mut live = false;
        for container in self.registry.places() {
            live |= self.session(id, container)?.live;
        }
        self.subject_mut(id)?.live = Some(live);
        Ok(live)
    }

    /// The package as of the snapshot, loaded at the first call; nothing of a session that was
    /// destroyed in this transaction.
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
                e.in_container(&*container.place.name)
                    .in_package(&**package)
            })
    }
}
