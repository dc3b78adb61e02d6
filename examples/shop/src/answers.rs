//! What all answers have in common: headers, and a page for each error.

use crate::pages::Pages;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use cloakroom::ErrorKind;

/// No inline style and no inline script.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// The shop's own error. The session layer sees the session's error in its response: so the request's transaction is
/// aborted, and the request runs again after a conflict.
#[derive(Debug)]
pub(crate) enum ShopError {
    Session(cloakroom::Error),
    /// Nobody is logged in; after the login the visitor is sent to this page.
    LoginNeeded(&'static str),
    /// Too many visitors want the same at once.
    Busy,
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl From<cloakroom::Error> for ShopError {
    fn from(error: cloakroom::Error) -> Self {
        Self::Session(error)
    }
}

impl From<minijinja::Error> for ShopError {
    /// A template reads the session. Its error may be one of the session, with a status of its own.
    fn from(error: minijinja::Error) -> Self {
        match cloakroom::Error::find_in(&error) {
            Some(of_session) => Self::Session(of_session.clone()),
            None => Self::Other(error.into()),
        }
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
            Self::LoginNeeded(next) => Redirect::to(&format!("/login?next={next}")).into_response(),
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            Self::Other(error) => {
                eprintln!("shop: {error}");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// Gives each error its page and each answer its headers. An error keeps its status, and headers such as `Retry-After`.
pub(crate) async fn finish(State(pages): State<Pages>, response: Response) -> Response {
    let mut response = if is_bare_error(&response) {
        with_page(&pages, response)
    } else {
        response
    };
    response.headers_mut().extend(HEADERS);
    response
}

/// Whether it is an error without a page: of a handler, of an extractor such as `Form`, of a layer, or of the router.
fn is_bare_error(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_html = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let status = response.status();
    (status.is_client_error() || status.is_server_error()) && !is_html
}

fn with_page(pages: &Pages, response: Response) -> Response {
    let (mut parts, _) = response.into_parts();
    let of_session = parts.extensions.get::<cloakroom::Error>();
    let (title, text) = match of_session.and_then(|error| of_kind(error.kind())) {
        Some(words) => words,
        None => of_status(parts.status),
    };
    let html = pages.error(parts.status, title, text);
    parts.headers.remove(header::CONTENT_LENGTH);
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    parts.headers.insert(header::CONTENT_TYPE, kind);
    Response::from_parts(parts, Body::from(html))
}

/// None of them promises that nothing was changed: an account or the end of another device may have been stored before
/// the request's own transaction failed.
fn of_kind(kind: ErrorKind) -> Option<(&'static str, &'static str)> {
    match kind {
        ErrorKind::CsrfRefused => Some((
            "This form cannot be used",
            "It is out of date, or it was sent by another site. Go back, reload the page, and send it again.",
        )),
        ErrorKind::TooLarge => Some(("That is too much", "It is more than fits.")),
        ErrorKind::OutcomeUnknown => Some((
            "We do not know whether that worked",
            "Your change may or may not have been stored. Look before you repeat it.",
        )),
        _ => None,
    }
}

fn of_status(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        404 => ("There is no such page", "The address may be mistyped."),
        405 => (
            "This address is for forms",
            "Open the page that has the form.",
        ),
        400 | 415 | 422 => (
            "The form was not understood",
            "Go back, reload the page, and send it again.",
        ),
        403 => (
            "This is not allowed",
            "Open the shelf, and try again from there.",
        ),
        413 => ("That is too much", "It is more than fits."),
        429 => (
            "That was too often",
            "Wait some minutes, and then try again.",
        ),
        503 => (
            "The shop is busy",
            "Your change may be missing. Look before you repeat it, in a moment.",
        ),
        _ => (
            "Something went wrong",
            "Your change may or may not have been stored. Look before you repeat it.",
        ),
    }
}
