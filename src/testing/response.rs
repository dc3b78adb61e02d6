//! A response whose body has been read.

use super::jar::SetCookie;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, response};

/// The answer of the application to a [`Visitor`](super::Visitor).
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
/// assert_eq!((answer.status().as_u16(), answer.text()), (200, "home"));
/// assert_eq!(answer.header("cache-control"), Some("no-store"));
/// assert!(answer.error().is_none());
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TestResponse {
    head: response::Parts,
    body: Bytes,
}

impl TestResponse {
    pub(super) fn new(head: response::Parts, body: Bytes) -> Self {
        Self { head, body }
    }

    /// Returns the status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// Returns all header fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// Returns the first header field of this name.
    ///
    /// # Panics
    ///
    /// If its value is not visible ASCII.
    #[must_use]
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.head.headers.get(name)?;
        match value.to_str() {
            Ok(value) => Some(value),
            Err(_) => panic!("the value of {name} is not visible ASCII: {value:?}"),
        }
    }

    /// Returns the body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// Returns the body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        match std::str::from_utf8(&self.body) {
            Ok(text) => text,
            Err(error) => panic!("the body is not UTF-8: {error}"),
        }
    }

    /// Returns the error of the session layer or of a handler, if the answer carries one. [`Error`](crate::Error)
    /// is put into the response's extensions when it becomes a response.
    #[must_use]
    pub fn error(&self) -> Option<&crate::Error> {
        self.head.extensions.get()
    }

    /// Returns the cookies that this answer sets or removes.
    ///
    /// # Panics
    ///
    /// If one cannot be parsed.
    #[must_use]
    #[track_caller]
    pub fn set_cookies(&self) -> Vec<SetCookie> {
        let fields = self.head.headers.get_all(header::SET_COOKIE);
        fields.iter().map(SetCookie::parse).collect()
    }

    /// Returns the cookie of this name that the answer sets or removes.
    ///
    /// # Panics
    ///
    /// If there are several of them, or one cannot be parsed.
    #[must_use]
    #[track_caller]
    pub fn set_cookie(&self, name: &str) -> Option<SetCookie> {
        let all = self.set_cookies().into_iter();
        let mut named = all.filter(|cookie| cookie.name() == name);
        let first = named.next();
        assert!(named.next().is_none(), "the cookie {name} is set twice");
        first
    }
}
