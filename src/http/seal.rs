//! Seals bytes until they expire, under keys that are derived from the secrets of client ids, and opens them. Knows
//! neither cookies nor URLs.
//!
//! A sealed text is base64url without padding: a version byte, the byte that names the secret, the nonce, and the
//! ciphertext of the time of expiry and the content. The associated data are the version, the secret's name, and the
//! data that the text is bound to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::client_id::{ClientIds, random};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

const VERSION: u8 = 1;
const NONCE: usize = 24;
#[cfg(feature = "cookie-containers")]
const TAG: usize = 16;
/// The number of bytes that a sealed text adds to its content: version, secret, nonce, expiry and tag.
#[cfg(feature = "cookie-containers")]
pub(super) const BESIDE: usize = 2 + NONCE + 8 + TAG;

/// The purpose of a sealed text, and the data that it is bound to.
#[derive(Clone, Copy)]
pub(super) struct SealScope<'a> {
    /// Separates the keys of this purpose from everything else that is derived from the secrets.
    pub(super) purpose: &'a [u8],
    pub(super) associated: &'a [u8],
}

/// The reason why a text is not opened. Only the metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedSeal {
    /// It does not have the form of a sealed text, or names a secret that is not in use.
    Garbled,
    /// It was changed, or it is bound to other data, or it belongs to another store.
    Forged,
    /// It is too old.
    Expired,
}

impl RefusedSeal {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Garbled => "garbled",
            Self::Forged => "forged",
            Self::Expired => "expired",
        }
    }
}

/// Seals content until it expires, under the newest secret.
///
/// # Errors
///
/// `Io` if the operating system has no randomness.
pub(super) fn seal(
    ids: &ClientIds,
    scope: SealScope<'_>,
    expires: Timestamp,
    content: &[u8],
) -> Result<String> {
    let (secret, key) = ids.newest_key(scope.purpose);
    let nonce: [u8; NONCE] = random()?;
    let plain = [&expires.0.to_le_bytes()[..], content].concat();
    let aad = [&[VERSION, secret][..], scope.associated].concat();
    let payload = Payload {
        msg: &plain,
        aad: &aad,
    };
    let sealed = XChaCha20Poly1305::new((&*key).into()).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "what is too long cannot be sealed"))?;
    Ok(URL_SAFE_NO_PAD.encode([&[VERSION, secret][..], &nonce, &sealed].concat()))
}

/// Opens a text that [`seal`] made in this scope, if it has not expired. The caller bounds the length of the text.
pub(super) fn open(
    ids: &ClientIds,
    scope: SealScope<'_>,
    now: Timestamp,
    text: &[u8],
) -> Result<Vec<u8>, RefusedSeal> {
    let raw = URL_SAFE_NO_PAD.decode(text);
    let raw = raw.map_err(|_| RefusedSeal::Garbled)?;
    let Some((&[VERSION, secret], rest)) = raw.split_first_chunk::<2>() else {
        return Err(RefusedSeal::Garbled);
    };
    let (nonce, sealed) = rest
        .split_first_chunk::<NONCE>()
        .ok_or(RefusedSeal::Garbled)?;
    let aad = [&[VERSION, secret][..], scope.associated].concat();
    let mut refused = RefusedSeal::Garbled;
    for key in ids.keys_of(secret, scope.purpose) {
        let payload = Payload {
            msg: sealed,
            aad: &aad,
        };
        let opened = XChaCha20Poly1305::new((&*key).into()).decrypt(&XNonce::from(*nonce), payload);
        let Ok(plain) = opened else {
            refused = RefusedSeal::Forged;
            continue;
        };
        let (expires, content) = plain.split_first_chunk().ok_or(RefusedSeal::Garbled)?;
        if Timestamp(i64::from_le_bytes(*expires)) <= now {
            return Err(RefusedSeal::Expired);
        }
        return Ok(content.to_vec());
    }
    Err(refused)
}

/// Whether a text has the form of a sealed text, but names a secret that is not in use.
pub(super) fn names_unknown_secret(ids: &ClientIds, text: &[u8]) -> bool {
    // Four characters are three bytes.
    let first = text.first_chunk::<4>();
    let first = first.and_then(|first| URL_SAFE_NO_PAD.decode(first).ok());
    matches!(first.as_deref(), Some([VERSION, secret, ..]) if !ids.knows(*secret))
}
