//! The cookie that carries the client id: its settings, how it is found in a request and how it is
//! sent. Knows no store.

use ::cookie::{Cookie, CookieBuilder, time};
use http::{HeaderValue, Method, request};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cookie_rules::{check_domain, check_foreign_name, check_name, check_path, invalid};
use crate::error::Result;
use crate::expiry::Keeping;

/// The longest that browsers keep a cookie (RFC 6265bis §5.6.2).
const MAX_LIFETIME: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// The maximum number of cookies of our name that are checked per request (C4.9).
const MAX_CANDIDATES: usize = 8;

/// How long the browser keeps the cookie. A session's own timeout takes precedence.
///
/// The cookie is sent when it is new, and when its session's own timeout was set or removed. A cookie with a lifetime
/// is sent again when an access is recorded: once per resolution, which is then at most half of the lifetime. So a
/// browser does not drop the cookie of a visitor who comes more often than that.
///
/// An access without a response, through a [`SessionHandle`](crate::SessionHandle) or in a transaction of a task, is
/// recorded like any other and delays the renewal. Only a request that comes more than one resolution after the last
/// recorded access sends the cookie again. If a task uses the session more often than that, the cookie may expire
/// although the visitor is active, with [`Max`](Self::Max) on day 400. In this case choose a lifetime, or a session's
/// own timeout, as long as a login may last.
///
/// ```
/// use cloakroom::http::{CookieLifetime, CookieSettings};
/// use std::time::Duration;
///
/// let month = Duration::from_secs(30 * 86_400);
/// let cookie = CookieSettings::new().lifetime(CookieLifetime::For(month));
/// # drop(cookie);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CookieLifetime {
    /// Until the browser is closed.
    #[default]
    Browser,
    /// 400 days from the last time it was sent, the maximum that browsers allow.
    Max,
    /// This time from the last time it was sent, in whole seconds: at least one second, at most 400 days.
    For(Duration),
}

/// Which requests from other sites carry the cookie.
///
/// ```
/// use cloakroom::http::{CookieSettings, SameSite};
///
/// // For pages that are shown in frames of other sites:
/// let cookie = CookieSettings::new().same_site(SameSite::None)?.partitioned()?;
/// # drop(cookie);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// None, not even after a link from another site. A visitor who comes back from a login on another site has no
    /// session.
    Strict,
    /// Requests after a link from another site, but not its forms, frames and images.
    #[default]
    Lax,
    /// All. Requires `Secure`.
    None,
}

/// The settings of the session cookie.
///
/// The default is safe: `Secure`, `HttpOnly`, `SameSite=Lax`, `Path=/`, and removed when the browser is closed. The
/// name is derived from the store's identity, so that two applications on one host do not collide. It has the prefix
/// `__Host-`, which stops a neighbouring subdomain from setting the cookie. With a domain or another path, the prefix
/// is `__Secure-`; without `Secure` there is none.
///
/// A setting that browsers would reject is an error:
///
/// ```
/// use cloakroom::http::{CookieSettings, SameSite};
///
/// let cookie = CookieSettings::new().name("sid")?.domain("example.com")?;
/// assert!(CookieSettings::new().plain_http().same_site(SameSite::None).is_err());
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// Only [`plain_http`](Self::plain_http) cannot fail. If it is called *after* a setting that requires `Secure`, the
/// settings are invalid. Every later setter that can fail then returns an error, and the layer answers each request
/// for a session with that error. No setting is dropped silently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    name: Option<String>,
    lifetime: CookieLifetime,
    domain: Option<String>,
    path: String,
    path_rule: Option<PathRule>,
    founding: FoundingMethod,
    issuer: CookieIssuer,
    secure: bool,
    http_only: bool,
    same_site: SameSite,
    partitioned: bool,
}

impl CookieSettings {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: None,
            lifetime: CookieLifetime::Browser,
            domain: None,
            path: "/".to_owned(),
            path_rule: None,
            founding: FoundingMethod::Any,
            issuer: CookieIssuer::Layer,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
        }
    }

    /// Sets the name without its prefix: 1 to 30 of ASCII letters, digits, `_` and `-`. Default: `id-` and 8 hex
    /// digits of the store's identity.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for any other name, and for a name with a prefix that browsers
    /// interpret (`__Host-`, `__Secure-`, `__Http-`).
    pub fn name(mut self, name: &str) -> Result<Self> {
        check_name(name)?;
        self.issuer = CookieIssuer::Layer;
        self.name = Some(name.to_owned());
        self.checked()
    }

    /// Sets how long the browser keeps the cookie.
    #[must_use]
    pub fn lifetime(mut self, lifetime: CookieLifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sends the cookie to this host and all hosts below it. By default only the host that set the cookie gets it. A
    /// leading dot is ignored.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is not an ASCII host name, and for domains whose cookies
    /// browsers reject: a single label, such as `com` or `localhost`, and an IP address. With the feature
    /// `public-suffixes` also for domains under which others register, such as `co.uk` and `github.io`. Without a
    /// domain, cookies work on single labels and IP addresses.
    pub fn domain(mut self, domain: &str) -> Result<Self> {
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let domain = domain.to_ascii_lowercase();
        check_domain(&domain)?;
        self.domain = Some(domain);
        self.checked()
    }

    /// Sends the cookie only to this path and paths below it. Default: `/`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it does not begin with `/`, is longer than 1024 bytes, or
    /// contains a `;` or a character other than visible ASCII.
    pub fn path(mut self, path: &str) -> Result<Self> {
        check_path(path)?;
        self.path = path.to_owned();
        self.checked()
    }

    /// Sets a rule that gives the path for each request, for applications that are mounted at a path that they do not
    /// know. If it returns `None`, the path is that of [`path`](Self::path). The name then has the prefix `__Secure-`.
    /// If the path is one that `path` refuses, the response that would send the cookie is an error.
    ///
    /// In axum, the path at which a router is nested:
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::extract::NestedPath;
    /// use cloakroom::http::CookieSettings;
    ///
    /// let cookie = CookieSettings::new().path_from(|request| {
    ///     let mount = request.extensions.get::<NestedPath>()?;
    ///     Some(mount.as_str().to_owned())
    /// });
    /// # drop(cookie);
    /// # }
    /// ```
    #[must_use]
    pub fn path_from(
        mut self,
        rule: impl Fn(&request::Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.path_rule = Some(PathRule(Arc::new(rule)));
        self
    }

    /// Lets only POST requests create a session. Any other request of a visitor without one reads an empty session.
    /// If it writes to it, nothing is stored, and the response is
    /// [`MissingClientId`](crate::ErrorKind::MissingClientId) with 403. The same holds for a request that has ended its
    /// session: a log-out that leaves a message for the next page needs a POST.
    #[must_use]
    pub fn post_only(mut self) -> Self {
        self.founding = FoundingMethod::Post;
        self
    }

    /// Lets no request create a session: the layer serves the sessions that exist. A request of a visitor without one
    /// reads an empty session. If it writes to it, nothing is stored, and the response is
    /// [`MissingClientId`](crate::ErrorKind::MissingClientId) with 403. The same holds for a request that has ended its
    /// session.
    ///
    /// For routes whose sessions begin elsewhere: at a login under another layer, or with another session library, whose
    /// cookie [`third_party`](Self::third_party) reads. An id that a visitor makes up begins no session there.
    ///
    /// ```
    /// use cloakroom::http::CookieSettings;
    ///
    /// let cookie = CookieSettings::new().third_party("connect.sid")?.existing_only();
    /// # drop(cookie);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// Ids in other [transports](super::IdTransport) are not concerned.
    #[must_use]
    pub fn existing_only(mut self) -> Self {
        self.founding = FoundingMethod::None;
        self
    }

    /// Takes the id from a cookie that a front server sets, such as a load balancer or a gateway. The value is the id, 1
    /// to 256 bytes as they are. The layer sends no cookie then, and the other settings of the cookie except
    /// [`post_only`](Self::post_only) and [`existing_only`](Self::existing_only) mean nothing. A request without that cookie reads an empty session, and its first
    /// write gives [`MissingClientId`](crate::ErrorKind::MissingClientId).
    ///
    /// **Every client that knows such an id can use its session.** The front server must make ids that cannot be
    /// guessed, and must let no request pass with a cookie of this name that it did not set. If it cannot prevent that,
    /// [`existing_only`](Self::existing_only) serves the ids whose sessions it began by other means. The id does not change at
    /// a login: [`rotate`](crate::Session::rotate) and [`log_in`](crate::Session::log_in) give
    /// [`Unsupported`](crate::ErrorKind::Unsupported). [`set_owner`](crate::Session::set_owner) works.
    ///
    /// ```
    /// use cloakroom::http::CookieSettings;
    ///
    /// let cookie = CookieSettings::new().third_party("gateway.visit")?;
    /// # drop(cookie);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) unless the name has 1 to 256 of the characters that HTTP allows
    /// in names of cookies.
    pub fn third_party(mut self, name: &str) -> Result<Self> {
        check_foreign_name(name)?;
        self.name = Some(name.to_owned());
        self.issuer = CookieIssuer::FrontServer;
        self.checked()
    }

    /// Whether a front server sets the cookie.
    pub(super) fn is_third_party(&self) -> bool {
        self.issuer == CookieIssuer::FrontServer
    }

    /// The reason why a request with this method may not hand out a new visitor's cookie, if there is one.
    pub(super) fn founding_refusal(&self, method: &Method) -> Option<&'static str> {
        match self.founding {
            FoundingMethod::Any => None,
            FoundingMethod::Post if method == Method::POST => None,
            FoundingMethod::Post => {
                Some("only a POST request may create a session here (post_only)")
            }
            FoundingMethod::None => Some("no request creates a session here (existing_only)"),
        }
    }

    /// For development without TLS: no `Secure`, and therefore no prefix. Anyone on the network path can read the
    /// cookie. Not together with `SameSite=None` or `Partitioned`, see [above](Self).
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.secure = false;
        self
    }

    /// Lets scripts read the cookie: no `HttpOnly`.
    #[must_use]
    pub fn script_readable(mut self) -> Self {
        self.http_only = false;
        self
    }

    /// Sets which requests from other sites carry the cookie.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for [`SameSite::None`] without `Secure`.
    pub fn same_site(mut self, same_site: SameSite) -> Result<Self> {
        self.same_site = same_site;
        self.checked()
    }

    /// Gives each embedding site its own cookie (`Partitioned`, CHIPS).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) without `Secure`.
    pub fn partitioned(mut self) -> Result<Self> {
        self.partitioned = true;
        self.checked()
    }

    fn checked(self) -> Result<Self> {
        self.check()?;
        Ok(self)
    }

    /// Checks the settings together. Each setter has checked its own setting.
    pub(super) fn check(&self) -> Result<()> {
        let needs_secure = if self.same_site == SameSite::None {
            "SameSite=None"
        } else if self.partitioned {
            "Partitioned"
        } else {
            return Ok(());
        };
        if self.secure {
            return Ok(());
        }
        Err(invalid(format!(
            "a cookie that is {needs_secure} must be Secure, which plain_http() turns off"
        )))
    }

    fn prefix(&self) -> &'static str {
        if self.is_third_party() {
            return "";
        }
        let is_bound = self.domain.is_none() && self.path == "/" && self.path_rule.is_none();
        match (self.secure, is_bound) {
            (false, _) => "",
            (true, true) => "__Host-",
            (true, false) => "__Secure-",
        }
    }
}

/// Which requests may hand out a new visitor's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FoundingMethod {
    Any,
    Post,
    None,
}

/// Who makes the ids and sets the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CookieIssuer {
    Layer,
    FrontServer,
}

/// The application's rule for the cookie's path. Equal to itself and its clones only.
#[derive(Clone)]
struct PathRule(Arc<PathOf>);

type PathOf = dyn Fn(&request::Parts) -> Option<String> + Send + Sync;

impl fmt::Debug for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PathRule").finish_non_exhaustive()
    }
}

impl PartialEq for PathRule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PathRule {}

impl Default for CookieSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// The cookie of one layer: its settings under the name that browsers see.
#[derive(Clone)]
pub(super) struct SessionCookie {
    name: String,
    settings: CookieSettings,
}

impl SessionCookie {
    pub(super) fn new(settings: CookieSettings, default_name: &str) -> Self {
        let name = settings.name.as_deref().unwrap_or(default_name);
        Self {
            name: format!("{}{name}", settings.prefix()),
            settings,
        }
    }

    /// Another cookie with the same attributes.
    #[cfg(feature = "cookie-containers")]
    pub(super) fn named(&self, name: String) -> Self {
        Self {
            name,
            settings: self.settings.clone(),
        }
    }

    /// The length of a `Set-Cookie` field without the value.
    #[cfg(feature = "cookie-containers")]
    pub(super) fn overhead(&self) -> Result<usize> {
        let longest = self.handing_out("", Some(Duration::ZERO))?;
        Ok(longest.len())
    }

    /// The name that browsers see.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn settings(&self) -> &CookieSettings {
        &self.settings
    }

    /// The cookie as this request gets it.
    pub(super) fn at(&self, request: &request::Parts) -> Result<Cow<'_, Self>> {
        let rule = self.settings.path_rule.as_ref();
        let Some(path) = rule.and_then(|PathRule(rule)| rule(request)) else {
            return Ok(Cow::Borrowed(self));
        };
        check_path(&path)?;
        let mut cookie = self.clone();
        cookie.settings.path = path;
        Ok(Cow::Owned(cookie))
    }

    /// The values under our name in a request's `Cookie` fields, in order, as many as are checked. Fields are bytes, so
    /// the values of other cookies do not matter (C4.9). Quotes around a value are no part of it (RFC 6265 §4.1.1).
    pub(super) fn candidates<'a>(
        &'a self,
        fields: impl IntoIterator<Item = &'a HeaderValue>,
    ) -> impl Iterator<Item = &'a [u8]> {
        fields
            .into_iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|pair| {
                let rest = pair.trim_ascii_start().strip_prefix(self.name.as_bytes())?;
                let value = rest.trim_ascii_start().strip_prefix(b"=")?;
                Some(unquoted(value.trim_ascii()))
            })
            .take(MAX_CANDIDATES)
    }

    /// The `Set-Cookie` field that hands out `id`. `timeout` is the session's own, where it has one;
    /// zero never ends (C3.3).
    pub(super) fn handing_out(&self, id: &str, timeout: Option<Duration>) -> Result<HeaderValue> {
        let lifetime = self.keeping().of(timeout);
        let mut cookie = self.build(id);
        if let Some(lifetime) = lifetime {
            cookie = cookie.max_age(max_age(lifetime));
        }
        field(&cookie.build())
    }

    /// How long a browser keeps the cookie, as far as it must be renewed.
    pub(super) fn keeping(&self) -> Keeping {
        let longest = MAX_LIFETIME;
        let usual = match self.settings.lifetime {
            CookieLifetime::Browser => None,
            CookieLifetime::Max => Some(longest),
            CookieLifetime::For(lifetime) => Some(lifetime.clamp(Duration::from_secs(1), longest)),
        };
        Keeping { usual, longest }
    }

    /// The `Set-Cookie` field that removes the cookie. Browsers find the cookie by name, domain and path. The other
    /// attributes stay the same, because a prefix of the name may require them.
    pub(super) fn removal(&self) -> Result<HeaderValue> {
        let cookie = self
            .build("")
            .max_age(time::Duration::ZERO)
            .expires(time::OffsetDateTime::UNIX_EPOCH);
        field(&cookie.build())
    }

    fn build<'a>(&'a self, value: &'a str) -> CookieBuilder<'a> {
        let settings = &self.settings;
        let mut cookie = Cookie::build((self.name.as_str(), value))
            .path(settings.path.as_str())
            .secure(settings.secure)
            .http_only(settings.http_only)
            .same_site(match settings.same_site {
                SameSite::Strict => ::cookie::SameSite::Strict,
                SameSite::Lax => ::cookie::SameSite::Lax,
                SameSite::None => ::cookie::SameSite::None,
            });
        if settings.partitioned {
            cookie = cookie.partitioned(true);
        }
        match &settings.domain {
            Some(domain) => cookie.domain(domain.as_str()),
            None => cookie,
        }
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

fn max_age(lifetime: Duration) -> time::Duration {
    let seconds = lifetime.as_secs().clamp(1, MAX_LIFETIME.as_secs());
    time::Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// Marked sensitive, so that no log prints it and HPACK keeps it out of its table.
fn field(cookie: &Cookie<'_>) -> Result<HeaderValue> {
    let mut field = HeaderValue::try_from(cookie.to_string())
        .map_err(|error| invalid("the session cookie is no header value").with_source(error))?;
    field.set_sensitive(true);
    Ok(field)
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;
