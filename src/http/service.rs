//! The layer for any service of tower.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::convert::identity;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

use super::exchange::Exchange;
use super::layer::SessionLayer;
use super::replay::Replay;
use super::serve::{InnerService, run};
use super::settings::LayerSettings;
use super::slot::Slot;
use crate::error::Result;

impl SessionLayer {
    /// Returns a layer with these settings for services of tower without axum. They get their body as [`Replay`].
    #[must_use]
    pub fn generic(self) -> GenericSessionLayer {
        GenericSessionLayer(self)
    }
}

/// A [`SessionLayer`] for services without axum. The inner service gets the request's body, of any type, as
/// [`Replay`]. It may answer with any body type that has a default, which must be the empty body.
///
/// ```
/// use cloakroom::http::{Replay, SessionLayer, session};
/// use cloakroom::{Error, Store};
/// use http::{Request, Response};
/// use tower::{Layer as _, service_fn};
///
/// let pages = service_fn(|request: Request<Replay<String>>| async move {
///     let session = session(request.extensions()).await?;
///     let n = session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok::<_, Error>(Response::new(format!("visit {n}")))
/// });
/// let service = SessionLayer::new(Store::in_memory()?).generic().layer(pages);
/// # drop(service);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GenericSessionLayer(SessionLayer);

impl<S> Layer<S> for GenericSessionLayer {
    type Service = GenericSessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GenericSessionService {
            inner,
            settings: self.0.settings(),
        }
    }
}

/// The service that [`GenericSessionLayer`](super::GenericSessionLayer) makes. The inner service gets the request's
/// body as [`Replay`].
///
/// ```
/// use cloakroom::Store;
/// use cloakroom::http::{GenericSessionService, SessionLayer};
/// use tower::Layer as _;
///
/// /// For a service whose type must be named, for example in a struct.
/// fn with_sessions<S>(pages: S, store: Store) -> GenericSessionService<S> {
///     SessionLayer::new(store).generic().layer(pages)
/// }
/// ```
#[derive(Clone)]
pub struct GenericSessionService<S> {
    inner: S,
    settings: Arc<LayerSettings>,
}

impl<S, B, R> Service<Request<B>> for GenericSessionService<S>
where
    S: Service<Request<Replay<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Send> + Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut ready = take_ready(&mut self.inner);
        if Slot::of(request.extensions()).is_some() {
            return Box::pin(ready.call(request.map(Replay::once)));
        }
        let (parts, body) = request.into_parts();
        let exchange = Exchange::new(Arc::clone(&self.settings), parts, &body.size_hint());
        let inner = TowerInner {
            service: ready,
            inward: identity,
            outward: identity,
        };
        Box::pin(run(inner, exchange, body))
    }
}

impl<S: fmt::Debug> fmt::Debug for GenericSessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GenericSessionService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// A service of tower inside the layer. `inward` converts the request's body for it, `outward` converts its response.
pub(super) struct TowerInner<S, I, O> {
    pub(super) service: S,
    pub(super) inward: I,
    pub(super) outward: O,
}

impl<S, B, I, M, O, R> InnerService<B> for TowerInner<S, I, O>
where
    S: Service<Request<M>>,
    B: Body<Data = Bytes>,
    I: Fn(Replay<B>) -> M,
    O: Fn(S::Response) -> Response<R>,
    R: Default,
{
    type Body = R;
    type Error = S::Error;

    async fn call(&mut self, request: Request<Replay<B>>) -> Result<Response<R>, S::Error> {
        let mut call = pin!(self.service.call(request.map(&self.inward)));
        poll_fn(|cx| call.as_mut().poll(cx))
            .await
            .map(&self.outward)
    }

    async fn ready_again(&mut self) -> Result<bool, S::Error> {
        poll_fn(|cx| self.service.poll_ready(cx)).await?;
        Ok(true)
    }
}

/// Takes the service that reported to be ready. Its clone must be polled for readiness again.
pub(super) fn take_ready<S: Clone>(inner: &mut S) -> S {
    let clone = inner.clone();
    std::mem::replace(inner, clone)
}
