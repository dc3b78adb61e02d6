//! The inside of a transaction: what it saw of the store, and what it wants changed. Works under
//! the transaction's lock and runs none of the application's code.

use crate::client_id::{ClientId, ClientKey};
use crate::clock::{Moment, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Times;
use crate::storage::record::PackageRow;
use crate::storage::{Mark, Snapshot, merge};
use crate::transaction::env::{Env, KeepOpen};
use crate::transaction::registry::{ContainerIndex, ContainerLink, Registry};
use crate::transaction::state::changes::{
    Attributes, Changes, KeyBase, KeyChanges, KeyStep, SessionFate, SubjectChanges, Undo, UndoLog,
};
use crate::transaction::state::savepoint::Savepoints;
use crate::transaction::state::subject::{
    BlindChanges, PackageView, SessionView, Subject, SubjectId,
};
use crate::transaction::turns::turn::Turn;
use crate::transaction::worker::WorkerTask;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The keys and values of a package. A value that cannot be told is an error.
pub(crate) type Content = BTreeMap<Arc<str>, Result<Bytes>>;

/// See the module. One lives in each open transaction.
pub(crate) struct TxnState {
    /// Keeps the store open while the transaction is.
    pub(crate) store: Arc<dyn KeepOpen>,
    pub(crate) registry: Arc<Registry>,
    /// Whether handles know containers by their places in this registry.
    pub(crate) is_named: bool,
    /// The registry of the handles that were made before the first look, where that found another one.
    pub(crate) former: Option<Arc<Registry>>,
    /// `None` before anything was looked at (C2.1).
    pub(crate) snapshot: Option<Arc<dyn Snapshot>>,
    /// The time of the snapshot.
    pub(crate) now: Timestamp,
    /// When its snapshot was taken, by the clock that is never set back.
    pub(crate) taken: Moment,
    /// When it began.
    pub(crate) begun_at: Mark,
    /// When it looked first; before that, when it began.
    pub(crate) looked_at: Mark,
    pub(crate) doomed: bool,
    pub(crate) subjects: Vec<Subject>,
    /// Which client bears an id, or was issued it here; without the id of the first client, which is
    /// the only one in most transactions.
    pub(crate) by_key: BTreeMap<ClientKey, SubjectId>,
    /// `None` before the first.
    pub(crate) changes: Option<Changes>,
    pub(crate) savepoints: Savepoints,
    pub(crate) discarded: Vec<Box<dyn std::any::Any + Send>>,
    pub(crate) after_commit: Vec<WorkerTask>,
    pub(crate) after_abort: Vec<WorkerTask>,
    pub(crate) turn: Option<Turn>,
}

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

fn gone(name: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchContainer,
        "the container was unregistered before the transaction first read anything",
    )
    .in_container(name)
}

fn broken() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "no such client in this transaction",
    )
}

impl TxnState {
    pub(crate) fn env(&self) -> &Arc<Env> {
        self.store.env()
    }

    /// The store that the transaction keeps open.
    pub(crate) fn keep_open(&self) -> Arc<dyn KeepOpen> {
        self.store.clone()
    }

    /// The client that bears `id`, or a new visitor.
    pub(crate) fn subject_for(&mut self, id: Option<&ClientId>) -> SubjectId {
        let next = self.subjects.len();
        if let (Some(id), Some(first)) = (id, self.subjects.first()) {
            if first.key() == Some(id.key()) {
                return 0;
            }
            let known = *self.by_key.entry(id.key()).or_insert(next);
            if known != next {
                return known;
            }
        }
        self.subjects.push(Subject {
            presented: id.cloned(),
            ..Subject::default()
        });
        next
    }

    /// Gives a client a new id.
    pub(crate) fn issue(&mut self, subject: SubjectId) -> Result<ClientId> {
        let issued = self.env().ids.issue();
        self.by_key.insert(issued.key(), subject);
        self.change(subject)?.id = Some(issued.clone());
        Ok(issued)
    }

    pub(crate) fn subject(&self, id: SubjectId) -> Result<&Subject> {
        self.subjects.get(id).ok_or_else(broken)
    }

    pub(crate) fn subject_mut(&mut self, id: SubjectId) -> Result<&mut Subject> {
        self.subjects.get_mut(id).ok_or_else(broken)
    }

    pub(crate) fn changed(&self, id: SubjectId) -> Option<&SubjectChanges> {
        self.changes.as_ref()?.subjects.get(id)
    }

    /// The changes, to be changed, and the log of that.
    fn changes(&mut self) -> (&mut Changes, &mut UndoLog) {
        let log = &mut self.savepoints.log;
        let changes = self.changes.get_or_insert_with(|| {
            log.note(|| Undo::First);
            Changes::default()
        });
        (changes, log)
    }

    /// What becomes of a client's session as a whole, to be changed.
    pub(crate) fn change(&mut self, id: SubjectId) -> Result<&mut Attributes> {
        let (changes, log) = self.changes();
        changes.attributes(id, log).ok_or_else(broken)
    }

    /// Gives up all that a client was to have changed.
    pub(crate) fn forget_changes(&mut self, id: SubjectId) {
        let (changes, log) = self.changes();
        let forgotten = changes.forget(id, log);
        self.discarded
            .extend(forgotten.map(|old| Box::new(old) as _));
    }

    pub(crate) fn fate(&self, id: SubjectId) -> SessionFate {
        self.changed(id)
            .map_or(SessionFate::Stays, |changes| changes.fate)
    }

    /// The containers, for handles to know theirs by.
    pub(crate) fn named(&mut self) -> Arc<Registry> {
        if !self.is_named && self.snapshot.is_none() {
            let now = self.store.env().registry.load();
            if !Arc::ptr_eq(&now, &self.registry) {
                self.registry = Arc::clone(&now);
            }
        }
        self.is_named = true;
        self.registry.clone()
    }

    /// The container of a handle: one comparison, unless a container was registered or unregistered between the
    /// first handle and the first look.
    pub(crate) fn resolve(&self, link: ContainerLink, package: &str) -> Result<ContainerIndex> {
        match self.registry.linked(link) {
            Some(at) => Ok(at),
            None => self.find_again(link, package),
        }
    }

    /// The same, to read a key: looks first, unless this transaction says what the value is.
    pub(crate) fn resolve_to_read(
        &mut self,
        id: SubjectId,
        link: ContainerLink,
        package: &str,
        key: &str,
    ) -> Result<ContainerIndex> {
        let container = self.resolve(link, package)?;
        if self.snapshot.is_some() || self.own(id, container, package, key).is_some() {
            return Ok(container);
        }
        self.look_at(id)?;
        self.resolve(link, package)
    }

    pub(crate) fn name_of(&self, container: ContainerIndex) -> Arc<str> {
        self.registry.container(container).place.name.clone()
    }

    #[cold]
    fn find_again(&self, link: ContainerLink, package: &str) -> Result<ContainerIndex> {
        let former = self.former.as_deref().ok_or_else(broken)?;
        let found = self.registry.find_again(link, package, former);
        found.ok_or_else(|| {
            let name = former
                .linked(link)
                .map(|at| former.container(at).place.name.clone());
            gone(&name.unwrap_or_default())
        })
    }

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

    /// Notes that a package was used, which is an access to the session in its container. Looks at nothing yet
    /// where nothing was looked at before.
    pub(crate) fn use_container(&mut self, id: SubjectId, container: ContainerIndex) -> Result<()> {
        if self.snapshot.is_none() {
            self.subject_mut(id)?.blind.containers.insert(container);
            return Ok(());
        }
        self.session(id, container)?;
        let sessions = &mut self.subject_mut(id)?.sessions;
        if let Some(view) = sessions.find_mut(container, "") {
            view.used = true;
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

    /// Notes that a session's existence was read, in one container or in all; an access where it is.
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

    /// The value of a key as this transaction sees it. Where that depends on what is stored, the key
    /// counts as read (C2.7).
    pub(crate) fn read(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        key: &str,
    ) -> Result<Option<Bytes>> {
        // What was found counts as read also where it cannot be told, as a sum that overflows.
        let value = self.peek(id, container, package, key);
        self.use_container(id, container)?;
        let own = self.own(id, container, package, key).is_some();
        // After destroying the session, its emptiness is the transaction's own, too.
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

    /// Makes sure that what is inserted into a container has a session to go to: the one there is, one under the id
    /// that was presented if it is fresh, else one under an id issued here (C4.8). Where nothing was looked at before,
    /// that is found out later.
    pub(crate) fn found_in(&mut self, id: SubjectId, container: ContainerIndex) -> Result<()> {
        // Where it is live, no other container is looked into: what becomes of it there is no conflict (C2.7).
        let stays = self.fate(id) != SessionFate::Destroyed;
        if self.snapshot.is_some() && stays && self.session(id, container)?.live {
            return Ok(());
        }
        self.found(id)
    }

    /// The same for what belongs to no container.
    pub(crate) fn found(&mut self, id: SubjectId) -> Result<()> {
        if self.changed(id).is_some_and(|changes| changes.id.is_some()) {
            return Ok(());
        }
        if self.fate(id) == SessionFate::Destroyed {
            self.issue(id)?;
            return Ok(());
        }
        let subject = self.subject(id)?;
        if subject.sessions.iter().any(|view| view.live) {
            return Ok(());
        }
        if let Some(presented) = subject.presented.clone() {
            if self.snapshot.is_none() {
                self.subject_mut(id)?.blind.is_unfounded = true;
                return Ok(());
            }
            // In all containers, so that the commit finds out whether another one has founded it since.
            if self.live_anywhere(id)? || presented.is_fresh() {
                return Ok(());
            }
            // It is founded elsewhere because there is none here (C2.7).
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

    /// What was found out of where inserts go may have been rolled back, and they not.
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

    /// What a key certainly becomes, whatever is stored, where this transaction says so.
    pub(crate) fn own(
        &self,
        id: SubjectId,
        container: ContainerIndex,
        package: &str,
        key: &str,
    ) -> Option<&KeyBase> {
        self.changed(id)?.package(container, package)?.own(key)
    }

    /// Adds a step to what is to become of a key that is not the transaction's own.
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

    /// Replaces what is to become of a key.
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
