//! Changes are accepted from the pages themselves alone (C9.3).

use axum::http::HeaderMap;
use axum::http::header;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt::Write as _;
use subtle::ConstantTimeEq as _;

/// Makes and checks the token that each form carries. It belongs to the name of the administrator and to this process.
#[derive(Clone)]
pub(crate) struct FormTokens {
    /// Without randomness there is none, and no form is accepted.
    key: Option<[u8; 32]>,
}

impl FormTokens {
    pub(crate) fn new() -> Self {
        Self { key: random() }
    }

    /// The token of this administrator's forms: 64 hexadecimal digits.
    pub(crate) fn token(&self, who: &str) -> String {
        let key = self.key.unwrap_or_default();
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(&key);
        mac.map(|mac| hex(&mac.chain_update(who).finalize().into_bytes()))
            .unwrap_or_default()
    }

    /// Whether this is the token of this administrator, in constant time.
    pub(crate) fn accepts(&self, who: &str, token: &str) -> bool {
        let is_right: bool = self.token(who).as_bytes().ct_eq(token.as_bytes()).into();
        self.key.is_some() && is_right
    }
}

/// Random bytes of the operating system, or `None` if it has none.
pub(crate) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let filled = getrandom::fill(&mut bytes);
    filled.is_ok().then_some(bytes)
}

/// The bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Whether the browser says that another site sent this request. A client that is no browser says nothing.
pub(crate) fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let origin = origin.as_bytes();
    let of_origin = origin
        .strip_prefix(b"https://")
        .or_else(|| origin.strip_prefix(b"http://"));
    of_origin.is_none() || host != of_origin
}

/// Whether the request carries a right that no browser adds by itself.
pub(crate) fn has_bearer(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION);
    value.is_some_and(|value| {
        let scheme = value.as_bytes().get(..7);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn a_token_belongs_to_a_name_and_a_process() {
        let (ours, other) = (FormTokens::new(), FormTokens::new());
        let token = ours.token("ann");
        assert!(ours.accepts("ann", &token));
        assert!(!ours.accepts("bob", &token));
        assert!(!other.accepts("ann", &token));
        for wrong in ["", &token[1..], &token.to_uppercase()] {
            assert!(!ours.accepts("ann", wrong), "{wrong}");
        }
        let without = FormTokens { key: None };
        assert!(!without.accepts("ann", &without.token("ann")));
    }

    #[test]
    fn other_sites_are_told_by_their_headers() {
        let is_refused = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            });
            is_from_elsewhere(&pairs.collect())
        };
        let host = ("host", "shop.example");
        assert!(!is_refused(&[host]));
        assert!(!is_refused(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(!is_refused(&[host, ("sec-fetch-site", "none")]));
        assert!(!is_refused(&[host, ("origin", "https://shop.example")]));
        assert!(is_refused(&[host, ("sec-fetch-site", "same-site")]));
        assert!(is_refused(&[
            host,
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://shop.example")
        ]));
        assert!(is_refused(&[
            host,
            ("origin", "https://shop.example.evil.example")
        ]));
        assert!(is_refused(&[host, ("origin", "null")]));
        assert!(is_refused(&[("origin", "https://shop.example")]));
    }
}
