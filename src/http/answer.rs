//! The responses to errors, and the headers that stop caches from giving one visitor's session to another. Knows no
//! transaction.

use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, COOKIE, Entry, HeaderName, HeaderValue, RETRY_AFTER, VARY,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode};
use std::time::Duration;

use super::report::report_when_sent;
use crate::error::{Error, ErrorKind};

/// Returns the status of a response that is made from an error of this [kind](super#errors-as-responses).
///
/// ```
/// use cloakroom::{ErrorKind, http::error_status};
///
/// assert_eq!(error_status(ErrorKind::Conflict), 503);
/// ```
#[must_use]
pub fn error_status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Conflict
        | ErrorKind::SnapshotTooOld
        | ErrorKind::Unavailable
        | ErrorKind::NotWritten => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotFresh => StatusCode::UNAUTHORIZED,
        ErrorKind::MissingClientId | ErrorKind::CsrfRefused => StatusCode::FORBIDDEN,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::NotAdmitted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The value of `Retry-After`: whole seconds, rounded up.
fn seconds(wait: Duration) -> HeaderValue {
    let begun = u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(wait.as_secs().saturating_add(begun))
}

/// The response to an error, which is logged. It has no body. The error is in the extensions, so that an outer layer
/// can render it.
pub(super) fn answer<R: Default>(error: Error) -> Response<R> {
    let kind = error.kind();
    let mut response = Response::new(R::default());
    *response.status_mut() = error_status(kind);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // RFC 9110 §15.5.2. Browsers know no scheme of this name, and so ask for no password themselves.
    if kind == ErrorKind::NotFresh {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Session"));
    }
    if let Some(wait) = error.retry_after().map(seconds) {
        headers.insert(RETRY_AFTER, wait);
    }
    report_when_sent(&error, response.extensions_mut());
    response.extensions_mut().insert(error);
    response.extensions_mut().insert(PlainAnswer);
    response
}

/// Returns the response to an [`Error`] that the session layer would make: for web frameworks whose handlers return
/// errors. With axum, `Error` is a response itself.
///
/// It has the status of the [error](super#errors-as-responses) and no body. Only a missing layer is described in the
/// body, because no layer could render it, and a refusal that a visitor can do something about. Its extensions must reach
/// the layer with the response: they hold the error, so that the transaction aborts, and the layer logs it. Outside of a
/// layer it is logged at once.
///
/// ```
/// use cloakroom::http::{error_response, session};
/// use http::Extensions;
///
/// let error = pollster::block_on(session(&Extensions::new())).unwrap_err();
/// let response = error_response(error);
/// assert_eq!(response.status(), 500);
/// assert!(response.body().contains("session layer"));
/// ```
#[must_use]
pub fn error_response(error: Error) -> Response<String> {
    let is_told = matches!(
        error.kind(),
        ErrorKind::NoSessionLayer | ErrorKind::CsrfRefused | ErrorKind::NotFresh
    );
    let text = is_told.then(|| error.to_string());
    let mut response: Response<String> = answer(error);
    if let Some(text) = text {
        *response.body_mut() = text;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
    }
    response
}

/// In the extensions of a response: its request's transaction aborts, whatever
/// [`commit_when`](super::SessionLayer::commit_when) says of the response.
///
/// ```
/// use cloakroom::http::Abort;
/// use http::Response;
///
/// let mut response = Response::new("This was a preview. Nothing was saved.");
/// response.extensions_mut().insert(Abort);
/// ```
///
/// What [`commit_now`](crate::Session::commit_now) stored before stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abort;

/// In the extensions of a response that was made from an error and has no page of the application.
#[derive(Clone, Copy)]
pub(super) struct PlainAnswer;

/// How a response depends on the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionUse {
    /// The session was extracted, even if it was empty or its transaction aborted.
    Read,
    /// The cookie is set or removed.
    Cookie,
}

/// Sets the cache headers of a response that depends on the session (C4.6). `fields` are those of requests that carry
/// ids.
pub(super) fn mark(
    headers: &mut HeaderMap,
    bond: SessionUse,
    fields: impl IntoIterator<Item = HeaderName>,
) {
    if bond == SessionUse::Cookie {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if let Entry::Vacant(entry) = headers.entry(CACHE_CONTROL) {
        entry.insert(HeaderValue::from_static("private, no-cache"));
    }
    for field in fields {
        if !varies_by(headers, &field) {
            headers.append(VARY, in_vary(field));
        }
    }
}

fn in_vary(field: HeaderName) -> HeaderValue {
    if field == COOKIE {
        HeaderValue::from_static("Cookie")
    } else {
        HeaderValue::from(field)
    }
}

fn varies_by(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers
        .get_all(VARY)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|field| {
            field
                .trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
        let values = headers.get_all(name).iter();
        values.map(|v| v.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_kind_has_its_status() {
        for kind in [
            ErrorKind::Conflict,
            ErrorKind::SnapshotTooOld,
            ErrorKind::Unavailable,
            ErrorKind::NotWritten,
        ] {
            assert_eq!(error_status(kind), 503, "{kind:?}");
        }
        assert_eq!(error_status(ErrorKind::MissingClientId), 403);
        assert_eq!(error_status(ErrorKind::CsrfRefused), 403);
        assert_eq!(error_status(ErrorKind::NotFresh), 401);
        assert_eq!(error_status(ErrorKind::TooLarge), 413);
        assert_eq!(error_status(ErrorKind::NotAdmitted), 429);
        for kind in [
            ErrorKind::NoSessionLayer,
            ErrorKind::NotSerializable,
            ErrorKind::OutcomeUnknown,
            ErrorKind::Corrupt,
            ErrorKind::Closed,
        ] {
            assert_eq!(error_status(kind), 500, "{kind:?}");
        }
    }

    /// All there are.
    const KINDS: [ErrorKind; 31] = [
        ErrorKind::Conflict,
        ErrorKind::NotSerializable,
        ErrorKind::TypeMismatch,
        ErrorKind::Overflow,
        ErrorKind::TooLarge,
        ErrorKind::Closed,
        ErrorKind::Doomed,
        ErrorKind::NoSuchSavepoint,
        ErrorKind::SessionEnded,
        ErrorKind::SnapshotTooOld,
        ErrorKind::Unavailable,
        ErrorKind::NotWritten,
        ErrorKind::OutcomeUnknown,
        ErrorKind::Corrupt,
        ErrorKind::Locked,
        ErrorKind::OtherProcess,
        ErrorKind::TooNew,
        ErrorKind::NotAStore,
        ErrorKind::NotPrivate,
        ErrorKind::WrongKey,
        ErrorKind::NoSuchContainer,
        ErrorKind::InvalidInput,
        ErrorKind::Panicked,
        ErrorKind::Unsupported,
        ErrorKind::Interrupted,
        ErrorKind::MissingClientId,
        ErrorKind::CsrfRefused,
        ErrorKind::NotFresh,
        ErrorKind::NotAdmitted,
        ErrorKind::NoSessionLayer,
        ErrorKind::Io,
    ];

    // C6.5
    #[test]
    fn the_docs_tell_the_status_of_each_kind() {
        let source = include_str!("../error.rs");
        let (_, source) = source.split_once("pub enum ErrorKind {").unwrap();
        let (source, _) = source.split_once("\n}").unwrap();
        let kinds = source
            .lines()
            .filter_map(|line| line.trim().strip_suffix(','));
        let kinds: Vec<_> = kinds.filter(|line| !line.starts_with("//")).collect();
        assert_eq!(kinds, KINDS.map(|kind| format!("{kind:?}")));

        let docs = include_str!("mod.rs");
        let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | "));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        for kind in KINDS {
            let name = format!("`{kind:?}`");
            let told = rows.iter().filter(|row| row[1].contains(&name));
            let told: Vec<_> = told.map(|row| row[0]).collect();
            assert_eq!(told, [error_status(kind).as_str()], "{kind:?}");
        }

        let guide = include_str!("../../docs/guide/errors.md");
        let rows = guide.lines().filter_map(|line| line.strip_prefix("| "));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        for kind in KINDS {
            let name = format!("`{kind:?}`");
            let told = rows.iter().filter(|row| row[0].contains(&name));
            let told: Vec<_> = told.map(|row| row[1]).collect();
            let is_told =
                |told: &str| told == "at opening" || told.starts_with(error_status(kind).as_str());
            assert!(
                matches!(*told, [told] if is_told(told)),
                "{kind:?}: {told:?}"
            );
        }
    }

    #[test]
    fn an_error_is_answered_without_a_body_and_carries_itself() {
        let response: Response<String> = answer(Error::new(ErrorKind::Conflict, "changed"));
        assert_eq!(response.body(), "");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        let error = response.extensions().get::<Error>().unwrap();
        assert_eq!(error.kind(), ErrorKind::Conflict);

        let ended = Error::new(ErrorKind::Conflict, "ended").lasting(Duration::from_millis(9001));
        let response: Response<String> = answer(ended);
        assert_eq!(response.headers()[RETRY_AFTER], "10");

        let response: Response<String> = answer(Error::new(ErrorKind::SnapshotTooOld, "slow"));
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_response_that_read_the_session_is_private_and_varies() {
        let mut map = headers(&[("vary", "accept-encoding")]);
        mark(&mut map, SessionUse::Read, [COOKIE]);
        assert_eq!(all(&map, "vary"), ["accept-encoding", "Cookie"]);
        assert_eq!(all(&map, "cache-control"), ["private, no-cache"]);
    }

    #[test]
    fn a_handlers_cache_control_stays_where_no_cookie_is_sent() {
        let mut map = headers(&[("cache-control", "private, max-age=60")]);
        mark(&mut map, SessionUse::Read, [COOKIE]);
        assert_eq!(all(&map, "cache-control"), ["private, max-age=60"]);
    }

    #[test]
    fn a_response_with_our_cookie_is_never_stored() {
        let mut map = headers(&[
            ("cache-control", "public"),
            ("cache-control", "max-age=600"),
        ]);
        mark(&mut map, SessionUse::Cookie, [COOKIE]);
        assert_eq!(all(&map, "cache-control"), ["no-store"]);
        assert_eq!(all(&map, "vary"), ["Cookie"]);
    }

    #[test]
    fn vary_is_not_told_twice() {
        let mut map = headers(&[("vary", "Accept, cookie")]);
        mark(&mut map, SessionUse::Read, [COOKIE]);
        assert_eq!(all(&map, "vary"), ["Accept, cookie"]);
    }
}
