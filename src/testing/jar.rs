//! The cookies of one visitor, kept as browsers do (RFC 6265bis).

use chrono::{DateTime, TimeDelta, Utc};
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use std::time::Duration;

/// A `Set-Cookie` field.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use axum::{Router, routing::get};
/// use cloakroom::http::SessionLayer;
/// use cloakroom::testing::{self, Visitor};
/// use cloakroom::{Error, Session};
///
/// async fn page(session: Session) -> Result<&'static str, Error> {
///     session.pkg("seen").insert("page", true)?;
///     Ok("home")
/// }
///
/// let (store, clock) = testing::store();
/// let app: Router = Router::new().route("/", get(page)).layer(SessionLayer::new(store));
/// let answer = Visitor::new(app, &clock).get("/").await;
/// let cookie = &answer.set_cookies()[0];
/// assert!(cookie.is_secure() && cookie.is_http_only());
/// assert_eq!((cookie.same_site(), cookie.path(), cookie.max_age()), (Some("Lax"), Some("/"), None));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SetCookie(Cookie<'static>);

impl SetCookie {
    #[track_caller]
    pub(super) fn parse(field: &HeaderValue) -> Self {
        let text = field.to_str().ok().map(str::to_owned);
        match text.map(Cookie::parse) {
            Some(Ok(cookie)) => Self(cookie),
            _ => panic!("not a cookie: {field:?}"),
        }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Returns the value. Do not print it: it may be the id of a session.
    #[must_use]
    pub fn value(&self) -> &str {
        self.0.value()
    }

    /// Returns the path below which the cookie is sent.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.path()
    }

    /// Returns the domain with whose hosts the cookie is shared. Without one, it is sent to its own host only.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.0.domain()
    }

    /// Returns `Max-Age`. A cookie without it is kept until the browser ends.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        let age = self.0.max_age()?.whole_seconds();
        Some(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }

    /// Whether the cookie is sent over HTTPS only.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.secure() == Some(true)
    }

    /// Whether scripts cannot read the cookie.
    #[must_use]
    pub fn is_http_only(&self) -> bool {
        self.0.http_only() == Some(true)
    }

    /// Returns `SameSite`: `Strict`, `Lax` or `None`.
    #[must_use]
    pub fn same_site(&self) -> Option<&'static str> {
        Some(match self.0.same_site()? {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        })
    }

    /// Whether the field removes the cookie: its `Max-Age` is zero, or `Expires` lies in the past.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        match self.0.max_age() {
            Some(age) => age.whole_seconds() <= 0,
            None => self.expires().is_some_and(|at| at <= Utc::now()),
        }
    }

    fn expires(&self) -> Option<DateTime<Utc>> {
        let at = self.0.expires_datetime()?;
        DateTime::from_timestamp(at.unix_timestamp(), 0)
    }

    /// Why a browser ignores the cookie.
    fn refusal(&self, scheme: Scheme) -> Option<&'static str> {
        let name = self.name();
        let prefixed = |prefix: &str| {
            let start = name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if self.is_secure() && scheme == Scheme::Http {
            return Some("it is `Secure`, and the visitor came over plain HTTP");
        }
        if (prefixed("__Host-") || prefixed("__Secure-")) && !self.is_secure() {
            return Some("its prefix demands `Secure`");
        }
        if prefixed("__Host-") && (self.path() != Some("/") || self.domain().is_some()) {
            return Some("the prefix `__Host-` demands `Path=/` and no `Domain`");
        }
        if self.0.same_site() == Some(SameSite::None) && !self.is_secure() {
            return Some("`SameSite=None` demands `Secure`");
        }
        if name.len() + self.value().len() > 4096 {
            return Some("its name and value are longer than 4,096 bytes");
        }
        None
    }
}

/// A cookie that a visitor keeps.
#[derive(Clone)]
struct Kept {
    cookie: SetCookie,
    path: String,
    until: Option<DateTime<Utc>>,
}

/// The cookies of a visitor on one host.
#[derive(Clone, Default)]
pub(super) struct Jar(Vec<Kept>);

impl Jar {
    /// Keeps or removes a cookie that came with the answer to a request for `path`.
    #[track_caller]
    pub(super) fn take(
        &mut self,
        cookie: SetCookie,
        path: &str,
        scheme: Scheme,
        now: DateTime<Utc>,
    ) {
        if let Some(why) = cookie.refusal(scheme) {
            panic!("a browser ignores the cookie {}: {why}", cookie.name());
        }
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            _ => default_path(path).to_owned(),
        };
        self.0
            .retain(|kept| kept.cookie.name() != cookie.name() || kept.path != path);
        let until = match cookie.max_age() {
            // 400 days are the longest that browsers keep a cookie.
            Some(age) => TimeDelta::from_std(age.min(Duration::from_secs(400 * 86_400)))
                .ok()
                .and_then(|age| now.checked_add_signed(age)),
            None => cookie.expires(),
        };
        if until.is_none_or(|until| until > now) {
            self.0.push(Kept {
                cookie,
                path,
                until,
            });
        }
    }

    /// Returns the value of the `Cookie` field for a request for `path`, the cookies with longer paths first.
    pub(super) fn field(&self, path: &str, scheme: Scheme, now: DateTime<Utc>) -> Option<String> {
        let mut sent: Vec<&Kept> = self.kept(scheme, now).collect();
        sent.retain(|kept| is_below(path, &kept.path));
        sent.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        let pairs = sent.iter().map(|kept| {
            let cookie = &kept.cookie;
            format!("{}={}", cookie.name(), cookie.value())
        });
        let field = pairs.collect::<Vec<_>>().join("; ");
        (!field.is_empty()).then_some(field)
    }

    /// Returns the value of a cookie that is still kept.
    pub(super) fn value(&self, name: &str, now: DateTime<Utc>) -> Option<&str> {
        let mut named = self.kept(Scheme::Https, now);
        let kept = named.find(|kept| kept.cookie.name() == name)?;
        Some(kept.cookie.value())
    }

    /// Returns the values of all cookies that are still kept.
    pub(super) fn values(&self, now: DateTime<Utc>) -> impl Iterator<Item = &str> {
        let kept = self.kept(Scheme::Https, now);
        kept.map(|kept| kept.cookie.value())
    }

    fn kept(&self, scheme: Scheme, now: DateTime<Utc>) -> impl Iterator<Item = &Kept> {
        self.0.iter().filter(move |kept| {
            kept.until.is_none_or(|until| until > now)
                && (scheme == Scheme::Https || !kept.cookie.is_secure())
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

/// The path of a cookie that names none (RFC 6265, section 5.1.4).
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => path.get(..end).unwrap_or("/"),
    }
}

/// Whether a request for `path` carries a cookie of this path (RFC 6265, section 5.1.4).
fn is_below(path: &str, cookie: &str) -> bool {
    match path.strip_prefix(cookie) {
        Some(rest) => rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'),
        None => false,
    }
}
