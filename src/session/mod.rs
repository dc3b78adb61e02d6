//! The handles that people hold: a session, its packages, their values. Knows no cookies.

mod data;
#[cfg(feature = "http")]
mod early;
mod entries;
mod lifetime;
mod listing;
mod login;
mod pkg;
mod session;

#[cfg(feature = "http")]
pub(crate) use crate::transaction::CookieAction;
pub use data::SessionData;
pub use pkg::PkgData;
pub use session::Session;
