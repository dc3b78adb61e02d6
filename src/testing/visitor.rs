//! A visitor with a browser's cookies, who calls the application directly.

use super::jar::{Jar, Scheme};
use super::response::TestResponse;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::store::Store;
use axum_core::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, header};
use std::fmt::{self, Debug, Display, Write as _};
use std::future::poll_fn;
use std::pin::pin;
use tower_service::Service;

const HOST: &str = "localhost";

/// A visitor of the application, with cookies of its own. It calls the application as a service, without a network.
///
/// A visitor comes over HTTPS and sends `Host`, `Origin` and `Sec-Fetch-Site` as a browser does for a page of the
/// application itself. It keeps cookies by path and lifetime, by the given clock. A clone is a second browser with the
/// same cookies.
///
/// The module's page has a complete test.
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
/// let app: Router = Router::new().route("/", get(page)).layer(SessionLayer::new(store.clone()));
/// let mut visitor = Visitor::new(app, &clock);
/// assert_eq!(visitor.get("/").await.text(), "home");
/// let id = visitor.client_id(&store).expect("the page makes a session");
/// store.end(id.key()).unwrap();
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Visitor<S> {
    app: S,
    clock: Clock,
    jar: Jar,
    scheme: Scheme,
}

impl<S, B> Visitor<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Debug,
    B: http_body::Body<Data = Bytes>,
    B::Error: Display,
{
    /// Returns a visitor without cookies. `app` is an axum `Router` or any other service over axum's `Body`.
    #[must_use]
    pub fn new(app: S, clock: &Clock) -> Self {
        Self {
            app,
            clock: clock.clone(),
            jar: Jar::default(),
            scheme: Scheme::Https,
        }
    }

    /// Lets the visitor come over plain HTTP, for applications whose cookie is set to [`plain_http`](crate::http::CookieSettings::plain_http).
    #[must_use]
    pub fn over_http(mut self) -> Self {
        self.scheme = Scheme::Http;
        self
    }

    /// Requests a page.
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn get(&mut self, path: &str) -> TestResponse {
        self.send(request(Method::GET, path, Body::empty())).await
    }

    /// Submits a form (`application/x-www-form-urlencoded`).
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> TestResponse {
        let mut request = request(Method::POST, path, Body::from(encoded(form)));
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, form);
        self.send(request).await
    }

    /// Sends any request, with the visitor's cookies. `Host`, `Origin` and `Sec-Fetch-Site` are added where the request
    /// has none of its own. Cookies of the answer are kept.
    ///
    /// # Panics
    ///
    /// If the application fails as a service, its body fails, or it sets a cookie that a browser ignores.
    pub async fn send(&mut self, mut request: Request<Body>) -> TestResponse {
        let path = request.uri().path().to_owned();
        self.add_fields(&mut request, &path);
        let mut app = self.app.clone();
        if let Err(error) = poll_fn(|cx| app.poll_ready(cx)).await {
            panic!("the application is not ready: {error:?}");
        }
        let (head, body) = match app.call(request).await {
            Ok(response) => response.into_parts(),
            Err(error) => panic!("the application failed: {error:?}"),
        };
        let answer = TestResponse::new(head, read(body).await);
        for cookie in answer.set_cookies() {
            self.jar.take(cookie, &path, self.scheme, self.clock.now());
        }
        answer
    }

    /// Requests the page that a redirect leads to.
    ///
    /// # Panics
    ///
    /// If the answer has no `Location` on this site; otherwise as [`send`](Self::send).
    pub async fn follow(&mut self, answer: &TestResponse) -> TestResponse {
        let location = answer.header("location").unwrap_or_default();
        let origin = self.origin();
        match location.strip_prefix(&origin).unwrap_or(location) {
            path if path.starts_with('/') => self.get(path).await,
            _ => panic!("{} leads to no page of this site", answer.status()),
        }
    }

    /// Returns the value of a cookie that the visitor keeps.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.value(name, self.clock.now())
    }

    /// Returns the client id that the visitor keeps in a cookie of any name: the first value that the store verifies.
    #[must_use]
    pub fn client_id(&self, store: &Store) -> Option<ClientId> {
        let mut values = self.jar.values(self.clock.now());
        values.find_map(|value| store.client_ids().verify(value))
    }

    /// Forgets all cookies.
    pub fn forget_cookies(&mut self) {
        self.jar = Jar::default();
    }

    fn origin(&self) -> String {
        match self.scheme {
            Scheme::Https => format!("https://{HOST}"),
            Scheme::Http => format!("http://{HOST}"),
        }
    }

    fn add_fields(&self, request: &mut Request<Body>, path: &str) {
        let origin = self.origin();
        let is_safe = request.method().is_safe();
        let cookies = self.jar.field(path, self.scheme, self.clock.now());
        let fields = request.headers_mut();
        let mut add = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                fields.entry(name).or_insert(value);
            }
        };
        add(header::HOST, HOST);
        add(
            header::HeaderName::from_static("sec-fetch-site"),
            "same-origin",
        );
        if !is_safe {
            add(header::ORIGIN, &origin);
        }
        if let Some(cookies) = cookies {
            add(header::COOKIE, &cookies);
        }
    }
}

impl<S> Debug for Visitor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visitor").finish_non_exhaustive()
    }
}

#[track_caller]
fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    match Request::builder().method(method).uri(path).body(body) {
        Ok(request) => request,
        Err(error) => panic!("{path:?} is not a path: {error}"),
    }
}

async fn read<B>(body: B) -> Bytes
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Display,
{
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_trailers)) => {}
            Err(error) => panic!("the body failed: {error}"),
        }
    }
    bytes.freeze()
}

/// A form as browsers encode it (the WHATWG's URL standard, section 5.2).
fn encoded(form: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in form {
        if !text.is_empty() {
            text.push('&');
        }
        encode(&mut text, name);
        text.push('=');
        encode(&mut text, value);
    }
    text
}

fn encode(text: &mut String, part: &str) {
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                text.push(char::from(byte));
            }
            b' ' => text.push('+'),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
}
