//! Durable, transactional, server-side web sessions in one embedded file.
//!
//! A [`Store`] holds sessions, one per client. A [`Session`] holds packages, one per part of an
//! application, and a package maps keys to values:
//!
//! ```text
//! container[client][package id][key] = value
//! ```
//!
//! All work is done in transactions: [`Store::begin`], then [`Txn::session`], then
//! [`commit`](Transaction::commit) or [`abort`](Transaction::abort).
//!
//! ```
//! use cloakroom::{ErrorKind, Store};
//!
//! let store = Store::in_memory()?; // or Store::open("sessions.redb")
//! let id = store.client_ids().issue(); // what a cookie carries: id.as_str()
//!
//! // Nothing exists before something is inserted and committed.
//! let txn = store.begin()?;
//! let session = txn.session(&id)?;
//! assert!(!session.exists()?);
//! session.pkg("shop.cart").insert("items", 2)?;
//! session.pkg("app.login").insert("user", "ann")?;
//! txn.commit()?;
//!
//! // A transaction that is aborted, or dropped, leaves no trace.
//! let txn = store.begin()?;
//! txn.session(&id)?.pkg("shop.cart").insert("items", 3)?;
//! txn.abort();
//!
//! // Reading a value as another type is an error, not garbage.
//! let txn = store.begin()?;
//! let cart = txn.session(&id)?.pkg("shop.cart");
//! assert_eq!(cart.get::<u32>("items")?, Some(2));
//! let error = cart.get::<String>("items").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::TypeMismatch);
//! # Ok::<(), cloakroom::Error>(())
//! ```
//!
//! # When two requests meet
//!
//! A transaction sees the store as it was when it first looked at anything, and its own changes. At commit, every key that it read must still
//! hold what it read; if not, it gets [`Conflict`](ErrorKind::Conflict) and nothing is written.
//! Changes to different keys merge. [`Store::transact`] runs a closure again on a conflict, and then
//! in line, so that any number of writers of one key get through:
//!
//! ```
//! # use cloakroom::{Error, Store};
//! # let store = Store::in_memory()?;
//! # let id = store.client_ids().issue();
//! std::thread::scope(|scope| {
//!     for _ in 0..8 {
//!         scope.spawn(|| {
//!             store.transact(|txn| {
//!                 let visits = txn.session(&id)?.pkg("counter");
//!                 visits.update("visits", |n: Option<u32>| n.unwrap_or(0) + 1)
//!             })
//!         });
//!     }
//! });
//! let txn = store.begin()?;
//! assert_eq!(txn.session(&id)?.pkg("counter").get::<u32>("visits")?, Some(8));
//! # Ok::<(), Error>(())
//! ```
//!
//! [`add`](PkgData::add), [`max`](PkgData::max), [`min`](PkgData::min) and
//! [`commute`](PkgData::commute) take effect on the value that is current at commit, and never conflict.
//!
//! # Time
//!
//! A session that is idle for longer than its container's timeout is over. An access is recorded only
//! when the recorded one is older than the resolution, so that most requests write nothing. Both are
//! [settings](ContainerSettings) of a container, stored with it. Tests move a [`Clock`] by hand.
//!
//! # Questions
//!
//! **Why not a row per session?** A session is read and written by parts of an application that do not
//! know each other. A row per package keeps them apart: they have their own containers, limits and
//! conflicts.
//!
//! **Why does reading count?** Because the lost update is the failure that sessions are known for: two
//! requests read a counter, both add one, and one is lost. Only who says what it read can be told.
//!
//! **Why is a commit slower than writing to memory?** Because it is on the disk when it returns: appended
//! to a journal, and synced. Commits that wait at the same time share their sync.
//!
//! **Which files belong to a store?** One, while it is closed: copy and move that. While it is open, two files
//! `NAME.journal-1` and `-2`, or others with higher numbers, lie beside it and hold what was committed lately; after
//! a crash they belong to it, and the next opening brings them in. Where the path is a symbolic link, `NAME` is that
//! of the file which it leads to. An open store holds its folder and its files, whatever becomes of the path.
//!
//! **What is a file `NAME.journal-N.aside-M`?** One that was found there and belongs to another state of the store, as
//! when an older copy of it was put back. It is never read again; where that other state comes back, the error says
//! how to put its journal back. There are at most 20 for each `N`: beyond, the oldest is removed. Journals of other
//! stores, whose file was moved away or removed, stay as they are, and a new store takes other names; remove them if
//! their store is gone for good. After 2,000 pairs of them, no store opens there until some are removed.
//!
//! **What about `fork`?** A store works in the process that opened it: daemonize before opening. In a process that was
//! forked later, beginning, committing and closing give [`OtherProcess`](ErrorKind::OtherProcess) at once, and
//! dropping handles does nothing to the files. Starting other programs is no matter.
//!
//! # Metrics and log
//!
//! Counters of the crate `metrics`: `cloakroom_commits_total`, `cloakroom_swept_total`, and
//! `cloakroom_refused_ids_total` with the label `reason`: `garbled`, `forged`, `retired` (it names a secret that is not in
//! use) or `dead` (it verifies and has no session). Log lines go to `tracing`. Neither they nor errors carry an id or a
//! value. What is told at which level, and what else concerns an operator, is in the guide, `docs/guide/security.md`.
//!
//! # Features
//!
//! - `axum` (default): the extractor [`Session`], `http::SessionLayer` as a layer over axum's `Body`, and
//!   `Error: IntoResponse`; implies `http`.
//! - `http`: `http::SessionLayer::generic`, a layer for any tower service.
//! - `public-suffixes`: `http::CookieSettings::domain` refuses the domains under which others register, such as `co.uk`
//!   and `github.io`, as browsers do. It brings the list of them along, 0.8 MB.

mod block_on;
mod client_id;
mod clock;
mod contain;
mod container;
mod error;
mod expiry;
#[cfg(feature = "http")]
pub mod http;
mod process;
mod session;
mod steps;
mod storage;
mod store;
mod throttle;
#[cfg(feature = "torture")]
#[doc(hidden)]
pub mod torture;
mod transaction;
mod value;

pub use client_id::{ClientId, ClientIds, ClientKey};
pub use clock::Clock;
pub use container::{
    Container, ContainerSettings, ContainerStatistics, ContainerTxn, Residence, Swept,
};
pub use error::{Error, ErrorKind, Result};
pub use session::{PkgData, Session, SessionData};
pub use storage::Damage;
pub use store::{Check, Salvage, SessionHandle, Statistics, Store, StoreBuilder};
pub use transaction::{Savepoint, Transaction, Txn};

/// The README's examples are compiled and run as tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// And so are those of the guide.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../docs/guide/layers.md")]
struct Layers;
