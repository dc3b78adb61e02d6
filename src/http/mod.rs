//! Sessions at the edge of a web server: a [tower](https://docs.rs/tower-layer) layer that finds the
//! client id in a cookie, gives each request one transaction and commits it before the response is
//! sent. It knows nothing of how a session is stored.
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use cloakroom::{Error, Session, Store, http::SessionLayer};
//!
//! async fn visits(session: Session) -> Result<String, Error> {
//!     let n = session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
//!     Ok(format!("visit {n}"))
//! }
//!
//! let app: Router = Router::new()
//!     .route("/", get(visits))
//!     .layer(SessionLayer::new(Store::in_memory()?));
//! # }
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! # What a request can count on
//!
//! - The transaction begins when the session is first asked for, in axum by the extractor, elsewhere
//!   by [`session`]; every further asking gives the same session. A request that never asks touches
//!   no store.
//! - It commits when the response is ready and before a byte of it is sent. A response of 500 or
//!   above or 408, one made of an [`Error`](crate::Error), an error of the inner service, a panic or a dropped
//!   request aborts it ([`SessionLayer::commit_when`] changes the rule). From then on the handles give
//!   [`Closed`](crate::ErrorKind::Closed), also in the stream of a response's body.
//! - On a conflict the request runs again where [`Rerun`] allows it; where not, it waits for its
//!   session's turn first and runs once.
//! - A commit that fails turns the response into an error with an empty body; the
//!   [`Error`](crate::Error) lies in the response's extensions for an outer layer to render.
//!
//! # Errors as responses
//!
//! The status of a response that is made of an [`Error`](crate::Error), by this layer or by a handler that returns it.
//!
//! | Status | [`ErrorKind`](crate::ErrorKind) | What to do |
//! |---|---|---|
//! | 403 | `MissingClientId` | Nothing: a request that may not hand out an id wrote to a session that is not there. |
//! | 413 | `TooLarge` | Store less. A visitor can cause it: a name or value was beyond its limit. |
//! | 429 | `NotAdmitted` | Come back later: your rule lets this visitor found no session now. |
//! | 503 | `Conflict`, `SnapshotTooOld`, `Unavailable`, `NotWritten` | Send the request again; nothing was kept. `Retry-After` says when, where that is known. |
//! | 500 | `OutcomeUnknown` | Look whether it was kept before sending it again. |
//! | 500 | `NotSerializable`, `TypeMismatch`, `Overflow`, `Closed`, `Doomed`, `NoSuchSavepoint`, `SessionEnded`, `NoSuchContainer`, `InvalidInput`, `Panicked`, `Unsupported`, `NoSessionLayer` | Mend the application, or answer otherwise where it expects them. |
//! | 500 | `Corrupt`, `Locked`, `OtherProcess`, `TooNew`, `NotAStore`, `NotPrivate`, `Io` | Look at the store and its files. |
//!
//! # Beside other layers
//!
//! Timeouts belong inside the layer, so that a handler that was broken off commits nothing; catching panics,
//! compression, CORS, tracing and limits of bodies, concurrency and rate outside; what uses the session, such as
//! login and CSRF, inside. In `Router::layer` the last layer is the outermost, in `ServiceBuilder` the first.
//! The reasons, and all of them in one stack, are in the guide, `docs/guide/layers.md`.

mod answer;
#[cfg(feature = "axum")]
mod axum;
mod cookie;
#[cfg(feature = "axum")]
mod extract;
mod layer;
mod replay;
mod report;
mod rerun;
mod service;
mod slot;

#[cfg(feature = "axum")]
pub use axum::SessionService;
pub use cookie::{CookieLifetime, CookieSettings, SameSite};
pub use layer::{GenericSessionLayer, SessionLayer};
pub use replay::Replay;
pub use rerun::{Rerun, RerunService};
pub use service::GenericSessionService;
pub use slot::session;
