//! What a transaction asks of the request that it belongs to.

use crate::error::Result;
use crate::transaction::commit::access::CookieAction;
use crate::transaction::turns::turn::Patience;
use futures_channel::oneshot;
use std::sync::Weak;

/// The request that a transaction belongs to.
pub(crate) trait RequestLink: Send + Sync {
    /// From now on the request is not run again.
    fn run_once(&self);
    /// Whether the session may be committed. `founds` tells whether the commit founds it.
    fn admit(&self, founds: &mut dyn FnMut() -> Result<bool>) -> Result<()>;
    /// How long the request may still wait for turns.
    fn patience(&self) -> Patience;
    fn set_patience(&self, left: Patience);
    /// A commit begins. It tells what the response must do with the cookie, or is dropped if it fails.
    fn commits(&self, outcome: oneshot::Receiver<CookieAction>);
}

/// The request must not be kept by handles that outlive it.
pub(crate) type WeakRequest = Weak<dyn RequestLink>;
