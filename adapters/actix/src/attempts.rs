//! The attempts at one request: hands the application the request as it arrived, each time. Knows no rule of sessions.

use actix_web::dev::{Path, Payload, Service, ServiceRequest, ServiceResponse, Url};
use actix_web::error::{Error, ErrorInternalServerError};
use actix_web::{HttpMessage as _, HttpRequest};
use cloakroom::http::{InnerService, Replay};
use http::{Extensions, HeaderMap, Request, Response, request};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::answer::Answer;
use crate::body::{PayloadBody, payload};
use crate::head::back;

/// The extensions of the present attempt, in the extensions of a request of actix-web.
pub(crate) struct AttemptExtensions(pub(crate) Extensions);

/// The application, and the request between its attempts.
pub(crate) struct Attempts<S> {
    service: Rc<S>,
    request: Option<ServiceRequest>,
    /// How far routers outside have matched the path. `None` before the first attempt.
    arrived: Option<Path<Url>>,
    /// The error that the application returned in place of a response. Its request is lost.
    pub(crate) failed: Option<Error>,
}

impl<S> Attempts<S> {
    pub(crate) fn new(service: Rc<S>, request: ServiceRequest) -> Self {
        Self {
            service,
            request: Some(request),
            arrived: None,
            failed: None,
        }
    }

    /// The request, after its last attempt.
    pub(crate) fn into_request(self) -> Option<HttpRequest> {
        self.request.map(|request| request.into_parts().0)
    }

    /// The request for an attempt, as it arrived. Values that the application put into its extensions stay there.
    fn prepare(&mut self, parts: &request::Parts) -> Result<ServiceRequest, Error> {
        let lost = || ErrorInternalServerError("the request is used up");
        let mut request = self.request.take().ok_or_else(lost)?;
        let is_same = parts.uri.path_and_query().map(|it| it.as_str())
            == request.uri().path_and_query().map(|it| it.as_str());
        // A token was taken out of the query, or the application changed the path.
        if !is_same {
            let uri = back::uri(&parts.uri)?;
            request.match_info_mut().get_mut().update(&uri);
            request.head_mut().uri = uri;
        }
        match &self.arrived {
            None => {
                hide(&parts.headers, &mut request);
                self.arrived = Some(request.match_info().clone());
            }
            Some(arrived) => {
                *request.match_info_mut() = arrived.clone();
                request.head_mut().method = back::method(&parts.method)?;
                back::headers(&parts.headers, request.headers_mut())?;
            }
        }
        Ok(request)
    }
}

/// Marks the fields as sensitive that the layer marked. An application may print them with `Debug`. A request with none
/// is not touched: actix-web panics if a clone of it is held.
fn hide(headers: &HeaderMap, request: &mut ServiceRequest) {
    let is_hidden = |name: &str| {
        let hidden = headers.get(name);
        hidden.is_some_and(http::HeaderValue::is_sensitive)
    };
    let fields = request.headers();
    let mut shown = fields.iter().filter(|(_, value)| !value.is_sensitive());
    if shown.any(|(name, _)| is_hidden(name.as_str())) {
        request.headers_mut().retain(|name, value| {
            if is_hidden(name.as_str()) {
                value.set_sensitive(true);
            }
            true
        });
    }
}

impl<S, B> InnerService<PayloadBody> for &mut Attempts<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Body = Answer<B>;
    type Error = Error;

    async fn call(
        &mut self,
        request: Request<Replay<PayloadBody>>,
    ) -> Result<Response<Answer<B>>, Error> {
        let (parts, body) = request.into_parts();
        let mut request = self.prepare(&parts)?;
        request.set_payload(payload(body));
        let extensions = AttemptExtensions(parts.extensions);
        request.extensions_mut().insert(extensions);
        match self.service.call(request).await {
            Ok(response) => {
                let (request, response) = response.into_parts();
                self.request = Some(ServiceRequest::from_request(request));
                Answer::of(response)
            }
            Err(error) => {
                let response = Answer::of_error(&error)?;
                self.failed = Some(error);
                Ok(response)
            }
        }
    }

    async fn ready_again(&mut self) -> Result<bool, Error> {
        let Some(request) = &mut self.request else {
            return Ok(false);
        };
        if !is_ours_alone(request) {
            return Ok(false);
        }
        poll_fn(|cx| self.service.poll_ready(cx)).await?;
        Ok(true)
    }
}

/// Whether the application has dropped its clones of the request. Routers need a request that has none, and actix-web
/// tells of clones by a panic alone. Where a panic ends the process, nobody asks: the request does not run again.
fn is_ours_alone(request: &mut ServiceRequest) -> bool {
    if cfg!(panic = "abort") {
        return false;
    }
    let path = || {
        request.match_info_mut();
    };
    catch_unwind(AssertUnwindSafe(path)).is_ok()
}

/// The payload of a request, which it then has no more.
pub(crate) fn take_payload(request: &mut ServiceRequest) -> Payload {
    request.take_payload()
}
