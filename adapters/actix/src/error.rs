//! The error that handlers return.

use actix_web::body::BoxBody;
use actix_web::{HttpResponse, ResponseError};
use cloakroom::http::{error_response, error_status};
use std::fmt;
use std::ops::Deref;

use super::answer::{AnswerExtensions, head_of};

/// An [`Error`](cloakroom::Error) of cloakroom that is a response of actix-web: for the results of handlers and of
/// extractors. `?` makes one.
///
/// ```
/// use actix_web::web;
/// use cloakroom_actix::{Error, Session};
///
/// async fn add(session: Session, article: web::Path<String>) -> Result<&'static str, Error> {
///     session.pkg("cart").insert(&article, 1)?;
///     Ok("added")
/// }
/// # drop(web::resource("/add/{article}").to(add));
/// ```
///
/// Its [response](cloakroom::http#errors-as-responses) has the error's status and no body. A request that answers with a
/// conflict runs again if it may. In a handler that returns [`actix_web::Error`], write `.map_err(Error::from)?`.
#[derive(Clone, Debug)]
pub struct Error(cloakroom::Error);

impl From<cloakroom::Error> for Error {
    fn from(error: cloakroom::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for cloakroom::Error {
    fn from(error: Error) -> Self {
        error.0
    }
}

impl Deref for Error {
    type Target = cloakroom::Error;

    fn deref(&self) -> &cloakroom::Error {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> actix_web::http::StatusCode {
        let status = error_status(self.0.kind()).as_u16();
        let status = actix_web::http::StatusCode::from_u16(status);
        status.unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let (parts, text) = error_response(self.0.clone()).into_parts();
        let mut response = match head_of(&parts) {
            Ok(head) => head.set_body(BoxBody::new(text)),
            Err(error) => return error.error_response(),
        };
        let mut extensions = response.extensions_mut();
        extensions.insert(self.0.clone());
        extensions.insert(AnswerExtensions(parts.extensions));
        drop(extensions);
        response
    }
}
