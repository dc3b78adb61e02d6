//! The parts of the address of a server, as tokio-postgres reads it.

use std::fmt::Write as _;

/// What the address of a server begins with.
const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Whether this is the address of a server, and not a path.
pub(crate) fn is_server(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.starts_with(scheme))
}

/// An address without its parameters, and the parameters: names and values as they are written.
pub(crate) fn split(text: &str) -> (&str, Vec<(&str, &str)>) {
    // A password may have a question mark in it.
    let end_of_user = text.find('@').unwrap_or(0);
    let rest = text.get(end_of_user..).unwrap_or_default();
    let Some(at) = rest.find('?').map(|at| at + end_of_user) else {
        return (text, Vec::new());
    };
    let (base, parameters) = text.split_at(at);
    let parameters = parameters.strip_prefix('?').unwrap_or_default();
    let parameters = parameters.split('&').filter(|it| !it.is_empty());
    let pairs = parameters.map(|it| it.split_once('=').unwrap_or((it, "")));
    (base, pairs.collect())
}

/// Text as it stands in an address, with every other character escaped.
pub(crate) fn encoded(text: &[u8]) -> String {
    let mut out = String::new();
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*byte));
            }
            // Writing to a string cannot fail.
            byte => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// The text that stands in an address. `None`: it is no UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let escaped = match more {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                bytes.push(high * 16 + low);
                rest = more.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// The text with the passwords of all addresses in it hidden.
pub(crate) fn without_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, scheme)) = first_scheme(rest) {
        let (before, address) = rest.split_at(at + scheme.len());
        out.push_str(before);
        let end = address
            .find(|c: char| c.is_whitespace() || "'\"`".contains(c))
            .unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        out.push_str(&hidden(address));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The first address in a text.
fn first_scheme(text: &str) -> Option<(usize, &'static str)> {
    let found = SCHEMES.iter().filter_map(|it| Some((text.find(it)?, *it)));
    found.min_by_key(|(at, _)| *at)
}

/// What follows the scheme, without the password.
fn hidden(address: &str) -> String {
    let (user, place) = address.rsplit_once('@').unwrap_or(("", address));
    let mut shown = match user.split_once(':') {
        Some((name, _)) => format!("{name}:***@{place}"),
        None => address.to_owned(),
    };
    if let Some(at) = shown.find("password=") {
        let value = at + "password=".len();
        let end = shown
            .get(value..)
            .and_then(|it| it.find('&'))
            .map_or(shown.len(), |length| value + length);
        shown.replace_range(value..end, "***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    // C9.2
    #[test]
    fn passwords_are_hidden_wherever_an_address_stands() {
        for (text, shown) in [
            (
                "no 'postgres://ann:se@cret@db/shop' is",
                "no 'postgres://ann:***@db/shop' is",
            ),
            ("postgresql://ann@db/shop", "postgresql://ann@db/shop"),
            (
                "postgres://db/shop?password=x&a=b",
                "postgres://db/shop?password=***&a=b",
            ),
            (
                "a postgres://a:1@b postgresql://c:2@d",
                "a postgres://a:***@b postgresql://c:***@d",
            ),
            ("/var/lib/sessions.redb", "/var/lib/sessions.redb"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn parameters_are_split_off_and_text_is_decoded() {
        let (base, parameters) = split("postgres://a:b?c@db/shop?schema=x%2Fy&deadline=9s");
        assert_eq!(base, "postgres://a:b?c@db/shop");
        assert_eq!(parameters, [("schema", "x%2Fy"), ("deadline", "9s")]);
        assert_eq!(decoded("x%2Fy%"), Some("x/y%".to_owned()));
        assert_eq!(encoded("a b&ü".as_bytes()), "a%20b%26%C3%BC");
        assert_eq!(split("postgres://db").1, []);
    }
}
