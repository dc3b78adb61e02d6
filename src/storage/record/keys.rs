//! The keys of a store, ready for use: XChaCha20-Poly1305 for records, HMAC-SHA-256 for the index of owners.

use super::codec::{ENCRYPTED, RecordKind, corrupt};
use super::context::RecordContext;
use crate::encryption::KeyRing;
use crate::error::{Error, ErrorKind, Result};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::sync::{Arc, OnceLock};
use zeroize::Zeroizing;

const NUMBER: usize = size_of::<u32>();
const NONCE: usize = 24;
const TAG: usize = 16;

/// The uses of the keys of a ring. Each use has a key of its own.
const FOR_RECORDS: &[u8] = b"cloakroom records v1\0";
const FOR_CHECKS: &[u8] = b"cloakroom key check v1\0";

/// A key that records are encrypted with.
struct RecordKey {
    number: u32,
    cipher: XChaCha20Poly1305,
    /// Tells in a file which key has this number, without giving it away.
    check: [u8; 16],
}

/// The facts in a file about its use of keys. They do not change while the store is open.
pub(crate) struct FileKeys {
    /// The key of the hashes in the index of owners.
    pub(crate) index: Zeroizing<[u8; 32]>,
    /// Whether records may be plain that were written before the store had keys.
    pub(crate) accepts_plain: bool,
    /// Whether the index of owners may have entries from that time.
    pub(crate) has_former_hashes: bool,
}

/// The keys of a store. The first one is the current one.
pub(crate) struct RecordKeys {
    keys: Arc<[RecordKey]>,
    file: OnceLock<FileKeys>,
    /// Until the file was read.
    unknown: FileKeys,
}

fn keyed(key: &[u8; 32], text: &[u8]) -> Result<[u8; 32]> {
    let mut hmac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).map_err(|e| {
        Error::new(ErrorKind::InvalidInput, "a key has another length").with_source(e)
    })?;
    hmac.update(text);
    Ok(hmac.finalize().into_bytes().into())
}

fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    half
}

impl RecordKeys {
    pub(super) fn of(ring: &KeyRing) -> Result<Self> {
        let mut keys = Vec::<RecordKey>::new();
        for key in ring.keys() {
            if keys.iter().any(|known| known.number == key.number) {
                let why = format!("two keys of the ring have the number {}", key.number);
                return Err(Error::new(ErrorKind::InvalidInput, why));
            }
            let own = Zeroizing::new(keyed(&key.bytes, FOR_RECORDS)?);
            keys.push(RecordKey {
                number: key.number,
                cipher: XChaCha20Poly1305::new((&*own).into()),
                check: first_half(keyed(&key.bytes, FOR_CHECKS)?),
            });
        }
        Ok(Self::new(keys.into()))
    }

    fn new(keys: Arc<[RecordKey]>) -> Self {
        Self {
            keys,
            file: OnceLock::new(),
            unknown: FileKeys {
                index: Zeroizing::new([0; 32]),
                accepts_plain: false,
                has_former_hashes: false,
            },
        }
    }

    pub(super) fn afresh(&self) -> Self {
        Self::new(self.keys.clone())
    }

    pub(super) fn know(&self, file: FileKeys) {
        let _ = self.file.set(file);
    }

    /// Whether the file was read.
    pub(crate) fn knows_file(&self) -> bool {
        self.file.get().is_some()
    }

    pub(crate) fn file(&self) -> &FileKeys {
        self.file.get().unwrap_or(&self.unknown)
    }

    /// The number of each key with its check, the current one first.
    pub(crate) fn checks(&self) -> impl Iterator<Item = (u32, [u8; 16])> {
        self.keys.iter().map(|key| (key.number, key.check))
    }

    /// Whether a record need not be encrypted again: it is, with the current key.
    pub(crate) fn is_current(&self, kind: RecordKind, record: &[u8]) -> bool {
        let start = RecordContext::start_of(kind);
        let is_encrypted = record.first().is_some_and(|it| it & ENCRYPTED != 0);
        let number = record.get(start..).and_then(<[u8]>::first_chunk);
        let number = number.map(|number| u32::from_le_bytes(*number));
        is_encrypted && number.is_some() && number == self.keys.first().map(|key| key.number)
    }

    pub(super) fn owner_hash(&self, owner: &str) -> [u8; 16] {
        // A key of 32 bytes always fits.
        first_half(keyed(&self.file().index, owner.as_bytes()).unwrap_or_default())
    }

    pub(super) fn encrypt(
        &self,
        context: RecordContext<'_>,
        record: &mut Vec<u8>,
        start: usize,
    ) -> Result<()> {
        let failed = || Error::new(ErrorKind::InvalidInput, "a record cannot be encrypted");
        let key = self.keys.first().ok_or_else(failed)?;
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|e| {
            Error::new(
                ErrorKind::Unavailable,
                "the operating system gave no random bytes",
            )
            .with_source(e)
        })?;
        let format = record.first().copied().ok_or_else(failed)?;
        let content = start + NUMBER + NONCE;
        let more = [&key.number.to_le_bytes()[..], &nonce].concat();
        record.reserve(more.len() + TAG + size_of::<u64>());
        record.splice(start..start, more);
        let buffer = record.get_mut(content..).ok_or_else(failed)?;
        let sealed = key.cipher.encrypt_inout_detached(
            (&nonce).into(),
            &associated_data(context, format),
            buffer.into(),
        );
        let tag = sealed.map_err(|_| failed())?;
        record.extend_from_slice(&tag);
        Ok(())
    }

    pub(super) fn decrypt(
        &self,
        context: RecordContext<'_>,
        format: u8,
        encrypted: &[u8],
        mut clear: Vec<u8>,
    ) -> Result<Vec<u8>> {
        let short = || corrupt(context.kind, "it is too short");
        let (number, rest) = encrypted.split_first_chunk().ok_or_else(short)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or_else(short)?;
        let (content, tag) = rest.split_last_chunk::<TAG>().ok_or_else(short)?;
        let number = u32::from_le_bytes(*number);
        let mut keys = self.keys.iter();
        let key = keys.find(|key| key.number == number).ok_or_else(|| {
            let why =
                format!("it is encrypted with the key {number}, which the store does not have");
            corrupt(context.kind, &why)
        })?;
        let start = clear.len();
        clear.extend_from_slice(content);
        let buffer = clear.get_mut(start..).ok_or_else(short)?;
        let opened = key.cipher.decrypt_inout_detached(
            nonce.into(),
            &associated_data(context, format),
            buffer.into(),
            tag.into(),
        );
        let forged = "it was changed, or belongs to another place";
        opened.map_err(|_| corrupt(context.kind, forged))?;
        Ok(clear)
    }
}

/// The data that the encryption binds a record to, besides its content.
fn associated_data(context: RecordContext<'_>, format: u8) -> Vec<u8> {
    let mut associated = Vec::with_capacity(10 + context.key.len());
    associated.extend_from_slice(&[context.kind as u8, format]);
    associated.extend_from_slice(&context.incarnation.to_le_bytes());
    associated.extend_from_slice(context.key);
    associated
}
