//! Seals the rows of a container into the value of a cookie, and opens such values (C8.6). Knows no session.
//!
//! The value is a sealed text (`seal`). It is bound to the identity of the store, the number and the name of the
//! container, and the key of the client.

use super::seal::{BESIDE, RefusedSeal, SealScope};
use crate::client_id::{ClientIds, ClientKey};
use crate::clock::Timestamp;
use crate::error::Result;

/// The longest cookie that browsers keep, in bytes, without its attributes (RFC 6265bis §5.6).
pub(super) const MAX_COOKIE: usize = 4096;
/// Separates the keys of this purpose from everything else that is derived from the secrets.
const PURPOSE: &[u8] = b"cloakroom container cookie v1\0";

/// The place that sealed rows are bound to.
#[derive(Clone, Copy)]
pub(super) struct SealContext<'a> {
    /// The identity of the store. Two stores may have the same secret.
    pub(super) store: [u8; 16],
    /// The number of the container, which no other container of the store gets.
    pub(super) container: u32,
    /// The name of the container.
    pub(super) name: &'a str,
    pub(super) client: ClientKey,
}

/// Counts a cookie that was refused.
pub(super) fn count_refused(refused: RefusedSeal) {
    metrics::counter!("cloakroom_refused_container_cookies_total", "reason" => refused.reason())
        .increment(1);
}

/// How many bytes of rows fit into a cookie whose name and attributes take `overhead` bytes.
pub(super) fn capacity(overhead: usize) -> usize {
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
    context: SealContext<'_>,
    expires: Timestamp,
    rows: &[u8],
) -> Result<String> {
    super::seal::seal(ids, scope(&associated_data(context)), expires, rows)
}

/// Opens a text that [`seal`] made for this place, if it has not expired.
pub(super) fn open(
    ids: &ClientIds,
    context: SealContext<'_>,
    now: Timestamp,
    text: &[u8],
) -> Result<Vec<u8>, RefusedSeal> {
    if text.len() > MAX_COOKIE {
        return Err(RefusedSeal::Garbled);
    }
    super::seal::open(ids, scope(&associated_data(context)), now, text)
}

fn scope(associated: &[u8]) -> SealScope<'_> {
    SealScope {
        purpose: PURPOSE,
        associated,
    }
}

/// The data that the rows are bound to.
fn associated_data(context: SealContext<'_>) -> Vec<u8> {
    let SealContext {
        store,
        container,
        name,
        client,
    } = context;
    let container = container.to_le_bytes();
    // Only the last part has a variable length, so the bytes have one meaning only.
    let parts = [&store[..], &container, client.as_bytes()];
    [&parts.concat(), name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::Secret;
    use crate::http::seal::names_unknown_secret;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LATER: Timestamp = Timestamp(2_000_000);

    fn ids(secrets: &[u8]) -> ClientIds {
        let secret = |name: &u8| Secret::from_key(*name, [*name; 32]);
        let (newest, older) = secrets.split_last().unwrap();
        ClientIds::new(secret(newest), older.iter().map(secret).collect())
    }

    fn context(container: u32, client: u8) -> SealContext<'static> {
        SealContext {
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
        let text = seal(&ids, context(1, 2), LATER, b"rows").unwrap();
        let open = |context, now| open(&ids, context, now, text.as_bytes());
        assert_eq!(open(context(1, 2), NOW).unwrap(), b"rows");
        assert_eq!(open(context(1, 3), NOW), Err(RefusedSeal::Forged));
        assert_eq!(open(context(2, 2), NOW), Err(RefusedSeal::Forged));
        assert_eq!(open(context(1, 2), LATER), Err(RefusedSeal::Expired));
        let store = SealContext {
            store: [1; 16],
            ..context(1, 2)
        };
        assert_eq!(open(store, NOW), Err(RefusedSeal::Forged));
        let name = SealContext {
            name: "shown",
            ..context(1, 2)
        };
        assert_eq!(open(name, NOW), Err(RefusedSeal::Forged));
    }

    // C8.6
    #[test]
    fn a_change_at_any_place_is_noticed() {
        let ids = ids(&[1]);
        let text = seal(&ids, context(1, 2), LATER, b"rows").unwrap();
        for at in 0..text.len() {
            for byte in [b'A', b'_', b'%', 0, 255] {
                let mut other = text.clone().into_bytes();
                if other[at] == byte {
                    continue;
                }
                other[at] = byte;
                assert!(open(&ids, context(1, 2), NOW, &other).is_err(), "{at}");
            }
            let cut = &text.as_bytes()[..at];
            assert!(open(&ids, context(1, 2), NOW, cut).is_err(), "{at}");
        }
    }

    // C4.2, C8.6
    #[test]
    fn older_secrets_open_and_the_newest_seals() {
        let text = seal(&ids(&[1]), context(1, 2), LATER, b"rows").unwrap();
        let open = |secrets: &[u8]| open(&ids(secrets), context(1, 2), NOW, text.as_bytes());
        assert_eq!(open(&[1, 9]).unwrap(), b"rows");
        assert_eq!(open(&[9]), Err(RefusedSeal::Garbled));
        assert!(names_unknown_secret(&ids(&[9]), text.as_bytes()));
        assert!(!names_unknown_secret(&ids(&[1, 9]), text.as_bytes()));
        let again = seal(&ids(&[1, 9]), context(1, 2), LATER, b"rows").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(again).unwrap()[1], 9);
    }

    // C8.6
    #[test]
    fn the_room_of_a_cookie_is_used_to_the_last_byte() {
        for overhead in 0..200 {
            let sealed = |len: usize| {
                let text = seal(&ids(&[1]), context(1, 2), LATER, &vec![7; len]).unwrap();
                text.len() + overhead
            };
            let capacity = capacity(overhead);
            assert!(sealed(capacity) <= MAX_COOKIE && sealed(capacity + 1) > MAX_COOKIE);
        }
    }
}
