//! A session for longer than the transaction in which it was found.

use super::Store;
use crate::block_on::block_on;
use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::transaction::Txn;
use std::fmt;

/// A session for longer than one transaction: for a WebSocket, a stream, or a task that continues after the response.
///
/// A [`Session`] belongs to its transaction and is [`Closed`](ErrorKind::Closed) with it. A handle begins its own
/// transaction for each use. Once the session was rotated or destroyed, or has expired, every use gives
/// [`SessionEnded`](ErrorKind::SessionEnded). (A late *request* under the same id would read an empty session.)
/// Clones refer to the same session. They keep the store open. An id that is
/// [renewed by its age](crate::http::SessionLayer::renew_after) finds the session for the grace; then a handle which was made
/// before has ended, too.
///
/// Each use by [`transact`](Self::transact) is an access: it keeps the session from expiring, and is recorded once per
/// resolution. [`is_live`](Self::is_live) is none. A handle sends no cookie. If the cookie has a lifetime (`CookieLifetime`, or the session's own timeout), a recorded use delays its
/// renewal: a request within one resolution of that use does not renew the cookie.
///
/// ```
/// use cloakroom::{ErrorKind, Store};
///
/// let store = Store::in_memory()?;
/// let id = store.client_ids().issue();
/// let txn = store.begin()?;
/// let session = txn.session(&id)?;
/// session.pkg("chat").insert("name", "Ann")?;
/// let socket = session.handle()?; // moves into the task that serves the socket
/// txn.commit()?;
///
/// let name: Option<String> = socket.transact(|session| session.pkg("chat").get("name"))?;
/// assert_eq!(name.as_deref(), Some("Ann"));
///
/// // Ann logs out, or logs in anew, in another tab.
/// store.transact(|txn| txn.session(&id)?.destroy())?;
/// let ended = socket.transact(|session| session.pkg("chat").len()).unwrap_err();
/// assert_eq!(ended.kind(), ErrorKind::SessionEnded);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct SessionHandle {
    store: Store,
    id: ClientId,
}

impl Session {
    /// Returns a handle on this session that outlives the transaction. If this transaction creates the session, the
    /// handle finds it after the commit.
    ///
    /// # Errors
    ///
    /// [`SessionEnded`](ErrorKind::SessionEnded) if the commit, as things stand, leaves no session; otherwise as for
    /// [`exists`](Self::exists).
    pub fn handle(&self) -> Result<SessionHandle> {
        let found = self.txn().with(|state| {
            let id = state.client_id(self.subject)?;
            Ok((id, state.keep_open()))
        });
        let (id, keep_open) = found?;
        match (id, keep_open.as_any().downcast()) {
            (Some(id), Ok(inner)) => Ok(SessionHandle {
                store: Store { inner },
                id,
            }),
            _ => Err(ended()),
        }
    }
}

impl SessionHandle {
    /// Returns the id of the session. To check an id that a visitor sent, do not compare it with this one;
    /// [verify](crate::ClientIds::verify) it.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.id
    }

    /// Runs `f` on the session in a transaction and commits it. Runs `f` again after a conflict, and blocks, as
    /// [`Store::transact`] does. Counts as an access to the session.
    ///
    /// # Errors
    ///
    /// [`SessionEnded`](ErrorKind::SessionEnded) if the session has ended or ends while `f` runs; the error of `f`;
    /// otherwise as for [`Store::transact`].
    pub fn transact<T, E: From<Error>>(
        &self,
        mut f: impl FnMut(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.transact(|txn| f(&self.enter(txn)?))
    }

    /// [`transact`](Self::transact) for closures that return futures.
    ///
    /// # Errors
    ///
    /// As for [`transact`](Self::transact).
    pub fn transact_async<T, E, F, Fut>(
        &self,
        mut f: F,
    ) -> impl Future<Output = Result<T, E>> + Send
    where
        F: FnMut(Session) -> Fut + Send,
        Fut: Future<Output = Result<T, E>> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let handle = self.clone();
        let store = self.store.clone();
        async move {
            let run = |txn: Txn| {
                let running = handle.enter(&txn).map(&mut f);
                async move { running?.await }
            };
            store.transact_on(Some(handle.id.clone()), run).await
        }
    }

    /// Returns whether the session is still there: neither rotated nor destroyed, and not expired. This is no access,
    /// so an open connection that asks from time to time keeps the session from expiring no longer than its visitor
    /// does. Blocks on storage that is reached over a network.
    ///
    /// # Errors
    ///
    /// As for [`Store::begin`] and [`Session::exists`].
    pub fn is_live(&self) -> Result<bool> {
        block_on(self.is_live_async())
    }

    /// [`is_live`](Self::is_live) as a future.
    ///
    /// ```
    /// # async fn example(session: cloakroom::Session) -> Result<(), cloakroom::Error> {
    /// use std::time::Duration;
    ///
    /// let handle = session.handle()?;
    /// tokio::spawn(async move {
    ///     // For as long as the visitor is logged in and comes now and then.
    ///     while handle.is_live_async().await.unwrap_or(true) {
    ///         // ... send something to the visitor ...
    ///         tokio::time::sleep(Duration::from_secs(10)).await;
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`is_live`](Self::is_live).
    pub fn is_live_async(&self) -> impl Future<Output = Result<bool>> + Send + use<> {
        let (store, id) = (self.store.clone(), self.id.clone());
        async move {
            let look = store.begin_async().await?;
            look.load(&id).await?;
            look.is_live(&id)
        }
    }

    /// That the session is there counts as read: if it ends meanwhile, the commit conflicts.
    fn enter(&self, txn: &Txn) -> Result<Session> {
        let session = txn.session(&self.id)?;
        if session.exists()? {
            Ok(session)
        } else {
            Err(ended())
        }
    }
}

fn ended() -> Error {
    Error::new(
        ErrorKind::SessionEnded,
        "the session was rotated or destroyed, or has expired",
    )
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").finish_non_exhaustive()
    }
}
