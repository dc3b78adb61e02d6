//! The layer that checks unsafe requests.

use bytes::Bytes;
use http::{HeaderName, Request, request};
use http_body::Body;
use std::fmt;
use std::sync::Arc;

use super::refusal::CsrfReason;
use super::token::{CsrfField, FIELD, check};
use crate::error::{Error, ErrorKind, Quoted, Result};
use crate::http::form::FormEncoding;
use crate::http::policy::is_upgrade;
use crate::http::proxies::origin::{RequestSource, source_of};
use crate::http::rewound::{ReadAhead, RewoundBody};
use crate::http::slot::{Slot, read_early};

/// The default of `form_limit`, in bytes.
const FORM_LIMIT: usize = 64 * 1024;

type ExemptRule = dyn Fn(&request::Parts) -> bool + Send + Sync;

/// Whether a request that its headers show to come from this origin needs a token, too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TokenNeed {
    Always,
    WithoutOrigin,
}

#[derive(Clone)]
struct CsrfSettings {
    trusted: Vec<String>,
    token_need: TokenNeed,
    header: HeaderName,
    field: Arc<str>,
    form_limit: usize,
    exempt: Vec<Arc<ExemptRule>>,
}

/// A layer that refuses requests which another site makes the visitor's browser send. It lies inside the
/// [`SessionLayer`](crate::http::SessionLayer).
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::Html;
/// use axum::{Router, routing::get};
/// use cloakroom::Store;
/// use cloakroom::http::{CsrfLayer, CsrfToken, SessionLayer};
///
/// async fn form(token: CsrfToken) -> Html<String> {
///     Html(format!("<form method=post>{}<button>Pay</button></form>", token.input()))
/// }
///
/// let app: Router = Router::new()
///     .route("/pay", get(form).post(|| async { "paid" }))
///     .layer(CsrfLayer::new())
///     .layer(SessionLayer::new(Store::in_memory()?));
/// # drop(app);
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// Requests with the methods GET, HEAD, OPTIONS and TRACE pass; they must change nothing. Any other request is checked
/// twice:
///
/// 1. By its headers. `Sec-Fetch-Site` must say `same-origin` or `none`. Without that header, `Origin` must name the
///    host that the request was sent to, and the scheme, if the proxies that
///    [`SessionLayer::proxies`](crate::http::SessionLayer::proxies) trusts tell it. A request with neither, from an old browser or another program, goes on.
/// 2. By its token, a [`CsrfToken`](super::CsrfToken) of the session. It is in the header `x-csrf-token`, or in
///    the field `csrf_token` within the first 64 KiB of a form. The handler gets the whole body. In a form with files,
///    put the field before the files. [`accept_same_origin`](Self::accept_same_origin) omits this check where the
///    first one suffices.
///
/// A refused request is answered with 403, and with a text that says what the visitor can do. The
/// [`Error`](crate::Error) of the kind [`CsrfRefused`](ErrorKind::CsrfRefused) is in the response's extensions. The
/// metric `cloakroom_csrf_refused_total` counts them by `reason`.
///
/// A request that presents its id by another [transport](crate::http::IdTransport) than the cookie is not checked: a
/// browser does not send that by itself.
///
/// A proxy in front must pass `Host` on. If it does not, [`trust_origin`](Self::trust_origin) names the site's own
/// origin.
#[derive(Clone)]
pub struct CsrfLayer(Arc<CsrfSettings>);

impl Default for CsrfLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl CsrfLayer {
    /// Returns a layer with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(CsrfSettings {
            trusted: Vec::new(),
            token_need: TokenNeed::Always,
            header: HeaderName::from_static("x-csrf-token"),
            field: Arc::from(FIELD),
            form_limit: FORM_LIMIT,
            exempt: Vec::new(),
        }))
    }

    fn settings(&mut self) -> &mut CsrfSettings {
        Arc::make_mut(&mut self.0)
    }

    /// Accepts requests from this origin, for example `https://www.example.com`. They still need a token.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if it is not a scheme, `://` and a host, with a port if that is not
    /// the scheme's own.
    pub fn trust_origin(mut self, origin: &str) -> Result<Self> {
        let host = ["https://", "http://"]
            .iter()
            .find_map(|scheme| origin.strip_prefix(scheme));
        let is_host = |host: &str| !host.is_empty() && !host.contains(['/', '*', '@', '?', '#']);
        if !host.is_some_and(is_host) {
            let detail = format!(
                "an origin is `https://host` and no more, not {}",
                Quoted(origin)
            );
            return Err(Error::new(ErrorKind::InvalidInput, detail));
        }
        self.settings().trusted.push(origin.to_owned());
        Ok(self)
    }

    /// Requires no token from a request whose headers show that it comes from this origin or a trusted one. Forms then
    /// need no token in browsers since 2023. Requests without such headers still need it.
    #[must_use]
    pub fn accept_same_origin(mut self) -> Self {
        self.settings().token_need = TokenNeed::WithoutOrigin;
        self
    }

    /// Sets the header in which scripts send the token. Default: `x-csrf-token`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.settings().header = name;
        self
    }

    /// Sets the name of the form field. Default: `csrf_token`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless it consists of ASCII letters, digits, `_` and `-`.
    pub fn field(mut self, name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            let detail = format!(
                "the name of the field has only ASCII letters, digits, `_` and `-`, not {}",
                Quoted(name)
            );
            return Err(Error::new(ErrorKind::InvalidInput, detail));
        }
        self.settings().field = Arc::from(name);
        Ok(self)
    }

    /// Sets how many bytes of a form are searched for the field. Default: 64 KiB.
    #[must_use]
    pub fn form_limit(mut self, bytes: usize) -> Self {
        self.settings().form_limit = bytes;
        self
    }

    /// Does not check requests for which `rule` returns true, for example by route. The rule must not depend on
    /// anything that another site can choose beside the path. It can be set several times.
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::extract::MatchedPath;
    /// use cloakroom::http::CsrfLayer;
    ///
    /// let layer = CsrfLayer::new().exempt(|request| {
    ///     let route = request.extensions.get::<MatchedPath>();
    ///     route.is_some_and(|route| route.as_str() == "/hooks/{name}")
    /// });
    /// # drop(layer);
    /// # }
    /// ```
    ///
    /// Routes that are added to a router after the layer are not checked either.
    #[must_use]
    pub fn exempt(
        mut self,
        rule: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings().exempt.push(Arc::new(rule));
        self
    }

    /// Returns the request if it passes: for web frameworks that do not use tower. It needs the extensions that the service
    /// inside the [`SessionLayer`](crate::http::SessionLayer) got, and its own extensions are those for the handler.
    ///
    /// # Errors
    ///
    /// [`CsrfRefused`](ErrorKind::CsrfRefused) with a text for the visitor, and the errors of
    /// [`session`](crate::http::session).
    pub async fn check<B>(&self, mut request: Request<B>) -> Result<Request<RewoundBody<B>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let field = CsrfField(Arc::clone(&self.0.field));
        request.extensions_mut().insert(field);
        self.0.pass(request.map(RewoundBody::new)).await
    }

    /// Does not check requests for exactly this path. Inside a nested router, it is the path below the mount point.
    #[must_use]
    pub fn exempt_path(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.exempt(move |request| request.uri.path() == path)
    }
}

impl fmt::Debug for CsrfLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfLayer")
            .field("trusted", &self.0.trusted)
            .field("header", &self.0.header)
            .field("field", &self.0.field)
            .field("form_limit", &self.0.form_limit)
            .finish_non_exhaustive()
    }
}

impl CsrfSettings {
    /// Returns the request if it passes.
    async fn pass<B>(&self, request: Request<RewoundBody<B>>) -> Result<Request<RewoundBody<B>>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let is_safe = request.method().is_safe();
        let (parts, mut body) = request.into_parts();
        let is_upgrade = is_upgrade(&parts);
        if is_safe && !is_upgrade {
            return Ok(Request::from_parts(parts, body));
        }
        let is_ours = Slot::of(&parts.extensions).is_some_and(|slot| !slot.uses_cookie());
        if is_ours || self.exempt.iter().any(|rule| rule(&parts)) {
            return Ok(Request::from_parts(parts, body));
        }
        let source = source_of(&parts, &self.trusted);
        if source == RequestSource::OtherSite {
            return Err(CsrfReason::OtherSite.into());
        }
        // A browser can add neither a field nor a form to the handshake of a WebSocket, but it tells the origin.
        if is_upgrade {
            return Ok(Request::from_parts(parts, body));
        }
        if source == RequestSource::Ours && self.token_need == TokenNeed::WithoutOrigin {
            return Ok(Request::from_parts(parts, body));
        }
        let token = self.token(&parts, &mut body).await?;
        read_early(&parts.extensions, |session| check(session, &token)).await?;
        Ok(Request::from_parts(parts, body))
    }

    /// The request's token. The body stays as it was.
    async fn token<B>(&self, request: &request::Parts, body: &mut RewoundBody<B>) -> Result<Vec<u8>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Some(token) = request.headers.get(&self.header) {
            return Ok(token.as_bytes().to_vec());
        }
        let Some(form) = FormEncoding::of(&request.headers) else {
            return Err(CsrfReason::NoToken.into());
        };
        let read = body.read_until(self.form_limit, |bytes, end| {
            form.find(&self.field, bytes, end).map(<[u8]>::to_vec)
        });
        match read.await {
            ReadAhead::Found(token) => Ok(token),
            ReadAhead::Nothing => Err(CsrfReason::NoToken.into()),
            ReadAhead::TooLong => Err(CsrfReason::FormTooLong.into()),
        }
    }
}
