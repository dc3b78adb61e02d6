//! The layer that gives one route its own setting of which requests may run again.

use http::Request;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

use super::policy::Rerun;

impl<S> Layer<S> for Rerun {
    type Service = RerunService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RerunService {
            inner,
            rerun: *self,
        }
    }
}

/// The service that [`Rerun`] makes as a layer. It tells the [`SessionLayer`](super::SessionLayer) around it whether
/// this request may run again. Without such a layer it does nothing.
///
/// ```
/// use cloakroom::http::{Rerun, RerunService};
/// use tower::Layer as _;
///
/// fn repeatable<S>(pages: S) -> RerunService<S> {
///     Rerun::Always.layer(pages)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct RerunService<S> {
    inner: S,
    rerun: Rerun,
}

impl<S, B> Service<Request<B>> for RerunService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.rerun.apply_to(request.extensions());
        self.inner.call(request)
    }
}
