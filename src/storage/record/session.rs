//! The row of a session, and its key.

use super::codec::{PayloadReader, RecordKind, gather, millis, open, seal};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::expiry::Times;
use crate::storage::ContainerId;
use std::sync::Arc;
use std::time::Duration;

/// The key of a session row.
pub(crate) fn session_key(container: ContainerId, client: ClientKey) -> [u8; 20] {
    let mut key = [0; 20];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&container.0.to_be_bytes());
    tail.copy_from_slice(client.as_bytes());
    key
}

/// The client of a session row's key.
pub(crate) fn client_of(key: &[u8; 20]) -> ClientKey {
    let mut client = [0; 16];
    for (to, from) in client.iter_mut().zip(key.iter().skip(4)) {
        *to = *from;
    }
    ClientKey::from_bytes(client)
}

/// One client in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) created: Timestamp,
    pub(crate) last_access: Timestamp,
    pub(crate) timeout: Option<Duration>,
    pub(crate) owner: Option<Arc<str>>,
    /// The number of the commit that founded it: tells it from a later session of the same client (C2.11).
    pub(crate) incarnation: u64,
    /// The packages that have a row, sorted, so that a lost one is noticed (C5.4).
    pub(crate) packages: Arc<[Arc<str>]>,
}

impl SessionRow {
    pub(crate) fn times(&self) -> Times {
        Times {
            created: self.created,
            last_access: self.last_access,
            timeout: self.timeout,
        }
    }

    pub(crate) fn has(&self, package: &str) -> bool {
        self.packages
            .binary_search_by(|p| (**p).cmp(package))
            .is_ok()
    }

    pub(crate) fn encode(&self, key: &[u8]) -> Result<Vec<u8>> {
        let timeout = self.timeout.map(millis);
        seal(
            RecordKind::Session,
            key,
            (
                self.created.0,
                self.last_access.0,
                timeout,
                self.owner.as_deref(),
                self.incarnation,
                &*self.packages,
            ),
        )
    }

    pub(crate) fn decode(key: &[u8], record: &[u8]) -> Result<Self> {
        type Head<'a> = (i64, i64, Option<u64>, Option<&'a str>, u64);
        let payload = open(RecordKind::Session, key, record)?;
        let mut parts = PayloadReader::new(RecordKind::Session, payload);
        let (created, last_access, timeout, owner, incarnation): Head<'_> = parts.next()?;
        let count = parts.count()?;
        let packages = gather(count, || parts.next().map(<&str>::into))?;
        parts.end()?;
        Ok(Self {
            created: Timestamp(created),
            last_access: Timestamp(last_access),
            timeout: timeout.map(Duration::from_millis),
            owner: owner.map(Arc::from),
            incarnation,
            packages,
        })
    }
}
