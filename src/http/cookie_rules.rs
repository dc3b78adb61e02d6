//! What browsers and this crate accept as the name, the domain and the path of a cookie. Pure functions.

use crate::error::{Error, ErrorKind, Quoted, Result};

/// Longer names are refused (C4.3).
const MAX_NAME: usize = 30;
/// Browsers ignore an attribute beyond this (RFC 6265bis §5.6).
const MAX_ATTRIBUTE: usize = 1024;

pub(super) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, detail)
}

pub(super) fn check_name(name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if !fits {
        return Err(invalid(format!(
            "a cookie's name is 1 to {MAX_NAME} ASCII letters, digits, `_`, `-` and `.`, not {}",
            Quoted(name)
        )));
    }
    let lower = name.to_ascii_lowercase();
    if ["__host-", "__secure-", "__http-"]
        .iter()
        .any(|prefix| lower.starts_with(prefix))
    {
        return Err(invalid(format!(
            "the cookie's name {} brings a prefix, which is for the layer to add",
            Quoted(name)
        )));
    }
    Ok(())
}

/// The name of a cookie that somebody else sets: a token (RFC 6265 §4.1.1).
pub(super) fn check_foreign_name(name: &str) -> Result<()> {
    const SEPARATORS: &[u8] = br#"()<>@,;:\"/[]?={}"#;
    let is_token = |byte: u8| byte.is_ascii_graphic() && !SEPARATORS.contains(&byte);
    if (1..=256).contains(&name.len()) && name.bytes().all(is_token) {
        return Ok(());
    }
    Err(invalid(format!(
        "a cookie's name has 1 to 256 characters that HTTP allows there, which {} has not",
        Quoted(name)
    )))
}

pub(super) fn check_domain(domain: &str) -> Result<()> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let refused = |why: &str| Err(invalid(format!("{why}: {}", Quoted(domain))));
    if domain.len() > 253 || !domain.split('.').all(is_label) {
        return refused("a cookie's domain is a host name in ASCII, and this is none");
    }
    let Some((_, last)) = domain.rsplit_once('.') else {
        return refused(
            "browsers drop a cookie whose domain is a single label; leave the domain out",
        );
    };
    // A name whose last label is a number is read as an IPv4 address (WHATWG URL, "ends in a number").
    let hex = last.strip_prefix("0x");
    if last.bytes().all(|b| b.is_ascii_digit())
        || hex.is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return refused("browsers drop a cookie whose domain is an address; leave the domain out");
    }
    if is_public_suffix(domain) {
        return refused("browsers drop a cookie whose domain is one that others register under");
    }
    Ok(())
}

#[cfg(feature = "public-suffixes")]
fn is_public_suffix(domain: &str) -> bool {
    psl::suffix(domain.as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix == domain.as_bytes())
}

#[cfg(not(feature = "public-suffixes"))]
fn is_public_suffix(_: &str) -> bool {
    false
}

pub(super) fn check_path(path: &str) -> Result<()> {
    let fits = path.starts_with('/')
        && path.len() <= MAX_ATTRIBUTE
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b';');
    // Browsers encode braces in paths, so such a cookie would never come back.
    if path.contains(['{', '}']) {
        return Err(invalid(format!(
            "a cookie's path has no braces: {} looks like the pattern of a route",
            Quoted(path)
        )));
    }
    if fits {
        return Ok(());
    }
    Err(invalid(format!(
        "a cookie's path begins with `/` and has only visible ASCII without `;`, not {}",
        Quoted(path)
    )))
}
