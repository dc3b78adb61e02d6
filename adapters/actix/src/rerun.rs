//! The middleware that gives one route its own setting of which requests may run again.

use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::Error;
use cloakroom::http::Rerun;
use std::future::{Ready, ready};

use crate::extract::extensions;

/// Middleware for one route or scope: which of its requests run again after a conflict, in place of the setting of the
/// [`SessionMiddleware`](crate::SessionMiddleware) around it.
///
/// ```
/// use actix_web::{App, web};
/// use cloakroom::{Store, http::{Rerun, SessionLayer}};
/// use cloakroom_actix::{RouteRerun, SessionMiddleware};
///
/// let app = App::new()
///     .wrap(SessionMiddleware::new(SessionLayer::new(Store::in_memory()?)))
///     .service(
///         web::resource("/basket")
///             .wrap(RouteRerun(Rerun::Always))
///             .route(web::post().to(async || "put in")),
///     );
/// # drop(app);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRerun(
    /// The setting.
    pub Rerun,
);

impl<S, B> Transform<S, ServiceRequest> for RouteRerun
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = RouteRerunService<S>;
    type InitError = ();
    type Future = Ready<Result<RouteRerunService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(RouteRerunService {
            service,
            rerun: self.0,
        }))
    }
}

/// The service that [`RouteRerun`] makes.
#[derive(Clone, Debug)]
pub struct RouteRerunService<S> {
    service: S,
    rerun: Rerun,
}

impl<S, B> Service<ServiceRequest> for RouteRerunService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = S::Future;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        self.rerun.apply_to(&extensions(request.request()));
        self.service.call(request)
    }
}
