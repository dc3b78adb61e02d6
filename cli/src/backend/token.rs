//! The token that an administration asks for: from a file or the environment, never from the arguments, which others see.

use crate::failure::{Failure, Outcome};
use crate::output::error_line;
use crate::text::plain;
use std::env;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use ureq::http::HeaderValue;

/// The variable that holds it.
const VARIABLE: &str = "CLOAKROOM_TOKEN";
/// A longer file is no token.
const LONGEST: u64 = 64 * 1024;

/// The field `Authorization`, if there is a token.
pub(crate) fn authorization(file: Option<&Path>) -> Outcome<Option<HeaderValue>> {
    let (text, place) = match (file, env::var_os(VARIABLE)) {
        (Some(path), _) => (read_token(path)?, path.display().to_string()),
        (None, None) => return Ok(None),
        (None, Some(text)) => (text.to_string_lossy().into_owned(), VARIABLE.to_owned()),
    };
    let text = text.trim();
    let wrong = |what: &str| {
        let advice =
            "It holds the token that the application gave to TokenAccess, and nothing else.";
        Failure::usage(format!("{place} {what}"), advice)
    };
    if text.is_empty() {
        return Err(wrong("has no token"));
    }
    let value = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut value = value.map_err(|_| wrong("holds characters that no token has"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The text of a file with a token.
pub(crate) fn read_token(path: &Path) -> Outcome<String> {
    let failed = |error| Failure::file(format!("{} cannot be read", path.display()), &error);
    let file = File::open(path).map_err(failed)?;
    if is_open_to_others(&file) {
        let path = plain(&path.display().to_string());
        error_line(&format!(
            "warning: other users of this machine can read {path}. Take that right away: chmod go= {path}"
        ))?;
    }
    let mut text = String::new();
    file.take(LONGEST)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata();
    metadata.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &File) -> bool {
    false
}
