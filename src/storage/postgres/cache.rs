//! The rows of clients that this process read or wrote last. They are guesses: a load shows them, and a commit that starts from
//! them takes place, only if the server still has their versions.

use super::client_rows::StoredClient;
use crate::client_id::ClientKey;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// About how many bytes a client takes besides its body.
const FIXED: usize = 512;

#[derive(Debug)]
pub(super) struct RowCache {
    /// How many bytes of rows are kept.
    kept: usize,
    rows: HashMap<ClientKey, (u64, Arc<StoredClient>, usize)>,
    /// In the order in which they came. An entry that is not the newest of its client is passed over.
    order: VecDeque<(u64, ClientKey)>,
    next: u64,
    bytes: usize,
}

impl RowCache {
    pub(super) fn new(kept: usize) -> Self {
        Self {
            kept,
            rows: HashMap::new(),
            order: VecDeque::new(),
            next: 0,
            bytes: 0,
        }
    }

    pub(super) fn get(&self, client: ClientKey) -> Option<Arc<StoredClient>> {
        self.rows.get(&client).map(|(_, rows, _)| rows.clone())
    }

    /// Damaged rows are not kept: on the server they may be right by now.
    pub(super) fn put(&mut self, client: ClientKey, rows: Arc<StoredClient>) {
        if rows.is_damaged {
            return self.remove(client);
        }
        let size = size_of_rows(&rows);
        let number = self.next;
        self.next += 1;
        self.bytes += size;
        if let Some((_, _, before)) = self.rows.insert(client, (number, rows, size)) {
            self.bytes -= before;
        }
        self.order.push_back((number, client));
        let is_newest = |rows: &HashMap<_, (u64, _, _)>, number: u64, client: ClientKey| {
            rows.get(&client)
                .is_some_and(|(newest, ..)| *newest == number)
        };
        while self.bytes > self.kept
            && let Some((number, client)) = self.order.pop_front()
        {
            if is_newest(&self.rows, number, client) {
                self.remove(client);
            }
        }
        if self.order.len() > 2 * self.rows.len() + 16 {
            let rows = &self.rows;
            self.order
                .retain(|(number, client)| is_newest(rows, *number, *client));
        }
    }

    pub(super) fn remove(&mut self, client: ClientKey) {
        if let Some((_, _, size)) = self.rows.remove(&client) {
            self.bytes -= size;
        }
    }
}

/// About how many bytes the rows of a client take. Packages with rows of their own are not in the body.
fn size_of_rows(rows: &StoredClient) -> usize {
    let body = rows.stored.as_ref().and_then(|row| row.body.as_ref());
    let sessions = rows.sessions.iter();
    let packages = sessions.flat_map(|session| &session.record.packages);
    let spilled = packages.filter(|(_, package)| package.is_spilled);
    let spilled = spilled.filter_map(|(_, package)| package.record.as_ref());
    let spilled: usize = spilled.map(bytes::Bytes::len).sum();
    FIXED + 2 * body.map_or(0, bytes::Bytes::len) + spilled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::storage::ContainerId;
    use crate::storage::postgres::body::{PackageRecord, SessionRecord};
    use crate::storage::postgres::client_rows::RowSession;
    use bytes::Bytes;

    #[test]
    fn packages_with_rows_of_their_own_count() {
        let large = || PackageRecord::new(Bytes::from(vec![0; 1 << 20]));
        let session = RowSession {
            record: SessionRecord {
                container: ContainerId(0),
                record: Bytes::new(),
                packages: vec![("a".into(), large()), ("b".into(), large())],
            },
            row: Err(Error::new(ErrorKind::Corrupt, "not read here")),
        };
        let rows = StoredClient {
            sessions: vec![session],
            ..StoredClient::default()
        };
        let rows = Arc::new(rows);
        let mut cache = RowCache::new(32 << 20);
        for n in 0..100u128 {
            cache.put(ClientKey::from_bytes(n.to_be_bytes()), rows.clone());
        }
        let kept = cache.rows.len();
        assert!((1..=16).contains(&kept), "{kept} times 2 MiB in 32 MiB");
    }

    #[test]
    fn it_keeps_the_newest_rows_within_its_bound() {
        let client = |n: u64| ClientKey::from_bytes(u128::from(n).to_be_bytes());
        let most = 64;
        let mut cache = RowCache::new(64 * FIXED);
        for n in 0..=most {
            cache.put(client(n), Arc::default());
        }
        assert!(cache.get(client(0)).is_none());
        assert!(cache.get(client(1)).is_some() && cache.get(client(most)).is_some());
        for _ in 0..1000 {
            cache.put(client(most), Arc::default());
        }
        assert!(cache.order.len() <= 2 * cache.rows.len() + 16);
        for n in 2..=most {
            assert!(cache.get(client(n)).is_some(), "{n} fits in");
        }
        let damaged = StoredClient {
            is_damaged: true,
            ..StoredClient::default()
        };
        cache.put(client(most), Arc::new(damaged));
        assert!(cache.get(client(most)).is_none());
        for n in 0..=most {
            cache.remove(client(n));
        }
        assert_eq!(cache.bytes, 0);
    }
}
