//! The state as of one commit: the active and the immutable memtable over the rows of redb. Newer rows hide older ones.

use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{
    PackageRow, RecordCipher, RecordKind, SessionRow, client_of, open_plain, seal_plain,
    session_key,
};
use crate::storage::redb::failure::guarded;
use crate::storage::redb::memtable::detached::DatabaseLife;
use crate::storage::redb::memtable::held::{Held, TableRows};
use crate::storage::redb::memtable::row_key::{RowKey, RowTree, RowWrite};
use crate::storage::redb::memtable::table::{ChangedRow, Memtable};
use crate::storage::redb::memtable::write_batch::WriteBatch;
use crate::storage::redb::tables::{TableReader, owner_key, session_of, settle};
use crate::storage::{ContainerId, TombstonePolicy, of_first_clients};
use bytes::Bytes;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// All rows as of one commit.
#[derive(Clone)]
pub(crate) struct ReadView {
    pub(crate) number: u64,
    /// No commit after this one has changed a row that is in no memtable.
    pub(crate) base: u64,
    /// Only while a batch is put together.
    pub(crate) pending: Option<Arc<WriteBatch>>,
    /// The active memtable: the rows of the commits since the last checkpoint began.
    pub(crate) active: Arc<Memtable>,
    /// The immutable memtable: its rows are being written to redb.
    pub(crate) immutable: Option<Arc<Memtable>>,
    pub(crate) readers: TableReaders,
}

/// The tables of redb.
#[derive(Clone)]
pub(crate) struct TableReaders {
    pub(crate) tables: Arc<TableReader>,
    /// Whether the database still works.
    pub(crate) life: Arc<DatabaseLife>,
}

fn in_its_tree(key: &[u8]) -> &[u8] {
    key.get(1..).unwrap_or_default()
}

impl ReadView {
    /// Newest first.
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        let memtables = std::iter::once(&self.active).chain(&self.immutable);
        memtables
            .map(|memtable| &**memtable)
            .filter(|memtable| !memtable.is_empty())
    }

    pub(crate) fn cipher(&self) -> &RecordCipher {
        self.readers.tables.cipher()
    }

    /// The row in the memtables; `None` if only redb may have it.
    fn over_redb(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let pending = self.pending.as_ref();
        pending.and_then(|pending| pending.get(key)).or_else(|| {
            let mut memtables = self.memtables();
            memtables.find_map(|memtable| memtable.get(key, self.number))
        })
    }

    /// The row in the memtables, unless no commit after `since` has changed it.
    fn over_redb_since(&self, key: &[u8], since: u64) -> Option<ChangedRow> {
        let pending = self.pending.as_ref().and_then(|pending| pending.get(key));
        pending.map(ChangedRow::Changed).or_else(|| {
            let mut memtables = self.memtables();
            memtables.find_map(|memtable| memtable.get_since(key, self.number, since))
        })
    }

    pub(crate) fn session(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<SessionRow>> {
        let below = |redb: &TableReader| redb.session(container, client);
        self.session_or(container, client, None, below)
    }

    /// The row of a session as it is stored.
    pub(crate) fn session_record(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<Bytes>> {
        match self.over_redb(&RowKey::of_session(container, client)) {
            Some(record) => Ok(record),
            None => self.readers.tables.session_record(container, client),
        }
    }

    /// The row of a session as it is stored, or is going to be: not a copy of redb's row.
    #[cfg(feature = "encryption")]
    pub(super) fn session_record_to_store(
        &self,
        container: ContainerId,
        client: ClientKey,
    ) -> Result<Option<Bytes>> {
        let key = RowKey::of_session(container, client);
        let pending = self.pending.as_ref().and_then(|pending| pending.get(&key));
        let changed = pending.or_else(|| {
            let mut memtables = self.memtables();
            memtables.find_map(|memtable| memtable.get_changed(&key, self.number))
        });
        match changed {
            Some(record) => Ok(record),
            None => self.readers.tables.session_record(container, client),
        }
    }

    /// The row of a session. If no memtable has it, `below` reads it. A row that was `read` as of a commit, or of a later
    /// one, is not decoded again if no commit after that one has changed it.
    pub(crate) fn session_or(
        &self,
        container: ContainerId,
        client: ClientKey,
        read: Option<(&SessionRow, u64)>,
        below: impl FnOnce(&TableReader) -> Result<Option<SessionRow>>,
    ) -> Result<Option<SessionRow>> {
        let key = RowKey::of_session(container, client);
        let changed = match read {
            Some((row, since)) => match self.over_redb_since(&key, since) {
                Some(ChangedRow::Unchanged) => return Ok(Some(row.clone())),
                Some(ChangedRow::Changed(record)) => Some(record),
                None => None,
            },
            None => self.over_redb(&key),
        };
        match changed {
            Some(record) => record
                .map(|record| SessionRow::decode(in_its_tree(&key), &record, self.cipher()))
                .transpose(),
            None => {
                let row = below(&self.readers.tables)?;
                if let (Some(pending), Some(row)) = (&self.pending, &row)
                    && pending.collects_redb_rows()
                {
                    pending.tell((key, row.encode(in_its_tree(&key), self.cipher())?.into()));
                }
                Ok(row)
            }
        }
    }

    pub(crate) fn package(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<Option<PackageRow>> {
        self.package_or(container, client, package, None, TableReader::package)
    }

    /// The row of a package. If no memtable has it, `below` reads it by its key. A row that was `read` before is not
    /// decoded again.
    pub(crate) fn package_or(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
        read: Option<&PackageRow>,
        below: impl FnOnce(&TableReader, &[u8]) -> Result<Option<PackageRow>>,
    ) -> Result<Option<PackageRow>> {
        RowKey::with_package(container, client, package, |key| {
            match self.over_redb(key) {
                Some(None) => Ok(None),
                Some(Some(record)) => match read.filter(|read| read.is_of(&record)) {
                    Some(read) => Ok(Some(read.clone())),
                    None => PackageRow::decode(in_its_tree(key), record, self.cipher()).map(Some),
                },
                None => below(&self.readers.tables, in_its_tree(key)),
            }
        })
    }

    /// How many bytes the row of a package has.
    pub(crate) fn package_len(
        &self,
        container: ContainerId,
        client: ClientKey,
        package: &str,
    ) -> Result<usize> {
        RowKey::with_package(container, client, package, |key| {
            match self.over_redb(key) {
                Some(record) => Ok(record.map_or(0, |record| record.len())),
                None => self.readers.tables.package_len(in_its_tree(key)),
            }
        })
    }

    /// Until when the id of an ended session is refused.
    pub(crate) fn tombstone(&self, client: ClientKey) -> Result<Option<Timestamp>> {
        let key = client.as_bytes();
        match self.over_redb(RowKey::new(RowTree::Tombstones, key).as_bytes()) {
            Some(record) => record
                .map(|record| open_plain(RecordKind::Tombstone, key, &record).map(Timestamp))
                .transpose(),
            None => self.readers.tables.tombstone(client),
        }
    }

    /// Whether there are any tombstones in redb.
    pub(crate) fn has_tombstones_in_redb(&self) -> Result<bool> {
        guarded(|| self.readers.tables.has_tombstones())
    }

    /// The writes that remove old tombstones from the memtables, and lower those that lie too far ahead: at most `limit`,
    /// of the tombstones after a key. Returns also the key to go on after, if there may be more.
    pub(crate) fn settled_tombstones(
        &self,
        refusals: TombstonePolicy,
        limit: usize,
        after: Option<&RowKey>,
    ) -> Result<(Vec<RowWrite>, Option<RowKey>)> {
        let mut settled = Vec::new();
        let last = after.and_then(|after| after.split()?.1.last_chunk().copied());
        let from = last.map_or(Bound::Included([0; 16]), Bound::Excluded);
        let none = Box::new(std::iter::empty());
        let tombstones = self.range(RowTree::Tombstones, from, [u8::MAX; 16], none);
        for (key, record) in tombstones.flatten() {
            crate::steps::count(1);
            let Some(record) = record else {
                continue;
            };
            let Some((key, record)) = settle(refusals, key, &record)? else {
                continue;
            };
            let key = RowKey::new(RowTree::Tombstones, &key);
            settled.push(RowWrite {
                key: key.clone(),
                value: record.map(Bytes::from),
            });
            if settled.len() == limit {
                return Ok((settled, Some(key)));
            }
        }
        Ok((settled, None))
    }

    /// The tombstone of a client, lowered, if it lies too far ahead.
    pub(crate) fn lowered_tombstone(
        &self,
        refusals: TombstonePolicy,
        client: ClientKey,
    ) -> Result<Option<RowWrite>> {
        let until = self.tombstone(client)?;
        let Some(lowered) = until.and_then(|until| refusals.lowered(until)) else {
            return Ok(None);
        };
        let key = client.as_bytes();
        let record = seal_plain(RecordKind::Tombstone, key, lowered.0)?;
        Ok(Some(RowWrite {
            key: RowKey::new(RowTree::Tombstones, key),
            value: Some(record.into()),
        }))
    }

    /// The sessions of a container in the order of their keys, from the one after `after`. A page of redb that cannot be
    /// read gives an error in the place of its sessions; the others follow.
    pub(crate) fn sessions(
        &self,
        container: ContainerId,
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<Vec<(ClientKey, Result<SessionRow>)>> {
        let lowest = session_key(container, ClientKey::from_bytes([0; 16]));
        let highest = session_key(container, ClientKey::from_bytes([u8::MAX; 16]));
        let from = after.map(|client| session_key(container, client));
        let from = from.map_or(Bound::Included(lowest), Bound::Excluded);
        let list = |below| {
            self.range(RowTree::Sessions, from, highest, below)
                .take(limit)
                .map(|row| {
                    let (key, record) = row?;
                    let row = match record {
                        Some(record) => SessionRow::decode(&key, &record, self.cipher()),
                        None => Err(unreadable()),
                    };
                    Ok((client_of(&key), row))
                })
                .collect()
        };
        let reader = &self.readers.tables;
        guarded(|| list(reader.sessions(from, highest)?)).or_else(|error| {
            match reader.sessions_around(from, highest) {
                Some(below) if error.kind() == ErrorKind::Corrupt => guarded(|| list(below?)),
                _ => Err(error),
            }
        })
    }

    /// The sessions with this `owner`; an error if one of them may be on a page that cannot be read.
    pub(crate) fn owned(&self, owner: &str) -> Result<Vec<(ContainerId, ClientKey)>> {
        let mut found = Vec::new();
        for hash in self.cipher().owner_hashes(owner).all() {
            let from = Bound::Included(owner_key(hash, [0; 20]));
            let to = owner_key(hash, [u8::MAX; 20]);
            self.owners_between(from, to, usize::MAX, &mut found)?;
        }
        Ok(found)
    }

    /// The sessions in these containers with this `owner`, of the first `limit` clients after `after`. The list of an
    /// owner is in the order of containers, so it reads no more than `limit` entries of each.
    pub(crate) fn owned_page(
        &self,
        owner: &str,
        containers: &[ContainerId],
        after: Option<ClientKey>,
        limit: usize,
    ) -> Result<Vec<(ContainerId, ClientKey)>> {
        let [lowest, highest] = [[0; 16], [u8::MAX; 16]].map(ClientKey::from_bytes);
        let mut found = Vec::new();
        for hash in self.cipher().owner_hashes(owner).all() {
            for container in containers {
                let key = |client| owner_key(hash, session_key(*container, client));
                let from = after.map_or(Bound::Included(key(lowest)), |after| {
                    Bound::Excluded(key(after))
                });
                self.owners_between(from, key(highest), limit, &mut found)?;
            }
        }
        Ok(of_first_clients(found, after, limit))
    }

    /// Adds the sessions in a part of the owners' lists, at most `limit`.
    fn owners_between(
        &self,
        from: Bound<[u8; 36]>,
        to: [u8; 36],
        limit: usize,
        found: &mut Vec<(ContainerId, ClientKey)>,
    ) -> Result<()> {
        guarded(|| {
            let tree = RowTree::Owners;
            let below = self.readers.tables.rows(tree, from, to)?;
            for row in self.range(tree, from, to, below).take(limit) {
                crate::steps::count(1);
                let (key, entry) = row?;
                entry.ok_or_else(unreadable)?;
                found.extend(session_of(&key));
            }
            Ok(())
        })
    }

    /// The sessions of all containers after a key, as they are stored.
    #[cfg(feature = "encryption")]
    pub(super) fn session_rows(
        &self,
        from: Bound<[u8; 20]>,
    ) -> Result<impl Iterator<Item = Result<([u8; 20], Option<Bytes>)>>> {
        let to = [u8::MAX; 20];
        let below = self.readers.tables.sessions(from, to)?;
        Ok(self.range(RowTree::Sessions, from, to, below))
    }

    /// The row of a package as it is stored.
    pub(super) fn package_record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.over_redb(RowKey::new(RowTree::Packages, key).as_bytes()) {
            Some(record) => Ok(record),
            None => self.readers.tables.package_record(key),
        }
    }

    /// The rows of a tree, merged from all layers.
    pub(super) fn range<'a, const N: usize>(
        &'a self,
        tree: RowTree,
        from: Bound<[u8; N]>,
        to: [u8; N],
        below: TableRows<'a, N>,
    ) -> MergedRows<'a, N> {
        let start = from.as_ref().map(|key| RowKey::new(tree, key));
        let end = RowKey::new(tree, &to);
        let range = || {
            let start = start.clone().map(RowKey::into_bytes);
            (start, Bound::Included(end.clone().into_bytes()))
        };
        let row = |(key, value): (Box<[u8]>, Option<Bytes>)| {
            let held = value.map_or(Held::Removed, Held::Row);
            Some(Ok((*key.last_chunk()?, held)))
        };
        let mut layers = Vec::new();
        if let Some(pending) = &self.pending {
            let rows = pending.range(range()).into_iter().filter_map(row);
            layers.push((Box::new(rows) as TableRows<'a, N>).peekable());
        }
        for memtable in self.memtables() {
            let rows = memtable.range(range(), self.number).filter_map(row);
            layers.push((Box::new(rows) as TableRows<'a, N>).peekable());
        }
        layers.push(below.peekable());
        MergedRows(layers)
    }
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Corrupt, "a part of the file cannot be read")
}

fn is_of<const N: usize>(row: &Result<([u8; N], Held)>, key: &[u8; N]) -> bool {
    matches!(row, Ok((of, _)) if of == key)
}

/// Merges layers of rows, the newest first. Removed rows are left out; a row that cannot be read comes without a value.
pub(super) struct MergedRows<'a, const N: usize>(Vec<Peekable<TableRows<'a, N>>>);

impl<const N: usize> Iterator for MergedRows<'_, N> {
    type Item = Result<([u8; N], Option<Bytes>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut least: Option<[u8; N]> = None;
            for layer in &mut self.0 {
                match layer.peek() {
                    Some(Ok((key, _))) => least = Some(least.map_or(*key, |least| least.min(*key))),
                    Some(Err(_)) => {
                        return layer.next().map(|error| error.map(|(key, _)| (key, None)));
                    }
                    None => {}
                }
            }
            let least = least?;
            let mut newest = None;
            for layer in &mut self.0 {
                let Some(Ok((_, held))) = layer.peek().filter(|row| is_of(row, &least)) else {
                    continue;
                };
                // A gap holds other rows than that at its end: it comes after that one, or in its place.
                let is_gap = matches!(held, Held::Unreadable);
                if is_gap && matches!(newest, Some(Ok((_, Held::Row(_))))) {
                    continue;
                }
                let row = layer.next();
                newest = if is_gap { row } else { newest.or(row) };
            }
            match newest {
                Some(Ok((key, Held::Row(value)))) => return Some(Ok((key, Some(value)))),
                Some(Ok((key, Held::Unreadable))) => return Some(Ok((key, None))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What layers of rows make, the newest layer first: the keys, and whether a row is there.
    fn merged(layers: Vec<Vec<(u8, Held)>>) -> Vec<(u8, bool)> {
        let layer = |rows: Vec<(u8, Held)>| {
            let rows = rows.into_iter().map(|(key, held)| Ok(([key], held)));
            (Box::new(rows) as TableRows<'_, 1>).peekable()
        };
        let rows = MergedRows(layers.into_iter().map(layer).collect());
        rows.map(|row| row.unwrap())
            .map(|([key], row)| (key, row.is_some()))
            .collect()
    }

    // C5.4: a gap ends at the key of a row, which may have been changed since.
    #[test]
    fn a_newer_row_at_the_end_of_a_gap_does_not_hide_the_gap() {
        let row = || Held::Row(Bytes::new());
        let below = || vec![(1, row()), (5, Held::Unreadable), (7, row())];
        let rest = |at_the_end: &[(u8, bool)]| [&[(1, true)], at_the_end, &[(7, true)]].concat();
        assert_eq!(merged(vec![below()]), rest(&[(5, false)]));
        let removed = merged(vec![vec![(5, Held::Removed)], below()]);
        assert_eq!(removed, rest(&[(5, false)]));
        let changed = merged(vec![vec![(5, row())], vec![(5, Held::Removed)], below()]);
        assert_eq!(changed, rest(&[(5, true), (5, false)]));
        let within = merged(vec![vec![(3, Held::Removed), (4, row())], below()]);
        assert_eq!(within, rest(&[(4, true), (5, false)]));
    }
}
