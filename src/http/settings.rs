//! The settings of a session layer, as its services share them. Knows no request.

use http::{HeaderName, StatusCode, header, request, response};
use std::sync::Arc;
use std::time::Duration;

use super::answer::Abort;
use super::cookie::{CookieSettings, SessionCookie};
use super::policy::Rerun;
use super::proxies::TrustedProxies;
use super::transport::{IdCarrier, IdTransport};
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::transaction::Patience;

/// The default of `replay_limit`, in bytes.
const REPLAY_LIMIT: usize = 64 * 1024;

type CommitRule = dyn Fn(&response::Parts) -> bool + Send + Sync;
pub(super) type AdmitRule = dyn Fn(&request::Parts) -> bool + Send + Sync;

/// The settings of the layer, except for the cookie.
#[derive(Clone)]
pub(super) struct LayerRules {
    pub(super) rerun: Rerun,
    pub(super) replay_limit: usize,
    pub(super) turn_wait: Option<Duration>,
    pub(super) commit_when: Arc<CommitRule>,
    pub(super) admit_new: Option<Arc<AdmitRule>>,
    /// In the order in which they are asked.
    pub(super) transports: Vec<Arc<dyn IdTransport>>,
    pub(super) cookie_use: CookieUse,
    pub(super) site_data: SiteData,
    pub(super) proxies: Option<TrustedProxies>,
    /// How old an id becomes, and how long it works after that.
    pub(super) renew_after: Option<Duration>,
    pub(super) renew_grace: Duration,
    #[cfg(feature = "axum")]
    pub(super) on_error: Option<Arc<ErrorPage>>,
}

/// Whether a browser keeps the data of the site when a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SiteData {
    Kept,
    Cleared,
}

/// The application's rule for the responses to errors.
#[cfg(feature = "axum")]
pub(super) type ErrorPage =
    dyn Fn(&Error, &request::Parts) -> axum_core::response::Response + Send + Sync;

/// The application's response where a login is not recent enough.
#[cfg(feature = "axum")]
pub(super) type Otherwise = dyn Fn(&request::Parts) -> axum_core::response::Response + Send + Sync;

/// Whether the layer reads and sends cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieUse {
    On,
    Off,
}

impl Default for LayerRules {
    fn default() -> Self {
        Self {
            rerun: Rerun::default(),
            replay_limit: REPLAY_LIMIT,
            turn_wait: None,
            commit_when: Arc::new(is_whole),
            admit_new: None,
            transports: Vec::new(),
            cookie_use: CookieUse::On,
            site_data: SiteData::Kept,
            proxies: None,
            renew_after: None,
            renew_grace: Duration::from_secs(30),
            #[cfg(feature = "axum")]
            on_error: None,
        }
    }
}

/// The default of `commit_when`: whether the response shows no failure of the handler.
fn is_whole(response: &response::Parts) -> bool {
    !response.status.is_server_error()
        && response.status != StatusCode::REQUEST_TIMEOUT
        && response.extensions.get::<Error>().is_none()
}

/// The cookie with these settings, and the error if they contradict each other.
fn for_store(store: &Store, settings: CookieSettings) -> (SessionCookie, Result<()>) {
    let [a, b, c, d, ..] = store.identity();
    let name = format!("id-{a:02x}{b:02x}{c:02x}{d:02x}");
    let refusal = settings.check();
    (SessionCookie::new(settings, &name), refusal)
}

/// The settings that the layer and its services share.
#[derive(Clone)]
pub(super) struct LayerSettings {
    pub(super) store: Store,
    pub(super) cookie: SessionCookie,
    pub(super) rules: LayerRules,
    /// The error of cookie settings that browsers would reject. Each request for a session gets it.
    pub(super) refusal: Result<()>,
}

impl LayerSettings {
    pub(super) fn new(store: Store) -> Self {
        let (cookie, refusal) = for_store(&store, CookieSettings::new());
        Self {
            store,
            cookie,
            rules: LayerRules::default(),
            refusal,
        }
    }

    pub(super) fn set_cookie(&mut self, settings: CookieSettings) {
        (self.cookie, self.refusal) = for_store(&self.store, settings);
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.rules.cookie_use == CookieUse::Off && self.rules.transports.is_empty() {
            let why = "a session layer without a cookie needs a transport for ids";
            return Err(Error::new(ErrorKind::InvalidInput, why));
        }
        self.refusal.clone()
    }

    /// How long a request waits for turns.
    pub(super) fn patience(&self) -> Patience {
        let store = || self.store.patience();
        self.rules.turn_wait.map_or_else(store, Patience::new)
    }

    /// How long a commit waits for those that hold the turn of its session.
    pub(super) fn turn_wait(&self) -> Duration {
        let own = self.rules.turn_wait;
        own.unwrap_or_else(|| self.store.turn_wait())
    }

    /// The transport that a request uses beside the cookie: the first that reads something from it.
    pub(super) fn used(&self, request: &request::Parts) -> Option<&Arc<dyn IdTransport>> {
        let mut transports = self.rules.transports.iter();
        transports.find(|it| it.read(request).is_some())
    }

    /// The transport of new ids, if a request uses this one.
    pub(super) fn carrier(&self, used: Option<&Arc<dyn IdTransport>>) -> IdCarrier {
        let other = match self.rules.cookie_use {
            CookieUse::On => used,
            CookieUse::Off => used.or(self.rules.transports.first()),
        };
        other.map_or(IdCarrier::Cookie, |it| IdCarrier::Other(Arc::clone(it)))
    }

    /// Whether a request has a cookie of the layer's name, valid or not.
    #[cfg(feature = "url-ids")]
    pub(super) fn has_cookie(&self, request: &request::Parts) -> bool {
        let fields = request.headers.get_all(header::COOKIE);
        self.rules.cookie_use == CookieUse::On && self.cookie.candidates(fields).next().is_some()
    }

    /// The fields of requests that carry ids.
    pub(super) fn id_fields(&self) -> impl Iterator<Item = HeaderName> {
        let cookie = (self.rules.cookie_use == CookieUse::On).then_some(header::COOKIE);
        let others = self.rules.transports.iter();
        cookie
            .into_iter()
            .chain(others.filter_map(|it| it.request_field()))
    }

    pub(super) fn admit_new(&self) -> Option<&AdmitRule> {
        self.rules.admit_new.as_deref()
    }

    pub(super) fn commits(&self, response: &response::Parts) -> bool {
        response.extensions.get::<Abort>().is_none() && (self.rules.commit_when)(response)
    }
}
