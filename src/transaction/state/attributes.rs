//! The changes of a transaction to one client's session as a whole. Knows no storage.

use crate::client_id::ClientId;
use crate::clock::Timestamp;
use crate::events::EndReason;
use crate::transaction::registry::ContainerIndex;
use std::sync::Arc;
use std::time::Duration;

/// Whether the session that a client came with stays, moves to another id, or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SessionFate {
    #[default]
    Stays,
    Rotated,
    Destroyed,
}

/// The changes to one client's session as a whole.
#[derive(Clone, Default)]
pub(crate) struct Attributes {
    pub(crate) fate: SessionFate,
    /// The id issued in this transaction, for a new session or a rotated one.
    pub(crate) id: Option<ClientId>,
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) owner: Option<Option<Arc<str>>>,
    pub(crate) label: Option<Option<Arc<str>>>,
    pub(crate) authenticated_at: Option<Option<Timestamp>>,
    pub(crate) ends_at: Option<Option<Timestamp>>,
    /// The containers in which it ends, while it goes on in others.
    pub(crate) ends_in: Vec<ContainerIndex>,
    /// Whose session it must still be to be ended, where it ends because of its owner.
    pub(crate) ends_of: Option<Arc<str>>,
    /// Why the session ends, if another transaction than its own ends it.
    pub(crate) end_reason: Option<EndReason>,
    /// How long the old id leads to the session, if its id is renewed.
    pub(crate) leads_on: Option<Duration>,
}

impl Attributes {
    /// Whether they create a session if there is none. Taking an attribute back does not.
    pub(crate) fn is_founding(&self) -> bool {
        matches!(self.timeout, Some(Some(_)))
            || matches!(self.owner, Some(Some(_)))
            || matches!(self.label, Some(Some(_)))
            || matches!(self.ends_at, Some(Some(_)))
    }
}

#[cfg(feature = "http")]
impl Attributes {
    /// Whether the session as a whole changes, apart from being created.
    pub(crate) fn is_set(&self) -> bool {
        self.fate != SessionFate::Stays
            || self.timeout.is_some()
            || self.owner.is_some()
            || self.label.is_some()
            || self.authenticated_at.is_some()
            || self.ends_at.is_some()
            || !self.ends_in.is_empty()
    }
}
