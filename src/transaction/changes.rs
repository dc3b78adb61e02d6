//! What a transaction wants changed: a value that can be copied for a savepoint. Knows no storage.

use super::house::RoomAt;
use crate::client_id::ClientId;
use crate::error::{Error, Result};
use crate::storage::{Base, Commute, KeyChange, Step};
use crate::value::Arithmetic;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The changes of a whole transaction, by subject.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    pub(crate) subjects: Vec<SubjectChanges>,
}

/// What becomes of the session that a client came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Stays,
    Rotated,
    Destroyed,
}

/// The changes to one client's session.
#[derive(Clone, Default)]
pub(crate) struct SubjectChanges {
    pub(crate) fate: Fate,
    /// The id issued in this transaction: for a session founded, or a rotated one.
    pub(crate) id: Option<ClientId>,
    pub(crate) packages: Vec<PackageChanges>,
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) owner: Option<Option<Arc<str>>>,
}

impl SubjectChanges {
    pub(crate) fn package(&self, room: RoomAt, package: &str) -> Option<&PackageChanges> {
        self.packages
            .iter()
            .find(|p| p.room == room && *p.package == *package)
    }

    pub(crate) fn package_mut(&mut self, room: RoomAt, package: &Arc<str>) -> &mut PackageChanges {
        let found = self
            .packages
            .iter()
            .position(|p| p.room == room && p.package == *package);
        let at = found.unwrap_or_else(|| {
            self.packages.push(PackageChanges {
                room,
                package: package.clone(),
                cleared: false,
                keys: BTreeMap::new(),
            });
            self.packages.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut self.packages[at]
    }

    /// Whether anything was put into the session, so that it comes into being (C1.4).
    pub(crate) fn inserts(&self) -> bool {
        self.inserts_in(None)
    }

    /// The same for one container, or for all.
    pub(crate) fn inserts_in(&self, room: Option<RoomAt>) -> bool {
        let here = |p: &&PackageChanges| room.is_none_or(|room| p.room == room);
        self.packages
            .iter()
            .filter(here)
            .any(PackageChanges::inserts)
    }
}

#[derive(Clone)]
pub(crate) struct PackageChanges {
    pub(crate) room: RoomAt,
    pub(crate) package: Arc<str>,
    pub(crate) cleared: bool,
    pub(crate) keys: BTreeMap<Arc<str>, Key>,
}

impl PackageChanges {
    fn inserts(&self) -> bool {
        self.keys.values().any(Key::inserts)
    }
}

/// What becomes of one key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) base: KeyBase,
    pub(crate) steps: Vec<KeyStep>,
}

#[derive(Clone)]
pub(crate) enum KeyBase {
    Current,
    Put(Bytes),
    Removed,
    /// The value cannot be stored; the commit fails with this (C2.3).
    Refused(Error),
}

#[derive(Clone)]
pub(crate) enum KeyStep {
    Arithmetic(Arithmetic),
    Commute {
        closure: Closure,
        input: Option<Bytes>,
        output: Bytes,
    },
}

type Function = Box<dyn FnMut(Option<&[u8]>) -> Result<Bytes> + Send>;

/// An application's closure from bytes to bytes. It is taken out while it runs, so that nothing is
/// locked meanwhile.
#[derive(Clone)]
pub(crate) struct Closure(Arc<Mutex<Option<Function>>>);

impl Closure {
    pub(crate) fn new(f: impl FnMut(Option<&[u8]>) -> Result<Bytes> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(f)))))
    }

    /// Runs it; `None` if it is running already.
    pub(crate) fn call(&self, value: Option<&[u8]>) -> Option<Result<Bytes>> {
        let slot = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut function = slot().take()?;
        let result = function(value);
        *slot() = Some(function);
        Some(result)
    }
}

impl Key {
    pub(crate) fn of(base: KeyBase) -> Self {
        Self {
            base,
            steps: Vec::new(),
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
        let mut value = match &self.base {
            KeyBase::Current => before,
            KeyBase::Put(value) => Some(value.clone()),
            KeyBase::Removed => None,
            KeyBase::Refused(error) => return Err(error.clone()),
        };
        for step in &self.steps {
            value = Some(match step {
                KeyStep::Arithmetic(arithmetic) => arithmetic.apply(value.as_deref())?.into(),
                // What it started from is fixed within a transaction.
                KeyStep::Commute { output, .. } => output.clone(),
            });
        }
        Ok(value)
    }

    /// The change as plain data; the closures go to `closures`.
    pub(crate) fn pack(self, closures: &mut Vec<Closure>) -> Result<KeyChange> {
        let base = match self.base {
            KeyBase::Current => Base::Current,
            KeyBase::Put(value) => Base::Put(value),
            KeyBase::Removed => Base::Removed,
            KeyBase::Refused(error) => return Err(error),
        };
        let steps = self.steps.into_iter().map(|step| match step {
            KeyStep::Arithmetic(arithmetic) => Step::Arithmetic(arithmetic),
            KeyStep::Commute {
                closure,
                input,
                output,
            } => {
                closures.push(closure);
                Step::Commute(Commute {
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
