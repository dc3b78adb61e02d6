//! Encrypts what records hold of sessions, and decrypts it. A store without keys does neither.

use super::codec::{
    ENCRYPTED, FORMAT, PlainValue, RecordKind, append, close, config, corrupt, verified, whole,
};
use super::context::RecordContext;
#[cfg(feature = "encryption")]
use super::keys::{FileKeys, RecordKeys};
#[cfg(feature = "encryption")]
use crate::encryption::KeyRing;
use crate::error::Result;
use sha2::{Digest, Sha256};
#[cfg(feature = "encryption")]
use std::sync::Arc;

/// Encrypts and decrypts the records of a store.
#[derive(Clone, Default)]
pub(crate) enum RecordCipher {
    /// The store has no keys.
    #[default]
    Plain,
    #[cfg(feature = "encryption")]
    Keyed(Arc<RecordKeys>),
}

/// The hashes of an owner in the index of owners: the one that is written now, and the one in rows from before the
/// store had keys.
pub(crate) struct OwnerHashes {
    pub(crate) current: [u8; 16],
    pub(crate) former: Option<[u8; 16]>,
}

impl OwnerHashes {
    pub(crate) fn all(self) -> impl Iterator<Item = [u8; 16]> {
        std::iter::once(self.current).chain(self.former)
    }
}

impl RecordCipher {
    /// Whether it encrypts.
    pub(crate) fn encrypts(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Whether it knows the file's records about keys, or needs none.
    pub(crate) fn knows_file(&self) -> bool {
        match self {
            Self::Plain => true,
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) => keys.knows_file(),
        }
    }

    /// Encrypts the bytes of a record from `start` on, and marks its format. Does nothing without keys.
    pub(super) fn encrypt(
        &self,
        context: RecordContext<'_>,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<()> {
        match self {
            Self::Plain => {
                let _ = (context, record, start);
                Ok(())
            }
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) => {
                if let Some(format) = record.first_mut() {
                    *format |= ENCRYPTED;
                }
                keys.encrypt(context, record, start)
            }
        }
    }

    /// Appends to `clear` what `encrypted` holds, of a record of this format.
    pub(super) fn decrypt(
        &self,
        context: RecordContext<'_>,
        format: u8,
        encrypted: &[u8],
        clear: Vec<u8>,
    ) -> Result<Vec<u8>> {
        match self {
            Self::Plain => {
                let _ = (format, encrypted, clear);
                let why = "it is encrypted, and the store has no keys";
                Err(corrupt(context.kind, why))
            }
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) => keys.decrypt(context, format, encrypted, clear),
        }
    }

    /// Refuses a record that is not encrypted in a store all of whose records are: somebody else wrote it.
    pub(super) fn accept_plain(&self, kind: RecordKind) -> Result<()> {
        match self {
            Self::Plain => {
                let _ = kind;
                Ok(())
            }
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) if keys.file().accepts_plain => Ok(()),
            #[cfg(feature = "encryption")]
            Self::Keyed(_) => {
                let why = "it is not encrypted, as all records of this store are";
                Err(corrupt(kind, why))
            }
        }
    }

    /// Whether entries of the index of owners may have another hash than the one that is written.
    pub(crate) fn has_former_hashes(&self) -> bool {
        match self {
            Self::Plain => false,
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) => keys.file().has_former_hashes,
        }
    }

    pub(crate) fn owner_hashes(&self, owner: &str) -> OwnerHashes {
        match self {
            Self::Plain => OwnerHashes {
                current: plain_hash(owner),
                former: None,
            },
            #[cfg(feature = "encryption")]
            Self::Keyed(keys) => OwnerHashes {
                current: keys.owner_hash(owner),
                former: self.has_former_hashes().then(|| plain_hash(owner)),
            },
        }
    }
}

impl std::fmt::Debug for RecordCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            #[cfg(feature = "encryption")]
            Self::Keyed(_) => "Keyed",
        })
    }
}

#[cfg(feature = "encryption")]
impl RecordCipher {
    /// The cipher of a store with these keys.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::error::ErrorKind::InvalidInput) if two keys have the same number.
    pub(crate) fn of(ring: &KeyRing) -> Result<Self> {
        Ok(Self::Keyed(Arc::new(RecordKeys::of(ring)?)))
    }

    /// The same keys, for a file that is yet to be read.
    pub(crate) fn afresh(&self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Keyed(keys) => Self::Keyed(Arc::new(keys.afresh())),
        }
    }

    /// Of a file that has been read.
    pub(crate) fn know(&self, file: FileKeys) {
        if let Self::Keyed(keys) = self {
            keys.know(file);
        }
    }

    pub(crate) fn keys(&self) -> Option<&RecordKeys> {
        match self {
            Self::Plain => None,
            Self::Keyed(keys) => Some(keys),
        }
    }
}

/// Encodes a record of one value, encrypted if there are keys.
pub(crate) fn seal_value(
    cipher: &RecordCipher,
    kind: RecordKind,
    key: &[u8],
    value: impl PlainValue,
) -> Result<Vec<u8>> {
    let mut record = vec![FORMAT];
    append(&mut record, value)?;
    cipher.encrypt(RecordContext::new(kind, key), &mut record, 1)?;
    close(kind, key, &mut record);
    Ok(record)
}

/// Decodes a record of [`seal_value`] that is encrypted.
pub(crate) fn open_value<T: PlainValue>(
    cipher: &RecordCipher,
    kind: RecordKind,
    key: &[u8],
    record: &[u8],
) -> Result<T> {
    let (format, payload) = verified(kind, key, record)?;
    if format & ENCRYPTED == 0 {
        return Err(corrupt(kind, "it is not encrypted"));
    }
    let context = RecordContext::new(kind, key);
    let plain = cipher.decrypt(context, format, payload, Vec::new())?;
    whole(kind, &plain, |payload| {
        bincode::decode_from_slice(payload, config())
    })
}

fn plain_hash(owner: &str) -> [u8; 16] {
    let hash = Sha256::digest(owner.as_bytes());
    let mut first = [0; 16];
    first.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    first
}
