//! The part of a request that its transaction uses.

use crate::error::Result;
use crate::transaction::commit::access::CookieAction;
use crate::transaction::turns::turn::Patience;
use futures_channel::oneshot;
use std::sync::Weak;

/// The request that a transaction belongs to.
pub(crate) trait RequestLink: Send + Sync {
    /// Marks that the request must not run again.
    fn run_once(&self);
    /// Checks whether the session may be committed.
    fn admit(&self, prospect: &mut dyn CommitProspect) -> Result<()>;
    /// How long the request may still wait for turns.
    fn patience(&self) -> Patience;
    fn set_patience(&self, left: Patience);
    /// Notes that a commit was given to the engine, which ends it. The receiver gets the cookie action for the response.
    /// If the commit fails, the sender is dropped.
    fn commits(&self, outcome: oneshot::Receiver<CookieAction>);
}

/// The session of a request, as its commit would leave it.
pub(crate) trait CommitProspect {
    /// Whether the commit founds it.
    fn founds(&mut self) -> Result<bool>;
    /// Whether it has an owner.
    #[cfg(feature = "url-ids")]
    fn has_owner(&mut self) -> Result<bool>;
}

/// A weak reference: handles may outlive the request and must not keep it.
pub(crate) type WeakRequest = Weak<dyn RequestLink>;
