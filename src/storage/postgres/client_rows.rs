//! All that the server has of one client, as it was read, and how a commit changes it. Knows no server.

use super::body::{self, PackageRecord, SessionRecord};
use super::seen::{EndRecord, SeenTimes, decode_end, decode_seen};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::record::{PackageRow, RecordCipher, SessionRow, package_key, session_key};
use crate::storage::{ContainerId, Version};
use bytes::Bytes;
use std::sync::Arc;

/// The columns of a client's row, as they are stored.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredRow {
    pub(super) version: u64,
    pub(super) past: Vec<u8>,
    pub(super) seen: Vec<u8>,
    pub(super) body: Option<Bytes>,
    pub(super) ended: Option<Vec<u8>>,
    pub(super) owners: Option<Vec<Vec<u8>>>,
    pub(super) sweep_at: Option<i64>,
    /// The packages with rows of their own, by place.
    pub(super) spilled: Vec<(Vec<u8>, Bytes)>,
}

/// How many earlier versions a row names.
const PAST: usize = 16;

/// All that is stored of one client. The default: there is no row.
#[derive(Clone, Debug, Default)]
pub(super) struct StoredClient {
    /// The row as it is stored. `None`: there is none.
    pub(super) stored: Option<StoredRow>,
    /// Sorted by container.
    pub(super) sessions: Vec<RowSession>,
    pub(super) seen: Vec<SeenTimes>,
    pub(super) end: Option<EndRecord>,
    /// Whether a record of it was damaged or missing when it was read.
    pub(super) is_damaged: bool,
}

/// The session of a client in one container.
#[derive(Clone, Debug)]
pub(super) struct RowSession {
    pub(super) record: SessionRecord,
    /// The decoded row, with its newest times, or how it is damaged.
    pub(super) row: Result<SessionRow>,
}

impl StoredClient {
    /// Decodes a row. A damaged session is an error in its place; a row that cannot be taken apart is an error.
    pub(super) fn decode(
        client: ClientKey,
        mut stored: StoredRow,
        cipher: &RecordCipher,
    ) -> Result<Self> {
        let seen = decode_seen(client, &stored.seen)?;
        let end = stored.ended.as_deref();
        let end = end.map(|end| decode_end(client, end)).transpose()?;
        let spilled = std::mem::take(&mut stored.spilled);
        let records = match &stored.body {
            Some(body) => body::decode(client, body.clone(), spilled)?,
            None => Vec::new(),
        };
        let sessions = records.into_iter().map(|record| {
            let key = session_key(record.container, client);
            let row = SessionRow::decode(&key, &record.record, cipher);
            let row = row.map(|row| with_times(row, record.container, &seen));
            RowSession { record, row }
        });
        let sessions: Vec<_> = sessions.collect();
        Ok(Self {
            is_damaged: sessions.iter().any(|it| it.is_damaged(client, cipher)),
            sessions,
            seen,
            end,
            stored: Some(stored),
        })
    }

    /// The same row with the times that are stored now.
    pub(super) fn with_stored_times(
        self: &Arc<Self>,
        client: ClientKey,
        seen: &[u8],
        sweep_at: Option<i64>,
    ) -> Result<Arc<Self>> {
        let stored = self.stored.as_ref();
        if stored.is_none_or(|row| row.seen == seen && row.sweep_at == sweep_at) {
            return Ok(self.clone());
        }
        let mut rows = Self::clone(self);
        rows.seen = decode_seen(client, seen)?;
        rows.show_times();
        if let Some(stored) = &mut rows.stored {
            stored.seen = seen.to_vec();
            stored.sweep_at = sweep_at;
        }
        Ok(Arc::new(rows))
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.stored.as_ref().map(|row| row.version)
    }

    /// Whether this commit made the row, or one of its recent versions.
    pub(super) fn is_or_was(&self, version: u64) -> bool {
        let past = || self.stored.iter().flat_map(|row| past_of(&row.past));
        self.version() == Some(version) || past().any(|it| it == version)
    }

    /// Whether the row names all versions that it ever had, or there is none.
    pub(super) fn names_all_versions(&self) -> bool {
        let row = self.stored.as_ref();
        row.is_none_or(|row| past_of(&row.past).count() < PAST)
    }

    /// Whether the row was only put there for a client that is absent.
    pub(super) fn stands_for_absence(&self) -> bool {
        let row = self.stored.as_ref();
        row.is_some_and(|row| row.past.is_empty() && row.body.is_none() && row.ended.is_none())
    }

    pub(super) fn session_of(&self, container: ContainerId) -> Option<&RowSession> {
        let find = |it: &RowSession| it.record.container.cmp(&container);
        let at = self.sessions.binary_search_by(find).ok()?;
        self.sessions.get(at)
    }

    pub(super) fn session(&self, container: ContainerId) -> Result<Option<SessionRow>> {
        let session = self.session_of(container);
        session.map(|it| it.row.clone()).transpose()
    }

    pub(super) fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        cipher: &RecordCipher,
    ) -> Result<Option<PackageRow>> {
        let Some(record) = self.package_record(container, package) else {
            return Ok(None);
        };
        let key = package_key(container, client, package);
        PackageRow::decode(&key, record.clone(), cipher).map(Some)
    }

    /// The stored record of a package.
    pub(super) fn package_record(&self, container: ContainerId, package: &str) -> Option<&Bytes> {
        let session = self.session_of(container)?;
        session.record.package(package)?.record.as_ref()
    }

    pub(super) fn seen_of(
        &self,
        container: ContainerId,
        incarnation: Version,
    ) -> Option<&SeenTimes> {
        let mut seen = self.seen.iter();
        seen.find(|it| it.container == container && it.incarnation == incarnation)
    }

    /// Shows the newest times in the decoded rows.
    pub(super) fn show_times(&mut self) {
        for session in &mut self.sessions {
            if let Ok(row) = &mut session.row {
                *row = with_times(row.clone(), session.record.container, &self.seen);
            }
        }
    }

    /// Until when the id is refused.
    pub(super) fn tombstone(&self) -> Option<Timestamp> {
        self.end.and_then(|end| end.refused_until)
    }
}

impl RowSession {
    /// Whether a record is damaged or missing, of the session or of a package.
    fn is_damaged(&self, client: ClientKey, cipher: &RecordCipher) -> bool {
        let SessionRecord {
            container,
            packages,
            ..
        } = &self.record;
        let mut packages = packages.iter().map(|(name, package)| {
            let key = package_key(*container, client, name);
            let record = package.record.clone();
            record.is_none_or(|record| PackageRow::decode(&key, record, cipher).is_err())
        });
        self.row.is_err() || packages.any(|it| it)
    }
}

impl SessionRecord {
    fn package(&self, package: &str) -> Option<&PackageRecord> {
        let at = self
            .packages
            .binary_search_by(|(name, _)| (**name).cmp(package));
        self.packages.get(at.ok()?).map(|(_, record)| record)
    }

    /// Puts the record of a package in, or takes it out.
    pub(super) fn put(&mut self, package: &str, record: Option<PackageRecord>) {
        let at = self
            .packages
            .binary_search_by(|(name, _)| (**name).cmp(package));
        match (at, record) {
            (Ok(at), Some(record)) => {
                if let Some((_, old)) = self.packages.get_mut(at) {
                    *old = record;
                }
            }
            (Err(at), Some(record)) => self.packages.insert(at, (package.into(), record)),
            (Ok(at), None) => drop(self.packages.remove(at)),
            (Err(_), None) => {}
        }
    }
}

/// A row with its newest access times.
fn with_times(mut row: SessionRow, container: ContainerId, seen: &[SeenTimes]) -> SessionRow {
    let newest = seen
        .iter()
        .find(|it| it.container == container && it.incarnation == row.incarnation);
    if let Some(newest) = newest {
        row.access = newest.access;
    }
    row
}

/// The past of a row after a commit replaces its version.
pub(super) fn past_with(past: &[u8], replaced: u64) -> Vec<u8> {
    let kept = past.len().min((PAST - 1) * size_of::<u64>());
    let (kept, _) = past.split_at_checked(kept).unwrap_or_default();
    [&replaced.to_be_bytes(), kept].concat()
}

fn past_of(past: &[u8]) -> impl Iterator<Item = u64> {
    let (versions, _) = past.as_chunks::<8>();
    versions.iter().map(|version| u64::from_be_bytes(*version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::postgres::seen::encode_seen;
    use crate::storage::record::AccessPart;

    // C3.3: an access changes the times of a row, and not its version.
    #[test]
    fn a_known_row_shows_the_times_that_are_stored_now() {
        let client = ClientKey::from_bytes([7; 16]);
        let times = |second: i64| SeenTimes {
            container: ContainerId(0),
            incarnation: Version(3),
            access: AccessPart {
                last_access: Timestamp(second),
                created: Timestamp(0),
                id_issued: Timestamp(0),
                is_id_confirmed: true,
            },
            found_expired: None,
        };
        let seen = |second| encode_seen(client, &[times(second)]).unwrap();
        let stored = StoredRow {
            version: 9,
            seen: seen(1),
            sweep_at: Some(5),
            ..StoredRow::default()
        };
        let cipher = RecordCipher::default();
        let known = Arc::new(StoredClient::decode(client, stored, &cipher).unwrap());
        let same = known.with_stored_times(client, &seen(1), Some(5)).unwrap();
        assert!(Arc::ptr_eq(&same, &known));
        let newer = known.with_stored_times(client, &seen(2), Some(6)).unwrap();
        let shown = newer.seen_of(ContainerId(0), Version(3)).unwrap();
        assert_eq!(shown.access.last_access, Timestamp(2));
        let stored = newer.stored.as_ref().unwrap();
        assert_eq!((&stored.seen, stored.sweep_at), (&seen(2), Some(6)));
        assert!(known.with_stored_times(client, b"damaged", None).is_err());
    }

    // C10.2
    #[test]
    fn a_row_names_the_commits_before_the_last() {
        let mut rows = StoredClient {
            stored: Some(StoredRow::default()),
            ..StoredClient::default()
        };
        for version in 1..=20 {
            let row = rows.stored.as_mut().unwrap();
            row.past = past_with(&row.past, row.version);
            row.version = version;
        }
        let known: Vec<_> = (0..=21).filter(|it| rows.is_or_was(*it)).collect();
        assert_eq!(known, (4..=20).collect::<Vec<_>>());
        assert!(!StoredClient::default().is_or_was(0));
        assert!(!rows.names_all_versions() && !rows.stands_for_absence());
        let placed = StoredClient {
            stored: Some(StoredRow::default()),
            ..StoredClient::default()
        };
        assert!(placed.names_all_versions() && placed.stands_for_absence());
    }
}
