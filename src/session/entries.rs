//! A package as a whole: its keys and values.

use super::PkgData;
use crate::error::Result;
use crate::transaction::{Content, KeyBase, closed};
use crate::value;
use serde::Serialize;
use serde::de::DeserializeOwned;

impl PkgData {
    /// Returns all keys, sorted. Counts as reading the whole package.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), except for errors of the type.
    pub fn keys(&self) -> Result<Vec<String>> {
        self.with_all(|content| Ok(content.into_keys().map(|key| key.to_string()).collect()))
    }

    /// Returns all keys with their values, sorted by key. Counts as reading the whole package.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get): one value that is not a `T` fails the call.
    pub fn entries<T: DeserializeOwned>(&self) -> Result<Vec<(String, T)>> {
        let content = self.with_all(Ok)?;
        let entries = content.into_iter().map(|(key, stored)| {
            let value = stored.and_then(|bytes| value::decode(&bytes));
            let value = value.map_err(|e| self.at(&key, e))?;
            Ok((key.to_string(), value))
        });
        entries.collect()
    }

    /// Makes the package hold exactly these entries. Values that are stored already are not written again. Counts as
    /// reading the whole package: if another transaction changes any of its keys meanwhile, the commit conflicts.
    ///
    /// ```
    /// use cloakroom::Store;
    /// use std::collections::BTreeMap;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().issue();
    /// let txn = store.begin()?;
    /// let cart = txn.session(&id)?.pkg("cart");
    /// cart.insert("tea", 2)?;
    /// cart.replace(&BTreeMap::from([("milk".to_owned(), 1)]))?;
    /// assert_eq!(cart.keys()?, ["milk"]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`keys`](Self::keys) and [`insert`](Self::insert).
    pub fn replace<K: AsRef<str>, V: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<()> {
        let mut before = self.with_all(Ok)?;
        for (key, value) in entries {
            let key = key.as_ref();
            let change = self.encoded(key, &value);
            let is_there = match (before.remove(key), &change.base) {
                (Some(Ok(stored)), KeyBase::Put(new)) => stored == *new,
                _ => false,
            };
            if !is_there {
                self.write(key, change)?;
            }
        }
        before.keys().try_for_each(|key| self.write_removal(key))
    }

    /// Returns the number of keys. Counts as reading the whole package.
    ///
    /// # Errors
    ///
    /// As for [`keys`](Self::keys).
    pub fn len(&self) -> Result<usize> {
        self.with_all(|content| Ok(content.len()))
    }

    /// Whether there are no keys. Counts as reading the whole package.
    ///
    /// # Errors
    ///
    /// As for [`keys`](Self::keys).
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Removes all keys. Does not count as a read.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert).
    pub fn clear(&self) -> Result<()> {
        self.with(|state, container| state.clear(self.subject(), container, &self.package))
    }

    fn with_all<T>(&self, work: impl FnOnce(Content) -> Result<T>) -> Result<T> {
        let link = self.container.ok_or_else(closed)?;
        self.session.with(|state| {
            state.look_at(self.subject())?;
            let container = state.resolve(link, &self.package)?;
            work(state.read_all(self.subject(), container, &self.package)?)
        })
    }
}
