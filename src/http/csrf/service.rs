//! The layer that checks unsafe requests, for axum.

use axum_core::body::Body;
use axum_core::response::{IntoResponse, Response};
use http::Request;
use tower_layer::Layer;

use super::layer::CsrfLayer;
use crate::http::checked::{CheckedService, RequestCheck};
use crate::http::rewound::RewoundBody;

impl<S> Layer<S> for CsrfLayer {
    type Service = CheckedService<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckedService::new(inner, self.clone())
    }
}

impl RequestCheck for CsrfLayer {
    async fn pass(&self, request: Request<Body>) -> Result<Request<Body>, Response> {
        match self.check(request).await {
            Ok(request) => Ok(request.map(RewoundBody::into_body)),
            Err(error) => Err(error.into_response()),
        }
    }
}
