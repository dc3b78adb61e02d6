//! The events of sessions for the application: a session was created, got a new id, or has ended. Knows neither ids nor
//! values.

use crate::client_id::ClientKey;

/// A session was created: see [`StoreBuilder::on_created`](crate::StoreBuilder::on_created).
///
/// ```
/// use cloakroom::Store;
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let store = Store::builder()
///     .on_created(move |event| drop(tell.send(event.clone())))
///     .in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// assert_eq!(told.recv().unwrap().client, id.key());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedEvent {
    /// The key of its client.
    pub client: ClientKey,
    /// Its owner, if the commit that created it set one.
    pub owner: Option<String>,
}

/// A session got a new id: see [`StoreBuilder::on_renewed`](crate::StoreBuilder::on_renewed).
///
/// ```
/// use cloakroom::Store;
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let store = Store::builder()
///     .on_renewed(move |event| drop(tell.send(event.clone())))
///     .in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// let new = store.transact(|txn| txn.session(&id)?.log_in("ann"))?;
/// let event = told.recv().unwrap();
/// assert_eq!((event.former, event.client), (id.key(), new.key()));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewedEvent {
    /// The key of its client from now on.
    pub client: ClientKey,
    /// The key that is worth nothing any more.
    pub former: ClientKey,
    /// Its owner.
    pub owner: Option<String>,
}

/// A session has ended: see [`StoreBuilder::on_ended`](crate::StoreBuilder::on_ended).
///
/// ```
/// use cloakroom::Store;
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let store = Store::builder()
///     .on_ended(move |event| drop(tell.send(event.clone())))
///     .in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// store.end(id.key())?;
/// let event = told.recv().unwrap();
/// assert_eq!((event.client, event.reason.as_str()), (id.key(), "revoked"));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedEvent {
    /// The key of its client.
    pub client: ClientKey,
    /// Why it ended.
    pub reason: EndReason,
    /// The names of the containers in which it ended, sorted. The unnamed container is `""`.
    pub containers: Vec<String>,
    /// Its owner.
    pub owner: Option<String>,
}

/// Why a session ended.
///
/// ```
/// use cloakroom::{EndReason, Store};
/// use std::sync::mpsc;
///
/// let (tell, told) = mpsc::channel();
/// let store = Store::builder()
///     .on_ended(move |event| drop(tell.send(event.reason)))
///     .in_memory()?;
/// let id = store.client_ids().issue();
/// store.transact(|txn| txn.session(&id)?.pkg("cart").insert("tea", 2))?;
/// store.transact(|txn| txn.session(&id)?.log_out())?;
/// assert_eq!(told.recv(), Ok(EndReason::Logout));
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// Its own transaction ended it: [`log_out`](crate::Session::log_out), [`destroy`](crate::Session::destroy).
    Logout,
    /// Its own transaction ended it and created another one in its place.
    Replaced,
    /// It was ended by its key or because of its owner: [`end`](crate::Store::end),
    /// [`end_others`](crate::Session::end_others) and the like.
    Revoked,
    /// Its owner had too many.
    Limit,
    /// It was idle for too long, or reached its greatest age. Told when a sweep removes it, for each container in which
    /// it expired: it may live on in another one.
    Expired,
}

impl EndReason {
    /// The name of the reason, for a log or a label: `logout`, `replaced`, `revoked`, `limit` or `expired`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Limit => "limit",
            Self::Expired => "expired",
        }
    }
}
