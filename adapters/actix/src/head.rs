//! The heads of requests and responses, between actix-web's version of the crate `http` and the present one. Knows no
//! session.

use actix_web::dev::ServiceRequest;
use actix_web::error::{Error, ErrorInternalServerError, ErrorRequestHeaderFieldsTooLarge};
use actix_web::http as actix;
use http::header::MaxSizeReached;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request};

/// Something that one version of `http` accepts and the other does not.
fn unknown<E>(_: E) -> Error {
    ErrorInternalServerError("a part of the message cannot be converted")
}

/// What a client gets for more fields than the present `http` holds. HTTP/2 limits their bytes alone.
fn too_many<E>(_: E) -> Error {
    ErrorRequestHeaderFieldsTooLarge("too many header fields")
}

/// A URI in the other version. By its parts: as a text, `OPTIONS *` of HTTP/2 would be another URI.
macro_rules! converted_uri {
    ($uri:expr, $($version:ident)::+) => {{
        use $($version)::+::{Authority, Parts, PathAndQuery, Scheme, Uri};
        let (uri, mut parts) = ($uri, Parts::default());
        let scheme = uri.scheme_str().map(Scheme::try_from);
        parts.scheme = scheme.transpose().map_err(unknown)?;
        let authority = uri.authority().map(|it| Authority::try_from(it.as_str()));
        parts.authority = authority.transpose().map_err(unknown)?;
        let path = uri.path_and_query().map(|it| PathAndQuery::try_from(it.as_str()));
        parts.path_and_query = path.transpose().map_err(unknown)?;
        Uri::from_parts(parts).map_err(unknown)
    }};
}

/// The head of a request. Its extensions have the address of the peer.
pub(crate) fn of_request(request: &ServiceRequest) -> Result<request::Parts, Error> {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    let method = request.method().as_str().as_bytes();
    parts.method = Method::from_bytes(method).map_err(unknown)?;
    parts.uri = converted_uri!(request.uri(), http::uri)?;
    parts.version = version(request.version());
    parts.headers = headers(request.headers(), too_many)?;
    if let Some(peer) = request.peer_addr() {
        parts.extensions.insert(peer);
    }
    Ok(parts)
}

fn version(version: actix::Version) -> Version {
    match version {
        actix::Version::HTTP_09 => Version::HTTP_09,
        actix::Version::HTTP_10 => Version::HTTP_10,
        actix::Version::HTTP_2 => Version::HTTP_2,
        actix::Version::HTTP_3 => Version::HTTP_3,
        _ => Version::HTTP_11,
    }
}

pub(crate) fn response_headers(fields: &actix::header::HeaderMap) -> Result<HeaderMap, Error> {
    headers(fields, unknown)
}

/// All fields, in their order, each with all its values, as bytes. An error if there are too many.
fn headers(
    fields: &actix::header::HeaderMap,
    full: impl Fn(MaxSizeReached) -> Error,
) -> Result<HeaderMap, Error> {
    let mut converted = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(unknown)?;
        let mut field = HeaderValue::from_bytes(value.as_bytes()).map_err(unknown)?;
        field.set_sensitive(value.is_sensitive());
        converted.try_append(name, field).map_err(&full)?;
    }
    Ok(converted)
}

pub(crate) fn status(status: actix::StatusCode) -> Result<StatusCode, Error> {
    StatusCode::from_u16(status.as_u16()).map_err(unknown)
}

/// The way back.
pub(crate) mod back {
    use super::{
        Error, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, actix, unknown,
    };

    pub(crate) fn method(method: &Method) -> Result<actix::Method, Error> {
        actix::Method::from_bytes(method.as_str().as_bytes()).map_err(unknown)
    }

    pub(crate) fn uri(uri: &Uri) -> Result<actix::Uri, Error> {
        converted_uri!(uri, actix::uri)
    }

    pub(crate) fn name(name: &HeaderName) -> Result<actix::header::HeaderName, Error> {
        let name = name.as_str().as_bytes();
        actix::header::HeaderName::from_bytes(name).map_err(unknown)
    }

    pub(crate) fn value(value: &HeaderValue) -> Result<actix::header::HeaderValue, Error> {
        let field = actix::header::HeaderValue::from_bytes(value.as_bytes());
        let mut field = field.map_err(unknown)?;
        field.set_sensitive(value.is_sensitive());
        Ok(field)
    }

    /// Makes `fields` the same as `headers`.
    pub(crate) fn headers(
        headers: &HeaderMap,
        fields: &mut actix::header::HeaderMap,
    ) -> Result<(), Error> {
        fields.clear();
        for (field, content) in headers {
            fields.append(name(field)?, value(content)?);
        }
        Ok(())
    }

    pub(crate) fn status(status: StatusCode) -> Result<actix::StatusCode, Error> {
        actix::StatusCode::from_u16(status.as_u16()).map_err(unknown)
    }
}
