//! Client ids in URLs and form fields, for visitors whose browsers keep no cookies. Knows no session.

use http::{HeaderMap, HeaderName, request};
use std::time::Duration;

use super::transport::IdTransport;
use super::url_tokens::{TokenPlace, UrlTokens};
use crate::client_id::ClientId;
use crate::error::Result;

/// Ids in a query parameter, for visitors whose browsers keep no cookies (URL rewriting).
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{extract::ConnectInfo, response::Html};
/// use cloakroom::http::{QueryTransport, SessionLayer, TrustedProxies, UrlId};
/// use cloakroom::{Error, Session, Store};
/// use std::net::SocketAddr;
///
/// async fn cart(session: Session, url_id: UrlId) -> Result<Html<String>, Error> {
///     session.pkg("cart").add("tea", 1)?;
///     let next = url_id.encode_url("/checkout")?; // "/checkout?sid=…" without a cookie
///     Ok(Html(format!("<a href=\"{next}\">Check out</a>")))
/// }
///
/// let peers = TrustedProxies::new(|request| {
///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
///     Some(peer.0.ip())
/// });
/// let layer = SessionLayer::new(Store::in_memory()?)
///     .proxies(peers)
///     .transport(QueryTransport::new("sid")?);
/// # drop((layer, axum::Router::<()>::new().route("/", axum::routing::get(cart))));
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// URLs end up in histories and logs, and visitors pass them on to other people. So a URL does not carry the id itself,
/// but a token:
///
/// - It is sealed under the store's secrets. Nobody can get the id from it without them.
/// - It is bound to the visitor's network address, which [`proxies`](super::SessionLayer::proxies) determines. Without
///   that setting, no token is made or accepted.
/// - It expires after a [lifetime](Self::lifetime) of its own. Each page makes new ones.
/// - It is not accepted for a session that has an owner, also if it got the owner later. A request that came with a token
///   and leaves its session with an owner is answered with 403: visitors without cookies cannot log in.
/// - It is not accepted where the browser tells, by `Sec-Fetch-Site` or `Origin`, that another site sent the request. So it
///   is not found again when a payment service sends the visitor back.
///
/// A token that is not accepted reads as none. Any cookie of the layer and any other transport that the request uses
/// comes before tokens, which are not read then. The parameter is taken out of the request's URL before the handler sees
/// it. The response says `Referrer-Policy: strict-origin`, so that `Referer` names the site and nothing of the URL, also in
/// requests to the site itself. (With `no-referrer`, browsers would send forms of this site with `Origin: null`, as if
/// another site sent them.) A policy of the handler that tells no more stays: `no-referrer` or `origin`.
/// If the inner service fails with an error instead of a response, what an outer layer makes of it gets no policy.
///
/// A request with an accepted token gets no cookie, and needs no CSRF token: nobody else knows its URL. New ids travel
/// in the URLs of the pages that the handler makes: see [`UrlId`](super::UrlId). Layers outside this one, such as a log
/// of requests, see the URL as it arrived. So does axum's `OriginalUri` in a router with `Router::layer`, unless the layer
/// is put around the whole router.
#[derive(Clone, Debug)]
pub struct QueryTransport(UrlTokens);

impl QueryTransport {
    /// Creates a transport that uses the parameter with this name.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) unless it consists of ASCII letters, digits, `_`, `-` and `.`.
    pub fn new(parameter: &str) -> Result<Self> {
        UrlTokens::new(TokenPlace::Query, parameter).map(Self)
    }

    /// Sets how long a token is accepted. Default: 30 minutes.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.0.lifetime = lifetime;
        self
    }
}

/// Ids in a hidden field of forms, for visitors whose browsers keep no cookies. The field carries a token. The limits
/// of [`QueryTransport`] apply to it.
///
/// ```
/// use cloakroom::{Store, http::{FormTransport, QueryTransport, SessionLayer}};
///
/// let layer = SessionLayer::new(Store::in_memory()?)
///     .transport(QueryTransport::new("sid")?)
///     .transport(FormTransport::new("sid")?);
/// # drop(layer);
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// [`UrlId::input`](super::UrlId::input) makes the field. Put it at the beginning of the form: the layer searches only
/// the first 64 KiB ([`form_limit`](Self::form_limit)) of a body. It reads them before the handler runs; the handler
/// still gets the whole body. The layer reads a body only if its type is `application/x-www-form-urlencoded`, the
/// method is unsafe, the visitor's address is known, and the request has neither a cookie of the layer nor another
/// transport. For forms with files, encode the URL of the form's action.
///
/// The layer reads the beginning of a form before inner layers run, so a timeout inside the session layer does not bound
/// it. Put `tower_http`'s `RequestBodyTimeoutLayer` outside.
#[derive(Clone, Debug)]
pub struct FormTransport(UrlTokens);

impl FormTransport {
    /// Creates a transport that uses the field with this name.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) unless it consists of ASCII letters, digits, `_`, `-` and `.`.
    pub fn new(field: &str) -> Result<Self> {
        UrlTokens::new(TokenPlace::Form, field).map(Self)
    }

    /// Sets how long a token is accepted. Default: 30 minutes.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.0.lifetime = lifetime;
        self
    }

    /// Sets the number of bytes of a form that are searched for the field. Default: 64 KiB.
    #[must_use]
    pub fn form_limit(mut self, bytes: usize) -> Self {
        self.0.form_limit = bytes;
        self
    }
}

/// The layer reads and sends the tokens of both itself.
macro_rules! carries_tokens {
    ($($transport:ty),+) => {$(
        impl IdTransport for $transport {
            /// Returns nothing: the layer reads the tokens, see [`tokens`](IdTransport::tokens).
            fn read<'a>(&self, _: &'a request::Parts) -> Option<&'a [u8]> {
                None
            }

            fn send(&self, _: &ClientId, _: &mut HeaderMap) {}

            fn withdraw(&self, _: &mut HeaderMap) {}

            fn request_field(&self) -> Option<HeaderName> {
                None
            }

            fn tokens(&self) -> Option<&UrlTokens> {
                Some(&self.0)
            }
        }
    )+};
}

carries_tokens!(QueryTransport, FormTransport);
