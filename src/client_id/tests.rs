use super::*;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::HashSet;

fn ids(name: u8, fill: u8) -> ClientIds {
    ClientIds::new(Secret::from_key(name, [fill; 32]), Vec::new())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_issued_id_verifies_as_text_and_as_bytes() {
    let ids = ids(7, 1);
    let id = ids.issue();
    assert_eq!(id.as_str().len(), 68);
    assert_eq!(ids.verify(id.as_str()), Some(id.clone()));
    assert_eq!(ids.verify_bytes(id.as_str().as_bytes()), Some(id));
}

#[test]
fn an_id_is_the_random_bytes_the_name_and_an_hmac_of_both() {
    let id = ids(7, 1).issue();
    let raw = URL_SAFE_NO_PAD.decode(id.as_str()).unwrap();
    assert_eq!(raw.len(), 51);
    assert_eq!(raw[18], 7);

    let mut hmac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&[1; 32]).unwrap();
    hmac.update(b"cloakroom client id v1\0");
    hmac.update(&raw[..19]);
    assert_eq!(raw[19..], hmac.finalize().into_bytes()[..]);
}

#[test]
#[allow(clippy::mutable_key_type, reason = "what changes is not hashed")]
fn issued_ids_differ() {
    let ids = ids(0, 1);
    let issued: HashSet<ClientId> = (0..1000).map(|_| ids.issue()).collect();
    assert_eq!(issued.len(), 1000);
}

#[test]
fn any_flipped_bit_makes_an_id_no_id() {
    let ids = ids(7, 1);
    let id = ids.issue();
    let raw = URL_SAFE_NO_PAD.decode(id.as_str()).unwrap();
    for bit in 0..raw.len() * 8 {
        let mut forged = raw.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(
            ids.verify(&URL_SAFE_NO_PAD.encode(forged)).is_none(),
            "bit {bit}"
        );
    }
    for bit in 0..id.as_str().len() * 8 {
        let mut forged = id.as_str().as_bytes().to_vec();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(ids.verify_bytes(&forged).is_none(), "bit {bit} of the text");
    }
}

#[test]
fn a_truncated_or_over_long_id_is_no_id() {
    let ids = ids(7, 1);
    let id = ids.issue();
    for len in 0..id.as_str().len() {
        assert!(ids.verify(&id.as_str()[..len]).is_none(), "{len}");
        assert!(ids.verify(&id.as_str()[len + 1..]).is_none(), "{len}");
    }
    for tail in ["A", "AA", "AAAA", "=", "==", "\0", "\n", " "] {
        assert!(ids.verify(&format!("{}{tail}", id.as_str())).is_none());
        assert!(ids.verify(&format!("{tail}{}", id.as_str())).is_none());
    }
    assert!(ids.verify(&id.as_str().repeat(1000)).is_none());
}

#[test]
fn garbage_is_no_id() {
    let ids = ids(7, 1);
    for garbage in ["", "=", &"=".repeat(68), &"A".repeat(68), &"é".repeat(34)] {
        assert!(ids.verify(garbage).is_none(), "{garbage}");
    }
    for byte in 0..=255 {
        assert!(ids.verify_bytes(&[byte; 68]).is_none(), "{byte}");
    }
    let id = ids.issue();
    for at in 0..68 {
        for byte in [0, b' ', b'"', b'=', b'.', 0x80, 0xff] {
            let mut text = id.as_str().as_bytes().to_vec();
            text[at] = byte;
            assert!(ids.verify_bytes(&text).is_none(), "{byte} at {at}");
        }
    }
}

#[test]
fn the_standard_alphabet_is_no_id() {
    let ids = ids(7, 1);
    let id = std::iter::repeat_with(|| ids.issue())
        .find(|id| id.as_str().contains(['-', '_']))
        .unwrap();
    let raw = URL_SAFE_NO_PAD.decode(id.as_str()).unwrap();
    assert!(ids.verify(&STANDARD_NO_PAD.encode(raw)).is_none());
}

#[test]
fn another_stores_id_is_no_id() {
    assert!(ids(7, 2).verify(ids(7, 1).issue().as_str()).is_none());
    assert!(ids(8, 1).verify(ids(7, 1).issue().as_str()).is_none());
}

#[test]
fn ids_verify_until_their_secret_is_retired() {
    let (old, new) = (Secret::from_key(1, [1; 32]), Secret::from_key(2, [2; 32]));
    let ids = ClientIds::new(old.clone(), Vec::new());
    let before = ids.issue();

    ids.replace(new.clone(), vec![old]);
    let after = ids.issue();
    assert_eq!(URL_SAFE_NO_PAD.decode(after.as_str()).unwrap()[18], 2);
    assert!(ids.verify(before.as_str()).is_some());
    assert!(ids.verify(after.as_str()).is_some());

    ids.replace(new, Vec::new());
    assert!(ids.verify(before.as_str()).is_none());
    assert!(ids.verify(after.as_str()).is_some());
}

#[test]
fn secrets_that_share_a_name_are_each_tried() {
    let secrets: Vec<Secret> = (0..3).map(|i| Secret::from_key(9, [i; 32])).collect();
    let all = ClientIds::new(secrets[0].clone(), secrets[1..].to_vec());
    for secret in secrets {
        let id = ClientIds::new(secret, Vec::new()).issue();
        assert!(all.verify(id.as_str()).is_some());
    }
}

#[test]
fn generated_secrets_differ() {
    let (a, b) = (Secret::generate(3).unwrap(), Secret::generate(3).unwrap());
    assert_eq!(a.name, 3);
    assert_ne!(a.key(), b.key());
}

#[test]
fn clones_share_freshness() {
    let id = ids(7, 1).issue();
    let clone = id.clone();
    assert!(id.is_fresh() && clone.is_fresh());
    clone.mark_used();
    assert!(!id.is_fresh() && !clone.is_fresh());
}

#[test]
fn a_verified_id_is_never_fresh() {
    let ids = ids(7, 1);
    let issued = ids.issue();
    assert!(!ids.verify(issued.as_str()).unwrap().is_fresh());
    assert!(issued.is_fresh());
}

#[test]
fn a_key_is_the_start_of_the_sha256_of_the_id() {
    let digest = "ba7816bf8f01cfea414140de5dae2223";
    assert_eq!(ClientKey::of(b"abc").to_string(), digest);
    let id = ids(7, 1).issue();
    assert_eq!(id.key(), ClientKey::of(id.as_str().as_bytes()));
    assert_eq!(id.clone().key(), id.key());
    assert_eq!(ClientKey::from_bytes(*id.key().as_bytes()), id.key());
}

#[test]
fn a_key_is_read_as_it_is_written() {
    let key = ids(7, 1).issue().key();
    assert_eq!(key.to_string(), hex(key.as_bytes()));
    assert_eq!(format!("{key:?}"), key.to_string());
    assert_eq!(key.to_string().parse::<ClientKey>().unwrap(), key);
    assert_eq!(
        key.to_string().to_uppercase().parse::<ClientKey>().unwrap(),
        key
    );
}

#[test]
fn what_is_no_key_is_refused_without_repeating_it() {
    let id = ids(7, 1).issue();
    let signed = format!("+{}", "0".repeat(31));
    let (short, long) = ("0".repeat(31), "0".repeat(33));
    for text in ["", &short, &long, &signed, &"g".repeat(32), &"é".repeat(16)] {
        let error = text.parse::<ClientKey>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
    }
    let error = id.as_str().parse::<ClientKey>().unwrap_err();
    assert!(!format!("{error} {error:?}").contains(id.as_str()));
}

#[test]
fn debug_shows_no_secret_and_no_id() {
    let secret = Secret::from_key(0xa5, [0xa5; 32]);
    let ids = ClientIds::new(secret.clone(), vec![secret.clone()]);
    let id = ids.issue();
    assert_eq!(format!("{id:?} {id:#?}"), "ClientId(..) ClientId(..)");
    assert_eq!(format!("{secret:?}"), "Secret { name: 165, .. }");
    assert_eq!(format!("{ids:?}"), "ClientIds { .. }");
}

#[test]
fn ids_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<ClientId>();
    shared::<ClientIds>();
}
