//! Seals the rows of a container into the value of a cookie, and opens it (C8.6). Knows no session.
//!
//! The value is base64url without padding: a version byte, the byte that names the secret, the nonce, and the ciphertext of
//! the time of expiry and the rows. Authenticated beside it: the version, the secret's name, the identity of the store, the
//! number and the name of the container, and the key of the client.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::client_id::{ClientIds, ClientKey, random};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};

const VERSION: u8 = 1;
const NONCE: usize = 24;
const TAG: usize = 16;
/// The bytes that a sealed text has beside the rows: version, secret, nonce, expiry and tag.
const BESIDE: usize = 2 + NONCE + 8 + TAG;
/// Browsers keep no longer cookies (RFC 6265bis §5.6), their attributes not counted.
pub(super) const MAX_COOKIE: usize = 4096;
/// Separates the keys from all else that is derived from the secrets.
const PURPOSE: &[u8] = b"cloakroom container cookie v1\0";

/// Where sealed rows belong.
#[derive(Clone, Copy)]
pub(super) struct SealPlace<'a> {
    /// The identity of the store. Other stores may be given the same secret.
    pub(super) store: [u8; 16],
    /// The number of the container, which no other container of the store gets.
    pub(super) container: u32,
    /// The name of the container.
    pub(super) name: &'a str,
    pub(super) client: ClientKey,
}

/// Why a cookie is not read. Only the metric shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedSeal {
    /// It does not have the form of a sealed text, or names a secret that is not in use.
    Garbled,
    /// It was changed, or belongs to another client, container or store.
    Forged,
    /// It is too old.
    Expired,
}

impl RefusedSeal {
    pub(super) fn count(self) {
        let reason = match self {
            Self::Garbled => "garbled",
            Self::Forged => "forged",
            Self::Expired => "expired",
        };
        metrics::counter!("cloakroom_refused_container_cookies_total", "reason" => reason)
            .increment(1);
    }
}

/// How many bytes of rows fit into a cookie whose name and attributes take `overhead` bytes.
pub(super) fn room(overhead: usize) -> usize {
    let characters = MAX_COOKIE.saturating_sub(overhead);
    (characters * 3 / 4).saturating_sub(BESIDE)
}

/// Seals rows until they expire, under the newest secret.
///
/// # Errors
///
/// `Io` if the operating system has no randomness.
pub(super) fn seal(
    ids: &ClientIds,
    place: SealPlace<'_>,
    expires: Timestamp,
    rows: &[u8],
) -> Result<String> {
    let (secret, key) = ids.newest_key(PURPOSE);
    let nonce: [u8; NONCE] = random()?;
    let plain = [&expires.0.to_le_bytes()[..], rows].concat();
    let bound = bound(secret, place);
    let payload = Payload {
        msg: &plain,
        aad: &bound,
    };
    let sealed = XChaCha20Poly1305::new((&*key).into()).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|_| {
        Error::new(
            ErrorKind::InvalidInput,
            "the rows of a container cannot be sealed",
        )
    })?;
    Ok(URL_SAFE_NO_PAD.encode([&[VERSION, secret][..], &nonce, &sealed].concat()))
}

/// Opens what [`seal`] made for this place, if it has not expired.
pub(super) fn open(
    ids: &ClientIds,
    place: SealPlace<'_>,
    now: Timestamp,
    text: &[u8],
) -> Result<Vec<u8>, RefusedSeal> {
    if text.len() > MAX_COOKIE {
        return Err(RefusedSeal::Garbled);
    }
    let raw = URL_SAFE_NO_PAD.decode(text);
    let raw = raw.map_err(|_| RefusedSeal::Garbled)?;
    let Some((&[VERSION, secret], rest)) = raw.split_first_chunk::<2>() else {
        return Err(RefusedSeal::Garbled);
    };
    let (nonce, sealed) = rest
        .split_first_chunk::<NONCE>()
        .ok_or(RefusedSeal::Garbled)?;
    let bound = bound(secret, place);
    let mut refused = RefusedSeal::Garbled;
    for key in ids.keys_of(secret, PURPOSE) {
        let payload = Payload {
            msg: sealed,
            aad: &bound,
        };
        let opened = XChaCha20Poly1305::new((&*key).into()).decrypt(&XNonce::from(*nonce), payload);
        let Ok(plain) = opened else {
            refused = RefusedSeal::Forged;
            continue;
        };
        let (expires, rows) = plain.split_first_chunk().ok_or(RefusedSeal::Garbled)?;
        if Timestamp(i64::from_le_bytes(*expires)) <= now {
            return Err(RefusedSeal::Expired);
        }
        return Ok(rows.to_vec());
    }
    Err(refused)
}

/// What is authenticated beside the rows.
fn bound(secret: u8, place: SealPlace<'_>) -> Vec<u8> {
    let SealPlace {
        store,
        container,
        name,
        client,
    } = place;
    let container = container.to_le_bytes();
    // Only the last part has no fixed length.
    let parts = [
        &[VERSION, secret][..],
        &store,
        &container,
        client.as_bytes(),
    ];
    [&parts.concat(), name.as_bytes()].concat()
}

/// Whether a text has the form of what [`seal`] makes, but names a secret that is not in use.
pub(super) fn names_unknown_secret(ids: &ClientIds, text: &[u8]) -> bool {
    // Four characters are three bytes.
    let first = text.first_chunk::<4>();
    let first = first.and_then(|first| URL_SAFE_NO_PAD.decode(first).ok());
    matches!(first.as_deref(), Some([VERSION, secret, ..]) if !ids.knows(*secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::Secret;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LATER: Timestamp = Timestamp(2_000_000);

    fn ids(secrets: &[u8]) -> ClientIds {
        let secret = |name: &u8| Secret::from_key(*name, [*name; 32]);
        let (newest, older) = secrets.split_last().unwrap();
        ClientIds::new(secret(newest), older.iter().map(secret).collect())
    }

    fn place(container: u32, client: u8) -> SealPlace<'static> {
        SealPlace {
            store: [0; 16],
            container,
            name: "seen",
            client: ClientKey::from_bytes([client; 16]),
        }
    }

    // C8.6
    #[test]
    fn only_the_same_place_opens_a_seal_and_only_before_it_expires() {
        let ids = ids(&[1]);
        let text = seal(&ids, place(1, 2), LATER, b"rows").unwrap();
        let open = |place, now| open(&ids, place, now, text.as_bytes());
        assert_eq!(open(place(1, 2), NOW).unwrap(), b"rows");
        assert_eq!(open(place(1, 3), NOW), Err(RefusedSeal::Forged));
        assert_eq!(open(place(2, 2), NOW), Err(RefusedSeal::Forged));
        assert_eq!(open(place(1, 2), LATER), Err(RefusedSeal::Expired));
        let store = SealPlace {
            store: [1; 16],
            ..place(1, 2)
        };
        assert_eq!(open(store, NOW), Err(RefusedSeal::Forged));
        let name = SealPlace {
            name: "shown",
            ..place(1, 2)
        };
        assert_eq!(open(name, NOW), Err(RefusedSeal::Forged));
    }

    // C8.6
    #[test]
    fn a_change_at_any_place_is_noticed() {
        let ids = ids(&[1]);
        let text = seal(&ids, place(1, 2), LATER, b"rows").unwrap();
        for at in 0..text.len() {
            for byte in [b'A', b'_', b'%', 0, 255] {
                let mut other = text.clone().into_bytes();
                if other[at] == byte {
                    continue;
                }
                other[at] = byte;
                assert!(open(&ids, place(1, 2), NOW, &other).is_err(), "{at}");
            }
            let cut = &text.as_bytes()[..at];
            assert!(open(&ids, place(1, 2), NOW, cut).is_err(), "{at}");
        }
    }

    // C4.2, C8.6
    #[test]
    fn older_secrets_open_and_the_newest_seals() {
        let text = seal(&ids(&[1]), place(1, 2), LATER, b"rows").unwrap();
        let open = |secrets: &[u8]| open(&ids(secrets), place(1, 2), NOW, text.as_bytes());
        assert_eq!(open(&[1, 9]).unwrap(), b"rows");
        assert_eq!(open(&[9]), Err(RefusedSeal::Garbled));
        assert!(names_unknown_secret(&ids(&[9]), text.as_bytes()));
        assert!(!names_unknown_secret(&ids(&[1, 9]), text.as_bytes()));
        let again = seal(&ids(&[1, 9]), place(1, 2), LATER, b"rows").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(again).unwrap()[1], 9);
    }

    // C8.6
    #[test]
    fn the_room_of_a_cookie_is_used_to_the_last_byte() {
        for overhead in 0..200 {
            let sealed = |len: usize| {
                let text = seal(&ids(&[1]), place(1, 2), LATER, &vec![7; len]).unwrap();
                text.len() + overhead
            };
            let room = room(overhead);
            assert!(sealed(room) <= MAX_COOKIE && sealed(room + 1) > MAX_COOKIE);
        }
    }
}
