//! Tests of an application's pages without a server, without files, and without waiting: a store in memory, a clock that
//! the test moves, and visitors with cookies of their own.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! use axum::{Router, routing::get};
//! use cloakroom::http::SessionLayer;
//! use cloakroom::testing::{self, Visitor};
//! use cloakroom::{Error, Session};
//! use std::time::Duration;
//!
//! async fn count(session: Session) -> Result<String, Error> {
//!     let visits = session.pkg("visits");
//!     visits.update("count", |n: Option<u32>| n.unwrap_or(0) + 1)?;
//!     Ok(visits.get::<u32>("count")?.unwrap_or(0).to_string())
//! }
//!
//! let (store, clock) = testing::store();
//! let app: Router = Router::new().route("/", get(count)).layer(SessionLayer::new(store));
//!
//! let mut ann = Visitor::new(app.clone(), &clock);
//! let mut bob = Visitor::new(app, &clock);
//! let first = ann.get("/").await;
//! assert_eq!((first.status().as_u16(), first.text()), (200, "1"));
//! assert!(first.set_cookies()[0].is_http_only());
//! assert_eq!(ann.get("/").await.text(), "2");
//! assert_eq!(bob.get("/").await.text(), "1", "each visitor has a session");
//!
//! clock.advance(Duration::from_secs(31 * 24 * 3600));
//! assert_eq!(ann.get("/").await.text(), "1", "the session has expired");
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! These helpers panic where the test itself is wrong or the application does something that a browser would refuse.
//! Depend on the crate a second time, with the feature `test`, under `[dev-dependencies]`.

#![allow(
    clippy::panic,
    reason = "a test that is wrong ends, and tells what is wrong"
)]

mod jar;
mod response;
mod visitor;

pub use jar::SetCookie;
pub use response::TestResponse;
pub use visitor::Visitor;

use crate::clock::Clock;
use crate::store::{Store, StoreBuilder};

/// Returns a store in memory and its clock, which stays at 2026-01-01T00:00:00Z until the test moves it. The store
/// removes expired sessions only when the test calls [`Container::sweep`](crate::Container::sweep).
#[must_use]
pub fn store() -> (Store, Clock) {
    store_with(|settings| settings)
}

/// Returns a store as [`store`] does, with other settings.
///
/// ```
/// use cloakroom::testing;
///
/// let (store, _clock) = testing::store_with(|settings| settings.max_keys(10));
/// # drop(store);
/// ```
///
/// # Panics
///
/// If a store with these settings does not open.
#[must_use]
#[track_caller]
pub fn store_with(settings: impl FnOnce(StoreBuilder) -> StoreBuilder) -> (Store, Clock) {
    // The first of January 2026, in seconds since the Unix epoch.
    let start = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
    let clock = Clock::manual(start);
    let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
    match settings(builder).in_memory() {
        Ok(store) => (store, clock),
        Err(error) => panic!("the store does not open: {error}"),
    }
}
