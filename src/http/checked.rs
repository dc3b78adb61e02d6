//! A service that checks a request before the inner service gets it. The layers that refuse requests share it.

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use http::Request;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

use super::service::take_ready;

/// The check that a layer makes on requests.
pub trait RequestCheck: Clone + Send + Sync + 'static {
    /// The request if it passes, or else the response to it.
    fn pass(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Request<Body>, Response>> + Send;
}

/// The service that [`CsrfLayer`](super::CsrfLayer) and [`RequireFresh`](super::RequireFresh) make: the inner service gets
/// the requests that pass the layer's check.
///
/// ```
/// use axum::Router;
/// use cloakroom::http::CsrfLayer;
/// use tower::Layer as _;
///
/// let app = Router::<()>::new().route("/", axum::routing::post(|| async {}));
/// let checked = CsrfLayer::new().layer(app); // a `CheckedService` around the router
/// # drop(checked);
/// ```
#[derive(Clone)]
pub struct CheckedService<S, C> {
    inner: S,
    check: C,
}

impl<S, C> CheckedService<S, C> {
    pub(super) fn new(inner: S, check: C) -> Self {
        Self { inner, check }
    }
}

impl<S, C> Service<Request<Body>> for CheckedService<S, C>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    C: RequestCheck,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut ready = take_ready(&mut self.inner);
        let check = self.check.clone();
        Box::pin(async move {
            match check.pass(request).await {
                Ok(request) => ready.call(request).await.map(IntoResponse::into_response),
                Err(refusal) => Ok(refusal),
            }
        })
    }
}

impl<S: fmt::Debug, C> fmt::Debug for CheckedService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
