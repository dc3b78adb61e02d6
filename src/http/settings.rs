//! The settings of a session layer, as its services share them. Knows no request.

use http::{StatusCode, request, response};
use std::sync::Arc;
use std::time::Duration;

use super::cookie::{CookieSettings, SessionCookie};
use super::policy::Rerun;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::transaction::Patience;

/// The default of `replay_limit`, in bytes.
const REPLAY_LIMIT: usize = 64 * 1024;

type CommitRule = dyn Fn(&response::Parts) -> bool + Send + Sync;
type AdmitRule = dyn Fn(&request::Parts) -> bool + Send + Sync;

/// The settings of the layer, except for the cookie.
#[derive(Clone)]
pub(super) struct LayerRules {
    pub(super) rerun: Rerun,
    pub(super) replay_limit: usize,
    pub(super) turn_wait: Option<Duration>,
    pub(super) commit_when: Arc<CommitRule>,
    pub(super) admit_new: Option<Arc<AdmitRule>>,
}

impl Default for LayerRules {
    fn default() -> Self {
        Self {
            rerun: Rerun::default(),
            replay_limit: REPLAY_LIMIT,
            turn_wait: None,
            commit_when: Arc::new(is_whole),
            admit_new: None,
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
        self.refusal.clone()
    }

    /// How long a request waits for turns.
    pub(super) fn patience(&self) -> Patience {
        let store = || self.store.patience();
        self.rules.turn_wait.map_or_else(store, Patience::new)
    }

    pub(super) fn admit_new(&self) -> Option<&AdmitRule> {
        self.rules.admit_new.as_deref()
    }

    pub(super) fn commits(&self, response: &response::Parts) -> bool {
        (self.rules.commit_when)(response)
    }
}
