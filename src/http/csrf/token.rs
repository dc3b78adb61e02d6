//! The token of a session. Knows no request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Extensions;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;

use super::refusal::CsrfReason;
use crate::client_id::random;
use crate::error::{ErrorKind, Result};
use crate::http::slot::Slot;
use crate::session::Session;

/// The package and the key that hold the secret of a session's tokens.
const PACKAGE: &str = "cloakroom.csrf";
const KEY: &str = "secret";
/// The bytes of the secret.
const LEN: usize = 32;
/// The name of the form field, unless the layer sets another.
pub(super) const FIELD: &str = "csrf_token";

/// The token that a form or a script of this session sends back, and an extractor for axum.
///
/// Extract it for pages that contain forms. The first extraction creates the session's secret, and so the session,
/// if there is none yet. [`CsrfLayer`](super::CsrfLayer) checks the token.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::Html;
/// use cloakroom::http::CsrfToken;
///
/// async fn form(token: CsrfToken) -> Html<String> {
///     let field = token.input(); // <input type="hidden" name="csrf_token" value="…">
///     Html(format!("<form method=post action=/transfer>{field}<button>Pay</button></form>"))
/// }
/// # let _ = axum::Router::<()>::new().route("/", axum::routing::get(form));
/// # }
/// ```
///
/// Scripts send [`as_str`](Self::as_str) in the header `x-csrf-token`. The token is serialized and displayed as that
/// text, which has only ASCII letters, digits, `-` and `_`.
///
/// Where the request cannot create a session, the page is served all the same, and its token is refused when it is sent:
/// shortly after the visitor's session ended elsewhere, and for new visitors if only
/// [POST requests](crate::http::CookieSettings::post_only) create sessions.
///
/// Each extraction masks the secret with other random bits, so that a compressed page does not reveal it to an
/// attacker who can measure sizes (BREACH). All tokens of a session are valid until the session ends. They stay
/// valid when it gets a new id at a login.
#[derive(Clone)]
pub struct CsrfToken {
    text: String,
    field: Arc<str>,
}

impl CsrfToken {
    /// Returns a token of a session. Makes the session's secret if there is none yet, which counts as an insert.
    ///
    /// In a request, prefer the extractor. It also knows the field's name that the layer sets, and it notes the new secret as
    /// one that the page can do without: if the visitor's session has just ended elsewhere, the page is served and the secret
    /// is dropped. The secret that this function makes is an insert as any other, and then the response is 503.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the operating system has no randomness; otherwise as for
    /// [`PkgData::get`](crate::PkgData::get) and [`PkgData::insert`](crate::PkgData::insert).
    pub fn of(session: &Session) -> Result<Self> {
        let (token, _) = Self::named(session, Arc::from(FIELD))?;
        Ok(token)
    }

    /// Returns a token of a request's session, for web frameworks without an extractor for it. It needs the extensions that
    /// the handler got. Its field has the name that the [`CsrfLayer`](super::CsrfLayer) around the handler sets.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub fn for_request(session: &Session, request: &Extensions) -> Result<Self> {
        let field = request.get().map(|CsrfField(field)| Arc::clone(field));
        let (token, origin) = Self::named(session, field.unwrap_or_else(|| Arc::from(FIELD)))?;
        if let (SecretOrigin::Inserted, Some(slot)) = (origin, Slot::of(request)) {
            slot.note_optional((PACKAGE, KEY));
        }
        Ok(token)
    }

    fn named(session: &Session, field: Arc<str>) -> Result<(Self, SecretOrigin)> {
        let (secret, origin) = match secret_of(session)? {
            Some(secret) => (secret, SecretOrigin::Stored),
            None => insert_secret(session)?,
        };
        let text = masked(&secret, &random()?);
        Ok((Self { text, field }, origin))
    }

    /// The text of the token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The hidden field of a form, as HTML.
    #[must_use]
    pub fn input(&self) -> String {
        let Self { text, field } = self;
        format!(r#"<input type="hidden" name="{field}" value="{text}">"#)
    }

    /// The name of the form field.
    #[must_use]
    pub fn field_name(&self) -> &str {
        &self.field
    }
}

/// Where the secret of a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SecretOrigin {
    Stored,
    Inserted,
    /// Nowhere: the request may not create the session that would hold it.
    Unstored,
}

/// Makes the secret of a session, and inserts it where the request may create the session.
fn insert_secret(session: &Session) -> Result<([u8; LEN], SecretOrigin)> {
    let secret = random()?;
    let text = URL_SAFE_NO_PAD.encode(secret);
    match session.pkg(PACKAGE).insert(KEY, text) {
        Ok(()) => Ok((secret, SecretOrigin::Inserted)),
        Err(error) if error.kind() == ErrorKind::MissingClientId => {
            Ok((secret, SecretOrigin::Unstored))
        }
        Err(error) => Err(error),
    }
}

/// In a request's extensions: the name of the form field.
#[derive(Clone)]
pub(super) struct CsrfField(pub(super) Arc<str>);

impl fmt::Display for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for CsrfToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsrfToken").finish_non_exhaustive()
    }
}

impl Serialize for CsrfToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The secret of a session's tokens. One that is not of our form counts as none, and no token matches it.
fn secret_of(session: &Session) -> Result<Option<[u8; LEN]>> {
    let stored: Option<String> = session.pkg(PACKAGE).get(KEY)?;
    Ok(stored.and_then(|text| decoded(text.as_bytes())))
}

/// Checks a token against its session.
pub(super) fn check(session: &Session, token: &[u8]) -> Result<()> {
    let secret = secret_of(session)?.ok_or(CsrfReason::NoSession)?;
    let sent = unmasked(token).ok_or(CsrfReason::WrongToken)?;
    if bool::from(secret.ct_eq(&sent)) {
        Ok(())
    } else {
        Err(CsrfReason::WrongToken.into())
    }
}

fn masked(secret: &[u8; LEN], mask: &[u8; LEN]) -> String {
    let hidden = secret.iter().zip(mask).map(|(secret, mask)| secret ^ mask);
    let bytes: Vec<u8> = mask.iter().copied().chain(hidden).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unmasked(token: &[u8]) -> Option<[u8; LEN]> {
    let bytes: [u8; 2 * LEN] = decoded(token)?;
    let (mask, hidden) = bytes.split_at(LEN);
    let mut secret = [0; LEN];
    for (to, (mask, hidden)) in secret.iter_mut().zip(mask.iter().zip(hidden)) {
        *to = mask ^ hidden;
    }
    Some(secret)
}

/// The bytes of a text that encodes exactly `N`.
fn decoded<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(len) if len == N => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_secret_is_the_secret_again() {
        let (secret, mask) = ([7; LEN], [0xA5; LEN]);
        let token = masked(&secret, &mask);
        assert_eq!(unmasked(token.as_bytes()), Some(secret));
        assert_ne!(token, masked(&secret, &[1; LEN]));
    }

    #[test]
    fn what_is_no_token_has_no_secret() {
        let token = masked(&[7; LEN], &[0xA5; LEN]);
        let (short, long) = (&token[1..], format!("{token}AAAA"));
        for text in ["", "x", short, &long, "é", &token.replace('e', "+")] {
            let found = unmasked(text.as_bytes());
            assert!(found.is_none() || text == token, "{text}");
        }
    }
}
