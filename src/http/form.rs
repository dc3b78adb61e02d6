//! Finds a field in the beginning of a form, as browsers encode forms (WHATWG HTML, RFC 7578). Pure
//! functions.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The encoding of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FormEncoding {
    /// `application/x-www-form-urlencoded`
    Url,
    /// `multipart/form-data`, with the line that separates its parts: `--` and the boundary.
    Multipart(Vec<u8>),
}

/// Whether the form goes on after the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormEnd {
    Reached,
    Open,
}

impl FormEncoding {
    /// The encoding of a request's body. `None` if the body is not a form.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let field = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let mut parts = field.split(';').map(str::trim);
        let kind = parts.next()?;
        if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Some(Self::Url);
        }
        if !kind.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parts.find_map(|part| parameter(part, "boundary"))?;
        let fits = (1..=70).contains(&boundary.len());
        fits.then(|| Self::Multipart([b"--", boundary.as_bytes()].concat()))
    }

    /// The value of the first complete field with this name. The name needs no encoding.
    pub(super) fn find<'a>(&self, name: &str, bytes: &'a [u8], end: FormEnd) -> Option<&'a [u8]> {
        match self {
            Self::Url => find_in_pairs(name, bytes, end),
            Self::Multipart(separator) => find_in_parts(name, bytes, separator),
        }
    }
}

/// The value of a parameter `name=value` or `name="value"`.
fn parameter<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = part.split_once('=')?;
    let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    let is_it = key.trim().eq_ignore_ascii_case(name);
    is_it.then(|| quoted.unwrap_or(value))
}

fn find_in_pairs<'a>(name: &str, bytes: &'a [u8], end: FormEnd) -> Option<&'a [u8]> {
    let mut pairs = bytes.split(|byte| *byte == b'&').peekable();
    while let Some(pair) = pairs.next() {
        let is_complete = end == FormEnd::Reached || pairs.peek().is_some();
        let rest = pair.strip_prefix(name.as_bytes());
        if let Some(value) = rest.and_then(|rest| rest.strip_prefix(b"=")) {
            return is_complete.then_some(value);
        }
    }
    None
}

fn find_in_parts<'a>(name: &str, bytes: &'a [u8], separator: &[u8]) -> Option<&'a [u8]> {
    let (_, mut rest) = split_at(bytes, separator)?;
    let between = [b"\r\n", separator].concat();
    loop {
        // The part ends before the next separator. A part without an end is not complete.
        let (part, next) = split_at(rest, &between)?;
        if let Some((head, value)) = split_at(part, b"\r\n\r\n")
            && std::str::from_utf8(head).is_ok_and(|head| is_field(head, name))
        {
            return Some(value);
        }
        rest = next;
    }
}

/// Whether the head of a part names this field. A file does not count as a field.
fn is_field(head: &str, name: &str) -> bool {
    head.lines().any(|line| {
        let Some((header, value)) = line.split_once(':') else {
            return false;
        };
        let mut parts = value.split(';').map(str::trim);
        header.trim().eq_ignore_ascii_case("content-disposition")
            && parts.next() == Some("form-data")
            && parts
                .clone()
                .any(|part| parameter(part, "name") == Some(name))
            && !parts.any(|part| parameter(part, "filename").is_some())
    })
}

/// The bytes before and after the first `mark`.
fn split_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoding(content_type: &str) -> Option<FormEncoding> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        FormEncoding::of(&headers)
    }

    fn found<'a>(encoding: &FormEncoding, bytes: &'a str, end: FormEnd) -> Option<&'a str> {
        let value = encoding.find("token", bytes.as_bytes(), end)?;
        Some(std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn the_encodings_of_forms_are_known() {
        let url = "application/x-www-form-urlencoded";
        assert_eq!(encoding(url), Some(FormEncoding::Url));
        assert_eq!(
            encoding("Application/X-WWW-Form-Urlencoded; charset=utf-8"),
            Some(FormEncoding::Url)
        );
        let parts = Some(FormEncoding::Multipart(b"--x-y".to_vec()));
        assert_eq!(encoding("multipart/form-data; boundary=x-y"), parts);
        assert_eq!(
            encoding("multipart/form-data; charset=utf-8; boundary=\"x-y\""),
            parts
        );
        for other in [
            "text/plain",
            "application/json",
            "multipart/form-data",
            "multipart/form-data; boundary=",
        ] {
            assert_eq!(encoding(other), None, "{other}");
        }
    }

    #[test]
    fn a_pair_counts_once_it_is_complete() {
        let url = FormEncoding::Url;
        assert_eq!(found(&url, "a=1&token=abc", FormEnd::Open), None);
        assert_eq!(found(&url, "a=1&token=abc", FormEnd::Reached), Some("abc"));
        assert_eq!(found(&url, "a=1&token=abc&", FormEnd::Open), Some("abc"));
        assert_eq!(found(&url, "token=&token=abc", FormEnd::Reached), Some(""));
        for other in ["tokens=abc", "atoken=abc", "a=token=abc", "", "token"] {
            assert_eq!(found(&url, other, FormEnd::Reached), None, "{other}");
        }
    }

    const FORM: &str = "--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
        --x\r\ncontent-disposition: form-data; name=\"token\"\r\n\r\nabc\r\n\
        --x--\r\n";

    #[test]
    fn a_part_counts_once_it_is_complete() {
        let parts = FormEncoding::Multipart(b"--x".to_vec());
        assert_eq!(found(&parts, FORM, FormEnd::Reached), Some("abc"));
        let cut = FORM.find("abc").unwrap() + 3;
        assert_eq!(found(&parts, &FORM[..cut], FormEnd::Open), None);
        for len in 0..FORM.len() {
            let found = found(&parts, &FORM[..len], FormEnd::Open);
            assert!(found.is_none() || found == Some("abc"), "{len}");
        }
    }

    #[test]
    fn a_file_is_no_token() {
        let parts = FormEncoding::Multipart(b"--x".to_vec());
        let file = FORM.replace("name=\"token\"", "name=\"token\"; filename=\"a\"");
        assert_eq!(found(&parts, &file, FormEnd::Reached), None);
        let other = FORM.replace("name=\"token\"", "name=\"tokens\"");
        assert_eq!(found(&parts, &other, FormEnd::Reached), None);
    }
}
