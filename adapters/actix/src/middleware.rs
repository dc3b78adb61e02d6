//! The middleware that gives each request its session.

use actix_web::HttpMessage as _;
use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::{Error, ErrorInternalServerError};
use cloakroom::http::SessionLayer;
use std::fmt;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::rc::Rc;

use crate::answer::{Answer, add_to_error};
use crate::attempts::{AttemptExtensions, Attempts, take_payload};
use crate::body::PayloadBody;
use crate::head;

/// Middleware that gives each request one transaction on a store, and its client a cookie, under the rules of a
/// [`SessionLayer`].
///
/// ```
/// use actix_web::{App, web};
/// use cloakroom::{Store, http::SessionLayer};
/// use cloakroom_actix::{Error, Session, SessionMiddleware};
///
/// async fn visits(session: Session) -> Result<String, Error> {
///     let n = session.pkg("visits").update("count", |n: Option<u64>| n.unwrap_or(0) + 1)?;
///     Ok(format!("visit {n}"))
/// }
///
/// let layer = SessionLayer::new(Store::in_memory()?);
/// let app = move || {
///     App::new()
///         .wrap(SessionMiddleware::new(layer.clone()))
///         .route("/", web::get().to(visits))
/// };
/// # drop(app());
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// Open the store and make the layer once, outside of the closure that makes an `App` for each worker. The methods of
/// [`SessionLayer`] set the cookie, the transports, and which requests run again. The rule of
/// [`admit_new`](SessionLayer::admit_new) finds the peer's [`SocketAddr`](std::net::SocketAddr) in the request's extensions.
///
/// Wrap it around everything that uses the session. `Logger`, `Compress` and `NormalizePath` may lie outside: in `App::wrap`
/// the last middleware is the outermost. Inside another `SessionMiddleware` it does nothing.
///
/// **Security:** a request that runs again after a conflict still has in its extensions what the application put there in the
/// first run, because actix-web's extensions cannot be copied. Middleware inside must set or remove its value each time it
/// runs: one that finds "this user may" must not trust it. Otherwise [`RouteRerun`](crate::RouteRerun) with
/// [`Rerun::Never`](cloakroom::http::Rerun::Never) keeps its routes from running again.
///
/// Whether a request may run again is found out by a panic that is caught, if a clone of its `HttpRequest` is held. In a
/// program built with `panic = "abort"`, no request runs again.
///
/// An error that middleware inside returns aborts, whatever its status, and a request that ends so does not run again. An
/// error that a handler or its extractor returns is a response, as any other.
#[derive(Clone)]
pub struct SessionMiddleware(SessionLayer);

impl SessionMiddleware {
    /// Makes the middleware for a layer.
    #[must_use]
    pub fn new(layer: SessionLayer) -> Self {
        Self(layer)
    }
}

impl fmt::Debug for SessionMiddleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionMiddleware").field(&self.0).finish()
    }
}

impl<S, B> Transform<S, ServiceRequest> for SessionMiddleware
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = SessionService<S>;
    type InitError = ();
    type Future = Ready<Result<SessionService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(SessionService {
            service: Rc::new(service),
            layer: self.0.clone(),
        }))
    }
}

/// The service that [`SessionMiddleware`] makes.
pub struct SessionService<S> {
    service: Rc<S>,
    layer: SessionLayer,
}

impl<S> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

impl<S, B> Service<ServiceRequest> for SessionService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        if request.extensions().contains::<AttemptExtensions>() {
            let answer = self.service.call(request);
            return Box::pin(async { Ok(answer.await?.map_into_left_body()) });
        }
        Box::pin(answer(
            self.layer.clone(),
            Rc::clone(&self.service),
            request,
        ))
    }
}

async fn answer<S, B>(
    layer: SessionLayer,
    service: Rc<S>,
    mut request: ServiceRequest,
) -> Result<ServiceResponse<EitherBody<B>>, Error>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let parts = head::of_request(&request)?;
    let payload = take_payload(&mut request);
    let body = PayloadBody::of(payload, request.headers()).await;
    let mut attempts = Attempts::new(service, request);
    let arrived = http::Request::from_parts(parts, body);
    let response = layer.serve(arrived, &mut attempts).await?;
    if let Some(error) = attempts.failed.take() {
        let (parts, _) = response.into_parts();
        return Err(add_to_error(error, parts.headers));
    }
    let lost = || ErrorInternalServerError("the request is used up");
    let request = attempts.into_request().ok_or_else(lost)?;
    Ok(ServiceResponse::new(request, Answer::sent(response)?))
}
