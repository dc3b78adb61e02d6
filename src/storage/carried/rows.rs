//! The rows that came with a request, and their encoding.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{
    AccessPart, PackageRow, RecordCipher, SessionRow, package_key, session_key,
};
use crate::storage::{ContainerId, MergedWrites};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// The sessions and packages of one visitor, in containers that live in the visitor's cookie.
#[derive(Clone, Debug, Default)]
pub(crate) struct CarriedRows {
    sessions: HashMap<(ContainerId, ClientKey), SessionRow>,
    /// Records, by their keys.
    packages: HashMap<Vec<u8>, Bytes>,
}

impl CarriedRows {
    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(crate) fn session(&self, container: ContainerId, client: ClientKey) -> Option<&SessionRow> {
        self.sessions.get(&(container, client))
    }

    pub(crate) fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        let key = package_key(container, client, package);
        let record = self.packages.get(&key).cloned();
        record
            .map(|record| PackageRow::decode(&key, record, &RecordCipher::Plain))
            .transpose()
    }

    /// The session in a container, of any client.
    pub(crate) fn session_in(&self, container: ContainerId) -> Option<(ClientKey, &SessionRow)> {
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|((at, _), _)| *at == container);
        found.map(|((_, client), row)| (*client, row))
    }

    /// Keeps only the sessions that `picked` accepts. No session lists the packages of the others any more.
    pub(crate) fn retain(&mut self, picked: impl Fn(ContainerId, ClientKey) -> bool) {
        self.sessions.retain(|(at, client), _| picked(*at, *client));
    }

    /// Replaces the rows of a container.
    pub(crate) fn replace(&mut self, container: ContainerId, other: &Self) {
        self.sessions.retain(|(at, _), _| *at != container);
        if let Some((client, row)) = other.session_in(container) {
            self.sessions.insert((container, client), row.clone());
            for package in row.packages.iter() {
                let key = package_key(container, client, package);
                if let Some(record) = other.packages.get(&key) {
                    self.packages.insert(key, record.clone());
                }
            }
        }
    }

    /// Changes the times of a session.
    pub(crate) fn access(
        &mut self,
        container: ContainerId,
        client: ClientKey,
        change: impl FnOnce(&mut AccessPart),
    ) {
        if let Some(row) = self.sessions.get_mut(&(container, client)) {
            change(&mut row.access);
        }
    }

    /// Applies the writes of a commit to these containers. Returns the containers with changes.
    pub(super) fn apply(&mut self, writes: MergedWrites) -> BTreeSet<ContainerId> {
        let mut changed = BTreeSet::new();
        for write in writes.packages {
            changed.insert(write.container);
            match write.row {
                Some(row) => self.packages.insert(write.key, row.into()),
                None => self.packages.remove(&write.key),
            };
        }
        for write in writes.sessions {
            let at = (write.container, write.client);
            // A row that leads from a renewed id to its session belongs to the engine.
            let row = write.row.filter(|row| row.optional.moved.is_none());
            let row = row.map(SessionRow::without_owner);
            if self.sessions.get(&at) == row.as_ref() {
                continue;
            }
            changed.insert(write.container);
            match row {
                Some(row) => {
                    // A cookie holds one session.
                    self.sessions.retain(|(it, _), _| *it != write.container);
                    self.sessions.insert(at, row)
                }
                None => self.sessions.remove(&at),
            };
        }
        changed
    }

    /// Encodes the session in a container with its packages.
    pub(crate) fn encode(&self, container: ContainerId, client: ClientKey) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let Some(row) = self.session(container, client) else {
            return Ok(out);
        };
        // The whole cookie is sealed.
        let key = session_key(container, client);
        put(&mut out, &row.encode(&key, &RecordCipher::Plain)?)?;
        for package in row.packages.iter() {
            let record = self.packages.get(&package_key(container, client, package));
            put(&mut out, record.map(|it| &**it).unwrap_or_default())?;
        }
        Ok(out)
    }

    /// Adds the rows that [`encode`](Self::encode) returned for this client and container.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the bytes are something else. Then no row is added.
    pub(crate) fn decode(
        &mut self,
        container: ContainerId,
        client: ClientKey,
        encoded: &[u8],
    ) -> Result<()> {
        let mut rest = encoded;
        let key = session_key(container, client);
        let row = SessionRow::decode(&key, take(&mut rest)?, &RecordCipher::Plain)?;
        let mut packages = Vec::with_capacity(row.packages.len());
        for package in row.packages.iter() {
            let key = package_key(container, client, package);
            let record = Bytes::copy_from_slice(take(&mut rest)?);
            PackageRow::decode(&key, record.clone(), &RecordCipher::Plain)?;
            packages.push((key, record));
        }
        if !rest.is_empty() {
            return Err(corrupt());
        }
        self.packages.extend(packages);
        self.sessions
            .insert((container, client), row.without_owner());
        Ok(())
    }
}

/// Appends a part with its length.
fn put(out: &mut Vec<u8>, part: &[u8]) -> Result<()> {
    let len = u32::try_from(part.len());
    let len = len.map_err(|e| corrupt().with_source(e))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(part);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>().ok_or_else(corrupt)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    let (part, after) = after.split_at_checked(len).ok_or_else(corrupt)?;
    *rest = after;
    Ok(part)
}

fn corrupt() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "rows from a cookie are not what was encoded",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::storage::{PackageWrite, SessionWrite, Version};

    const AT: ContainerId = ContainerId(7);

    fn client() -> ClientKey {
        ClientKey::from_bytes([3; 16])
    }

    fn rows() -> CarriedRows {
        let mut row = SessionRow::new(Timestamp(5), Version::ANY);
        row.packages = vec!["a".into(), "b".into()].into();
        row.owner = Some("ann".into());
        let package = |name: &str| {
            let key = package_key(AT, client(), name);
            let entries = [("k", name.as_bytes())].into_iter();
            PackageWrite {
                container: AT,
                row: Some(PackageRow::encode(&key, Version::ANY, entries).unwrap()),
                key,
            }
        };
        let mut rows = CarriedRows::default();
        let changed = rows.apply(MergedWrites {
            packages: vec![package("a"), package("b")],
            sessions: vec![SessionWrite {
                container: AT,
                client: client(),
                old_owner: None,
                row: Some(row),
            }],
            ..MergedWrites::default()
        });
        assert_eq!(changed, BTreeSet::from([AT]));
        rows
    }

    // C8.6
    #[test]
    fn rows_come_back_as_they_were_but_without_an_owner() {
        let encoded = rows().encode(AT, client()).unwrap();
        let mut again = CarriedRows::default();
        again.decode(AT, client(), &encoded).unwrap();
        let row = again.session(AT, client()).unwrap();
        assert_eq!((row.access.created, &row.owner), (Timestamp(5), &None));
        let package = again.package(AT, client(), "b").unwrap().unwrap();
        assert_eq!(package.get("k").unwrap(), &b"b"[..]);
    }

    // C8.6
    #[test]
    fn rows_of_another_client_and_cut_ones_are_refused() {
        let encoded = rows().encode(AT, client()).unwrap();
        let mut again = CarriedRows::default();
        let other = ClientKey::from_bytes([4; 16]);
        assert!(again.decode(AT, other, &encoded).is_err());
        assert!(again.decode(ContainerId(8), client(), &encoded).is_err());
        for len in 0..encoded.len() {
            assert!(
                again.decode(AT, client(), &encoded[..len]).is_err(),
                "{len}"
            );
        }
        let longer = [&encoded[..], b"x"].concat();
        assert!(again.decode(AT, client(), &longer).is_err());
        assert!(again.is_empty());
    }
}
