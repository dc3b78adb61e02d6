//! The layer that asks for a recent login, for axum.

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use http::{Request, request};
use std::sync::Arc;
use tower_layer::Layer;

use super::checked::{CheckedService, RequestCheck};
use super::fresh::RequireFresh;
use crate::error::ErrorKind;

impl RequireFresh {
    /// Sets the response to the other requests, for example a redirect to the login.
    #[must_use]
    pub fn or_else<R: IntoResponse>(
        mut self,
        response: impl Fn(&request::Parts) -> R + Send + Sync + 'static,
    ) -> Self {
        let response = move |request: &_| response(request).into_response();
        self.otherwise = Some(Arc::new(response));
        self
    }
}

impl<S> Layer<S> for RequireFresh {
    type Service = CheckedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckedService::new(inner, self.clone())
    }
}

impl RequestCheck for RequireFresh {
    async fn pass(&self, request: Request<Body>) -> Result<Request<Body>, Response> {
        let (parts, body) = request.into_parts();
        match (self.check(&parts.extensions).await, &self.otherwise) {
            (Ok(()), _) => Ok(Request::from_parts(parts, body)),
            (Err(error), Some(response)) if error.kind() == ErrorKind::NotFresh => {
                Err(response(&parts))
            }
            (Err(error), _) => Err(error.into_response()),
        }
    }
}
