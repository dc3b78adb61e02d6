//! The name under which the store knows a client.

use crate::error::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// The name of a client in the store and its administration: the first 16 bytes of SHA-256 of the
/// [`ClientId`](crate::ClientId).
///
/// A key is not secret. It can be listed, logged and written into a ticket, because the id cannot be computed from
/// it. With a key, an administrator can end the client's session, but nobody can take it over. It is written as 32
/// hexadecimal digits, and read in either case:
///
/// ```
/// use cloakroom::ClientKey;
///
/// let key: ClientKey = "000102030405060708090a0b0c0d0e0f".parse()?;
/// assert_eq!(key.as_bytes(), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
/// assert_eq!(key.to_string(), "000102030405060708090a0b0c0d0e0f");
/// # Ok::<(), cloakroom::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey([u8; 16]);

impl ClientKey {
    pub(super) fn of(id: &[u8]) -> Self {
        let digest = Sha256::digest(id);
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(key)
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClientKey {
    type Err = Error;

    /// Reads exactly 32 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for anything else. The error does not repeat the text, because it
    /// may be an id pasted by mistake.
    fn from_str(text: &str) -> Result<Self> {
        let value = (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidInput,
                    "a client key is exactly 32 hexadecimal digits",
                )
            })?;
        Ok(Self(value.to_be_bytes()))
    }
}
