//! Which keys a file needs: the records in which it says so, and what opening it does with them.

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::SecretRecord;
#[cfg(feature = "encryption")]
use crate::storage::record::{FileKeys, RecordKeys};
use crate::storage::record::{RecordCipher, RecordKind, open_value, seal_plain, seal_value};
use crate::storage::redb::failure;
use crate::storage::redb::meta::{self, SEALED_BY, plain, plain_if_there};
use redb::{ReadableTable, Table};

/// The numbers of the keys that records of a file may be encrypted with, each with a check of the key.
pub(crate) type NamedKeys = Vec<(u32, [u8; 16])>;

/// The content of [`meta::INDEX_KEY`]: the key of the hashes in the index of owners, and whether there may be rows from
/// before the store had keys.
#[cfg(feature = "encryption")]
pub(crate) type IndexKey = ([u8; 32], bool);

type SecretList = Vec<(u8, [u8; 32])>;
/// The content of [`meta::SECRET_TIMES`]: which secret was made when.
pub(crate) type SecretTimes = Vec<(u8, i64)>;

pub(crate) fn wrong_key(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::WrongKey, why)
}

pub(crate) fn no_key() -> Error {
    wrong_key("the store is encrypted, and no keys were given (StoreBuilder::encryption)")
}

/// Checks whether the cipher has the keys that the file needs. Then passes the file's facts about keys to the cipher.
/// Changes nothing in the file.
pub(crate) fn check_keys(
    cipher: &RecordCipher,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<()> {
    let named: Option<NamedKeys> = plain_if_there(meta, SEALED_BY)?;
    #[cfg(feature = "encryption")]
    if let Some(keys) = cipher.keys() {
        check(keys, named.as_deref().unwrap_or_default())?;
        if keys.knows_file() {
            return Ok(());
        }
        if named.is_none()
            && meta
                .get(meta::INDEX_KEY)
                .map_err(failure::storage)?
                .is_some()
        {
            // A store that was plain has neither record. Nobody is to make an encrypted one pass for it.
            let why = format!("the store's record {SEALED_BY:?} is missing");
            return Err(Error::new(ErrorKind::Corrupt, why));
        }
        let (index, is_mixed) = match named {
            Some(_) => index_key(cipher, meta)?,
            // A store that was never opened has no rows.
            None => (failure::random()?, plain::<u64>(meta, meta::EPOCH)? > 0),
        };
        cipher.know(FileKeys {
            index: index.into(),
            accepts_plain: is_mixed,
            has_former_hashes: is_mixed,
        });
        return Ok(());
    }
    let _ = cipher;
    named.map_or(Ok(()), |_| Err(no_key()))
}

/// Whether the keys are those that a file names.
#[cfg(feature = "encryption")]
pub(crate) fn check(keys: &RecordKeys, named: &[(u32, [u8; 16])]) -> Result<()> {
    for (number, check) in named {
        match keys.checks().find(|(known, _)| known == number) {
            None => {
                let why =
                    format!("the store is encrypted with the key {number}, which was not given");
                return Err(wrong_key(why));
            }
            Some((_, known)) if known != *check => {
                let why =
                    format!("the key {number} is another one than the store is encrypted with");
                return Err(wrong_key(why));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(feature = "encryption")]
fn index_key(
    cipher: &RecordCipher,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<IndexKey> {
    let record = meta.get(meta::INDEX_KEY).map_err(failure::storage)?;
    let record = record.ok_or_else(|| {
        let why = format!("the store's record {:?} is missing", meta::INDEX_KEY);
        Error::new(ErrorKind::Corrupt, why)
    })?;
    open_value(
        cipher,
        RecordKind::Meta,
        meta::INDEX_KEY.as_bytes(),
        record.value(),
    )
}

/// Makes the current key the one that the store's own records are encrypted with. Part of the commit that counts an
/// opening; [`meet`] comes first.
#[cfg(feature = "encryption")]
pub(crate) fn settle(
    cipher: &RecordCipher,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<()> {
    let Some(keys) = cipher.keys() else {
        return Ok(());
    };
    let named: Option<NamedKeys> = plain_if_there(meta, SEALED_BY)?;
    let (index, is_mixed) = match named {
        Some(_) => index_key(cipher, meta)?,
        None => (*keys.file().index, keys.file().accepts_plain),
    };
    let secrets = match named {
        // The plain ones of a store that was never opened have signed nothing. The file may still show them.
        None if !is_mixed => vec![(0, failure::random()?)],
        _ => secret_list(cipher, meta)?,
    };
    let mut named = named.unwrap_or_default();
    for current in keys.checks().take(1) {
        if !named.contains(&current) {
            named.push(current);
        }
    }
    put_named(cipher, meta, named, (index, is_mixed))?;
    let secrets = seal_value(cipher, RecordKind::Meta, meta::SECRETS.as_bytes(), secrets)?;
    put(meta, meta::SECRETS, &secrets)
}

/// Says that all records are encrypted with the current key.
#[cfg(feature = "encryption")]
pub(crate) fn finish(
    cipher: &RecordCipher,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<()> {
    let Some(keys) = cipher.keys() else {
        return Ok(());
    };
    let (index, _) = index_key(cipher, meta)?;
    put_named(
        cipher,
        meta,
        keys.checks().take(1).collect(),
        (index, false),
    )
}

/// Says of a new file that all its records are encrypted with the current key.
#[cfg(feature = "encryption")]
pub(crate) fn name_keys(
    cipher: &RecordCipher,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
) -> Result<()> {
    let Some(keys) = cipher.keys() else {
        return Ok(());
    };
    let index = (*keys.file().index, false);
    put_named(cipher, meta, keys.checks().take(1).collect(), index)
}

#[cfg(feature = "encryption")]
fn put_named(
    cipher: &RecordCipher,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    named: NamedKeys,
    index: IndexKey,
) -> Result<()> {
    let record = seal_plain(RecordKind::Meta, SEALED_BY.as_bytes(), named)?;
    put(meta, SEALED_BY, &record)?;
    let key = meta::INDEX_KEY;
    let record = seal_value(cipher, RecordKind::Meta, key.as_bytes(), index)?;
    put(meta, key, &record)
}

fn put(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    key: &'static str,
    record: &[u8],
) -> Result<()> {
    meta.insert(key, record).map(drop).map_err(failure::storage)
}

fn secret_list(
    cipher: &RecordCipher,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<SecretList> {
    let named: Option<NamedKeys> = plain_if_there(meta, SEALED_BY)?;
    if named.is_none() {
        return plain(meta, meta::SECRETS);
    }
    let record = meta.get(meta::SECRETS).map_err(failure::storage)?;
    let record = record.ok_or_else(|| {
        let why = format!("the store's record {:?} is missing", meta::SECRETS);
        Error::new(ErrorKind::Corrupt, why)
    })?;
    open_value(
        cipher,
        RecordKind::Meta,
        meta::SECRETS.as_bytes(),
        record.value(),
    )
}

/// The secrets that client ids are signed with.
pub(crate) fn secrets(
    cipher: &RecordCipher,
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Vec<SecretRecord>> {
    let times: SecretTimes = plain_if_there(meta, meta::SECRET_TIMES)?.unwrap_or_default();
    let time_of = |name: u8| times.iter().find(|(of, _)| *of == name);
    let secrets = secret_list(cipher, meta)?.into_iter();
    let secrets = secrets.map(|(name, key)| {
        let made = time_of(name).map(|(_, made)| Timestamp(*made));
        SecretRecord(name, key, made)
    });
    Ok(secrets.collect())
}

/// Replaces the secrets that client ids are signed with.
pub(crate) fn put_secrets(
    cipher: &RecordCipher,
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    secrets: &[SecretRecord],
) -> Result<()> {
    let list: SecretList = secrets.iter().map(|s| (s.0, s.1)).collect();
    let record = seal_value(cipher, RecordKind::Meta, meta::SECRETS.as_bytes(), list)?;
    put(meta, meta::SECRETS, &record)?;
    put_times(meta, secrets)
}

/// Notes of a store that is opened for the first time that its secrets are made now. The copy of another store has noted
/// that already.
pub(crate) fn note_new(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    secrets: &mut [SecretRecord],
    now: Timestamp,
) -> Result<()> {
    let is_noted = meta.get(meta::SECRET_TIMES).map_err(failure::storage)?;
    if is_noted.is_some() {
        return Ok(());
    }
    drop(is_noted);
    for secret in &mut *secrets {
        secret.2 = Some(now);
    }
    put_times(meta, secrets)
}

fn put_times(
    meta: &mut Table<'_, &'static str, &'static [u8]>,
    secrets: &[SecretRecord],
) -> Result<()> {
    let times = secrets.iter().filter_map(|s| Some((s.0, s.2?.0)));
    let times: SecretTimes = times.collect();
    let record = seal_plain(RecordKind::Meta, meta::SECRET_TIMES.as_bytes(), times)?;
    put(meta, meta::SECRET_TIMES, &record)
}
