//! The state of a transaction: the data that it has read, and its changes. Runs under the transaction's lock, and never
//! runs the application's code.

use crate::client_id::{ClientId, ClientKey};
use crate::clock::{Moment, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Mark, Snapshot};
use crate::transaction::carrier::Carrier;
use crate::transaction::env::{Env, KeepOpen};
use crate::transaction::registry::{ContainerIndex, ContainerLink, Registry};
use crate::transaction::state::attributes::{Attributes, SessionFate};
use crate::transaction::state::changes::{Changes, SubjectChanges, Undo, UndoLog};
use crate::transaction::state::savepoint::{Savepoint, Savepoints};
use crate::transaction::state::subject::{Subject, SubjectId};
use crate::transaction::turns::turn::Turn;
use crate::transaction::worker::WorkerTask;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module. Each open transaction has one.
pub(crate) struct TxnState {
    /// Keeps the store open while the transaction is open.
    pub(crate) store: Arc<dyn KeepOpen>,
    pub(crate) registry: Arc<Registry>,
    /// Whether handles refer to containers by their indices in this registry.
    pub(crate) is_named: bool,
    /// The registry of the handles from before the first look, if the first look found another one.
    pub(crate) former: Option<Arc<Registry>>,
    /// `None` before the first look (C2.1).
    pub(crate) snapshot: Option<Arc<dyn Snapshot>>,
    /// The rows that came with the request.
    pub(crate) carrier: Option<Arc<Carrier>>,
    /// The time of the snapshot.
    pub(crate) now: Timestamp,
    /// When the snapshot was taken, by the clock that is never set back.
    pub(crate) taken: Moment,
    /// When the transaction began.
    pub(crate) begun_at: Mark,
    /// When the transaction first looked. Before that, when it began.
    pub(crate) looked_at: Mark,
    pub(crate) doomed: bool,
    pub(crate) subjects: Vec<Subject>,
    /// The client of each id that was presented or issued here. The id of the first client is not in it: most
    /// transactions have no other client.
    pub(crate) by_key: BTreeMap<ClientKey, SubjectId>,
    /// `None` before the first change.
    pub(crate) changes: Option<Changes>,
    pub(crate) savepoints: Savepoints,
    pub(crate) discarded: Vec<Box<dyn Any + Send>>,
    pub(crate) after_commit: Vec<WorkerTask>,
    pub(crate) after_abort: Vec<WorkerTask>,
    pub(crate) turn: Option<Turn>,
}

fn gone(name: &str) -> Error {
    Error::new(
        ErrorKind::NoSuchContainer,
        "the container was unregistered before the transaction first read anything",
    )
    .in_container(name)
}

pub(crate) fn broken() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "no such client in this transaction",
    )
}

impl TxnState {
    /// The state of a transaction that begins now.
    pub(crate) fn new(
        store: Arc<dyn KeepOpen>,
        registry: Arc<Registry>,
        turn: Option<Turn>,
        begun_at: Mark,
    ) -> Self {
        Self {
            store,
            registry,
            begun_at,
            looked_at: begun_at,
            is_named: false,
            former: None,
            snapshot: None,
            carrier: None,
            now: Timestamp::default(),
            taken: Moment::default(),
            doomed: false,
            subjects: Vec::new(),
            by_key: BTreeMap::new(),
            changes: None,
            savepoints: Savepoints::default(),
            discarded: Vec::new(),
            after_commit: Vec::new(),
            after_abort: Vec::new(),
            turn,
        }
    }

    pub(crate) fn env(&self) -> &Arc<Env> {
        self.store.env()
    }

    /// The store that the transaction keeps open.
    pub(crate) fn keep_open(&self) -> Arc<dyn KeepOpen> {
        self.store.clone()
    }

    /// The client that bears `id`, or a new visitor.
    pub(crate) fn subject_for(&mut self, id: Option<&ClientId>) -> SubjectId {
        let subject = match id {
            Some(id) => self.subject_with(id.key()),
            None => self.subjects.len(),
        };
        match self.subjects.get_mut(subject) {
            Some(known) if known.known_by.is_some() => known.presented = id.cloned(),
            Some(_) => {}
            None => self.add_subject(Subject {
                presented: id.cloned(),
                ..Subject::default()
            }),
        }
        subject
    }

    /// The client with this key. Its id need not be known.
    pub(crate) fn subject_of(&mut self, key: ClientKey) -> SubjectId {
        let subject = self.subject_with(key);
        if subject == self.subjects.len() {
            self.add_subject(Subject {
                known_by: Some(key),
                ..Subject::default()
            });
        }
        subject
    }

    fn add_subject(&mut self, subject: Subject) {
        // Most transactions have one client. A vector would allocate space for four, which takes longer.
        if self.subjects.is_empty() {
            self.subjects.reserve_exact(1);
        }
        self.subjects.push(subject);
    }

    /// The index of the client with a key, or the next free one.
    fn subject_with(&mut self, key: ClientKey) -> SubjectId {
        let next = self.subjects.len();
        match self.subjects.first() {
            Some(first) if first.came_with() == Some(key) => 0,
            Some(_) => *self.by_key.entry(key).or_insert(next),
            None => next,
        }
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

    /// The changes and their undo log, both mutable.
    pub(crate) fn changes(&mut self) -> (&mut Changes, &mut UndoLog) {
        let log = &mut self.savepoints.log;
        let changes = self.changes.get_or_insert_with(|| {
            log.note(|| Undo::First);
            Changes::default()
        });
        (changes, log)
    }

    /// The changes to a client's session as a whole, mutable.
    pub(crate) fn change(&mut self, id: SubjectId) -> Result<&mut Attributes> {
        let (changes, log) = self.changes();
        changes.attributes(id, log).ok_or_else(broken)
    }

    /// Drops all changes of a client.
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

    /// The registry by which new handles refer to their containers.
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

    /// The container of a handle. This takes one comparison, unless a container was registered or unregistered between
    /// the first handle and the first look.
    pub(crate) fn resolve(&self, link: ContainerLink, package: &str) -> Result<ContainerIndex> {
        match self.registry.linked(link) {
            Some(at) => Ok(at),
            None => self.find_again(link, package),
        }
    }

    /// As [`resolve`](Self::resolve), for reading a key. Looks first, unless the transaction's own changes decide the
    /// value.
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
        self.registry
            .container(container)
            .container_ref
            .name
            .clone()
    }

    #[cold]
    fn find_again(&self, link: ContainerLink, package: &str) -> Result<ContainerIndex> {
        let former = self.former.as_deref().ok_or_else(broken)?;
        let found = self.registry.find_again(link, package, former);
        found.ok_or_else(|| {
            let name = former
                .linked(link)
                .map(|at| former.container(at).container_ref.name.clone());
            gone(&name.unwrap_or_default())
        })
    }

    pub(crate) fn has_hooks(&self) -> bool {
        !(self.after_commit.is_empty() && self.after_abort.is_empty())
    }

    pub(crate) fn set_savepoint(&mut self) -> Savepoint {
        self.savepoints.set()
    }

    pub(crate) fn roll_back(&mut self, savepoint: &Savepoint) -> Result<()> {
        for undo in self.savepoints.back_to(savepoint)?.into_iter().rev() {
            let is_first = matches!(undo, Undo::First);
            let undone = self.changes.as_mut().and_then(|changes| changes.undo(undo));
            self.discarded.extend(undone);
            if is_first {
                self.changes = None;
            }
        }
        self.find_out_again();
        Ok(())
    }

    /// Keeps data until the transaction's lock is released. It may hold closures of the application, whose `Drop` must
    /// not run under the lock.
    pub(crate) fn discard(&mut self, what: impl Any + Send) {
        self.discarded.push(Box::new(what));
    }

    pub(crate) fn take_discarded(&mut self) -> Vec<Box<dyn Any + Send>> {
        std::mem::take(&mut self.discarded)
    }
}
