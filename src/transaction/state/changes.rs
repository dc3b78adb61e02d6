//! The changes of a transaction, and how each of them is undone (C2.5). Knows no storage.

use crate::error::{Error, Result};
use crate::storage::{ChangeBase, ChangeStep, Commute, KeyChange};
use crate::transaction::registry::ContainerIndex;
use crate::transaction::state::attributes::Attributes;
use crate::transaction::state::indexed_list::{IndexedItem, IndexedList};
use crate::transaction::state::subject::SubjectId;
use crate::value::Arithmetic;
use bytes::Bytes;
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// The changes of a transaction, by client.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) subjects: Vec<SubjectChanges>,
}

/// The changes to one client's session.
#[derive(Default)]
pub(crate) struct SubjectChanges {
    pub(crate) attributes: Attributes,
    pub(crate) packages: IndexedList<PackageChanges>,
}

impl Deref for SubjectChanges {
    type Target = Attributes;

    fn deref(&self) -> &Attributes {
        &self.attributes
    }
}

impl SubjectChanges {
    pub(crate) fn package(
        &self,
        container: ContainerIndex,
        package: &str,
    ) -> Option<&PackageChanges> {
        self.packages.find(container, package)
    }

    /// Whether the changes create a session: something was inserted, or an owner, a label or a timeout was set (C1.4,
    /// C8.1).
    pub(crate) fn founds(&self) -> bool {
        self.attributes.is_founding() || self.inserts_in(None)
    }

    /// Whether something was inserted into a package, of one container or of any.
    pub(crate) fn inserts_in(&self, container: Option<ContainerIndex>) -> bool {
        let here = |at| container.is_none_or(|container| container == at);
        self.containers_inserted().any(here)
    }

    /// The container of each package with an insert.
    pub(crate) fn containers_inserted(&self) -> impl Iterator<Item = ContainerIndex> {
        let inserted = self.packages.iter().filter(|p| p.inserts());
        inserted.map(|package| package.container)
    }
}

pub(crate) struct PackageChanges {
    pub(crate) container: ContainerIndex,
    pub(crate) package: Arc<str>,
    pub(crate) cleared: bool,
    pub(crate) keys: BTreeMap<Arc<str>, KeyChanges>,
    /// The number of keys with an insert.
    inserting: usize,
}

impl IndexedItem for PackageChanges {
    fn container(&self) -> ContainerIndex {
        self.container
    }

    fn package(&self) -> &str {
        &self.package
    }
}

impl PackageChanges {
    fn new(container: ContainerIndex, package: Arc<str>) -> Self {
        Self {
            container,
            package,
            cleared: false,
            keys: BTreeMap::new(),
            inserting: 0,
        }
    }

    fn inserts(&self) -> bool {
        self.inserting > 0
    }

    /// Whether the package has a key afterwards. `None` if that depends on the stored package.
    pub(crate) fn leaves_keys(&self) -> Option<bool> {
        if self.inserting > 0 {
            return Some(true);
        }
        self.cleared.then_some(false)
    }

    /// The number of keys that certainly exist afterwards.
    pub(crate) fn inserted(&self) -> usize {
        self.inserting
    }

    /// Replaces the changes of a key. `None` removes them.
    fn set(&mut self, key: &Arc<str>, change: Option<KeyChanges>) -> Option<KeyChanges> {
        self.inserting += usize::from(change.as_ref().is_some_and(KeyChanges::inserts));
        let before = match change {
            Some(change) => match self.keys.get_mut(key) {
                Some(there) => Some(std::mem::replace(there, change)),
                None => self.keys.insert(key.clone(), change),
            },
            None => self.keys.remove(key),
        };
        self.inserting -= usize::from(before.as_ref().is_some_and(KeyChanges::inserts));
        before
    }

    /// Replaces all changes of the package, and returns the old ones.
    fn replace(&mut self, by: OwnKeys) -> OwnKeys {
        self.inserting = by.keys.values().filter(|key| key.inserts()).count();
        OwnKeys {
            cleared: std::mem::replace(&mut self.cleared, by.cleared),
            keys: std::mem::replace(&mut self.keys, by.keys),
        }
    }

    /// The result for a key, if it does not depend on the stored value.
    pub(crate) fn own(&self, key: &str) -> Option<&KeyBase> {
        match self.keys.get(key) {
            Some(change) => Some(&change.base).filter(|base| !matches!(base, KeyBase::Current)),
            None => self.cleared.then_some(&KeyBase::Removed),
        }
    }
}

/// The changes to all keys of a package.
pub(crate) struct OwnKeys {
    /// Whether the stored keys are removed.
    cleared: bool,
    keys: BTreeMap<Arc<str>, KeyChanges>,
}

/// Data that is no longer needed. It may hold closures of the application, whose `Drop` must not run under the
/// transaction's lock.
pub(crate) type Discarded = Box<dyn Any + Send>;

/// One change, with the state before it.
pub(crate) enum Undo {
    /// There were no changes at all.
    First,
    Attributes(SubjectId, Attributes),
    /// All changes of a client were dropped.
    Subject(SubjectId, SubjectChanges),
    /// The first change of a package.
    Package(SubjectId),
    Cleared(ChangeTarget, OwnKeys),
    Key(ChangeTarget, Arc<str>, Option<KeyChanges>),
    /// A step was added to the steps of a key.
    Step(ChangeTarget, Arc<str>),
}

/// A client, and the index of one of its packages.
pub(crate) type ChangeTarget = (SubjectId, usize);

/// The changes since the first savepoint, the newest last. Empty while no savepoint is set.
#[derive(Default)]
pub(crate) struct UndoLog {
    pub(crate) is_kept: bool,
    pub(crate) undo: Vec<Undo>,
}

impl UndoLog {
    pub(crate) fn note(&mut self, undo: impl FnOnce() -> Undo) {
        if self.is_kept {
            crate::steps::count(1);
            self.undo.push(undo());
        }
    }
}

impl Changes {
    /// The changes of a client, mutable.
    fn subject(&mut self, id: SubjectId) -> Option<&mut SubjectChanges> {
        if self.subjects.len() <= id {
            // Most transactions have one client. A vector would begin with space for four.
            if self.subjects.is_empty() {
                self.subjects.reserve_exact(id + 1);
            }
            self.subjects.resize_with(id + 1, Default::default);
        }
        self.subjects.get_mut(id)
    }

    pub(crate) fn attributes(
        &mut self,
        id: SubjectId,
        log: &mut UndoLog,
    ) -> Option<&mut Attributes> {
        let subject = self.subject(id)?;
        log.note(|| Undo::Attributes(id, subject.attributes.clone()));
        Some(&mut subject.attributes)
    }

    /// Drops all changes of a client.
    pub(crate) fn forget(&mut self, id: SubjectId, log: &mut UndoLog) -> Option<SubjectChanges> {
        let old = std::mem::take(self.subject(id)?);
        if log.is_kept {
            log.note(|| Undo::Subject(id, old));
            return None;
        }
        Some(old)
    }

    fn package(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        log: &mut UndoLog,
    ) -> Option<(usize, &mut PackageChanges)> {
        let packages = &mut self.subject(id)?.packages;
        let at = packages.position(container, package).unwrap_or_else(|| {
            log.note(|| Undo::Package(id));
            packages.push(PackageChanges::new(container, package.clone()))
        });
        Some((at, packages.get_mut(at)?))
    }

    /// Removes all keys of a package.
    pub(crate) fn clear(
        &mut self,
        id: SubjectId,
        container: ContainerIndex,
        package: &Arc<str>,
        log: &mut UndoLog,
    ) -> Option<BTreeMap<Arc<str>, KeyChanges>> {
        let (at, changes) = self.package(id, container, package, log)?;
        let before = changes.replace(OwnKeys {
            cleared: true,
            keys: BTreeMap::new(),
        });
        if log.is_kept {
            log.note(|| Undo::Cleared((id, at), before));
            return None;
        }
        Some(before.keys)
    }

    /// Replaces the changes of a key. Returns the old ones if no savepoint needs them.
    pub(crate) fn write(
        &mut self,
        id: SubjectId,
        (container, package): (ContainerIndex, &Arc<str>),
        key: &str,
        change: KeyChanges,
        log: &mut UndoLog,
    ) -> Option<KeyChanges> {
        let (at, changes) = self.package(id, container, package, log)?;
        if !log.is_kept
            && let Some(there) = changes.keys.get_mut(key)
        {
            changes.inserting += usize::from(change.inserts());
            changes.inserting -= usize::from(there.inserts());
            return Some(std::mem::replace(there, change));
        }
        let key = Arc::from(key);
        let before = changes.set(&key, Some(change));
        if log.is_kept {
            log.note(|| Undo::Key((id, at), key, before));
            return None;
        }
        before
    }

    /// Adds a step to the changes of a key, whose value depends on the stored one.
    pub(crate) fn step(
        &mut self,
        id: SubjectId,
        (container, package): (ContainerIndex, &Arc<str>),
        key: &str,
        step: KeyStep,
        log: &mut UndoLog,
    ) {
        let Some((at, changes)) = self.package(id, container, package, log) else {
            return;
        };
        let Some((name, there)) = changes.keys.get_key_value(key) else {
            let mut change = KeyChanges::of(KeyBase::Current);
            change.steps.push(step);
            self.write(id, (container, package), key, change, log);
            return;
        };
        let added = usize::from(!there.inserts());
        log.note(|| Undo::Step((id, at), name.clone()));
        if let Some(there) = changes.keys.get_mut(key) {
            there.steps.push(step);
        }
        changes.inserting += added;
    }

    /// Undoes the newest change. The caller drops the returned data later.
    pub(crate) fn undo(&mut self, undo: Undo) -> Option<Discarded> {
        crate::steps::count(1);
        fn kept(discarded: impl Any + Send) -> Option<Discarded> {
            Some(Box::new(discarded))
        }
        match undo {
            Undo::First => kept(std::mem::take(&mut self.subjects)),
            Undo::Attributes(id, attributes) => {
                self.subject(id)?.attributes = attributes;
                None
            }
            Undo::Subject(id, changes) => {
                let subject = self.subject(id)?;
                kept(std::mem::replace(subject, changes))
            }
            Undo::Package(id) => kept(self.subject(id)?.packages.pop()),
            Undo::Cleared((id, at), before) => {
                let package = self.subject(id)?.packages.get_mut(at)?;
                kept(package.replace(before))
            }
            Undo::Key((id, at), key, before) => {
                let package = self.subject(id)?.packages.get_mut(at)?;
                let undone = package.set(&key, before)?;
                if undone.steps.is_empty() {
                    return None;
                }
                kept(undone)
            }
            Undo::Step((id, at), key) => {
                let package = self.subject(id)?.packages.get_mut(at)?;
                let change = package.keys.get_mut(&key)?;
                let step = change.steps.pop();
                if change
                    .known
                    .as_ref()
                    .is_some_and(|known| known.0 > change.steps.len())
                {
                    change.known = None;
                }
                package.inserting -= usize::from(!change.inserts());
                kept(step)
            }
        }
    }
}

/// The changes to one key.
pub(crate) struct KeyChanges {
    pub(crate) base: KeyBase,
    pub(crate) steps: Vec<KeyStep>,
    /// A number of steps, and the value after them, if it was computed. It stays correct, because the value before the
    /// steps does not change within a transaction.
    ///
    /// Boxed, because few keys need it. So a node of the tree of keys stays small.
    known: Option<Box<(usize, Option<Bytes>)>>,
}

pub(crate) enum KeyBase {
    Current,
    Put(Bytes),
    Removed,
    /// The value cannot be stored. The commit fails with this error.
    Refused(Error),
}

pub(crate) enum KeyStep {
    Arithmetic(Arithmetic),
    Commute {
        closure: Closure,
        input: Option<Bytes>,
        output: Bytes,
    },
}

impl KeyStep {
    /// The value after this step.
    pub(crate) fn after(&self, value: Option<&[u8]>) -> Result<Bytes> {
        match self {
            Self::Arithmetic(arithmetic) => Ok(arithmetic.apply(value)?.into()),
            // The value before this step does not change within a transaction, so the output stays correct.
            Self::Commute { output, .. } => Ok(output.clone()),
        }
    }
}

type Function = Box<dyn FnMut(Option<&[u8]>) -> Result<Bytes> + Send>;

/// An application's closure from bytes to bytes. It is taken out while it runs, so that no lock is held.
#[derive(Clone)]
pub(crate) struct Closure(Arc<Mutex<Option<Function>>>);

impl Closure {
    pub(crate) fn new(f: impl FnMut(Option<&[u8]>) -> Result<Bytes> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(f)))))
    }

    /// Runs the closure. `None` if it is already running.
    pub(crate) fn call(&self, value: Option<&[u8]>) -> Option<Result<Bytes>> {
        let slot = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut function = slot().take()?;
        let result = function(value);
        *slot() = Some(function);
        Some(result)
    }
}

impl KeyChanges {
    pub(crate) fn of(base: KeyBase) -> Self {
        Self {
            base,
            steps: Vec::new(),
            known: None,
        }
    }

    fn inserts(&self) -> bool {
        match self.base {
            KeyBase::Put(_) | KeyBase::Refused(_) => true,
            KeyBase::Current | KeyBase::Removed => !self.steps.is_empty(),
        }
    }

    /// The value after this change, given the value before it.
    pub(crate) fn value(&self, before: Option<Bytes>) -> Result<Option<Bytes>> {
        let (done, mut value) = match (self.known.as_deref(), &self.base) {
            (Some((done, value)), _) => (*done, value.clone()),
            (None, KeyBase::Current) => (0, before),
            (None, KeyBase::Put(value)) => (0, Some(value.clone())),
            (None, KeyBase::Removed) => (0, None),
            (None, KeyBase::Refused(error)) => return Err(error.clone()),
        };
        for step in self.steps.iter().skip(done) {
            crate::steps::count(1);
            value = Some(step.after(value.as_deref())?);
        }
        Ok(value)
    }

    /// As [`value`](Self::value). The value is kept, so that it is not computed again for later steps.
    pub(crate) fn value_to_keep(&mut self, before: Option<Bytes>) -> Result<Option<Bytes>> {
        let value = self.value(before)?;
        self.known = Some(Box::new((self.steps.len(), value.clone())));
        Ok(value)
    }

    /// The change as plain data. Its closures are appended to `closures`.
    pub(crate) fn pack(self, closures: &mut Vec<Closure>) -> Result<KeyChange> {
        let base = match self.base {
            KeyBase::Current => ChangeBase::Current,
            KeyBase::Put(value) => ChangeBase::Put(value),
            KeyBase::Removed => ChangeBase::Removed,
            KeyBase::Refused(error) => return Err(error),
        };
        let steps = self.steps.into_iter().map(|step| match step {
            KeyStep::Arithmetic(arithmetic) => ChangeStep::Arithmetic(arithmetic),
            KeyStep::Commute {
                closure,
                input,
                output,
            } => {
                closures.push(closure);
                ChangeStep::Commute(Commute {
                    index: closures.len() - 1,
                    input,
                    output,
                })
            }
        });
        Ok(KeyChange {
            base,
            steps: steps.collect(),
        })
    }
}
