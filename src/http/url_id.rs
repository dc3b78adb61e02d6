//! The id of the request's session, as URLs and forms of its page carry it.

use http::Extensions;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::proxies::VisitorAddress;
use super::slot::{Slot, no_layer};
use super::url_request::rules_for;
use super::url_tokens::{TokenContext, TokenPlace, UrlTokens, token_of, with_parameter};
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;

/// The id of the request's session, for the URLs and the forms of a page whose visitor may keep no cookies. An extractor
/// for axum.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::Html;
/// use cloakroom::{Error, Session, http::UrlId};
///
/// async fn page(session: Session, url_id: UrlId) -> Result<Html<String>, Error> {
///     session.pkg("cart").add("tea", 1)?; // first what creates the session or gives it a new id
///     let (next, field) = (url_id.encode_url("/checkout")?, url_id.input()?);
///     Ok(Html(format!("<a href=\"{next}\">Next</a><form method=post>{field}</form>")))
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(page));
/// # }
/// ```
///
/// No token is added in these cases:
///
/// - The request has a cookie of the layer, or used another transport.
/// - For a URL, the layer has no [`QueryTransport`](super::QueryTransport). For a form, it has no
///   [`FormTransport`](super::FormTransport).
/// - The visitor has no session after the commit, or the session has an owner.
///
/// A response for which a token was made says `Cache-Control: no-store`.
#[derive(Clone)]
pub struct UrlId {
    session: Session,
    slot: Arc<Slot>,
}

impl UrlId {
    /// Returns the `UrlId` of the request with these extensions. The extractor calls this; services without axum call
    /// it directly.
    ///
    /// # Errors
    ///
    /// As for [`session`](super::session).
    pub fn of(
        extensions: &Extensions,
    ) -> impl Future<Output = Result<Self>> + Send + 'static + use<> {
        let slot = Slot::of(extensions).cloned();
        async move {
            let slot = slot.ok_or_else(no_layer)?;
            let session = slot.session().await?;
            Ok(Self { session, slot })
        }
    }

    /// Returns a URL of this site with the token in its query. The token replaces one that the URL already has. A URL with
    /// a scheme or a host is returned unchanged, so that no other site gets a token. The result is not escaped for HTML.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the visitor's address is not known, because
    /// [`proxies`](super::SessionLayer::proxies) is not set; [`Closed`](ErrorKind::Closed) after the response was made;
    /// otherwise as for [`Session::owner`].
    pub fn encode_url(&self, url: &str) -> Result<String> {
        let encoded = match self.token(TokenPlace::Query)? {
            Some((rules, token)) => with_parameter(url, &rules.name, &token),
            None => None,
        };
        Ok(encoded.unwrap_or_else(|| url.to_owned()))
    }

    /// Returns the hidden field of a form, as HTML. Empty if none is needed.
    ///
    /// # Errors
    ///
    /// As for [`encode_url`](Self::encode_url).
    pub fn input(&self) -> Result<String> {
        let field = self.token(TokenPlace::Form)?.map(|(rules, token)| {
            let name = &rules.name;
            format!(r#"<input type="hidden" name="{name}" value="{token}">"#)
        });
        Ok(field.unwrap_or_default())
    }

    /// A token for this place, if the page needs one.
    fn token(&self, place: TokenPlace) -> Result<Option<(&UrlTokens, String)>> {
        let exchange = self.slot.exchange();
        let rules = rules_for(&exchange.settings.rules.transports, place);
        let (Some(rules), true) = (rules, exchange.needs_tokens()) else {
            return Ok(None);
        };
        let Some(id) = self.session.client_id().filter(|id| !id.is_adopted()) else {
            return Ok(None);
        };
        if self.session.owner()?.is_some() {
            return Ok(None);
        }
        let store = &exchange.settings.store;
        let context = TokenContext {
            store: store.identity(),
            ip: self.visitor()?,
        };
        exchange.tokens.give();
        let expires = store.arrival().at + rules.lifetime;
        let token = token_of(store.client_ids(), &id, context, expires)?;
        Ok(Some((rules, token)))
    }

    fn visitor(&self) -> Result<IpAddr> {
        let extensions = &self.slot.exchange().request.extensions;
        let visitor = extensions.get::<VisitorAddress>().map(|it| it.ip);
        visitor.ok_or_else(|| {
            let why = "ids in URLs are bound to the visitor's address: set SessionLayer::proxies";
            Error::new(ErrorKind::InvalidInput, why)
        })
    }
}

impl fmt::Debug for UrlId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlId").finish_non_exhaustive()
    }
}
