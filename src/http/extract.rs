//! The session as a handler's argument, and errors as responses, for axum.

use axum_core::body::Body;
use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use axum_core::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use http::request::Parts;
use std::convert::Infallible;

use super::answer::error_response;
use super::csrf::CsrfToken;
use super::flash::{Flash, FlashMessage};
#[cfg(feature = "url-ids")]
use super::url_id::UrlId;
use crate::error::{Error, ErrorKind};
use crate::package::{Package, Pkg};
use crate::session::Session;

/// The session of the request's client, in the request's one transaction. Requires a
/// [`SessionLayer`](super::SessionLayer) around the route.
///
/// A visitor without a session gets an empty one. A cookie is set only if the handler inserts something.
///
/// # Errors
///
/// [`NoSessionLayer`](ErrorKind::NoSessionLayer) without the layer, [`Closed`](ErrorKind::Closed) after the response
/// was made, and the errors of beginning a transaction or loading a session.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        super::session(&parts.extensions).await
    }
}

/// The session, or `None` if there is no [`SessionLayer`](super::SessionLayer) around the route: for handlers and
/// extractors that serve routes with and without one.
///
/// A visitor without a session does not get `None` but an empty session; [`Session::exists`] tells.
///
/// # Errors
///
/// As for `Session` as an argument, except for the missing layer. A session that cannot be loaded is an error, not
/// `None`.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Error> {
        match super::session(&parts.extensions).await {
            Err(error) if error.kind() == ErrorKind::NoSessionLayer => Ok(None),
            session => session.map(Some),
        }
    }
}

/// The package `T::ID` of the request's session, as a `T`.
///
/// # Errors
///
/// As for `Session` as an argument, and those of [`Pkg::of`].
impl<T: Package, S: Send + Sync> FromRequestParts<S> for Pkg<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Self::of(&super::session(&parts.extensions).await?)
    }
}

/// The messages of the request's session.
///
/// # Errors
///
/// As for `Session` as an argument.
impl<S: Send + Sync> FromRequestParts<S> for Flash {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let session = super::session(&parts.extensions).await?;
        Ok(Self::of(&session))
    }
}

/// The message is stored when the session layer commits the request. Without a layer it is lost.
impl IntoResponseParts for FlashMessage {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        self.attach_to(response.extensions_mut());
        Ok(response)
    }
}

/// A token of the request's session, for pages with forms.
///
/// # Errors
///
/// As for `Session` as an argument, and those of [`CsrfToken::of`].
impl<S: Send + Sync> FromRequestParts<S> for CsrfToken {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let session = super::session(&parts.extensions).await?;
        Self::for_request(&session, &parts.extensions)
    }
}

/// The id of the request's session, for pages whose visitors may keep no cookies.
///
/// # Errors
///
/// As for `Session` as an argument.
#[cfg(feature = "url-ids")]
impl<S: Send + Sync> FromRequestParts<S> for UrlId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        Self::of(&parts.extensions).await
    }
}

/// The same response that the session layer makes from an error: [`error_response`].
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let response = error_response(self);
        // An empty body needs no box.
        response.map(|text| match text.is_empty() {
            true => Body::empty(),
            false => Body::from(text),
        })
    }
}
