//! Responses on their way from an application of actix-web to the rules of the session layer, and back. Knows no request.

use actix_web::HttpResponse;
use actix_web::body::EitherBody;
use actix_web::error::Error;
use actix_web::http::header::{CACHE_CONTROL, VARY};
use cloakroom::http::Abort;
use http::{Extensions, HeaderMap, Response, header, response};

use crate::head::{self, back};

/// The extensions that the session layer reads, in the extensions of a response of actix-web.
pub(crate) struct AnswerExtensions(pub(crate) Extensions);

/// A whole response of the application. `None` is the empty body of a response that the layer makes.
pub(crate) struct Answer<B>(Option<HttpResponse<B>>);

impl<B> Default for Answer<B> {
    fn default() -> Self {
        Self(None)
    }
}

impl<B> Answer<B> {
    /// What the layer gets to see of a response.
    pub(crate) fn of(mut response: HttpResponse<B>) -> Result<Response<Self>, Error> {
        let mut seen = Response::new(Self::default());
        *seen.status_mut() = head::status(response.status())?;
        *seen.headers_mut() = head::response_headers(response.headers())?;
        let extensions = response.extensions_mut().remove::<AnswerExtensions>();
        if let Some(AnswerExtensions(extensions)) = extensions {
            *seen.extensions_mut() = extensions;
        }
        copy_own(&response, seen.extensions_mut());
        seen.body_mut().0 = Some(response);
        Ok(seen)
    }

    /// What the layer gets to see of an error of the application. An error of middleware is a response in actix-web. It
    /// aborts, whatever its status.
    pub(crate) fn of_error(error: &Error) -> Result<Response<Self>, Error> {
        let mut seen = Response::new(Self::default());
        let cause = error.as_response_error();
        *seen.status_mut() = head::status(cause.status_code())?;
        seen.extensions_mut().insert(Abort);
        if let Some(error) = error.as_error::<crate::Error>() {
            let error: cloakroom::Error = error.clone().into();
            seen.extensions_mut().insert(error);
        }
        Ok(seen)
    }

    /// The response as it is sent.
    pub(crate) fn sent(seen: Response<Self>) -> Result<HttpResponse<EitherBody<B>>, Error> {
        let (parts, Self(response)) = seen.into_parts();
        let mut response = match response {
            Some(mut response) => {
                back::headers(&parts.headers, response.headers_mut())?;
                response.map_into_left_body()
            }
            None => head_of(&parts)?
                .set_body(actix_web::body::BoxBody::new(()))
                .map_into_right_body(),
        };
        if let Some(error) = parts.extensions.get::<cloakroom::Error>() {
            response.extensions_mut().insert(error.clone());
        }
        Ok(response)
    }
}

/// Copies what an application put into the extensions of its response itself, for the layer.
fn copy_own<B>(response: &HttpResponse<B>, seen: &mut Extensions) {
    let own = response.extensions();
    if let Some(abort) = own.get::<Abort>() {
        seen.insert(*abort);
    }
    if let Some(error) = own.get::<cloakroom::Error>() {
        seen.insert(error.clone());
    }
}

/// A response with this head and no body.
pub(crate) fn head_of(parts: &response::Parts) -> Result<HttpResponse<()>, Error> {
    let mut response = HttpResponse::with_body(back::status(parts.status)?, ());
    back::headers(&parts.headers, response.headers_mut())?;
    Ok(response)
}

/// Adds what the layer says of cookies and caches to the response of an error. The error itself stays, for middleware
/// outside.
pub(crate) fn add_to_error(mut error: Error, headers: HeaderMap) -> Error {
    if headers.is_empty() {
        return error;
    }
    error.add_response_mapper(move |mut response| match add(&headers, &mut response) {
        Ok(()) => response,
        Err(error) => error.error_response(),
    });
    error
}

fn add<B>(headers: &HeaderMap, response: &mut HttpResponse<B>) -> Result<(), Error> {
    let fields = response.headers_mut();
    for (name, value) in headers {
        let (name, value) = (back::name(name)?, back::value(value)?);
        let is_list = name == VARY || name.as_str() == header::SET_COOKIE.as_str();
        if is_list {
            let is_there = fields.get_all(&name).any(|there| *there == value);
            if !is_there {
                fields.append(name, value);
            }
        } else if name != CACHE_CONTROL || value == "no-store" || !fields.contains_key(&name) {
            fields.insert(name, value);
        }
    }
    Ok(())
}
