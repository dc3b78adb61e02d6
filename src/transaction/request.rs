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
    /// Checks whether the session may be committed. `founds` returns whether the commit founds it.
    fn admit(&self, founds: &mut dyn FnMut() -> Result<bool>) -> Result<()>;
    /// How long the request may still wait for turns.
    fn patience(&self) -> Patience;
    fn set_patience(&self, left: Patience);
    /// A commit begins. The receiver gets what the response must do with the cookie. The sender is dropped if the
    /// commit fails.
    fn commits(&self, outcome: oneshot::Receiver<CookieAction>);
}

/// A weak reference: handles may outlive the request and must not keep it.
pub(crate) type WeakRequest = Weak<dyn RequestLink>;
