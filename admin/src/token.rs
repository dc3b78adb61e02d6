//! Access by a token: for programs in `Authorization`, for people by a form that asks for it once.

use crate::access::{Access, AccessResolver};
use crate::csrf::{hex, random};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// A shorter token could be guessed.
const LEAST: usize = 16;
/// How long the answer to a wrong token takes.
const DELAY: Duration = Duration::from_secs(1);
/// How many wrong tokens are answered in that time. The others wait in line.
const AT_ONCE: usize = 64;
/// How many requests with wrong tokens wait at most. Beyond that, no token is looked at, the right one neither: only
/// browsers that signed in before have access then.
const WAITING: usize = 1024;
/// A browser that signed in is forgotten after this.
const SIGNED_IN: Duration = Duration::from_secs(12 * 3600);
/// How many browsers are signed in at most; the oldest is forgotten.
const BROWSERS: usize = 256;

/// The cookie of a browser that signed in.
pub(crate) const COOKIE: &str = "cloakroom-admin";

/// Access for those who know a token. Programs send it as `Authorization: Bearer TOKEN` (RFC 6750). People type it into a
/// form, if it was given to [`Admin::sign_in`](crate::Admin::sign_in). The token is compared in constant time, and nothing
/// keeps it. A wrong one waits a second for its answer, or longer if there are many. Who measures that learns that there
/// is an administration page.
///
/// ```
/// use cloakroom::Store;
/// use cloakroom_admin::{Access, Admin, TokenAccess};
///
/// # let secret = "correct horse battery staple";
/// let token = TokenAccess::new(secret, Access::all("operator")).expect("at least 16 bytes");
/// let pages: axum::Router = Admin::new(Store::in_memory()?, token.clone()).sign_in(token).router();
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone)]
pub struct TokenAccess {
    inner: Arc<Inner>,
}

struct Inner {
    digest: [u8; 32],
    access: Access,
    at_once: Semaphore,
    waiting: Semaphore,
    /// The digests of the cookies of browsers that signed in, and when.
    browsers: Mutex<HashMap<[u8; 32], Instant>>,
}

impl TokenAccess {
    /// Gives this access to requests with the token. Returns `None` if the token has fewer than 16 bytes, because it
    /// could be guessed.
    #[must_use]
    pub fn new(token: &str, access: Access) -> Option<Self> {
        let inner = Inner {
            digest: digest(token.as_bytes()),
            access,
            at_once: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
            browsers: Mutex::default(),
        };
        let is_long_enough = token.len() >= LEAST;
        is_long_enough.then(|| Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether it is the token. A wrong one takes a second or more.
    async fn accepts(&self, token: &[u8]) -> bool {
        let Ok(_waiting) = self.inner.waiting.try_acquire() else {
            return false;
        };
        let is_right: bool = digest(token).ct_eq(&self.inner.digest).into();
        if !is_right && let Ok(_turn) = self.inner.at_once.acquire().await {
            tracing::warn!(target: "cloakroom_admin::audit", "a wrong token");
            tokio::time::sleep(DELAY).await;
        }
        is_right
    }

    /// Signs a browser in. Returns its access and the value of its cookie, or `None` if the token is wrong.
    pub(crate) async fn sign_in(&self, token: &str) -> Option<(Access, String)> {
        if !self.accepts(token.as_bytes()).await {
            return None;
        }
        let cookie = hex(&random::<32>()?);
        let mut browsers = self.browsers();
        browsers.retain(|_, since| since.elapsed() < SIGNED_IN);
        let oldest = browsers.iter().min_by_key(|(_, since)| **since);
        if browsers.len() >= BROWSERS
            && let Some(oldest) = oldest.map(|(cookie, _)| *cookie)
        {
            browsers.remove(&oldest);
        }
        browsers.insert(digest(cookie.as_bytes()), Instant::now());
        Some((self.inner.access.clone(), cookie))
    }

    /// Forgets the browser of this request.
    pub(crate) fn sign_out(&self, headers: &HeaderMap) {
        let mut browsers = self.browsers();
        for value in cookies(headers) {
            browsers.remove(&digest(value));
        }
    }

    /// The access of a browser that signed in.
    pub(crate) fn of_browser(&self, headers: &HeaderMap) -> Option<Access> {
        let browsers = self.browsers();
        let mut signed_in = cookies(headers).filter_map(|value| browsers.get(&digest(value)));
        let is_signed_in = signed_in.any(|since| since.elapsed() < SIGNED_IN);
        is_signed_in.then(|| self.inner.access.clone())
    }

    fn browsers(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        let browsers = self.inner.browsers.lock();
        browsers.unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessResolver for TokenAccess {
    fn resolve(&self, head: &Parts) -> impl Future<Output = Access> + Send + use<> {
        let this = self.clone();
        let value = head.headers.get(header::AUTHORIZATION).cloned();
        async move {
            let token = value.as_ref().and_then(|value| {
                let (scheme, token) = value.as_bytes().split_at_checked(7)?;
                scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
            });
            match token {
                Some(token) if this.accepts(token).await => this.inner.access.clone(),
                _ => Access::none(),
            }
        }
    }
}

impl fmt::Debug for TokenAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAccess").finish_non_exhaustive()
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The values of all cookies of our name: at most eight, as a foreign one may hide ours.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let fields = headers.get_all(header::COOKIE).iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    let ours = pairs.filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(COOKIE.len() + 1)?;
        name.strip_suffix(b"=")
            .is_some_and(|name| name == COOKIE.as_bytes())
            .then_some(value)
    });
    ours.take(8)
}
