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
mod store;
mod visitor;

pub use jar::SetCookie;
pub use response::TestResponse;
pub use store::{store, store_with};
pub use visitor::Visitor;
