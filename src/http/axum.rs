//! The layer for axum. The inner service gets axum's body, and its response is any type that implements `IntoResponse`.

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Request, request};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

use super::answer::PlainAnswer;
use super::exchange::Exchange;
use super::layer::SessionLayer;
use super::replay::Replay;
use super::serve::run;
use super::service::{TowerInner, take_ready};
use super::settings::{ErrorPage, LayerSettings};
use super::slot::Slot;
use crate::error::Error;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService {
            inner,
            settings: self.settings(),
        }
    }
}

/// The service that [`SessionLayer`] makes. The inner service gets axum's `Body`.
///
/// ```
/// use axum::Router;
/// use cloakroom::http::{SessionLayer, SessionService};
/// use cloakroom::{Error, Store};
/// use tower::Layer as _;
///
/// /// The whole application as a service, with the layer outside all routes, those of the fallback included.
/// fn service(app: Router, store: Store) -> SessionService<Router> {
///     SessionLayer::new(store).layer(app)
/// }
/// ```
#[derive(Clone)]
pub struct SessionService<S> {
    inner: S,
    settings: Arc<LayerSettings>,
}

impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut ready = take_ready(&mut self.inner);
        if Slot::of(request.extensions()).is_some() {
            let answer = ready.call(request.map(Body::new));
            return Box::pin(async { answer.await.map(IntoResponse::into_response) });
        }
        let (parts, body) = request.into_parts();
        let exchange = Exchange::new(
            Arc::clone(&self.settings),
            parts,
            &http_body::Body::size_hint(&body),
        );
        let inner = TowerInner {
            service: ready,
            inward,
            outward: IntoResponse::into_response,
        };
        let Some(page) = exchange.settings.rules.on_error.clone() else {
            return Box::pin(run(inner, exchange, body));
        };
        let answered = Arc::clone(&exchange);
        let response = run(inner, exchange, body);
        Box::pin(async move {
            let response = response.await?;
            let mut rendered = render(&*page, &answered.request, response);
            hide_url(&answered, rendered.headers_mut());
            Ok(rendered)
        })
    }
}

/// Keeps the URL of a request that presented a token out of `Referer`, whatever the application's page says.
#[cfg(feature = "url-ids")]
fn hide_url(exchange: &Exchange, headers: &mut HeaderMap) {
    exchange.tokens.hide_url(headers);
}

/// This build has no ids in URLs.
#[cfg(not(feature = "url-ids"))]
fn hide_url(_: &Exchange, _: &mut HeaderMap) {}

/// Gives a response that was made from an error the application's page. What the answer says of cookies and caches
/// stays (C4.6), and what it says of its body goes with that.
fn render(page: &ErrorPage, request: &request::Parts, response: Response) -> Response {
    let extensions = response.extensions();
    let error = match (extensions.get::<PlainAnswer>(), extensions.get::<Error>()) {
        (Some(PlainAnswer), Some(error)) => error.clone(),
        _ => return response,
    };
    let mut rendered = page(&error, request);
    let (plain, _) = response.into_parts();
    let is_secret = |value: &HeaderValue| value.as_bytes().windows(8).any(|it| it == b"no-store");
    if plain.headers.get_all(CACHE_CONTROL).iter().any(is_secret) {
        rendered.headers_mut().remove(CACHE_CONTROL);
    }
    let own: Vec<_> = rendered.headers().keys().cloned().collect();
    for (name, value) in &plain.headers {
        let is_of_the_body = name.as_str().starts_with("content-") || *name == ETAG;
        let is_list = [VARY, SET_COOKIE].contains(name);
        if is_list || !(is_of_the_body || own.contains(name)) {
            rendered.headers_mut().append(name.clone(), value.clone());
        }
    }
    rendered.extensions_mut().insert(error);
    rendered
}

/// Boxes a body. Most requests have none and need no box.
fn inward<B>(body: Replay<B>) -> Body
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
{
    if body.is_empty() {
        Body::empty()
    } else {
        Body::new(body)
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
