//! Templates, and the response that an error becomes.

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use cloakroom::http::{CsrfToken, Flash};
use cloakroom::{ErrorKind, Session};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use std::sync::Arc;

/// No inline style and no inline script.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
];

#[derive(Clone)]
pub(crate) struct Pages(Arc<Environment<'static>>);

impl Pages {
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        let mut pages = Environment::new();
        for (name, source) in [
            ("base.html", include_str!("templates/base.html")),
            ("cart.html", include_str!("templates/cart.html")),
            ("devices.html", include_str!("templates/devices.html")),
            ("error.html", include_str!("templates/error.html")),
            ("live.html", include_str!("templates/live.html")),
            ("login.html", include_str!("templates/login.html")),
            ("register.html", include_str!("templates/register.html")),
            ("shelf.html", include_str!("templates/shelf.html")),
        ] {
            pages.add_template(name, source)?;
        }
        Ok(Self(Arc::new(pages)))
    }

    /// Renders a page for the visitor of this session: with the waiting messages, the name and the CSRF token.
    pub(crate) fn show(
        &self,
        session: &Session,
        page: &str,
        content: Value,
    ) -> Result<Response, ShopError> {
        let visitor = context! {
            messages => Serde(Flash::of(session).take()?),
            user => session.owner()?,
            csrf => Value::from_safe_string(CsrfToken::of(session)?.input()),
        };
        let page = self.0.get_template(page)?;
        let html = page.render(context! { ..content, ..visitor })?;
        Ok((HEADERS, Html(html)).into_response())
    }

    fn show_error(&self, status: StatusCode, text: &str) -> Response {
        let page = self.0.get_template("error.html");
        let html = page.and_then(|page| page.render(context! { status => status.as_u16(), text }));
        match html {
            Ok(html) => (status, HEADERS, Html(html)).into_response(),
            Err(_) => (status, text.to_owned()).into_response(),
        }
    }
}

/// The page of an error that the session layer answers with.
pub(crate) fn error_page(pages: &Pages, error: &cloakroom::Error) -> Response {
    let (status, text) = match error.kind() {
        ErrorKind::CsrfRefused => (
            StatusCode::FORBIDDEN,
            "This form is out of date, or it was sent by another site. Go back, reload the page, and send it again.",
        ),
        ErrorKind::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "That is more than fits. Nothing was changed.",
        ),
        ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::NotWritten => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The shop is busy. Nothing was changed; please try again in a moment.",
        ),
        ErrorKind::SessionEnded => (
            StatusCode::UNAUTHORIZED,
            "Your session has ended. Please log in again.",
        ),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong. Nothing was changed.",
        ),
    };
    pages.show_error(status, text)
}

/// The shop's own error. The session layer sees the session's error in its response: so the request's transaction is
/// aborted, and the request runs again after a conflict.
#[derive(Debug)]
pub(crate) enum ShopError {
    Session(cloakroom::Error),
    /// Nobody is logged in.
    LoginNeeded,
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<cloakroom::Error> for ShopError {
    fn from(error: cloakroom::Error) -> Self {
        Self::Session(error)
    }
}

impl From<minijinja::Error> for ShopError {
    fn from(error: minijinja::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for ShopError {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::Other(error)
    }
}

impl From<tokio::task::JoinError> for ShopError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Other(error.into())
    }
}

impl IntoResponse for ShopError {
    fn into_response(self) -> Response {
        match self {
            Self::Session(error) => error.into_response(),
            Self::LoginNeeded => axum::response::Redirect::to("/login").into_response(),
            Self::Other(error) => {
                eprintln!("shop: {error}");
                let text = "Something went wrong. Nothing was changed.\n";
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }
}
