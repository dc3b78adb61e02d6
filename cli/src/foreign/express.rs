//! The rows of stores for express-session: connect-sqlite3, better-sqlite3-session-store and express-session-sqlite.

use super::record::{ForeignRow, ForeignSession, Refused, SessionLife};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::DateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rusqlite::types::ValueRef;
use serde_json::{Map, Value};
use sha2::Sha256;
use std::fmt::Write as _;

/// For how long the stores keep a session whose cookie ends with the browser.
const DAY: i64 = 86_400_000;
/// What express-session keeps of the cookie, which is no value of the application.
const COOKIE: &str = "cookie";

pub(super) fn read(row: ForeignRow<'_>, secret: Option<&[u8]>) -> Result<ForeignSession, Refused> {
    let mut values: Map<String, Value> = serde_json::from_str(row.json()?)
        .map_err(|_| "its content is no session of express-session")?;
    let cookie = values.remove(COOKIE).unwrap_or_default();
    let timeout = cookie.get("originalMaxAge").and_then(Value::as_i64);
    let timeout = timeout.filter(|timeout| *timeout > 0).unwrap_or(DAY);
    let end = end(row.end)?;
    Ok(ForeignSession {
        id: match secret {
            None => row.id.into(),
            Some(secret) => cookie_value(row.id, secret)?.into_bytes(),
        },
        values: values.into_iter().collect(),
        end: SessionLife::Idle {
            timeout,
            last_use: end.saturating_sub(timeout),
        },
    })
}

/// In milliseconds: a number of them, or a date as JavaScript writes it.
fn end(end: ValueRef<'_>) -> Result<i64, Refused> {
    const REFUSED: Refused = "its end is no time";
    match end {
        ValueRef::Integer(millis) => Ok(millis),
        #[allow(
            clippy::cast_possible_truncation,
            reason = "a float is cut to the nearest integer, which is meant"
        )]
        ValueRef::Real(millis) => Ok(millis as i64),
        ValueRef::Text(date) => {
            let date = std::str::from_utf8(date).map_err(|_| REFUSED)?;
            let date = DateTime::parse_from_rfc3339(date).map_err(|_| REFUSED)?;
            Ok(date.timestamp_millis())
        }
        _ => Err(REFUSED),
    }
}

/// The value of the cookie: `s:`, the id, a point and its signature, encoded as `encodeURIComponent` does.
fn cookie_value(id: &str, secret: &[u8]) -> Result<String, Refused> {
    let mut hmac =
        Hmac::<Sha256>::new_from_slice(secret).map_err(|_| "the secret cannot sign its cookie")?;
    hmac.update(id.as_bytes());
    let signature = STANDARD_NO_PAD.encode(hmac.finalize().into_bytes());
    let mut value = String::new();
    for byte in format!("s:{id}.{signature}").bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            true => value.push(byte.into()),
            // Writing to a string cannot fail.
            false => drop(write!(value, "%{byte:02X}")),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    // As the packages cookie-signature and cookie of the npm registry make it.
    #[test]
    fn a_cookie_is_signed_as_express_session_does() {
        let value = cookie_value("hello", b"tobiiscool").unwrap();
        assert_eq!(
            value,
            "s%3Ahello.DGDUkGlIkCzPz%2BC0B064FNgHdEjox7ch8tOBGslZ5QI"
        );
    }

    #[test]
    fn ends_are_read_in_each_form_that_the_stores_write() {
        assert_eq!(
            end(ValueRef::Integer(1_767_225_600_000)),
            Ok(1_767_225_600_000)
        );
        assert_eq!(
            end(ValueRef::Real(1_767_225_600_000.7)),
            Ok(1_767_225_600_000)
        );
        let date = ValueRef::Text(b"2026-01-01T00:00:00.000Z");
        assert_eq!(end(date), Ok(1_767_225_600_000));
        assert!(end(ValueRef::Text(b"soon")).is_err());
        assert!(end(ValueRef::Null).is_err());
    }
}
