//! The session layer, and how it is set up.

use http::{request, response};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cookie::CookieSettings;
use super::policy::Rerun;
use super::proxies::TrustedProxies;
use super::settings::{CookieUse, LayerRules, LayerSettings, SiteData};
use super::transport::IdTransport;
use crate::store::Store;

/// A layer that gives each request one transaction on a store, and its client a cookie.
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
/// Put timeouts inside this layer, and catching panics, compression, CORS, tracing and body limits outside: see
/// [beside other layers](super#beside-other-layers).
///
/// A second session layer inside another one does nothing: the store, cookie and rules of the outer one apply.
///
/// With the feature `axum` this is a [`tower_layer::Layer`], and the inner service gets axum's `Body`. It works with
/// routers, handlers, `middleware::from_fn`, and any other service of `Request<Body>`, in `Router::layer`,
/// `Router::route_layer` and `ServiceBuilder`. [`generic`](Self::generic) makes a layer for services without axum.
#[derive(Clone)]
pub struct SessionLayer {
    /// Shared with the services, because axum may apply a layer again for each request.
    settings: Arc<LayerSettings>,
}

impl SessionLayer {
    /// Returns a layer with the defaults: the cookie of [`CookieSettings::new`], [`Rerun::Idempotent`], 64 KiB of
    /// body kept, the store's own `turn_wait`, and the default rule of [`commit_when`](Self::commit_when).
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            settings: Arc::new(LayerSettings::new(store)),
        }
    }

    fn rules(&mut self) -> &mut LayerRules {
        &mut Arc::make_mut(&mut self.settings).rules
    }

    /// Sets the cookie's settings.
    #[must_use]
    pub fn cookie(mut self, settings: CookieSettings) -> Self {
        Arc::make_mut(&mut self.settings).set_cookie(settings);
        self
    }

    /// Sets which requests run again after a conflict. A route can override this: [`Rerun`] is also a layer.
    #[must_use]
    pub fn rerun(mut self, rerun: Rerun) -> Self {
        self.rules().rerun = rerun;
        self
    }

    /// Sets how many bytes of a body are kept to run its request again. A request with a larger body runs once. If
    /// its size is not known beforehand, it also waits for its session's turn.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.rules().replay_limit = bytes;
        self
    }

    /// Sets how long a request waits for turns in total: when it asks for its session, when it commits, and when it
    /// runs again. Then it continues without the turn.
    #[must_use]
    pub fn turn_wait(mut self, wait: Duration) -> Self {
        self.rules().turn_wait = Some(wait);
        self
    }

    /// Sets the rule for requests that may create a session, for the application's own limiter: by address, by
    /// network, or by another criterion. Default: all may.
    ///
    /// The rule is called at most once per request, when the request's commit is about to create a session. It is not
    /// called for visitors with a live session, or for requests that only read. If it returns `false`, nothing is
    /// written. The response is then 429, with [`NotAdmitted`](crate::ErrorKind::NotAdmitted) in its extensions, in
    /// place of the handler's response. The rule must not block. It finds data about the request, such as the
    /// visitor's address, in the request's extensions or headers:
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
    /// [`StoreBuilder::max_new_sessions`](crate::StoreBuilder::max_new_sessions) is the limit of the whole store,
    /// which refuses honest visitors and bots alike.
    #[must_use]
    pub fn admit_new(
        mut self,
        rule: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rules().admit_new = Some(Arc::new(rule));
        self
    }

    /// Puts the visitor's address into the extensions of each request, as a
    /// [`VisitorAddress`](super::VisitorAddress): for [`admit_new`](Self::admit_new) and for handlers. Default: none, and no
    /// header of proxies is read.
    #[must_use]
    pub fn proxies(mut self, proxies: TrustedProxies) -> Self {
        self.rules().proxies = Some(proxies);
        self
    }

    /// Tells the browser to drop its data of this site when the session ends. The response whose commit ends the
    /// session has the field `Clear-Site-Data: "cookies", "storage"`, unless the handler sets that header itself.
    ///
    /// Browsers obey over HTTPS only. They drop **all** cookies of the registered domain, those of neighbouring hosts
    /// included, and this host's storage and service workers. Default: only the session's cookie is removed.
    #[must_use]
    pub fn clear_site_data(mut self) -> Self {
        self.rules().site_data = SiteData::Cleared;
        self
    }

    /// Gives a client a new id when its id is older than `age`, with the first request after that which uses the session
    /// and commits. The session and its data stay. So an id that somebody else got hold of is worth nothing after a while,
    /// as long as the visitor comes. Default: only [`rotate`](crate::Session::rotate) and
    /// [`log_in`](crate::Session::log_in) give new ids.
    ///
    /// Requests that were sent with the old id go on finding the session for [`renew_grace`](Self::renew_grace), to read and
    /// to write, and their responses carry no cookie. A client that does not get the response with the new cookie within
    /// that time loses its session.
    ///
    /// A renewal is a durable commit that writes the session anew, so `age` should be minutes or more. Ids in other
    /// [transports](Self::transport) are not renewed.
    ///
    /// ```
    /// use cloakroom::{Store, http::SessionLayer};
    /// use std::time::Duration;
    ///
    /// let layer = SessionLayer::new(Store::in_memory()?).renew_after(Duration::from_secs(15 * 60));
    /// # drop(layer);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn renew_after(mut self, age: Duration) -> Self {
        self.rules().renew_after = Some(age);
        self
    }

    /// Sets how long a renewed id goes on finding its session. Default: 30 s. With zero, requests that bear it when it is
    /// renewed conflict, or read an empty session.
    #[must_use]
    pub fn renew_grace(mut self, time: Duration) -> Self {
        self.rules().renew_grace = time;
        self
    }

    /// Adds a transport for ids beside the cookie. Requests that use it get no cookie. Several are asked in the order in
    /// which they were added. See [`IdTransport`].
    #[must_use]
    pub fn transport(mut self, transport: impl IdTransport) -> Self {
        self.rules().transports.push(Arc::new(transport));
        self
    }

    /// Neither reads nor sends cookies. New ids are sent by the first transport, unless the request uses another.
    /// Without a transport, each request for a session gets [`InvalidInput`](crate::ErrorKind::InvalidInput).
    #[must_use]
    pub fn without_cookie(mut self) -> Self {
        self.rules().cookie_use = CookieUse::Off;
        self
    }

    /// Sets the function that chooses the status and the page of each response that is made from an
    /// [`Error`](crate::Error): by this layer, and by a handler or an extractor that returns one. It gets the error and
    /// the request as it arrived.
    ///
    /// ```
    /// use axum::http::StatusCode;
    /// use axum::response::Html;
    /// use cloakroom::{ErrorKind, Store, http::SessionLayer};
    ///
    /// let layer = SessionLayer::new(Store::in_memory()?).on_error(|error, _request| {
    ///     match error.kind() {
    ///         ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Html("Your cart is full.")),
    ///         _ => (StatusCode::SERVICE_UNAVAILABLE, Html("Please try again in a minute.")),
    ///     }
    /// });
    /// # drop(layer);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// The transaction has ended by then, whatever status is chosen. Headers of the original response that the page does
    /// not set are kept, such as `Retry-After`, `Cache-Control` and `Vary`, and so is the error in the extensions. A
    /// response that an application's own error type makes from scratch is left alone, and so are the services of
    /// [`generic`](Self::generic). The default is the status in the table of the module [`http`](crate::http) and an
    /// empty body.
    #[cfg(feature = "axum")]
    #[must_use]
    pub fn on_error<R: axum_core::response::IntoResponse>(
        mut self,
        page: impl Fn(&crate::Error, &request::Parts) -> R + Send + Sync + 'static,
    ) -> Self {
        let page = move |error: &_, request: &_| page(error, request).into_response();
        self.rules().on_error = Some(Arc::new(page));
        self
    }

    /// Returns the name of the session cookie as browsers see it, with its prefix (`__Host-` or `__Secure-`).
    ///
    /// ```
    /// use cloakroom::{Store, http::{CookieSettings, SessionLayer}};
    ///
    /// let layer = SessionLayer::new(Store::in_memory()?).cookie(CookieSettings::new().name("shop")?);
    /// assert_eq!(layer.cookie_name(), "__Host-shop");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn cookie_name(&self) -> &str {
        self.settings.cookie.name()
    }

    /// Sets the rule for responses that commit. Other responses abort, and hand out no cookie. The rule is called
    /// only for requests that used their session or answer with a [`FlashMessage`](super::FlashMessage), for the
    /// latter twice.
    ///
    /// By default a response commits unless its handler failed: it has the status 408, as a timeout inside the layer
    /// gives, or 500 or above, or it was made from an [`Error`](crate::Error), whatever its status.
    ///
    /// A response that aborts keeps its status and its body. If a commit fails, the response is replaced by one with
    /// the status of the [error](super#errors-as-responses).
    ///
    /// ```
    /// use cloakroom::{Store, http::SessionLayer};
    ///
    /// let layer = SessionLayer::new(Store::in_memory()?)
    ///     .commit_when(|response| response.status.is_success() || response.status.is_redirection());
    /// # drop(layer);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn commit_when(
        mut self,
        rule: impl Fn(&response::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.rules().commit_when = Arc::new(rule);
        self
    }
}

impl SessionLayer {
    /// The settings for the services that this layer makes.
    pub(super) fn settings(&self) -> Arc<LayerSettings> {
        Arc::clone(&self.settings)
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("cookie", self.settings.cookie.settings())
            .field("rerun", &self.settings.rules.rerun)
            .field("replay_limit", &self.settings.rules.replay_limit)
            .field("turn_wait", &self.settings.rules.turn_wait)
            .finish_non_exhaustive()
    }
}
