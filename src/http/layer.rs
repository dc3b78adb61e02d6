//! The layer that people install, and its settings.

use http::{StatusCode, request, response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tower_layer::Layer;

use super::cookie::{CookieSettings, SessionCookie};
use super::rerun::Rerun;
use super::service::GenericSessionService;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::transaction::Patience;

/// So much of a request's body is kept for running it again.
const REPLAY_LIMIT: usize = 64 * 1024;

type CommitRule = dyn Fn(&response::Parts) -> bool + Send + Sync;
type AdmitRule = dyn Fn(&request::Parts) -> bool + Send + Sync;

/// Gives each request one transaction on a store, and its client a cookie.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::Router;
/// use cloakroom::{Store, http::{CookieLifetime, CookieSettings, SessionLayer}};
///
/// let store = Store::in_memory()?;
/// let app: Router = Router::new().layer(
///     SessionLayer::new(store)
///         .cookie(CookieSettings::new().name("basket")?.lifetime(CookieLifetime::Max))
///         .commit_when(|response| response.status.is_success() || response.status.is_redirection()),
/// );
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// Timeouts belong inside it, panic-catching, compression, CORS, tracing and body limits outside: see
/// [beside other layers](super#beside-other-layers).
///
/// A second layer inside another one steps aside: the outer one's store, cookie and rules hold.
///
/// With the feature `axum` it is a [`tower_layer::Layer`], and what lies inside gets axum's `Body`: routers, handlers,
/// `middleware::from_fn`, and any other service of `Request<Body>`, in `Router::layer`, `Router::route_layer` and
/// `ServiceBuilder` alike. [`generic`](Self::generic) makes a layer for services without axum.
#[derive(Clone)]
pub struct SessionLayer {
    store: Store,
    cookie: CookieSettings,
    rules: Rules,
}

#[derive(Clone)]
struct Rules {
    rerun: Rerun,
    replay_limit: usize,
    turn_wait: Option<Duration>,
    commit_when: Arc<CommitRule>,
    admit_new: Option<Arc<AdmitRule>>,
}

impl SessionLayer {
    /// A layer with the defaults: the cookie of [`CookieSettings::new`], [`Rerun::Idempotent`], 64 KiB
    /// of body kept, the store's own `turn_wait`, and a commit for each response that
    /// [`commit_when`](Self::commit_when) calls whole.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            cookie: CookieSettings::new(),
            rules: Rules {
                rerun: Rerun::default(),
                replay_limit: REPLAY_LIMIT,
                turn_wait: None,
                commit_when: Arc::new(is_whole),
                admit_new: None,
            },
        }
    }

    /// The settings of the cookie.
    #[must_use]
    pub fn cookie(mut self, settings: CookieSettings) -> Self {
        self.cookie = settings;
        self
    }

    /// Which requests run again on a conflict. A route can say otherwise: [`Rerun`] is a layer too.
    #[must_use]
    pub fn rerun(mut self, rerun: Rerun) -> Self {
        self.rules.rerun = rerun;
        self
    }

    /// How many bytes of a body are kept for running its request again. A request with a larger body
    /// runs once; where the size is not known beforehand it waits for its session's turn, too.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.rules.replay_limit = bytes;
        self
    }

    /// How long a request waits for turns before it goes on without: in all, when it asks for its session, when it
    /// commits, and when it is run again.
    #[must_use]
    pub fn turn_wait(mut self, wait: Duration) -> Self {
        self.rules.turn_wait = Some(wait);
        self
    }

    /// Which requests may found a session: for the application's own limiter, by address, by network, or by whatever tells
    /// its visitors from bots. By default all may.
    ///
    /// It is asked once a request, when the request's commit is about to found a session: not for those that have a live
    /// session, and not for those that only read. Where it says no, nothing is written, and the answer is 429 with
    /// [`NotAdmitted`](crate::ErrorKind::NotAdmitted) in the response's extensions, in place of the handler's response.
    /// It must not block. What it needs to know of the request, such as the visitor's address, lies in the request's
    /// extensions or headers:
    ///
    /// ```
    /// use cloakroom::{Store, http::SessionLayer};
    ///
    /// let layer = SessionLayer::new(Store::in_memory()?)
    ///     .admit_new(|request| request.headers.contains_key("user-agent"));
    /// # drop(layer);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// [`StoreBuilder::max_new_sessions`](crate::StoreBuilder::max_new_sessions) is the bound for the whole store, which
    /// turns honest visitors away together with bots.
    #[must_use]
    pub fn admit_new(
        mut self,
        rule: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rules.admit_new = Some(Arc::new(rule));
        self
    }

    /// A layer with these settings for services without axum, which get their body as
    /// [`Replay`](super::Replay).
    #[must_use]
    pub fn generic(self) -> GenericSessionLayer {
        GenericSessionLayer(self)
    }

    /// Which responses commit. The others abort, and hand out no cookie. Called only for requests that used their
    /// session.
    ///
    /// By default all do but those of a handler that was broken off: a status of 500 or above, 408, which a timeout
    /// inside the layer answers with, and a response made of an [`Error`], whatever its status.
    #[must_use]
    pub fn commit_when(
        mut self,
        rule: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rules.commit_when = Arc::new(rule);
        self
    }
}

/// Whether the handler came to its end, as far as its response tells.
fn is_whole(response: &response::Parts) -> bool {
    !response.status.is_server_error()
        && response.status != StatusCode::REQUEST_TIMEOUT
        && response.extensions.get::<Error>().is_none()
}

impl SessionLayer {
    /// The settings for the services that this layer makes.
    pub(super) fn settings(&self) -> Arc<Settings> {
        let [a, b, c, d, ..] = self.store.identity();
        let name = format!("id-{a:02x}{b:02x}{c:02x}{d:02x}");
        Arc::new(Settings {
            refusal: self.cookie.check(),
            cookie: SessionCookie::new(self.cookie.clone(), &name),
            store: self.store.clone(),
            rerun: self.rules.rerun,
            replay_limit: self.rules.replay_limit,
            turn_wait: self.rules.turn_wait,
            commit_when: Arc::clone(&self.rules.commit_when),
            admit_new: self.rules.admit_new.clone(),
        })
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("cookie", &self.cookie)
            .field("rerun", &self.rules.rerun)
            .field("replay_limit", &self.rules.replay_limit)
            .field("turn_wait", &self.rules.turn_wait)
            .finish_non_exhaustive()
    }
}

/// A [`SessionLayer`] for services without axum: whatever the body of the requests, what lies inside gets it as
/// [`Replay`](super::Replay), and may answer with any body that has a default, which is the empty one.
///
/// ```
/// use cloakroom::http::{Replay, SessionLayer, session};
/// use cloakroom::{Error, Store};
/// use http::{Request, Response};
/// use tower::{Layer as _, service_fn};
///
/// let pages = service_fn(|request: Request<Replay<String>>| async move {
///     let session = session(request.extensions()).await?;
///     let n = session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok::<_, Error>(Response::new(format!("visit {n}")))
/// });
/// let service = SessionLayer::new(Store::in_memory()?).generic().layer(pages);
/// # drop(service);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GenericSessionLayer(SessionLayer);

impl<S> Layer<S> for GenericSessionLayer {
    type Service = GenericSessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GenericSessionService::new(inner, self.0.settings())
    }
}

/// The layer's settings as its services share them.
pub(super) struct Settings {
    pub(super) store: Store,
    pub(super) cookie: SessionCookie,
    pub(super) rerun: Rerun,
    pub(super) replay_limit: usize,
    turn_wait: Option<Duration>,
    commit_when: Arc<CommitRule>,
    admit_new: Option<Arc<AdmitRule>>,
    /// Cookie settings that no browser would take answer each session with this.
    refusal: Result<()>,
}

impl Settings {
    pub(super) fn check(&self) -> Result<()> {
        self.refusal.clone()
    }

    /// For how long a request waits for turns.
    pub(super) fn patience(&self) -> Patience {
        let store = || self.store.patience();
        self.turn_wait.map_or_else(store, Patience::new)
    }

    pub(super) fn admit_new(&self) -> Option<&AdmitRule> {
        self.admit_new.as_deref()
    }

    pub(super) fn commits(&self, response: &response::Parts) -> bool {
        (self.commit_when)(response)
    }
}
