//! Rows as the journal and the memtables have them: the key, which names the tree, and the value.

use crate::client_id::ClientKey;
use crate::storage::ContainerId;
use crate::storage::record::session_key;
use crate::storage::redb::names;
use bytes::Bytes;
use std::borrow::Borrow;
use std::ops::Bound;

/// The tree that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RowTree {
    Sessions = 0,
    Packages = 1,
    Tombstones = 2,
    Owners = 3,
}

impl RowTree {
    pub(crate) const ALL: [Self; 4] = [
        Self::Sessions,
        Self::Packages,
        Self::Tombstones,
        Self::Owners,
    ];

    /// The name of its table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sessions => names::SESSIONS,
            Self::Packages => names::PACKAGES,
            Self::Tombstones => names::TOMBSTONES,
            Self::Owners => names::OWNERS,
        }
    }
}

/// Where a row is: a byte that names its tree, then its key there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowKey(pub(super) Box<[u8]>);

impl Borrow<[u8]> for RowKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl RowKey {
    /// The key of a session's row in [`RowTree::Sessions`].
    pub(crate) fn of_session(container: ContainerId, client: ClientKey) -> [u8; 21] {
        Self::session_in(RowTree::Sessions, container, client)
    }

    fn session_in(tree: RowTree, container: ContainerId, client: ClientKey) -> [u8; 21] {
        let mut key = [tree as u8; 21];
        let (_, rest) = key.split_at_mut(1);
        rest.copy_from_slice(&session_key(container, client));
        key
    }

    /// Calls `look` with the key of a package's row, which is put together on the stack unless it is long.
    pub(crate) fn with_package<T>(
        container: ContainerId,
        client: ClientKey,
        package: &str,
        look: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let session = Self::session_in(RowTree::Packages, container, client);
        let mut short = [0; 96];
        let len = session.len() + package.len();
        match short.get_mut(..len) {
            Some(key) => {
                let (head, tail) = key.split_at_mut(session.len());
                head.copy_from_slice(&session);
                tail.copy_from_slice(package.as_bytes());
                look(key)
            }
            None => look(&[&session, package.as_bytes()].concat()),
        }
    }

    pub(crate) fn new(tree: RowTree, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + 1);
        bytes.push(tree as u8);
        bytes.extend_from_slice(key);
        Self(bytes.into())
    }

    /// A key as it was written; `None` if it is no valid key.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let key = Self(bytes.into());
        let (tree, rest) = key.split()?;
        let fits = match tree {
            RowTree::Sessions => rest.len() == 20,
            RowTree::Packages => rest.len() >= 20,
            RowTree::Tombstones => rest.len() == 16,
            RowTree::Owners => rest.len() == 36,
        };
        fits.then_some(key)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Box<[u8]> {
        self.0
    }

    /// The tree, and the key in it.
    pub(crate) fn split(&self) -> Option<(RowTree, &[u8])> {
        let (tree, key) = self.0.split_first()?;
        let tree = *RowTree::ALL.get(usize::from(*tree))?;
        Some((tree, key))
    }
}

/// A range of keys, as bytes.
pub(crate) type KeyRange = (Bound<Box<[u8]>>, Bound<Box<[u8]>>);

/// A row to be written; without a value it is removed.
#[derive(Clone, Debug)]
pub(crate) struct RowWrite {
    pub(crate) key: RowKey,
    pub(crate) value: Option<Bytes>,
}

impl RowWrite {
    /// Key and value, as a frame holds them.
    pub(crate) fn as_parts(&self) -> (&[u8], Option<&[u8]>) {
        (self.key.as_bytes(), self.value.as_deref())
    }

    /// How many bytes key and value have.
    pub(crate) fn len(&self) -> usize {
        self.key.0.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}
