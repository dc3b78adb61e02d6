//! A session beyond the transaction in which it was found: for what outlives a request.

use super::Store;
use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::transaction::Txn;
use std::fmt;

/// A session for longer than one transaction: for a WebSocket, a stream or a task that goes on after the response.
///
/// A [`Session`] belongs to its transaction and is [`Closed`](ErrorKind::Closed) with it. This begins a transaction of
/// its own for each use. Once the session was rotated or destroyed, or has expired, every use gives
/// [`SessionEnded`](ErrorKind::SessionEnded), where a late *request* under the same id would read an empty session.
/// Clones are handles on the same session. They keep the store open.
///
/// A use is an access: it keeps the session from expiring, and is recorded once per resolution. No response carries the
/// cookie then, so where the cookie has a lifetime (`CookieLifetime`, or the session's own timeout), a use puts off its
/// renewal by the visitor's requests: one that comes within a resolution of a recorded use does not renew it.
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
    /// A handle on this session that outlives the transaction. If the session comes into being with this
    /// transaction, the handle finds it once that is committed.
    ///
    /// # Errors
    ///
    /// [`SessionEnded`](ErrorKind::SessionEnded) if the commit would leave no session, as things stand; else as for
    /// [`exists`](Self::exists).
    pub fn handle(&self) -> Result<SessionHandle> {
        let found = self.txn().with(|state| {
            let id = state.client_id(self.subject)?;
            Ok((id, state.premises()))
        });
        let (id, premises) = found?;
        match (id, premises.as_any().downcast()) {
            (Some(id), Ok(inner)) => Ok(SessionHandle {
                store: Store { inner },
                id,
            }),
            _ => Err(ended()),
        }
    }
}

impl SessionHandle {
    /// The id of the session. Compare it with nothing that a visitor sends: [verify](crate::ClientIds::verify) that.
    #[must_use]
    pub fn client_id(&self) -> &ClientId {
        &self.id
    }

    /// Runs `f` on the session in a transaction and commits it; runs it again if that conflicts, as
    /// [`Store::transact`] does, and blocks like that. Counts as an access to the session.
    ///
    /// # Errors
    ///
    /// [`SessionEnded`](ErrorKind::SessionEnded) if the session has ended, also while `f` runs; what `f` gives; else as
    /// for [`Store::transact`].
    pub fn transact<T, E: From<Error>>(
        &self,
        mut f: impl FnMut(&Session) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.transact(|txn| f(&self.enter(txn)?))
    }

    /// [`transact`](Self::transact) for closures that give futures.
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
            store.transact_async(run).await
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
