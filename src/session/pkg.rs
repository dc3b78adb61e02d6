//! A package of a session: its values by key.

use super::Session;
use super::data::SessionData;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::check_name;
use crate::transaction::closed;
use crate::transaction::{
    Closure, ContainerIndex, ContainerLink, KeyBase, KeyChanges, KeyStep, SubjectId, TxnState,
};
use crate::value::{self, Arithmetic};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// The values of one package in a session, by key.
///
/// Reading creates nothing. Changes are buffered in the transaction, and its commit stores them.
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let cart = txn.session(&id)?.pkg("shop.cart");
/// cart.insert("tea", 2)?;
/// cart.update("tea", |n: Option<u32>| n.unwrap_or(0) + 1)?;
/// cart.add("cups", 4)?; // never conflicts
/// assert_eq!(cart.keys()?, ["cups", "tea"]);
/// assert_eq!(cart.get::<u32>("tea")?, Some(3));
/// assert_eq!(cart.take::<u32>("cups")?, Some(4));
/// assert_eq!(cart.get::<u32>("cups")?, None);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct PkgData {
    pub(super) session: Session,
    /// None if the transaction had ended.
    pub(super) container: Option<ContainerLink>,
    pub(super) package: Arc<str>,
}

impl fmt::Debug for PkgData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PkgData")
            .field("container", &self.container_name())
            .field("package", &self.package)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Returns the handle of a package. The package lives in the container of its name, or else in the unnamed one.
    #[must_use]
    pub fn pkg(&self, id: &str) -> PkgData {
        PkgData {
            container: self.txn.link_for_package(id),
            session: self.clone(),
            package: Arc::from(id),
        }
    }
}

impl SessionData {
    /// Returns the handle of a package in this container, whatever containers are registered.
    #[must_use]
    pub fn pkg(&self, id: &str) -> PkgData {
        PkgData {
            container: Some(self.container),
            session: self.session.clone(),
            package: Arc::from(id),
        }
    }
}

impl PkgData {
    /// The package id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.package
    }

    /// Returns the value of a key; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TypeMismatch`](ErrorKind::TypeMismatch) if the value is not a `T`;
    /// [`NotSerializable`](ErrorKind::NotSerializable) if this transaction inserted a value that cannot be stored;
    /// [`SnapshotTooOld`](ErrorKind::SnapshotTooOld), [`Corrupt`](ErrorKind::Corrupt),
    /// [`Unavailable`](ErrorKind::Unavailable), [`Closed`](ErrorKind::Closed).
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let stored = self.read(key)?;
        self.decode(key, stored)
    }

    /// Removes a key and returns its value.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get). The key is then not removed.
    pub fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.get(key)?;
        if value.is_some() {
            self.remove(key)?;
        }
        Ok(value)
    }

    /// Sets the value of a key. The value is serialized at once. A value that cannot be serialized makes the commit
    /// fail with [`NotSerializable`](ErrorKind::NotSerializable), unless it is overwritten, removed or rolled back
    /// before. A value that is nested in more than 128 lists and maps makes it fail with
    /// [`TooLarge`](ErrorKind::TooLarge).
    ///
    /// Values are stored in serde's human-readable forms: an `IpAddr` or a `Uuid` is text.
    ///
    /// serde buffers internally tagged and untagged enums and flattened structs when it reads them, and its buffer
    /// has no 128-bit types. A field of type `i128` or `u128` in them is stored, but cannot be read back as its own
    /// type, even if its value is 5. Write such a field as text (`#[serde(with = …)]`), or as two integers.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) if the key or the package id exceeds its limit;
    /// [`SnapshotTooOld`](ErrorKind::SnapshotTooOld), [`Unavailable`](ErrorKind::Unavailable),
    /// [`Closed`](ErrorKind::Closed).
    pub fn insert(&self, key: &str, value: impl Serialize) -> Result<()> {
        let change = self.encoded(key, &value);
        self.write(key, change)
    }

    /// Replaces the value of a key by the result of `f`, and returns it. Counts as reading the key. If another handle
    /// changes the key meanwhile, `f` runs again on the new value.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get) and [`insert`](Self::insert).
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut f: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        self.check(key)?;
        loop {
            let before = self.read(key)?;
            let value = f(self.decode(key, before.clone())?);
            let change = self.encoded(key, &value);
            let written = self.with_key(key, |state, container| {
                let now = state.peek(self.subject(), container, &self.package, key)?;
                if now != before {
                    return Ok(false);
                }
                state.found_in(self.subject(), container)?;
                state.write(self.subject(), container, &self.package, key, change)?;
                Ok(true)
            });
            if written.map_err(|e| self.at(key, e))? {
                return Ok(value);
            }
        }
    }

    /// Replaces the value of a key by the result of `f` on the value that is current at commit. `f` runs once now, on
    /// the value that this transaction sees. If that value has changed by the commit, `f` runs again then, on a
    /// thread of the store. Does not count as a read, and never conflicts.
    ///
    /// `f` should be quick, and should not wait for a commit, not even one of another thread. While it runs at
    /// commit, other closures wait. After a tenth of a second, a spare thread of the store runs them. There are at
    /// most eight threads, and while eight closures block, no other closure runs again. If `f` itself commits another
    /// `commute` there that would have to run again, that commit returns [`Unsupported`](ErrorKind::Unsupported).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get) and [`insert`](Self::insert).
    pub fn commute<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut f: impl FnMut(Option<T>) -> T + Send + 'static,
    ) -> Result<()> {
        self.check(key)?;
        let closure = Closure::new(move |stored| {
            let value = stored.map(value::decode).transpose()?;
            value::encode(&f(value)).map(Bytes::from)
        });
        loop {
            let input = self.peek(key)?;
            let output = match closure.call(input.as_deref()) {
                Some(output) => output,
                None => return Err(self.at(key, busy())),
            };
            let output = match output {
                Err(e) if e.kind() == ErrorKind::NotSerializable => {
                    return self.write(key, KeyChanges::of(KeyBase::Refused(self.at(key, e))));
                }
                output => output.map_err(|e| self.at(key, e))?,
            };
            let step = KeyStep::Commute {
                closure: closure.clone(),
                input: input.clone(),
                output,
            };
            let written = self.with_key(key, |state, container| {
                let now = state.peek(self.subject(), container, &self.package, key)?;
                if now != input {
                    return Ok(false);
                }
                self.step(state, container, key, step)?;
                Ok(true)
            });
            if written.map_err(|e| self.at(key, e))? {
                return Ok(());
            }
        }
    }

    /// Adds `n` to the number that is current at commit. An absent key counts as 0. Does not count as a read, and
    /// never conflicts. Overflow and a value that is not a number make the commit fail.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert).
    pub fn add(&self, key: &str, n: i64) -> Result<()> {
        self.arithmetic(key, Arithmetic::Add(n))
    }

    /// Sets the number that is current at commit to `n` if it is less than `n` or absent.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn max(&self, key: &str, n: i64) -> Result<()> {
        self.arithmetic(key, Arithmetic::Max(n))
    }

    /// Sets the number that is current at commit to `n` if it is greater than `n` or absent.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn min(&self, key: &str, n: i64) -> Result<()> {
        self.arithmetic(key, Arithmetic::Min(n))
    }

    /// Removes a key. Returns whether it was there, which counts as reading it.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), except for errors of the type.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let there = self.contains_key(key)?;
        if there {
            self.write_removal(key)?;
        }
        Ok(there)
    }

    /// Removes a key. One that is longer than the limit, which may have been lowered, goes as well.
    pub(super) fn write_removal(&self, key: &str) -> Result<()> {
        self.with(|state, container| {
            let gone = KeyChanges::of(KeyBase::Removed);
            state.write(self.subject(), container, &self.package, key, gone)
        })
        .map_err(|e| self.at(key, e))
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), except for errors of the type.
    pub fn contains_key(&self, key: &str) -> Result<bool> {
        match self.read(key) {
            Ok(value) => Ok(value.is_some()),
            // Something was put there that cannot be stored; it can be removed.
            Err(e) if is_of_the_value(e.kind()) => Ok(true),
            Err(e) => Err(e),
        }
    }

    pub(super) fn subject(&self) -> SubjectId {
        self.session.subject
    }

    /// Works on the state, which is not made to look at anything.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut TxnState, ContainerIndex) -> Result<T>,
    ) -> Result<T> {
        let link = self.container.ok_or_else(closed)?;
        self.session.with(|state| {
            let container = state.resolve(link, &self.package)?;
            work(state, container)
        })
    }

    /// Works on the state, which has looked at the key if that is needed to know its value.
    fn with_key<T>(
        &self,
        key: &str,
        work: impl FnOnce(&mut TxnState, ContainerIndex) -> Result<T>,
    ) -> Result<T> {
        let link = self.container.ok_or_else(closed)?;
        self.session.with(|state| {
            let container = state.resolve_to_read(self.subject(), link, &self.package, key)?;
            work(state, container)
        })
    }

    fn container_name(&self) -> Arc<str> {
        self.session.txn.name_of(self.container, &self.package)
    }

    /// Adds to an error where it happened. Not to be called under the transaction's lock.
    pub(super) fn at(&self, key: &str, error: Error) -> Error {
        self.at_in(|| self.container_name(), key, error)
    }

    fn at_in(&self, container: impl FnOnce() -> Arc<str>, key: &str, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Closed | ErrorKind::SnapshotTooOld | ErrorKind::Unavailable => error,
            _ if error.key().is_some() => error,
            _ => error
                .in_container(&*container())
                .in_package(&*self.package)
                .at_key(key),
        }
    }

    fn check(&self, key: &str) -> Result<()> {
        let limits = self.session.txn.limits();
        check_name("the package id", &self.package, limits)
            .and_then(|()| check_name("the key", key, limits))
            .map_err(|e| self.at(key, e))
    }

    fn read(&self, key: &str) -> Result<Option<Bytes>> {
        let (id, package) = (self.subject(), &self.package);
        self.with_key(key, |state, container| {
            state.read(id, container, package, key)
        })
        .map_err(|e| self.at(key, e))
    }

    fn peek(&self, key: &str) -> Result<Option<Bytes>> {
        let (id, package) = (self.subject(), &self.package);
        self.with_key(key, |state, container| {
            state.peek(id, container, package, key)
        })
        .map_err(|e| self.at(key, e))
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, stored: Option<Bytes>) -> Result<Option<T>> {
        stored
            .map(|bytes| value::decode(&bytes))
            .transpose()
            .map_err(|e| self.at(key, e))
    }

    pub(super) fn encoded(&self, key: &str, value: &impl Serialize) -> KeyChanges {
        match value::encode(value) {
            Ok(bytes) => KeyChanges::of(KeyBase::Put(bytes.into())),
            Err(e) => KeyChanges::of(KeyBase::Refused(self.at(key, e))),
        }
    }

    pub(super) fn write(&self, key: &str, change: KeyChanges) -> Result<()> {
        self.check(key)?;
        self.with(|state, container| {
            state.found_in(self.subject(), container)?;
            state.write(self.subject(), container, &self.package, key, change)
        })
        .map_err(|e| self.at(key, e))
    }

    fn arithmetic(&self, key: &str, arithmetic: Arithmetic) -> Result<()> {
        self.check(key)?;
        let step = KeyStep::Arithmetic(arithmetic);
        self.with(|state, container| self.step(state, container, key, step))
            .map_err(|e| self.at(key, e))
    }

    /// Adds a step to what becomes of a key: at once where its value is this transaction's own, else
    /// at commit.
    fn step(
        &self,
        state: &mut TxnState,
        container: ContainerIndex,
        key: &str,
        step: KeyStep,
    ) -> Result<()> {
        let (id, package) = (self.subject(), &self.package);
        state.found_in(id, container)?;
        let value = match state.own(id, container, package, key) {
            None => return state.step(id, container, package, key, step),
            Some(KeyBase::Refused(_)) => return Ok(()),
            Some(KeyBase::Put(value)) => step.after(Some(value)),
            Some(KeyBase::Current | KeyBase::Removed) => step.after(None),
        };
        let change = match value {
            Ok(value) => KeyBase::Put(value),
            Err(e) => KeyBase::Refused(self.at_in(|| state.name_of(container), key, e)),
        };
        state.write(id, container, package, key, KeyChanges::of(change))
    }
}

/// Whether an error is about a value that this transaction itself put there.
fn is_of_the_value(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotSerializable
            | ErrorKind::TooLarge
            | ErrorKind::Overflow
            | ErrorKind::TypeMismatch
    )
}

fn busy() -> Error {
    Error::new(ErrorKind::InvalidInput, "the closure is running already")
}
