//! Middleware inside the session's that refuses requests: forged ones, and those without a recent login.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::Error;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev};
use cloakroom::http as rules;
use cloakroom::http::{CsrfLayer, RequireFresh};
use http::Request;
use std::fmt;
use std::future::{Ready, ready};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;

use crate::attempts::{AttemptExtensions, take_payload};
use crate::body::{PayloadBody, payload};
use crate::extract::{Extracting, extensions, session};
use crate::head;

/// Middleware that refuses requests which another site makes the visitor's browser send. It lies inside the
/// [`SessionMiddleware`](crate::SessionMiddleware), and follows the rules of a [`CsrfLayer`].
///
/// ```
/// use actix_web::{App, web, web::Html};
/// use cloakroom::{Store, http::{CsrfLayer, SessionLayer}};
/// use cloakroom_actix::{CsrfMiddleware, CsrfToken, SessionMiddleware};
///
/// async fn form(token: CsrfToken) -> Html {
///     Html::new(format!("<form method=post>{}<button>Pay</button></form>", token.input()))
/// }
///
/// let pay = web::resource("/pay").get(form).post(async || "paid");
/// let app = App::new()
///     .service(pay)
///     .wrap(CsrfMiddleware::new(CsrfLayer::new()))
///     .wrap(SessionMiddleware::new(SessionLayer::new(Store::in_memory()?)));
/// # drop(app);
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CsrfMiddleware(CsrfLayer);

impl CsrfMiddleware {
    /// Makes the middleware for a layer.
    #[must_use]
    pub fn new(layer: CsrfLayer) -> Self {
        Self(layer)
    }
}

/// Middleware for routes that need a recent login, such as a change of the password. It lies inside the
/// [`SessionMiddleware`](crate::SessionMiddleware), and follows the rules of a [`RequireFresh`]. Other requests are answered
/// with 401.
///
/// ```
/// use actix_web::web;
/// use cloakroom::http::RequireFresh;
/// use cloakroom_actix::FreshMiddleware;
/// use std::time::Duration;
///
/// let fresh = RequireFresh::within(Duration::from_secs(5 * 60));
/// let password = web::resource("/password")
///     .wrap(FreshMiddleware::new(fresh))
///     .post(async || "changed");
/// # drop(password);
/// ```
#[derive(Clone, Debug)]
pub struct FreshMiddleware(RequireFresh);

impl FreshMiddleware {
    /// Makes the middleware for a layer.
    #[must_use]
    pub fn new(layer: RequireFresh) -> Self {
        Self(layer)
    }
}

/// The check that a middleware makes on requests.
pub trait RequestCheck: 'static {
    /// Lets a request pass, or returns the error that answers it.
    fn pass(&self, request: &mut ServiceRequest) -> impl Future<Output = Result<(), Error>>;
}

impl RequestCheck for CsrfMiddleware {
    async fn pass(&self, request: &mut ServiceRequest) -> Result<(), Error> {
        let mut parts = head::of_request(request)?;
        parts.extensions.extend(extensions(request.request()));
        let body = take_payload(request);
        let body = PayloadBody::of(body, request.headers()).await;
        let checked = self.0.check(Request::from_parts(parts, body)).await;
        let (parts, body) = checked.map_err(crate::Error::from)?.into_parts();
        request.set_payload(payload(body));
        // Without the session's middleware around it, the request must not look as if there were one.
        if let Some(attempt) = request.extensions_mut().get_mut::<AttemptExtensions>() {
            attempt.0 = parts.extensions;
        }
        Ok(())
    }
}

impl RequestCheck for FreshMiddleware {
    async fn pass(&self, request: &mut ServiceRequest) -> Result<(), Error> {
        let extensions = extensions(request.request());
        let checked = self.0.check(&extensions).await;
        checked.map_err(|error| crate::Error::from(error).into())
    }
}

/// The service that [`CsrfMiddleware`] and [`FreshMiddleware`] make: the application gets the requests that pass.
pub struct CheckedService<S, C> {
    service: Rc<S>,
    check: Rc<C>,
}

impl<S, C: fmt::Debug> fmt::Debug for CheckedService<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedService")
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}

/// Makes a check a middleware.
macro_rules! middleware {
    ($($check:ty)*) => {
        $(
            impl<S, B> Transform<S, ServiceRequest> for $check
            where
                S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
                B: MessageBody + 'static,
            {
                type Response = ServiceResponse<EitherBody<B>>;
                type Error = Error;
                type Transform = CheckedService<S, $check>;
                type InitError = ();
                type Future = Ready<Result<Self::Transform, ()>>;

                fn new_transform(&self, service: S) -> Self::Future {
                    ready(Ok(CheckedService {
                        service: Rc::new(service),
                        check: Rc::new(self.clone()),
                    }))
                }
            }
        )*
    };
}

middleware! { CsrfMiddleware FreshMiddleware }

impl<S, B, C> Service<ServiceRequest> for CheckedService<S, C>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
    C: RequestCheck,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        let (service, check) = (Rc::clone(&self.service), Rc::clone(&self.check));
        Box::pin(async move {
            match check.pass(&mut request).await {
                Ok(()) => Ok(service.call(request).await?.map_into_left_body()),
                // A response, so that a conflict runs again.
                Err(error) => Ok(request.error_response(error).map_into_right_body()),
            }
        })
    }
}

/// A token of the request's session, for pages with forms, as a handler's argument. It is a
/// [`cloakroom::http::CsrfToken`], whose methods it has.
///
/// ```
/// use actix_web::web::Html;
/// use cloakroom_actix::CsrfToken;
///
/// async fn form(token: CsrfToken) -> Html {
///     let field = token.input(); // <input type="hidden" name="csrf_token" value="…">
///     Html::new(format!("<form method=post action=/transfer>{field}<button>Pay</button></form>"))
/// }
/// # drop(actix_web::web::resource("/").to(form));
/// ```
///
/// # Errors
///
/// As [`Session`](crate::Session), and those of [`cloakroom::http::CsrfToken::of`].
#[derive(Clone, Debug)]
pub struct CsrfToken(rules::CsrfToken);

impl CsrfToken {
    /// Returns the token itself, which is serialized as its text.
    #[must_use]
    pub fn into_inner(self) -> rules::CsrfToken {
        self.0
    }
}

impl Deref for CsrfToken {
    type Target = rules::CsrfToken;

    fn deref(&self) -> &rules::CsrfToken {
        &self.0
    }
}

impl FromRequest for CsrfToken {
    type Error = crate::Error;
    type Future = Extracting<Self>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let (session, extensions) = (session(request), extensions(request));
        Box::pin(async move {
            let token = rules::CsrfToken::for_request(&session.await?, &extensions)?;
            Ok(Self(token))
        })
    }
}
