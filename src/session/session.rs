//! The session of a client, in all its containers.

use crate::client_id::{ClientId, ClientKey};
use crate::error::Result;
use crate::storage::merge::check_name;
use crate::storage::record::whole_millis;
use crate::transaction::{SubjectId, Txn, TxnState};
use chrono::{DateTime, Utc};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A client's session in all containers: a cheap handle on a [`Txn`].
///
/// Clones refer to the same session of the same transaction. After the transaction has ended, every method returns
/// [`Closed`](crate::ErrorKind::Closed).
///
/// ```
/// use cloakroom::Store;
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let session = txn.session(&id)?; // a handler of axum gets it as an argument
/// assert!(!session.exists()?);
/// session.pkg("shop.cart").insert("tea", 2)?;
/// assert_eq!(session.packages()?, ["shop.cart"]);
/// txn.commit()?;
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct Session {
    pub(super) txn: Txn,
    pub(crate) subject: SubjectId,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Txn {
    /// Returns the session of a client. This creates nothing. The first insert creates a session at commit. It has
    /// the id `id` if that is fresh from [`issue`](crate::ClientIds::issue). If `id` is not fresh and has no live
    /// session, the session gets a new id, which [`Session::client_id`] returns.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed) once the transaction has ended.
    pub fn session(&self, id: &ClientId) -> Result<Session> {
        Ok(Session {
            subject: self.enter(Some(id))?,
            txn: self.clone(),
        })
    }

    /// [`session`](Self::session) as a future, for storage that must wait.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub fn session_async(&self, id: &ClientId) -> impl Future<Output = Result<Session>> + Send {
        self.visit(Some(id))
    }

    /// Returns the session of a visitor: the session of `id`, or, without an id, that of a new visitor, whose first
    /// insert creates a session under a new id.
    ///
    /// # Errors
    ///
    /// As for [`session`](Self::session).
    pub fn visit(&self, id: Option<&ClientId>) -> impl Future<Output = Result<Session>> + Send {
        let entered = self.enter(id);
        let txn = self.clone();
        async move { txn.session_of(entered?).await }
    }

    /// The session of a client that was entered, fetched if that is needed.
    pub(crate) async fn session_of(&self, subject: SubjectId) -> Result<Session> {
        self.fetch(Some(subject)).await?;
        Ok(Session {
            txn: self.clone(),
            subject,
        })
    }
}

impl Session {
    /// Returns the transaction that this session belongs to.
    #[must_use]
    pub fn txn(&self) -> &Txn {
        &self.txn
    }

    /// Returns the id that the session will have after the commit. It is `Some` exactly if the commit, as things
    /// stand, leaves a session under it. It is `None` for a visitor without a session until something is inserted, or an
    /// owner, a label or a timeout is set, and after the transaction has ended. Does not count as a read.
    ///
    /// It is also `None` where the visitor sent an id that was renewed by its age a moment ago
    /// ([`renew_after`](crate::http::SessionLayer::renew_after)). That leads to the session, but the session has another id,
    /// which only its visitor knows. [`client_key`](Self::client_key) tells its key.
    #[must_use]
    pub fn client_id(&self) -> Option<ClientId> {
        self.with(|state| state.own_client_id(self.subject)).ok()?
    }

    /// Returns the key under which the store knows the session after the commit, as
    /// [`SessionInfo::client`](crate::SessionInfo::client) tells it: for example to find this session in a list of its
    /// owner's devices. It is `None` if the commit, as things stand, leaves no session, and after the transaction has ended.
    /// Does not count as a read.
    ///
    /// ```
    /// use cloakroom::Store;
    ///
    /// let store = Store::in_memory()?;
    /// let id = store.client_ids().issue();
    /// store.transact(|txn| txn.session(&id)?.set_owner(Some("ann")))?;
    ///
    /// let txn = store.begin()?;
    /// let this = txn.session(&id)?.client_key();
    /// assert_eq!(this, Some(store.sessions_of("ann")?[0].client));
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn client_key(&self) -> Option<ClientKey> {
        self.with(|state| state.client_key(self.subject)).ok()?
    }

    /// Looks at the session as the commit will, if it was changed without a look.
    #[cfg(feature = "http")]
    pub(crate) fn look_before_commit(&self) {
        // A transaction that has ended has nothing to commit.
        let _ = self.with(|state| {
            state.look_before_commit(self.subject);
            Ok(())
        });
    }

    /// Gives the session another id if its id is older than this. The old one goes on leading to it for a while.
    #[cfg(feature = "http")]
    pub(crate) fn renew_if_due(&self, after: Duration, grace: Duration) {
        // What cannot be looked at any more is renewed by a later request.
        let _ = self.with(|state| state.renew_if_due(self.subject, after, grace));
    }

    /// Whether the transaction holds the turn of the session, however that is called by now.
    #[cfg(feature = "http")]
    pub(crate) fn holds_turn(&self) -> bool {
        let holds = self.with(|state| Ok(state.holds_turn(self.subject)));
        holds.unwrap_or(false)
    }

    /// Whether nothing of the session was read or changed in its transaction.
    #[cfg(feature = "http")]
    pub(crate) fn is_unused(&self) -> bool {
        let is_unused = self.with(|state| Ok(state.is_unused()));
        is_unused.unwrap_or(false)
    }

    /// Whether the transaction writes one key of this session and nothing else.
    #[cfg(feature = "http")]
    pub(crate) fn writes_only(&self, package: &str, key: &str) -> bool {
        let alone = self.with(|state| Ok(state.writes_only(self.subject, package, key)));
        alone.unwrap_or(false)
    }

    /// How many accesses the transaction has to record.
    #[cfg(feature = "http")]
    pub(crate) fn due_accesses(&self) -> usize {
        let due = self.with(|state| Ok(state.due_accesses()));
        due.unwrap_or(0)
    }

    /// Whether the client presented an id that has no session, as far as the transaction looked.
    #[cfg(feature = "http")]
    pub(crate) fn presents_dead_id(&self) -> bool {
        let is_dead = self.with(|state| Ok(state.presents_dead_id(self.subject)));
        is_dead.unwrap_or(false)
    }

    /// Whether a session exists in any container. Counts as reading its existence, and as an access.
    ///
    /// # Errors
    ///
    /// [`Closed`](crate::ErrorKind::Closed), [`SnapshotTooOld`](crate::ErrorKind::SnapshotTooOld),
    /// [`Corrupt`](crate::ErrorKind::Corrupt), [`Unavailable`](crate::ErrorKind::Unavailable).
    pub fn exists(&self) -> Result<bool> {
        self.with(|state| state.exists(self.subject, None))
    }

    /// The time of the last access in any container, to the resolution of the container. `None` if there is no
    /// session. Does not count as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn last_access(&self) -> Result<Option<DateTime<Utc>>> {
        self.with(|state| state.times(self.subject, None))
            .map(|times| times.map(|(_, last_access)| last_access))
    }

    /// The earliest creation time in any container. `None` if there is no session. Does not count as a read.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn created_at(&self) -> Result<Option<DateTime<Utc>>> {
        self.with(|state| state.times(self.subject, None))
            .map(|times| times.map(|(created, _)| created))
    }

    /// Gives the client a new id, for example after a login, and moves all data to it. The new id is returned at once
    /// and is valid from the commit on; the old one is invalid from then on. If there is no session, this counts as
    /// reading that, and creates none. An insert, an owner, a label or a timeout in the same transaction then
    /// creates the session under the new id.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the id is [adopted](crate::ClientIds::adopt); otherwise as for
    /// [`exists`](Self::exists).
    pub fn rotate(&self) -> Result<ClientId> {
        self.with(|state| state.rotate(self.subject))
    }

    /// Ends the session in all containers, including those where it has expired. A later insert creates a new
    /// session. If there is no session, this counts as reading that.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn destroy(&self) -> Result<()> {
        self.with(|state| state.destroy(self.subject))
    }

    /// Sets the session's own timeout; `None` restores the timeout of its containers. Zero means that it never
    /// expires. It is kept in milliseconds, rounded up. The next response sends the cookie, whose lifetime is the
    /// timeout. For zero it is 400 days, the maximum that browsers allow.
    ///
    /// If there is no session, `Some` creates one, as an insert does, and `None` changes nothing. The session begins
    /// in a container whose packages this transaction used, or else in the unnamed one.
    ///
    /// # Errors
    ///
    /// As for [`exists`](Self::exists).
    pub fn set_timeout(&self, t: Option<Duration>) -> Result<()> {
        self.with(|state| {
            let attributes = match t {
                Some(_) => state.give(self.subject)?,
                None => state.take_back(self.subject)?,
            };
            attributes.timeout = Some(t.map(whole_millis));
            Ok(())
        })
    }

    /// Sets the owner of the session, so that all sessions of one user can be found and ended. If there is no
    /// session, an owner creates one, [as a timeout does](Self::set_timeout). The session then has no
    /// [time of authentication](Self::authenticated_at); [`log_in`](Self::log_in) sets both.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) if the owner exceeds the limit of names; otherwise as for
    /// [`exists`](Self::exists).
    pub fn set_owner(&self, o: Option<&str>) -> Result<()> {
        if let Some(owner) = o {
            check_name("the owner", owner, self.txn.limits())?;
        }
        self.with(|state| {
            let attributes = match o {
                Some(_) => state.give(self.subject)?,
                None => state.take_back(self.subject)?,
            };
            attributes.owner = Some(o.map(Arc::from));
            // Nobody has logged in as this owner.
            attributes.authenticated_at = Some(None);
            Ok(())
        })
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut TxnState) -> Result<T>) -> Result<T> {
        self.txn.with(work)
    }
}
