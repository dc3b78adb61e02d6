//! A session in one container.

use super::Session;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::no_such_container;
use crate::transaction::{ContainerIndex, ContainerLink, TxnState};
use chrono::{DateTime, Utc};
use std::fmt;

/// A client's session in one container only.
///
/// ```
/// use cloakroom::{ContainerSettings, Store};
///
/// let store = Store::in_memory()?;
/// store.register("shop.cart", ContainerSettings::new())?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let carts = txn.container("shop.cart")?.session_data(&id)?;
/// carts.pkg("shop.cart").insert("tea", 2)?;
/// assert!(carts.exists()?);
/// let rest = txn.container("")?.session_data(&id)?;
/// assert!(!rest.exists()?);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionData {
    pub(super) session: Session,
    pub(super) container: ContainerLink,
}

impl fmt::Debug for SessionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionData")
            .field(
                "container",
                &self.session.txn.name_of(Some(self.container), ""),
            )
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Returns this session in one container, whatever packages that is registered for. So a handler reaches a container
    /// that it chooses, for new visitors too.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.register("drafts", ContainerSettings::new())?;
    /// let id = store.client_ids().issue();
    /// let txn = store.begin()?;
    /// let session = txn.session(&id)?;
    /// let drafts = session.data("drafts")?;
    /// drafts.pkg("letter").insert("text", "Dear Ann")?;
    /// assert_eq!(drafts.packages()?, ["letter"]);
    /// assert!(session.pkg("letter").is_empty()?);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Txn::container`](crate::Txn::container).
    pub fn data(&self, container: &str) -> Result<SessionData> {
        let link = self.txn.link(container)?;
        let link = link.ok_or_else(|| no_such_container(container))?;
        Ok(self.in_container(link))
    }

    pub(crate) fn in_container(&self, container: ContainerLink) -> SessionData {
        SessionData {
            session: self.clone(),
            container,
        }
    }
}

impl SessionData {
    /// Returns the session in all containers.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether the client has a session in this container. Counts as an access.
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn exists(&self) -> Result<bool> {
        self.with(|state, container| state.exists(self.session.subject, Some(container)))
    }

    /// The time of the last access in this container.
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn last_access(&self) -> Result<Option<DateTime<Utc>>> {
        self.with(|state, container| state.times(self.session.subject, Some(container)))
            .map(|times| times.map(|(_, last_access)| last_access))
    }

    /// The creation time in this container.
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn created_at(&self) -> Result<Option<DateTime<Utc>>> {
        self.with(|state, container| state.times(self.session.subject, Some(container)))
            .map(|times| times.map(|(created, _)| created))
    }

    /// When the session expires in this container if it is not used any more, as
    /// [`Session::expires_at`] tells of all. Reads no other container, unless this transaction has changed the session.
    /// `None` if it does not expire, or if it is not here.
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn expires_at(&self) -> Result<Option<DateTime<Utc>>> {
        let subject = self.session.subject;
        let at = self.with(|state, container| state.expires_at(subject, Some(container)))?;
        Ok(at.map(Timestamp::to_datetime))
    }

    /// Ends the session in this container: its packages and its times there are gone, and other containers keep theirs.
    /// If the session is in no other container, it ends as by [`Session::destroy`], and that counts as read. Values that
    /// the transaction inserts here afterwards begin it anew here. Counts as reading the list of packages.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.register("cart", ContainerSettings::new())?;
    /// let id = store.client_ids().issue();
    /// store.transact(|txn| {
    ///     let session = txn.session(&id)?;
    ///     session.pkg("cart").insert("tea", 2)?;
    ///     session.pkg("seen").insert("tea", true)
    /// })?;
    ///
    /// store.transact(|txn| txn.session(&id)?.data("cart")?.destroy())?;
    /// let txn = store.begin()?;
    /// let session = txn.session(&id)?;
    /// assert!(!session.data("cart")?.exists()?);
    /// assert_eq!(session.pkg("seen").get("tea")?, Some(true));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Session::exists`].
    pub fn destroy(&self) -> Result<()> {
        self.with(|state, container| state.destroy_in(self.session.subject, container))
    }

    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut TxnState, ContainerIndex) -> Result<T>,
    ) -> Result<T> {
        self.session.with(|state| {
            state.look_at(self.session.subject)?;
            work(state, state.resolve(self.container, "")?)
        })
    }
}
