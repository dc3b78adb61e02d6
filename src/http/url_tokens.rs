//! The tokens that URLs and form fields carry in place of client ids, and their limits. Knows no request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::seal::{RefusedSeal, SealScope, open, seal};
use crate::client_id::{ClientId, ClientIds};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Quoted, Result};

/// Separates the keys of this purpose from everything else that is derived from the secrets.
const PURPOSE: &[u8] = b"cloakroom url id v1\0";
/// The longest text that is tried as a token. A token has 135 characters.
const MAX_TOKEN: usize = 160;
/// The default lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// The default number of bytes of a form that are searched.
const FORM_LIMIT: usize = 64 * 1024;

/// The rules of a [transport](super::IdTransport) that carries tokens in place of ids: its name in URLs or forms, and how
/// long its tokens live. [`QueryTransport`](super::QueryTransport) and [`FormTransport`](super::FormTransport) make them.
///
/// ```
/// use cloakroom::http::{IdTransport as _, QueryTransport};
///
/// let transport = QueryTransport::new("sid")?;
/// assert!(transport.tokens().is_some());
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct UrlTokens {
    pub(super) name: Arc<str>,
    pub(super) place: TokenPlace,
    pub(super) lifetime: Duration,
    pub(super) form_limit: usize,
}

/// Where a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenPlace {
    Query,
    Form,
}

impl UrlTokens {
    pub(super) fn new(place: TokenPlace, name: &str) -> Result<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(fits) {
            let detail = format!(
                "the name of a parameter or field for ids has only ASCII letters, digits, `_`, `-` and `.`, not {}",
                Quoted(name)
            );
            return Err(Error::new(ErrorKind::InvalidInput, detail));
        }
        Ok(Self {
            name: Arc::from(name),
            place,
            lifetime: LIFETIME,
            form_limit: FORM_LIMIT,
        })
    }
}

/// The data that a token is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenContext {
    /// The identity of the store. Two stores may have the same secret.
    pub(super) store: [u8; 16],
    /// The visitor's address.
    pub(super) ip: IpAddr,
}

/// Makes the token of an id.
///
/// # Errors
///
/// `Io` if the operating system has no randomness.
pub(super) fn token_of(
    ids: &ClientIds,
    id: &ClientId,
    context: TokenContext,
    expires: Timestamp,
) -> Result<String> {
    // The decoded bytes of the id are shorter than its text.
    let raw = URL_SAFE_NO_PAD.decode(id.as_bytes()).unwrap_or_default();
    seal(ids, scope(&associated_data(context)), expires, &raw)
}

/// The text of the id that a token holds, if the token was made in this context and has not expired.
pub(super) fn id_of(
    ids: &ClientIds,
    token: &[u8],
    context: TokenContext,
    now: Timestamp,
) -> Result<String, RefusedSeal> {
    if token.len() > MAX_TOKEN {
        return Err(RefusedSeal::Garbled);
    }
    let raw = open(ids, scope(&associated_data(context)), now, token)?;
    Ok(URL_SAFE_NO_PAD.encode(raw))
}

/// Whether a text may be a token of a secret that another process made.
pub(super) fn names_unknown_secret(ids: &ClientIds, token: &[u8]) -> bool {
    token.len() <= MAX_TOKEN && super::seal::names_unknown_secret(ids, token)
}

fn scope(associated: &[u8]) -> SealScope<'_> {
    SealScope {
        purpose: PURPOSE,
        associated,
    }
}

/// The bytes of the store's identity and of the address. An IPv4 address has the same bytes as its IPv4-mapped IPv6
/// form.
fn associated_data(context: TokenContext) -> Vec<u8> {
    let ip = match context.ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    [context.store, ip].concat()
}

/// Takes the pairs with these names out of a query. Also returns the first value of each name.
pub(super) fn split_query(
    query: &str,
    names: &[impl AsRef<str>],
) -> (String, Vec<Option<Vec<u8>>>) {
    let mut values = vec![None; names.len()];
    let is_other = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        let Some(at) = names.iter().position(|it| it.as_ref() == name) else {
            return true;
        };
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        if let Some(first @ None) = values.get_mut(at) {
            *first = Some(value.as_bytes().to_vec());
        }
        false
    };
    let others: Vec<_> = query.split('&').filter(is_other).collect();
    (others.join("&"), values)
}

/// Sets a parameter in the query of a URL of this site. `None` for a URL that may lead to another site: it has a scheme
/// or a host, or browsers might read it as if it had one.
pub(super) fn with_parameter(url: &str, name: &str, value: &str) -> Option<String> {
    // Browsers drop tabs and line ends, and spaces at the beginning. They read `\` as `/`.
    let is_odd = |c: char| c.is_ascii_control() || c == '\\';
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    if url.contains(is_odd)
        || url.starts_with([' ', ':'])
        || url.starts_with("//")
        || first.contains(':')
    {
        return None;
    }
    let (rest, fragment) = match url.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (url, None),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (others, _) = split_query(query, &[name]);
    let joint = if others.is_empty() { "" } else { "&" };
    let fragment = fragment.map_or(String::new(), |it| format!("#{it}"));
    Some(format!("{path}?{others}{joint}{name}={value}{fragment}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::Secret;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LATER: Timestamp = Timestamp(2_000_000);

    fn ids(key: u8) -> ClientIds {
        ClientIds::new(Secret::from_key(1, [key; 32]), Vec::new())
    }

    fn at(ip: &str) -> TokenContext {
        TokenContext {
            store: [1; 16],
            ip: ip.parse().unwrap(),
        }
    }

    // C8.3
    #[test]
    fn a_token_is_for_one_address_one_store_and_a_while() {
        let ids_of_store = ids(1);
        let id = ids_of_store.issue();
        let home = at("192.0.2.1");
        let token = token_of(&ids_of_store, &id, home, LATER).unwrap();
        let opened = |ids: &ClientIds, context, now| id_of(ids, token.as_bytes(), context, now);
        assert_eq!(opened(&ids_of_store, home, NOW).unwrap(), id.as_str());
        assert!(opened(&ids_of_store, at("::ffff:192.0.2.1"), NOW).is_ok());
        // Another store may have the same secret.
        let elsewhere = TokenContext {
            store: [2; 16],
            ..home
        };
        for other in [at("192.0.2.2"), at("2001:db8::1"), elsewhere] {
            let refused = opened(&ids_of_store, other, NOW);
            assert_eq!(refused, Err(RefusedSeal::Forged), "{other:?}");
        }
        assert_eq!(opened(&ids(2), home, NOW), Err(RefusedSeal::Forged));
        let late = opened(&ids_of_store, home, LATER);
        assert_eq!(late, Err(RefusedSeal::Expired));
        assert!(token.len() <= MAX_TOKEN && !token.contains(id.as_str()));
    }

    // C8.3: neither the id nor a cookie of a container is a token.
    #[test]
    fn what_is_sealed_for_something_else_is_no_token() {
        let ids = ids(1);
        let id = ids.issue();
        let here = at("::1");
        let odd = SealScope {
            purpose: b"else",
            associated: &associated_data(here),
        };
        let sealed = seal(&ids, odd, LATER, b"").unwrap();
        for text in [id.as_str(), &sealed, "", "AA", &"A".repeat(500)] {
            let refused = id_of(&ids, text.as_bytes(), here, NOW);
            assert!(refused.is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_are_taken_out_of_a_query() {
        let names = ["sid", "s.2"];
        for (query, rest, sid) in [
            ("sid=a", "", Some("a")),
            ("a=1&sid=a&b=2", "a=1&b=2", Some("a")),
            ("sid=a&sid=b", "", Some("a")),
            ("sid", "", Some("")),
            ("asid=a&sids=b&a=sid=c", "asid=a&sids=b&a=sid=c", None),
            ("", "", None),
        ] {
            let (left, values) = split_query(query, &names);
            assert_eq!(left, rest, "{query}");
            assert_eq!(values[0].as_deref(), sid.map(str::as_bytes), "{query}");
            assert_eq!(values[1], None);
        }
    }

    // C8.3: no other site gets a token.
    #[test]
    fn only_urls_of_this_site_get_a_parameter() {
        for (url, expected) in [
            ("/", "/?s=t"),
            ("", "?s=t"),
            ("a/b?", "a/b?s=t"),
            ("/a?b=c", "/a?b=c&s=t"),
            ("/a?b=http://c#d?e", "/a?b=http://c&s=t#d?e"),
            ("?a", "?a&s=t"),
            ("#top", "?s=t#top"),
            // The first one would be read.
            ("/a?s=old", "/a?s=t"),
            ("/a?s=old&b=c&s=older&ss=d#s=e", "/a?b=c&ss=d&s=t#s=e"),
        ] {
            assert_eq!(
                with_parameter(url, "s", "t").as_deref(),
                Some(expected),
                "{url}"
            );
        }
        for url in [
            "https://a.example/",
            "//a.example",
            "/\\a.example",
            "\\\\a.example",
            " //a.example",
            "/\t/a.example",
            "\n//a.example",
            "javascript:x",
            "mailto:a@b",
        ] {
            assert_eq!(with_parameter(url, "s", "t"), None, "{url:?}");
        }
    }
}
