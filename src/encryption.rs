//! The keys that the application gives for the encryption of a store's files. Knows neither records nor files.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// The keys that a store seals its records with: a current one, and older ones that records may still be sealed with.
/// [`StoreBuilder::encryption`](crate::StoreBuilder::encryption) takes it.
///
/// Each key is 32 bytes and has a number, which the records name. A number belongs to one key for ever. Take the bytes
/// from the operating system's random numbers, keep them apart from the files and their backups, and give each store
/// a ring of its own. A ring wipes its keys from memory when it is dropped, and never prints them.
///
/// To rotate the keys, open the store with a ring whose current key is the new one. From then on, new records are
/// sealed with it. [`Store::reseal`](crate::Store::reseal) seals the other records with it too. After that, the older
/// key is needed for backups only.
///
/// ```
/// use cloakroom::{KeyRing, Store};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("sessions.redb");
/// # let (first_key, second_key) = ([1; 32], [2; 32]);
/// let ring = KeyRing::new(1, first_key);
/// let store = Store::builder().encryption(ring).open(&path)?;
/// # store.close()?;
///
/// let ring = KeyRing::new(2, second_key).with_older(1, first_key);
/// assert_eq!(format!("{ring:?}"), "KeyRing { current: 2, older: [1] }");
/// let store = Store::builder().encryption(ring).open(&path)?;
/// store.reseal(|_| std::ops::ControlFlow::Continue(()))?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeyRing {
    current: RingKey,
    older: Vec<RingKey>,
}

/// A key and its number.
#[derive(Clone)]
pub(crate) struct RingKey {
    pub(crate) number: u32,
    pub(crate) bytes: Zeroizing<[u8; 32]>,
}

impl RingKey {
    fn new(number: u32, mut key: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(key);
        key.zeroize();
        Self { number, bytes }
    }
}

impl KeyRing {
    /// A ring with one key, with which everything is sealed that is written.
    #[must_use]
    pub fn new(number: u32, key: [u8; 32]) -> Self {
        Self {
            current: RingKey::new(number, key),
            older: Vec::new(),
        }
    }

    /// Adds a key that records may still be sealed with.
    #[must_use]
    pub fn with_older(mut self, number: u32, key: [u8; 32]) -> Self {
        self.older.push(RingKey::new(number, key));
        self
    }

    /// The number of the current key.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.current.number
    }

    /// The current key first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RingKey> {
        std::iter::once(&self.current).chain(&self.older)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let older: Vec<_> = self.older.iter().map(|key| key.number).collect();
        f.debug_struct("KeyRing")
            .field("current", &self.current.number)
            .field("older", &older)
            .finish()
    }
}
