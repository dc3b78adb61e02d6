//! How a client id travels, beside the cookie: a trait that applications can implement, and headers. Knows no session.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::request;
use std::fmt;
use std::sync::Arc;

#[cfg(feature = "url-ids")]
use super::url_tokens::UrlTokens;
use crate::client_id::ClientId;
use crate::error::{Error, ErrorKind, Result};

/// A way for client ids to travel beside the cookie, for clients that keep no cookies: APIs and apps. It is added to a
/// layer by [`SessionLayer::transport`](super::SessionLayer::transport).
///
/// The id that it reads is verified like that of a cookie. A request uses one transport: the first that reads something
/// from it, in the order in which they were added, or else the cookie. The id that the transport reads need not be
/// valid: a request with a garbled id in one transport gets an empty session, and its cookie is not read. New ids are
/// sent by the transport that the request used.
///
/// [`BearerTransport`] and [`HeaderTransport`] are implementations. One of your own:
///
/// ```
/// use cloakroom::ClientId;
/// use cloakroom::http::IdTransport;
/// use http::{HeaderMap, HeaderName, HeaderValue, request};
///
/// /// `Authorization: Session ID`
/// struct Scheme;
///
/// impl IdTransport for Scheme {
///     fn read<'a>(&self, request: &'a request::Parts) -> Option<&'a [u8]> {
///         let field = request.headers.get("authorization")?;
///         field.as_bytes().strip_prefix(b"Session ")
///     }
///
///     fn send(&self, id: &ClientId, response: &mut HeaderMap) {
///         if let Ok(mut value) = HeaderValue::try_from(id.as_str()) {
///             value.set_sensitive(true);
///             response.insert("x-session", value);
///         }
///     }
///
///     fn withdraw(&self, response: &mut HeaderMap) {
///         response.insert("x-session", HeaderValue::from_static(""));
///     }
///
///     fn request_field(&self) -> Option<HeaderName> {
///         Some(http::header::AUTHORIZATION)
///     }
/// }
/// ```
///
/// An id in a URL ends up in histories, logs and `Referer` headers, and anybody who gets a link gets the session. A
/// transport that reads one must prevent that itself, as `QueryTransport` and `FormTransport` of the feature `url-ids`
/// do. If a browser sends the id by itself, other sites can forge requests, and [`CsrfLayer`](super::CsrfLayer) checks
/// only requests that use the cookie.
pub trait IdTransport: Send + Sync + 'static {
    /// The id that a request presents, as it was sent. `None` if the request does not use this transport.
    fn read<'a>(&self, request: &'a request::Parts) -> Option<&'a [u8]>;

    /// Adds a new id to a response.
    fn send(&self, id: &ClientId, response: &mut HeaderMap);

    /// Tells the client that its session has ended.
    fn withdraw(&self, response: &mut HeaderMap);

    /// The header field that [`read`](Self::read) reads. It is marked as sensitive inside the layer, and `Vary` names
    /// it.
    fn request_field(&self) -> Option<HeaderName>;

    /// The rules of the tokens that it carries in place of ids, where the layer reads them from URLs and forms itself. A
    /// transport that wraps [`QueryTransport`](super::QueryTransport) or [`FormTransport`](super::FormTransport) passes this
    /// on; others leave it out.
    #[cfg(feature = "url-ids")]
    fn tokens(&self) -> Option<&UrlTokens> {
        None
    }
}

/// The marker by which a client without an id chooses the transport.
pub(super) const NEW: &[u8] = b"new";

/// The header field of responses that carry a new id, unless another is set.
const RESPONSE_FIELD: HeaderName = HeaderName::from_static("x-session-id");

/// Ids in a header field of the application's choice, in requests and responses alike.
///
/// ```
/// use cloakroom::{Store, http::{HeaderTransport, SessionLayer}};
///
/// let layer = SessionLayer::new(Store::in_memory()?)
///     .transport(HeaderTransport::new("x-session-id".parse().unwrap())?);
/// # drop(layer);
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// A client without an id sends the field with the value `new`, so that the response carries its id in the field and
/// not in a cookie. After its session has ended, the field is empty. Responses to scripts of other origins need
/// `Access-Control-Expose-Headers`.
#[derive(Clone, Debug)]
pub struct HeaderTransport(HeaderName);

impl HeaderTransport {
    /// A transport that uses this field.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for `Authorization`, which has a scheme ([`BearerTransport`] reads
    /// it), and for fields that browsers send by themselves: `Cookie`, `Origin`, `Referer`, `User-Agent`, `Host`, and
    /// those that begin with `Accept` or `Sec-`.
    pub fn new(field: HeaderName) -> Result<Self> {
        let name = field.as_str();
        let taken = [
            "authorization",
            "cookie",
            "origin",
            "referer",
            "user-agent",
            "host",
        ];
        if taken.contains(&name) || name.starts_with("sec-") || name.starts_with("accept") {
            let detail = format!("ids cannot travel in the field {name}, which has another use");
            return Err(Error::new(ErrorKind::InvalidInput, detail));
        }
        Ok(Self(field))
    }
}

impl IdTransport for HeaderTransport {
    fn read<'a>(&self, request: &'a request::Parts) -> Option<&'a [u8]> {
        request.headers.get(&self.0).map(HeaderValue::as_bytes)
    }

    fn send(&self, id: &ClientId, response: &mut HeaderMap) {
        set_id(&self.0, id, response);
    }

    fn withdraw(&self, response: &mut HeaderMap) {
        response.insert(self.0.clone(), HeaderValue::from_static(""));
    }

    fn request_field(&self) -> Option<HeaderName> {
        Some(self.0.clone())
    }
}

/// Ids as bearer tokens: requests have `Authorization: Bearer ID` (RFC 6750). Responses carry a new id in the field
/// `x-session-id`.
///
/// ```
/// use cloakroom::{Store, http::{BearerTransport, SessionLayer}};
///
/// let layer = SessionLayer::new(Store::in_memory()?).transport(BearerTransport::new());
/// # drop(layer);
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// A client without an id sends `Authorization: Bearer new`, so that the response carries its id in the field and not
/// in a cookie. After its session has ended, the field is empty.
#[derive(Clone, Debug)]
pub struct BearerTransport {
    response_field: HeaderName,
}

impl BearerTransport {
    /// The transport with the default field for responses.
    #[must_use]
    pub fn new() -> Self {
        Self {
            response_field: RESPONSE_FIELD,
        }
    }

    /// Sets the field of responses that carry a new id.
    #[must_use]
    pub fn response_field(mut self, name: HeaderName) -> Self {
        self.response_field = name;
        self
    }
}

impl Default for BearerTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl IdTransport for BearerTransport {
    fn read<'a>(&self, request: &'a request::Parts) -> Option<&'a [u8]> {
        let field = request.headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, id) = field.split_at_checked(b"bearer ".len())?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| id.trim_ascii())
    }

    fn send(&self, id: &ClientId, response: &mut HeaderMap) {
        set_id(&self.response_field, id, response);
    }

    fn withdraw(&self, response: &mut HeaderMap) {
        response.insert(self.response_field.clone(), HeaderValue::from_static(""));
    }

    fn request_field(&self) -> Option<HeaderName> {
        Some(AUTHORIZATION)
    }
}

/// Marked as sensitive, so that no log prints it.
fn set_id(field: &HeaderName, id: &ClientId, response: &mut HeaderMap) {
    // An id has only characters that are allowed here.
    if let Ok(mut value) = HeaderValue::try_from(id.as_str()) {
        value.set_sensitive(true);
        response.insert(field.clone(), value);
    }
}

/// The transport that a request uses.
#[derive(Clone)]
pub(super) enum IdCarrier {
    Cookie,
    Other(Arc<dyn IdTransport>),
}

impl fmt::Debug for IdCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cookie => "Cookie",
            Self::Other(_) => "Other",
        })
    }
}
