//! The keys that the records of the server are encrypted with: what the store's own row says of them, and what opening
//! the store does with that.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
#[cfg(feature = "encryption")]
use crate::storage::record::{
    FileKeys, RecordKeys, RecordKind, open_plain, open_value, seal_plain, seal_value,
};

#[cfg(feature = "encryption")]
const KEYS: &[u8] = b"keys";
#[cfg(feature = "encryption")]
const INDEX: &[u8] = b"index-key";

/// The numbers of the keys, each with a check of the key; then the record of the key of the owners' hashes, and whether
/// rows may be plain.
#[cfg(feature = "encryption")]
type KeyFields = (Vec<(u32, [u8; 16])>, Vec<u8>);

fn wrong_key(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::WrongKey, why)
}

/// The record of the keys of a new store. `None` without keys. The cipher knows the store afterwards.
pub(super) fn new_keys(cipher: &RecordCipher) -> Result<Option<Vec<u8>>> {
    #[cfg(feature = "encryption")]
    if let Some(keys) = cipher.keys() {
        let index = super::random::random()?;
        return Ok(Some(record(cipher, keys, Vec::new(), (index, false))?));
    }
    let _ = cipher;
    Ok(None)
}

/// Checks whether the cipher has the keys that the store needs, and passes the store's facts about keys to it. Returns
/// the record that the store is to have, if that is another one. Where the store had none, the cipher learns nothing
/// yet: another record may come to be the store's, with another key of the owners' hashes.
pub(super) fn meet(cipher: &RecordCipher, stored: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
    #[cfg(feature = "encryption")]
    if let Some(keys) = cipher.keys() {
        let Some(stored) = stored else {
            // The store was plain until now.
            let index = super::random::random()?;
            return Ok(Some(record(cipher, keys, Vec::new(), (index, true))?));
        };
        let (named, sealed): KeyFields = open_plain(RecordKind::Meta, KEYS, stored)?;
        check(keys, &named)?;
        let index: ([u8; 32], bool) = open_value(cipher, RecordKind::Meta, INDEX, &sealed)?;
        know(cipher, index);
        let is_named = |it| named.contains(&it);
        if keys.checks().take(1).all(is_named) {
            return Ok(None);
        }
        return Ok(Some(record(cipher, keys, named, index)?));
    }
    let _ = cipher;
    match stored {
        None => Ok(None),
        Some(_) => Err(wrong_key(
            "the store is encrypted, and no keys were given (StoreBuilder::encryption)",
        )),
    }
}

#[cfg(feature = "encryption")]
fn record(
    cipher: &RecordCipher,
    keys: &RecordKeys,
    mut named: Vec<(u32, [u8; 16])>,
    index: ([u8; 32], bool),
) -> Result<Vec<u8>> {
    for current in keys.checks().take(1) {
        if !named.contains(&current) {
            named.push(current);
        }
    }
    let sealed = seal_value(cipher, RecordKind::Meta, INDEX, index)?;
    let fields: KeyFields = (named, sealed);
    seal_plain(RecordKind::Meta, KEYS, fields)
}

#[cfg(feature = "encryption")]
fn know(cipher: &RecordCipher, (index, is_mixed): ([u8; 32], bool)) {
    cipher.know(FileKeys {
        index: index.into(),
        accepts_plain: is_mixed,
        has_former_hashes: is_mixed,
    });
}

#[cfg(feature = "encryption")]
fn check(keys: &RecordKeys, named: &[(u32, [u8; 16])]) -> Result<()> {
    for (number, check) in named {
        let known = keys.checks().find(|(known, _)| known == number);
        let why = match known {
            None => format!("the store is encrypted with the key {number}, which was not given"),
            Some((_, known)) if known != *check => {
                format!("the key {number} is another one than the store is encrypted with")
            }
            Some(_) => continue,
        };
        return Err(wrong_key(why));
    }
    Ok(())
}

#[cfg(feature = "encryption")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::KeyRing;

    fn cipher() -> RecordCipher {
        RecordCipher::of(&KeyRing::new(1, [7; 32])).unwrap()
    }

    // C8.2, C10.3
    #[test]
    fn a_record_that_was_not_stored_leaves_no_key_of_the_owners_behind() {
        let (first, other) = (cipher(), cipher());
        let lost = meet(&first, None).unwrap().unwrap();
        let stored = meet(&other, None).unwrap().unwrap();
        assert_ne!(lost, stored);
        for cipher in [&first, &other] {
            assert_eq!(meet(cipher, Some(&stored)).unwrap(), None);
        }
        let hash = |cipher: &RecordCipher| cipher.owner_hashes("ann").current.to_vec();
        assert_eq!(hash(&first), hash(&other));
    }
}
