//! The address of an administration.

use crate::failure::{Failure, Outcome};
use std::net::IpAddr;
use ureq::http::Uri;

/// The address without a slash at its end, and what is on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) text: String,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// TLS, or none beyond this machine.
    Private,
    /// Anybody on the way can read it.
    Open,
}

impl Address {
    pub(crate) fn read(text: &str) -> Outcome<Self> {
        let wrong = |why: &str| {
            let advice = "Write it as https://shop.example/internal/sessions: the path under which the application mounts \
                          the administration page.";
            Failure::usage(format!("{text:?} is no address: {why}"), advice)
        };
        // A path may have the character, too: an address with it is refused before any of it is repeated.
        if text
            .split(['?', '#'])
            .next()
            .is_some_and(|it| it.contains('@'))
        {
            // Not repeated: it may hold a password.
            let advice = "The administration asks for a token: give it with --token-file or in CLOAKROOM_TOKEN.";
            return Err(Failure::usage("the address names a user", advice));
        }
        let uri: Uri = text.parse().map_err(|error| wrong(&format!("{error}")))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("it has a query or a fragment"));
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| wrong("it names no host"))?;
        let way = match is_secure || is_this_machine(host) {
            true => Way::Private,
            false => Way::Open,
        };
        let text = text.trim_end_matches('/').to_owned();
        Ok(Self { text, way })
    }
}

fn is_this_machine(host: &str) -> bool {
    let number = host.trim_start_matches('[').trim_end_matches(']');
    match number.parse::<IpAddr>() {
        Ok(number) => number.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_nothing_secret() {
        for (text, kept, way) in [
            (
                "https://shop.example/admin/",
                "https://shop.example/admin",
                Way::Private,
            ),
            (
                "http://localhost:7077",
                "http://localhost:7077",
                Way::Private,
            ),
            ("http://127.9.9.9/", "http://127.9.9.9", Way::Private),
            ("http://[::1]:80/x", "http://[::1]:80/x", Way::Private),
            ("http://shop.example", "http://shop.example", Way::Open),
            (
                "http://127.0.0.1.evil.example",
                "http://127.0.0.1.evil.example",
                Way::Open,
            ),
            (
                "http://localhost.evil.example",
                "http://localhost.evil.example",
                Way::Open,
            ),
        ] {
            let text_kept = kept.to_owned();
            let address = Address {
                text: text_kept,
                way,
            };
            assert_eq!(Address::read(text).unwrap(), address, "{text}");
        }
        for text in [
            "",
            "shop.example",
            "/admin",
            "ftp://shop.example",
            "https://",
            "https:///x",
            "https://a b",
            "http://h/x?y=1",
            "http://h/x#y",
            "https://ann:secret@shop.example/",
            "ftp://ann:secret@shop.example/",
            "https://ann:secret x@shop.example/",
        ] {
            let failure = Address::read(text).unwrap_err();
            assert_eq!(failure.code(), 2, "{text}");
            assert!(!format!("{failure:?}").contains("secret"));
        }
    }
}
