//! Transactions: begin, observe, buffer, commit, abort (C2). Knows neither redb nor HTTP.

mod background;
#[cfg_attr(
    not(feature = "cookie-containers"),
    allow(dead_code, reason = "only a request brings rows along")
)]
mod carrier;
pub(crate) mod commit;
#[cfg(feature = "http")]
mod early;
mod env;
mod events;
mod fetch;
#[cfg(test)]
mod growth_tests;
mod known_settings;
mod lookup;
mod refresh;
mod registry;
#[cfg(feature = "http")]
mod request;
pub(crate) mod state;
mod times;
mod transaction;
pub(crate) mod turns;
mod txn;
mod txn_shared;
mod worker;

#[cfg(feature = "http")]
pub(crate) use crate::storage::Arrival;
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::storage::carried::{CarriedLimit, CarriedRows};
pub(crate) use crate::transaction::background::{THREADS as BACKGROUND_THREADS, on_own_thread};
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::transaction::carrier::Carrier;
#[cfg(feature = "cookie-containers")]
pub(crate) use crate::transaction::carrier::is_refused;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::commit::access::CookieAction;
pub(crate) use crate::transaction::commit::recompute::Recomputer;
pub(crate) use crate::transaction::commit::submit::CommitFailure;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::commit::submit::in_process;
pub use crate::transaction::env::WhenFull;
pub(crate) use crate::transaction::env::{Env, KeepOpen, OwnerLimit, TxnRules};
pub(crate) use crate::transaction::events::{EventHooks, EventQueue, SessionEvent};
pub(crate) use crate::transaction::known_settings::{KnownSettings, SecretSource, split_secrets};
pub(crate) use crate::transaction::registry::{
    ContainerEntry, ContainerIndex, ContainerLink, CookieSupport, Registry,
};
#[cfg(feature = "http")]
pub(crate) use crate::transaction::request::{CommitProspect, RequestLink};
pub(crate) use crate::transaction::state::changes::{Closure, KeyBase, KeyChanges, KeyStep};
pub(crate) use crate::transaction::state::logins::clients_of;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::state::look::MOST_MOVES;
pub(crate) use crate::transaction::state::read::Content;
pub use crate::transaction::state::savepoint::Savepoint;
pub(crate) use crate::transaction::state::subject::SubjectId;
#[cfg(feature = "http")]
pub(crate) use crate::transaction::state::subject::{FoundingRule, Visit};
pub(crate) use crate::transaction::state::txn_state::TxnState;
pub(crate) use crate::transaction::times::ShownSession;
pub use crate::transaction::transaction::Transaction;
pub(crate) use crate::transaction::turns::turn::{Patience, Turns};
pub use crate::transaction::txn::Txn;
pub(crate) use crate::transaction::txn_shared::closed;
pub(crate) use crate::transaction::worker::Worker;
