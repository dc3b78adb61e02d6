//! Which packages and keys a session has.

use super::{Session, SessionData};
use crate::error::Result;

impl Session {
    /// Returns the ids of the packages that have any key, sorted, where [`pkg`](Self::pkg) finds them. Counts as
    /// reading the list of packages, but not as reading their content.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().issue();
    /// let txn = store.begin()?;
    /// let session = txn.session(&id)?;
    /// session.pkg("cart").insert("tea", 2)?;
    /// session.pkg("seen").insert("tea", true)?;
    /// assert_eq!(session.packages()?, ["cart", "seen"]);
    /// assert_eq!(session.pkg("cart").entries::<u32>()?, [("tea".to_owned(), 2)]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn packages(&self) -> Result<Vec<String>> {
        let packages = self.with(|state| state.packages(self.subject))?;
        Ok(packages.iter().map(ToString::to_string).collect())
    }

    /// Returns all keys, each with its package, sorted. Counts as reading all packages.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn keys(&self) -> Result<Vec<(String, String)>> {
        let mut keys = Vec::new();
        for package in self.packages()? {
            let of_it = self.pkg(&package).keys()?;
            keys.extend(of_it.into_iter().map(|key| (package.clone(), key)));
        }
        Ok(keys)
    }

    /// Removes all values of all packages. The session stays, with its id, its owner and its times. Counts as reading
    /// which packages there are: a package that another transaction adds meanwhile makes the commit conflict.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn clear(&self) -> Result<()> {
        self.with(|state| state.clear_all(self.subject))
    }
}

impl SessionData {
    /// Returns the ids of the packages that have any key in this container, sorted. Counts as reading which packages there
    /// are.
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn packages(&self) -> Result<Vec<String>> {
        let subject = self.session.subject;
        let packages = self.with(|state, container| state.packages_in(subject, container))?;
        Ok(packages.iter().map(ToString::to_string).collect())
    }
}
