//! Durable, transactional, server-side web sessions in one embedded file.
//!
//! A [`Store`] holds one [`Session`] per client. A session holds packages, one for each part of an application. A
//! package maps keys to values:
//!
//! ```text
//! container[client][package id][key] = value
//! ```
//!
//! All work is done in transactions. [`Store::begin`] begins one, [`Txn::session`] gives access to a session, and
//! [`commit`](Transaction::commit) or [`abort`](Transaction::abort) ends the transaction.
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
//! # Conflicts
//!
//! A transaction sees the store as of its first read, plus its own changes. At commit, every key that it read must
//! still hold the same value. Otherwise the commit returns [`Conflict`](ErrorKind::Conflict) and nothing is written.
//! Changes to different keys merge. [`Store::transact`] runs a closure again after a conflict. From the second
//! attempt on it queues for its session, so that any number of writers of one key make progress:
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
//! [`add`](PkgData::add), [`max`](PkgData::max), [`min`](PkgData::min) and [`commute`](PkgData::commute) apply to the
//! value that is current at commit. They never conflict.
//!
//! # Time
//!
//! A session expires when it is idle for longer than its container's timeout. An access is recorded only if the
//! recorded one is older than the resolution, so most requests write nothing. Timeout and resolution are
//! [settings](ContainerSettings) of a container and are stored with it. Tests can move a [`Clock`] by hand.
//!
//! # Questions
//!
//! **Why not one row per session?** Independent parts of an application read and write the same session. With one row
//! per package, each part has its own container, limits and conflicts.
//!
//! **Why does a read count for conflicts?** Because sessions are known for lost updates: two requests read a counter,
//! both add one, and one addition is lost. The store can detect this only if it knows what a transaction read.
//!
//! **Why is a commit slower than writing to memory?** Because it is on the disk when it returns: it is appended to a
//! journal, and the journal is synced. Commits that wait at the same time share one sync.
//!
//! **Which files belong to a store?** A closed store is one file, which can be copied and moved. An open store also
//! has two files `NAME.journal-1` and `NAME.journal-2`, or others with higher numbers, beside its file. They hold the
//! latest commits. After a crash they belong to the store, and the next opening applies them. If the path is a
//! symbolic link, `NAME` is the name of the file that the link leads to. An open store holds its folder and its files
//! open, so it is not affected if the path changes.
//!
//! **What is a file `NAME.journal-N.aside-M`?** A journal that was found at opening and belongs to another state of
//! the store, for example because an older copy of the store was put back. It is never read again. If that other
//! state comes back, the error says how to restore its journal. There are at most 20 such files for each `N`; then
//! the oldest is removed. Journals of other stores, whose file was moved or removed, stay unchanged, and a new store
//! uses other names. Remove them if their store is gone. After 2,000 pairs of them, no store opens there until some
//! are removed.
//!
//! **What about `fork`?** A store works only in the process that opened it, so daemonize before opening. In a process
//! that was forked later, beginning, committing and closing give [`OtherProcess`](ErrorKind::OtherProcess) at once.
//! Dropping handles there does nothing to the files. Starting other programs is not affected.
//!
//! # Metrics and log
//!
//! The crate `metrics` gets counters, gauges and histograms, which [`describe_metrics`] describes. Spans and log lines
//! go to `tracing`. None of them contains an id, a value, an owner or a label. The guide `docs/guide/observability.md`
//! lists their names; `docs/guide/security.md` lists the log levels and gives advice for operators.
//!
//! # Features
//!
//! - `axum` (default): the extractor [`Session`], `http::SessionLayer` as a layer over axum's `Body`, and
//!   `Error: IntoResponse`; implies `http`.
//! - `http`: `http::SessionLayer::generic`, a layer for any tower service.
//! - `cookie-containers`: `ContainerSettings::cookie`, containers that live in the visitor's cookie; implies `http`. A
//!   store with such a container opens only with this feature.
//! - `minijinja`: the module `minijinja`, sessions in templates of minijinja 3.
//! - `postgres`: `Store::connect` keeps the sessions in a PostgreSQL server, for several processes. The guide
//!   `docs/guide/postgres.md` describes it.
//! - `encryption`: `StoreBuilder::encryption` encrypts the sessions' data in the files. The guide
//!   `docs/guide/encryption.md` describes the attackers against whom that helps.
//! - `export`: `Store::export` writes the sessions as lines of JSON, and `Store::import` reads them.
//! - `public-suffixes`: `http::CookieSettings::domain` refuses domains under which others register, such as `co.uk`
//!   and `github.io`, as browsers do. The list of these domains adds 0.8 MB.
//! - `test`: the module `testing`, for tests of an application's pages; implies `axum`.

mod block_on;
mod client_id;
mod clock;
mod contain;
mod container;
#[cfg(feature = "encryption")]
mod encryption;
mod error;
mod events;
mod expiry;
#[cfg(feature = "http")]
pub mod http;
mod latency;
mod meters;
#[cfg(feature = "minijinja")]
pub mod minijinja;
mod package;
mod path;
mod process;
mod session;
mod steps;
mod storage;
mod store;
#[cfg(feature = "test")]
pub mod testing;
mod throttle;
#[cfg(feature = "torture")]
#[doc(hidden)]
pub mod torture;
mod transaction;
mod value;

pub use client_id::{ClientId, ClientIds, ClientKey};
pub use clock::Clock;
pub use container::{
    Container, ContainerSettings, ContainerStatistics, ContainerTxn, ListedSession, Residence,
    SessionFilter, SessionHistogram, SessionList, SessionMeasures, Swept,
};
#[cfg(feature = "encryption")]
pub use encryption::KeyRing;
pub use error::{Error, ErrorKind, Result};
pub use events::{CreatedEvent, EndReason, EndedEvent, RenewedEvent};
pub use latency::CommitTimes;
pub use meters::describe_metrics;
pub use package::{Package, Pkg};
pub use session::{PkgData, Session, SessionData};
#[cfg(feature = "export")]
pub use storage::OnDuplicate;
pub use storage::{BackupPhase, BackupProgress, Damage, RowProgress};
#[cfg(feature = "postgres")]
pub use store::PostgresSettings;
#[cfg(feature = "encryption")]
pub use store::Reseal;
pub use store::{
    Backup, BackupMark, Check, Compaction, Copied, EntryKey, EntryPackage, EntryPart,
    OwnerSessions, PreviousLink, Salvage, SecretInfo, SessionEntry, SessionHandle, SessionInfo,
    Statistics, Store, StoreBuilder,
};
#[cfg(feature = "export")]
pub use store::{Exported, ImportSettings, Imported};
pub use transaction::{Savepoint, Transaction, Txn, WhenFull};
pub use value::Value;

/// The examples of the README and of the guides are compiled and run as tests.
#[cfg(doctest)]
mod documents {
    /// Modules without contents, each with a document as its documentation.
    macro_rules! documents {
        ($($name:ident $features:meta $document:literal)*) => {
            $(
                #[cfg($features)]
                #[doc = include_str!($document)]
                mod $name {}
            )*
        };
    }

    documents! {
        readme feature = "axum" "../README.md"
        backup feature = "axum" "../docs/guide/backup.md"
        coming_from all(feature = "axum", feature = "test") "../docs/guide/coming-from.md"
        deployment feature = "axum" "../docs/guide/deployment.md"
        encryption feature = "encryption" "../docs/guide/encryption.md"
        errors feature = "axum" "../docs/guide/errors.md"
        handlers feature = "axum" "../docs/guide/handlers.md"
        import feature = "axum" "../docs/guide/import.md"
        layers feature = "axum" "../docs/guide/layers.md"
        observability feature = "axum" "../docs/guide/observability.md"
        operate feature = "axum" "../docs/guide/operate.md"
        owasp feature = "axum" "../docs/guide/owasp.md"
        postgres feature = "postgres" "../docs/guide/postgres.md"
        security feature = "axum" "../docs/guide/security.md"
        settings feature = "cookie-containers" "../docs/guide/settings.md"
        templates all(feature = "axum", feature = "minijinja") "../docs/guide/templates.md"
        testing feature = "test" "../docs/guide/testing.md"
        tutorial feature = "test" "../docs/guide/tutorial.md"
        url_ids all(feature = "axum", feature = "url-ids") "../docs/guide/url-ids.md"
        reliability feature = "axum" "../docs/reliability.md"
    }
}
