//! A [tower](https://docs.rs/tower-layer) layer for sessions. It finds the client id in a cookie, gives each request
//! one transaction, and commits it before the response is sent. It does not know how a session is stored.
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
//! # Guarantees for a request
//!
//! - The transaction begins when the session is first requested: by the extractor in axum, otherwise by [`session`].
//!   Later requests for it return the same session. An HTTP request that does not use its session does not touch the
//!   store.
//! - The transaction commits when the response is ready, before the first byte is sent. It aborts after a response
//!   with the status 408 or 500 or above, a response made from an [`Error`](crate::Error), an error of the inner
//!   service, a panic, or a dropped request. [`SessionLayer::commit_when`] changes this rule. From then on the
//!   handles return [`Closed`](crate::ErrorKind::Closed), also in the stream of a response's body.
//! - After a conflict, the request runs again if [`Rerun`] allows it. A request that may not run again waits for its
//!   session's turn first and runs once.
//! - A failed commit replaces the response by an error with an empty body. `SessionLayer::on_error` gives it the
//!   application's page. The [`Error`](crate::Error) is in the response's extensions, so that an outer layer can
//!   render it.
//!
//! # Errors as responses
//!
//! The status of a response that this layer makes from an [`Error`](crate::Error), or that a handler makes by
//! returning one:
//!
//! | Status | [`ErrorKind`](crate::ErrorKind) | What to do |
//! |---|---|---|
//! | 401 | `NotFresh` | Nothing: the visitor must log in again. |
//! | 403 | `MissingClientId` | Nothing: a request that may not hand out an id wrote to a session that does not exist, or one that came by a token in its URL or form logged in. |
//! | 403 | `CsrfRefused` | Nothing: another site may have sent the request. The body tells the visitor what to do. |
//! | 413 | `TooLarge` | Store less. A visitor can cause this: a name or a value exceeded its limit. |
//! | 429 | `NotAdmitted` | Come back later: your rule does not let this visitor create a session now. |
//! | 503 | `Conflict`, `SnapshotTooOld`, `Unavailable`, `NotWritten` | Send the request again; nothing was stored. `Retry-After` says when, if that is known. |
//! | 500 | `OutcomeUnknown` | Check whether the change was stored before you send the request again. |
//! | 500 | `NotSerializable`, `TypeMismatch`, `Overflow`, `Closed`, `Doomed`, `NoSuchSavepoint`, `SessionEnded`, `NoSuchContainer`, `InvalidInput`, `Panicked`, `Unsupported`, `Interrupted`, `NoSessionLayer` | Correct the application, or handle the error where it is expected. |
//! | 500 | `Corrupt`, `Locked`, `OtherProcess`, `TooNew`, `NotAStore`, `NotPrivate`, `WrongKey`, `Io` | Examine the store and its files. |
//!
//! # Beside other layers
//!
//! Put timeouts inside the layer, so that an interrupted handler commits nothing. Put everything that uses the
//! session inside too, such as login and CSRF. Put these outside: catching panics, compression, CORS, tracing, and
//! limits of bodies, concurrency and rate. In `Router::layer` the last layer is the outermost, in `ServiceBuilder`
//! the first. The guide `docs/guide/layers.md` gives the reasons and a complete stack.

mod answer;
#[cfg(feature = "axum")]
mod axum;
#[cfg(feature = "axum")]
mod checked;
#[cfg(feature = "cookie-containers")]
mod container_cookies;
mod cookie;
mod cookie_rules;
mod csrf;
mod early;
mod exchange;
#[cfg(feature = "axum")]
mod extract;
mod flash;
mod form;
mod fresh;
#[cfg(feature = "axum")]
mod fresh_service;
mod layer;
mod policy;
mod proxies;
mod replay;
mod report;
mod rerun;
mod rewound;
#[cfg(any(feature = "cookie-containers", feature = "url-ids"))]
mod seal;
#[cfg(feature = "cookie-containers")]
mod sealed_cookie;
mod serve;
mod service;
mod settings;
mod slot;
mod transport;
#[cfg(feature = "url-ids")]
mod url_id;
#[cfg(feature = "url-ids")]
mod url_request;
#[cfg(feature = "url-ids")]
mod url_tokens;
#[cfg(feature = "url-ids")]
mod url_transport;

pub use answer::{Abort, error_response, error_status};
#[cfg(feature = "axum")]
pub use axum::SessionService;
#[cfg(feature = "axum")]
pub use checked::CheckedService;
pub use cookie::{CookieLifetime, CookieSettings, SameSite};
pub use csrf::{CsrfLayer, CsrfToken};
pub use flash::{Flash, FlashLevel, FlashMessage};
pub use fresh::RequireFresh;
pub use layer::SessionLayer;
pub use policy::Rerun;
pub use proxies::{TrustedProxies, VisitorAddress};
pub use replay::Replay;
pub use rerun::RerunService;
pub use rewound::RewoundBody;
pub use serve::InnerService;
pub use service::{GenericSessionLayer, GenericSessionService};
pub use slot::session;
pub use transport::{BearerTransport, HeaderTransport, IdTransport};
#[cfg(feature = "url-ids")]
pub use url_id::UrlId;
#[cfg(feature = "url-ids")]
pub use url_tokens::UrlTokens;
#[cfg(feature = "url-ids")]
pub use url_transport::{FormTransport, QueryTransport};
