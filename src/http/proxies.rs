//! Where a request comes from, if proxies of listed networks passed it on. Knows no session.

pub(super) mod origin;

use http::header::{FORWARDED, HeaderMap};
use http::request;
use http::uri::Scheme;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Quoted, Result};

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
/// The maximum number of proxies in a row that are believed.
const MAX_HOPS: usize = 16;

type PeerRule = dyn Fn(&request::Parts) -> Option<IpAddr> + Send + Sync;

/// The proxies whose word about a request's origin is believed. A setting of
/// [`SessionLayer::proxies`](super::SessionLayer::proxies), which puts a [`VisitorAddress`] into the request's extensions.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::extract::ConnectInfo;
/// use cloakroom::{Store, http::{SessionLayer, TrustedProxies, VisitorAddress}};
/// use std::net::SocketAddr;
///
/// let proxies = TrustedProxies::new(|request| {
///     let peer = request.extensions.get::<ConnectInfo<SocketAddr>>()?;
///     Some(peer.0.ip())
/// });
/// let layer = SessionLayer::new(Store::in_memory()?)
///     .proxies(proxies.network("10.0.0.0/8")?.network("::1")?)
///     .admit_new(|request| request.extensions.get::<VisitorAddress>().is_some());
/// # drop(layer);
/// # }
/// # Ok::<(), cloakroom::Error>(())
/// ```
///
/// `X-Forwarded-For` and `X-Forwarded-Proto` are trusted only if the connection comes from a listed network. The list
/// of addresses is read from its end, which the nearest proxy wrote. The first address that is not in a listed network
/// is the visitor's. Addresses before it may be forged and are not read. If an entry is no address, the proxy that
/// wrote it counts as the visitor.
///
/// Without listed networks no header is read, and the address is that of the connection.
#[derive(Clone)]
pub struct TrustedProxies {
    peer: Arc<PeerRule>,
    networks: Vec<IpNetwork>,
    header: ForwardingHeader,
}

/// Which header is read. Never both: a proxy that writes one passes the other on as the visitor sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForwardingHeader {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`
    Common,
    /// `Forwarded` (RFC 7239)
    Standard,
}

/// Where a request comes from, in its extensions inside a [`SessionLayer`](super::SessionLayer) with
/// [`proxies`](super::SessionLayer::proxies).
///
/// An address is no identity: many visitors share one, and one visitor has several. It serves to limit, not to tell
/// visitors apart.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::Extension;
/// use cloakroom::http::VisitorAddress;
///
/// async fn page(visitor: Option<Extension<VisitorAddress>>) -> String {
///     match visitor {
///         Some(Extension(visitor)) => format!("you come from {}", visitor.ip),
///         None => "from nowhere".to_owned(),
///     }
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(page));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitorAddress {
    /// The address. An IPv4 address that is mapped to IPv6 is shown as IPv4.
    pub ip: IpAddr,
    /// The scheme by which the visitor reached the first listed proxy, if that told it.
    pub scheme: Option<Scheme>,
}

impl TrustedProxies {
    /// Believes no proxy yet. `peer` gives the address at the other end of the connection.
    #[must_use]
    pub fn new(peer: impl Fn(&request::Parts) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        Self {
            peer: Arc::new(peer),
            networks: Vec::new(),
            header: ForwardingHeader::Common,
        }
    }

    /// Believes the proxies of a network: an address, or an address and the length of its prefix, such as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything else.
    pub fn network(mut self, network: &str) -> Result<Self> {
        let parsed = IpNetwork::parse(network).ok_or_else(|| {
            let detail = format!(
                "a network is `address` or `address/length`, not {}",
                Quoted(network)
            );
            Error::new(ErrorKind::InvalidInput, detail)
        })?;
        self.networks.push(parsed);
        Ok(self)
    }

    /// Reads `Forwarded` (RFC 7239) instead of `X-Forwarded-For` and `X-Forwarded-Proto`. Choose the one that your proxies
    /// write, because they pass the other on as the visitor sent it.
    #[must_use]
    pub fn standard_header(mut self) -> Self {
        self.header = ForwardingHeader::Standard;
        self
    }

    /// Where a request comes from. `None` if the address of the connection is not known.
    pub(super) fn visitor(&self, request: &request::Parts) -> Option<VisitorAddress> {
        let mut ip = (self.peer)(request)?.to_canonical();
        let mut scheme = None;
        for hop in self.hops(&request.headers).into_iter().take(MAX_HOPS) {
            if !self.trusts(ip) {
                break;
            }
            // A nearer proxy that says `http` may stand behind one that ends TLS and tells nothing.
            scheme = hop
                .scheme
                .or(scheme.filter(|scheme| *scheme == Scheme::HTTPS));
            match hop.ip {
                Some(before) => ip = before,
                None => break,
            }
        }
        Some(VisitorAddress { ip, scheme })
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// What the proxies wrote, the nearest first.
    fn hops(&self, headers: &HeaderMap) -> Vec<ForwardingHop> {
        if self.networks.is_empty() {
            return Vec::new();
        }
        match self.header {
            ForwardingHeader::Standard => {
                let elements = elements(headers, FORWARDED.as_str());
                elements
                    .map(|element| ForwardingHop::of(&element))
                    .collect()
            }
            ForwardingHeader::Common => {
                let mut schemes = elements(headers, X_FORWARDED_PROTO);
                let hop = |address: String| ForwardingHop {
                    ip: address_of(&address),
                    scheme: schemes.next().and_then(|scheme| scheme_of(&scheme)),
                };
                elements(headers, X_FORWARDED_FOR).map(hop).collect()
            }
        }
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedProxies")
            .field("networks", &self.networks)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// What one proxy tells of the connection to it.
struct ForwardingHop {
    ip: Option<IpAddr>,
    scheme: Option<Scheme>,
}

impl ForwardingHop {
    /// From an element of `Forwarded`, such as `for="[2001:db8::1]:4711";proto=https`.
    fn of(element: &str) -> Self {
        let mut hop = Self {
            ip: None,
            scheme: None,
        };
        // A name may come once. The first counts, so that nothing after it can replace it.
        let (mut has_ip, mut has_scheme) = (false, false);
        for pair in split_outside_quotes(element, ';') {
            let Some((name, value)) = pair.split_once('=') else {
                continue;
            };
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("for") && !std::mem::replace(&mut has_ip, true) {
                hop.ip = address_of(value);
            }
            if name.eq_ignore_ascii_case("proto") && !std::mem::replace(&mut has_scheme, true) {
                hop.scheme = scheme_of(value);
            }
        }
        hop
    }
}

/// Splits a text at a separator, but not inside quoted strings (RFC 9110 §5.6.4), into which a proxy may copy what the
/// visitor sent. In a text whose last string has no end, nothing after its beginning is split.
fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let at_separator = |c: char| {
        let is_literal = std::mem::take(&mut is_escaped);
        match c {
            '\\' if is_quoted && !is_literal => is_escaped = true,
            '"' if !is_literal => is_quoted = !is_quoted,
            _ => {}
        }
        c == separator && !is_quoted
    };
    text.split(at_separator).collect()
}

/// The elements of a list in a header, the last first. An element that is no text counts, too.
fn elements(headers: &HeaderMap, name: &str) -> impl Iterator<Item = String> {
    let fields: Vec<_> = headers.get_all(name).iter().collect();
    fields.into_iter().rev().flat_map(|field| {
        let text = String::from_utf8_lossy(field.as_bytes());
        let elements = split_outside_quotes(&text, ',').into_iter().rev();
        let elements = elements.map(|element| element.trim().to_owned());
        elements.collect::<Vec<_>>()
    })
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse();
    let with_port = || text.parse::<SocketAddr>().map(|it| it.ip());
    Some(address.or_else(|_| with_port()).ok()?.to_canonical())
}

fn scheme_of(text: &str) -> Option<Scheme> {
    [Scheme::HTTPS, Scheme::HTTP]
        .into_iter()
        .find(|scheme| text.eq_ignore_ascii_case(scheme.as_str()))
}

/// A network, as the first bits of its addresses. IPv4 networks contain the IPv4 addresses only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IpNetwork {
    address: IpAddr,
    prefix: u32,
}

impl IpNetwork {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse().ok()?, Some(prefix.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let bits = width(address);
        let prefix = prefix.unwrap_or(bits);
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let bits = width(self.address);
        // A shift by all 128 bits has no result: then all addresses are alike.
        let first = |ip| number(ip).checked_shr(bits - self.prefix).unwrap_or(0);
        width(ip) == bits && first(ip) == first(self.address)
    }
}

fn width(ip: IpAddr) -> u32 {
    if ip.is_ipv4() { 32 } else { Ipv6Addr::BITS }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn seen(proxies: &TrustedProxies, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let visitor = proxies.visitor(&parts).unwrap();
        let scheme = visitor
            .scheme
            .map_or(String::new(), |scheme| format!(" {scheme}"));
        format!("{}{scheme}", visitor.ip)
    }

    fn behind(peer: &str) -> TrustedProxies {
        let peer = peer.parse().unwrap();
        TrustedProxies::new(move |_| Some(peer))
    }

    fn trusting(peer: &str) -> TrustedProxies {
        behind(peer)
            .network("10.0.0.0/8")
            .and_then(|it| it.network("fd00::/8"))
            .unwrap()
    }

    const FOR: &str = "x-forwarded-for";
    const PROTO: &str = "x-forwarded-proto";

    #[test]
    fn no_header_is_read_without_listed_networks_or_from_other_peers() {
        let headers = [
            (FOR, "192.0.2.7"),
            (PROTO, "https"),
            ("forwarded", "for=192.0.2.8"),
        ];
        assert_eq!(seen(&behind("10.0.0.1"), &headers), "10.0.0.1");
        assert_eq!(seen(&trusting("192.0.2.1"), &headers), "192.0.2.1");
        assert_eq!(
            seen(&trusting("192.0.2.1").standard_header(), &headers),
            "192.0.2.1"
        );
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_visitors() {
        let proxies = trusting("10.0.0.1");
        for (list, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7", "192.0.2.7"),
            ("1.1.1.1, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8::1, fd00::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("1.1.1.1, unknown", "10.0.0.1"),
            ("1.1.1.1, ", "10.0.0.1"),
            ("1.1.1.1, x, 10.0.0.2", "10.0.0.2"),
        ] {
            assert_eq!(seen(&proxies, &[(FOR, list)]), expected, "{list}");
        }
        // Several fields are one list.
        assert_eq!(
            seen(&proxies, &[(FOR, "1.1.1.1"), (FOR, "192.0.2.7")]),
            "192.0.2.7"
        );
        assert_eq!(seen(&proxies, &[]), "10.0.0.1");
        // The other header may be the visitor's own.
        let both = [(FOR, "192.0.2.7"), ("forwarded", "for=1.1.1.1")];
        assert_eq!(seen(&proxies, &both), "192.0.2.7");
        assert_eq!(
            seen(&trusting("10.0.0.1").standard_header(), &both),
            "1.1.1.1"
        );
    }

    #[test]
    fn the_scheme_is_what_the_farthest_listed_proxy_tells() {
        let proxies = trusting("10.0.0.1");
        let one = [(FOR, "192.0.2.7"), (PROTO, "https")];
        assert_eq!(seen(&proxies, &one), "192.0.2.7 https");
        let forged = [(FOR, "1.1.1.1, 192.0.2.7"), (PROTO, "https, http")];
        assert_eq!(seen(&proxies, &forged), "192.0.2.7 http");
        let two = [(FOR, "192.0.2.7, 10.0.0.2"), (PROTO, "https, http")];
        assert_eq!(seen(&proxies, &two), "192.0.2.7 https");
        // The nearer proxy overwrote what the farther one had told.
        let lost = [(FOR, "192.0.2.7, 10.0.0.2"), (PROTO, "http")];
        assert_eq!(seen(&proxies, &lost), "192.0.2.7");
        let kept = [(FOR, "192.0.2.7, 10.0.0.2"), (PROTO, "https")];
        assert_eq!(seen(&proxies, &kept), "192.0.2.7 https");
        assert_eq!(
            seen(&proxies, &[(FOR, "192.0.2.7"), (PROTO, "gopher")]),
            "192.0.2.7"
        );
    }

    #[test]
    fn the_standard_header_is_read_where_that_is_set() {
        let proxies = trusting("10.0.0.1").standard_header();
        for (list, expected) in [
            ("for=192.0.2.7;proto=https", "192.0.2.7 https"),
            ("For=\"[2001:db8::1]:80\"; by=10.0.0.1", "2001:db8::1"),
            (
                "for=1.1.1.1, for=192.0.2.7;proto=HTTP, for=10.0.0.2;proto=https",
                "192.0.2.7 http",
            ),
            ("for=_hidden, for=unknown", "10.0.0.1"),
            ("by=1.1.1.1", "10.0.0.1"),
        ] {
            assert_eq!(seen(&proxies, &[("forwarded", list)]), expected, "{list}");
        }
    }

    #[test]
    fn networks_contain_their_addresses() {
        let contains = |network: &str, ip: &str| {
            IpNetwork::parse(network)
                .unwrap()
                .contains(ip.parse().unwrap())
        };
        for (network, ip, expected) in [
            ("10.1.2.3/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(contains(network, ip), expected, "{network} {ip}");
        }
        for odd in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "host",
        ] {
            assert_eq!(
                behind("::1").network(odd).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{odd}"
            );
        }
    }

    // A proxy copies the visitor's own host into the field.
    #[test]
    fn what_stands_in_quotes_tells_no_address() {
        let proxies = trusting("10.0.0.1").standard_header();
        for host in [
            "a;for=6.6.6.6",
            "a,for=6.6.6.6",
            "a\\\";for=6.6.6.6",
            "a;proto=http",
        ] {
            let value = format!(r#"for=192.0.2.7;host="{host}";proto=https"#);
            assert_eq!(
                seen(&proxies, &[("forwarded", &value)]),
                "192.0.2.7 https",
                "{host}"
            );
        }
        let twice = "for=192.0.2.7;for=6.6.6.6;proto=https;proto=http";
        assert_eq!(seen(&proxies, &[("forwarded", twice)]), "192.0.2.7 https");
    }
}
