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
type KeyFields = (NumberedChecks, Vec<u8>);
/// The same while the store is encrypted again: then the number of the only key that may be written with.
#[cfg(feature = "encryption")]
type ResealFields = (NumberedChecks, Vec<u8>, u32);
#[cfg(feature = "encryption")]
type NumberedChecks = Vec<(u32, [u8; 16])>;

/// What the store's own row says of keys.
#[cfg(feature = "encryption")]
struct StoredKeys {
    named: NumberedChecks,
    /// The key of the owners' hashes, and whether rows may be plain, as a record.
    index: Vec<u8>,
    /// The number of the only key that may be written with.
    only: Option<u32>,
}

#[cfg(feature = "encryption")]
impl StoredKeys {
    fn decode(stored: &[u8]) -> Result<Self> {
        let fenced: Result<ResealFields> = open_plain(RecordKind::Meta, KEYS, stored);
        if let Ok((named, index, only)) = fenced {
            let only = Some(only);
            return Ok(Self { named, index, only });
        }
        let (named, index): KeyFields = open_plain(RecordKind::Meta, KEYS, stored)?;
        let only = None;
        Ok(Self { named, index, only })
    }

    fn encode(self) -> Result<Vec<u8>> {
        let Self { named, index, only } = self;
        match only {
            None => seal_plain(RecordKind::Meta, KEYS, (named, index)),
            Some(only) => seal_plain(RecordKind::Meta, KEYS, (named, index, only)),
        }
    }

    fn index(&self, cipher: &RecordCipher) -> Result<([u8; 32], bool)> {
        open_value(cipher, RecordKind::Meta, INDEX, &self.index)
    }

    /// Whether a process with these keys may write. It may not if the store needs its current key no more, or is about to
    /// need it no more.
    fn check_current(&self, keys: &RecordKeys) -> Result<()> {
        let current = keys.checks().next();
        let (Some(current), newest) = (current, self.named.last()) else {
            return Ok(());
        };
        let wanted = match (self.only, newest) {
            (Some(only), _) if only != current.0 => only,
            (None, Some((newest, _))) if !self.named.contains(&current) => *newest,
            _ => return Ok(()),
        };
        Err(wrong_key(format!(
            "the store is encrypted again with the key {wanted}, and the current key of this process is {}: open the \
             store with a ring whose current key is {wanted}",
            current.0
        )))
    }
}

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
        let stored = StoredKeys::decode(stored)?;
        check(keys, &stored.named)?;
        if stored.only.is_some() {
            stored.check_current(keys)?;
        }
        let index = stored.index(cipher)?;
        know(cipher, index);
        let is_named = |it| stored.named.contains(&it);
        if keys.checks().take(1).all(is_named) {
            return Ok(None);
        }
        return Ok(Some(record(cipher, keys, stored.named, index)?));
    }
    let _ = cipher;
    match stored {
        None => Ok(None),
        Some(_) => Err(no_key()),
    }
}

fn no_key() -> Error {
    wrong_key("the store is encrypted, and no keys were given (StoreBuilder::encryption)")
}

/// Whether a process that has met the store's keys before may still write: another one may have changed them since.
pub(super) fn check_still(cipher: &RecordCipher, stored: Option<&[u8]>) -> Result<()> {
    let Some(stored) = stored else { return Ok(()) };
    #[cfg(feature = "encryption")]
    if let Some(keys) = cipher.keys() {
        return StoredKeys::decode(stored)?.check_current(keys);
    }
    let _ = (cipher, stored);
    Err(no_key())
}

/// The record of the keys while all rows are encrypted with the current one: nobody writes with another. `None`: the store
/// has it already.
#[cfg(feature = "encryption")]
pub(super) fn fence(cipher: &RecordCipher, stored: &[u8]) -> Result<Option<Vec<u8>>> {
    let stored = StoredKeys::decode(stored)?;
    let Some((current, keys)) = current(cipher) else {
        return Err(no_key());
    };
    check(keys, &stored.named)?;
    if stored.only == Some(current.0) {
        return Ok(None);
    }
    let index = seal_value(cipher, RecordKind::Meta, INDEX, stored.index(cipher)?)?;
    let mut named = stored.named;
    if !named.contains(&current) {
        named.push(current);
    }
    let only = Some(current.0);
    StoredKeys { named, index, only }.encode().map(Some)
}

/// The record of the keys once all rows are encrypted with the current one.
#[cfg(feature = "encryption")]
pub(super) fn finished(cipher: &RecordCipher, fence: &[u8]) -> Result<Vec<u8>> {
    let Some((current, _)) = current(cipher) else {
        return Err(no_key());
    };
    let (index, _) = StoredKeys::decode(fence)?.index(cipher)?;
    let done = StoredKeys {
        named: vec![current],
        index: seal_value(cipher, RecordKind::Meta, INDEX, (index, false))?,
        only: None,
    };
    done.encode()
}

/// The record of the keys after rows were met that cannot be encrypted again: all keys are needed on, and any may be the
/// current one.
#[cfg(feature = "encryption")]
pub(super) fn unfenced(fence: &[u8]) -> Result<Vec<u8>> {
    let stored = StoredKeys::decode(fence)?;
    let only = None;
    StoredKeys { only, ..stored }.encode()
}

/// Whether any key may be the current one.
#[cfg(feature = "encryption")]
pub(super) fn is_open(stored: &[u8]) -> Result<bool> {
    Ok(StoredKeys::decode(stored)?.only.is_none())
}

/// Whether the store needs the current key alone.
#[cfg(feature = "encryption")]
pub(super) fn is_finished(cipher: &RecordCipher, stored: &[u8]) -> Result<bool> {
    let stored = StoredKeys::decode(stored)?;
    let current = current(cipher).map(|(current, _)| current);
    Ok(stored.only.is_none() && stored.named.iter().copied().eq(current))
}

#[cfg(feature = "encryption")]
fn current(cipher: &RecordCipher) -> Option<((u32, [u8; 16]), &RecordKeys)> {
    let keys = cipher.keys()?;
    Some((keys.checks().next()?, keys))
}

#[cfg(feature = "encryption")]
fn record(
    cipher: &RecordCipher,
    keys: &RecordKeys,
    mut named: NumberedChecks,
    index: ([u8; 32], bool),
) -> Result<Vec<u8>> {
    for current in keys.checks().take(1) {
        if !named.contains(&current) {
            named.push(current);
        }
    }
    let index = seal_value(cipher, RecordKind::Meta, INDEX, index)?;
    let only = None;
    StoredKeys { named, index, only }.encode()
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
