//! Where a request comes from, by its headers (Fetch Metadata, RFC 6454). Knows no token.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Scheme;

use super::VisitorAddress;

/// What the headers tell of where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum RequestSource {
    /// A page of this origin or of a trusted one, or the visitor's own action, such as a bookmark.
    Ours,
    /// No header shows it: an old browser, or no browser.
    Untold,
    /// A page of another site, or headers that contradict each other.
    OtherSite,
}

/// Where a request comes from, by `Sec-Fetch-Site`, and without it by `Origin`. Every browser since 2023 sends the first over
/// HTTPS, and scripts cannot set either.
pub(in crate::http) fn source_of(request: &Parts, trusted: &[String]) -> RequestSource {
    let mut origins = request.headers.get_all(ORIGIN).iter();
    let origin = origins.next().map(http::HeaderValue::as_bytes);
    if origins.next().is_some() {
        return RequestSource::OtherSite;
    }
    let is = |known: &String| origin.is_some_and(|it| it.eq_ignore_ascii_case(known.as_bytes()));
    if trusted.iter().any(is) {
        return RequestSource::Ours;
    }
    let mut sites = request.headers.get_all("sec-fetch-site").iter();
    let site = sites.next().map(http::HeaderValue::as_bytes);
    match (site, origin) {
        _ if sites.next().is_some() => RequestSource::OtherSite,
        (Some(b"same-origin" | b"none"), _) => RequestSource::Ours,
        (Some(_), _) => RequestSource::OtherSite,
        (None, Some(origin)) if is_host(origin, request) => RequestSource::Ours,
        (None, Some(_)) => RequestSource::OtherSite,
        (None, None) => RequestSource::Untold,
    }
}

/// Whether an origin has the host and the port that the request was sent to, and the scheme by which the visitor sent it,
/// if that is known: the server may not know it behind a proxy.
fn is_host(origin: &[u8], request: &Parts) -> bool {
    let visitor = request.extensions.get::<VisitorAddress>();
    let known = visitor.and_then(|it| it.scheme.as_ref());
    let host = match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => request.headers.get(HOST).map(http::HeaderValue::as_bytes),
    };
    let schemes = [Scheme::HTTPS, Scheme::HTTP];
    let mut schemes = schemes
        .iter()
        .filter(|it| known.is_none_or(|known| known == *it));
    let own = schemes.find_map(|scheme| {
        let rest = origin.strip_prefix(scheme.as_str().as_bytes())?;
        rest.strip_prefix(b"://")
    });
    own.zip(host)
        .is_some_and(|(own, host)| !own.is_empty() && own.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn judged(headers: &[(&str, &str)]) -> RequestSource {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        source_of(&parts, &["https://pay.example".to_owned()])
    }

    const OURS: RequestSource = RequestSource::Ours;
    const REFUSED: RequestSource = RequestSource::OtherSite;

    #[test]
    fn fetch_metadata_decides_where_a_browser_sends_it() {
        for (site, expected) in [
            ("same-origin", OURS),
            ("none", OURS),
            ("same-site", REFUSED),
            ("cross-site", REFUSED),
            ("Same-Origin", REFUSED),
            ("", REFUSED),
        ] {
            assert_eq!(judged(&[("sec-fetch-site", site)]), expected, "{site}");
        }
        let both = [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://a.example"),
            ("host", "a.example"),
        ];
        assert_eq!(judged(&both), REFUSED);
        let twice = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(judged(&twice), REFUSED);
    }

    #[test]
    fn the_origin_decides_for_older_browsers() {
        for (origin, host, expected) in [
            ("https://a.example", "a.example", OURS),
            ("https://A.example", "a.EXAMPLE", OURS),
            ("http://localhost:3000", "localhost:3000", OURS),
            ("https://b.example", "a.example", REFUSED),
            ("https://a.example:8443", "a.example", REFUSED),
            ("https://a.example.evil.example", "a.example", REFUSED),
            ("null", "null", REFUSED),
            ("https://", "", REFUSED),
            ("a.example", "a.example", REFUSED),
        ] {
            let headers = [("origin", origin), ("host", host)];
            assert_eq!(judged(&headers), expected, "{origin} {host}");
        }
        let twice = [
            ("origin", "https://a.example"),
            ("origin", "https://b.example"),
            ("host", "a.example"),
        ];
        assert_eq!(judged(&twice), REFUSED);
    }

    // A network attacker can make pages of the plain origin.
    #[test]
    fn the_scheme_is_compared_where_it_is_known() {
        for (scheme, origin, expected) in [
            (Some(Scheme::HTTPS), "https://a.example", OURS),
            (Some(Scheme::HTTPS), "http://a.example", REFUSED),
            (Some(Scheme::HTTP), "http://a.example", OURS),
            (Some(Scheme::HTTP), "https://a.example", REFUSED),
            (None, "http://a.example", OURS),
        ] {
            let request = Request::builder().header("origin", origin);
            let request = request.header("host", "a.example").body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            let ip = std::net::Ipv4Addr::LOCALHOST.into();
            parts.extensions.insert(VisitorAddress { ip, scheme });
            assert_eq!(source_of(&parts, &[]), expected, "{origin}");
        }
    }

    #[test]
    fn a_trusted_origin_is_ours_from_whatever_site() {
        let headers = [
            ("origin", "https://pay.example"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(judged(&headers), OURS);
        let headers = [
            ("origin", "https://pay.example.evil"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(judged(&headers), REFUSED);
    }

    #[test]
    fn without_either_header_nothing_is_known() {
        assert_eq!(judged(&[("host", "a.example")]), RequestSource::Untold);
    }
}
