//! Inspects the rows of sessions, packages, owners and tombstones, and their references to each other.

use crate::client_id::ClientKey;
use crate::error::{ErrorKind, Result};
use crate::storage::merge::lost_package;
use crate::storage::record::{
    PackageRow, RecordCipher, RecordKind, SessionRow, open_plain, package_key,
};
use crate::storage::redb::integrity::inspect::damage::{ParsedKey, corrupt, parse_key};
use crate::storage::redb::integrity::inspect::inspection::{InspectedTables, Inspection};
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::Pages;
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::tables::{owner_key, session_of};
use crate::storage::{Damage, Finding};
use bytes::Bytes;

impl Inspection<'_> {
    /// Inspects the rows of sessions in one database.
    pub(crate) fn rows(
        &mut self,
        pages: &mut Pages,
        tables: &InspectedTables,
        newer: &NewerRows,
    ) -> Result<()> {
        let mut look = RowLookup {
            pages: pages.second_reader(),
            tables,
            newer,
            cipher: self.cipher,
        };
        self.rows_read.of(number_of_rows(tables, newer))?;
        self.sessions(pages, &mut look)?;
        self.packages(pages, &mut look)?;
        self.owners(pages, &mut look)?;
        self.tombstones(pages, &mut look)
    }

    /// Whether the rows of a container count. Those of an ended container are being removed.
    fn counts(&mut self, parsed: &ParsedKey<'_>) -> bool {
        if self.retired.contains(&parsed.container.0) {
            return false;
        }
        if !self.names.contains_key(&parsed.container) {
            self.row(parsed, corrupt("its container is not registered"));
            return false;
        }
        true
    }

    fn sessions(&mut self, pages: &mut Pages, look: &mut RowLookup<'_>) -> Result<()> {
        self.each_newest(
            pages,
            look.all(),
            RowTree::Sessions,
            |this, key, value, sound| {
                let Some(parsed) = parse_key(key) else {
                    this.own(corrupt("a session's key is damaged"));
                    return Ok(());
                };
                if !this.counts(&parsed) {
                    return Ok(());
                }
                let row = match SessionRow::decode(key, value, look.cipher) {
                    Ok(row) => {
                        // A row that leads on from a renewed id is no session of its own (C8.4).
                        this.checked.sessions += u64::from(row.optional.moved.is_none());
                        row
                    }
                    Err(error) => {
                        this.checked.sessions += 1;
                        this.unreadable(&parsed, error);
                        return Ok(());
                    }
                };
                if !sound && !look.finds(RowTree::Sessions, key, value)? {
                    this.unreadable(&parsed, corrupt("the session is there, but is not found"));
                }
                this.packages_of(&parsed, &row, look)?;
                if let Some(owner) = &row.owner
                    && let Some(session) = key.first_chunk()
                    && !look.lists(owner, *session)?
                {
                    this.row(
                        &parsed,
                        corrupt("the session is not in the list of its owner"),
                    );
                }
                Ok(())
            },
        )
    }

    fn packages_of(
        &mut self,
        parsed: &ParsedKey<'_>,
        row: &SessionRow,
        look: &mut RowLookup<'_>,
    ) -> Result<()> {
        for package in row.packages.iter() {
            let key = package_key(parsed.container, parsed.client, package);
            let error = match look.get(RowTree::Packages, &key) {
                Ok(Some(record)) => {
                    PackageRow::decode(&key, Bytes::from(record), look.cipher).err()
                }
                Ok(None) => Some(lost_package()),
                Err(error) if error.kind() == ErrorKind::Corrupt => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(error) = error {
                let parsed = ParsedKey {
                    package: Some(package),
                    ..*parsed
                };
                self.row(&parsed, error);
            }
        }
        Ok(())
    }

    fn packages(&mut self, pages: &mut Pages, look: &mut RowLookup<'_>) -> Result<()> {
        let mut of: Option<(Vec<u8>, SessionLookup)> = None;
        self.each_newest(
            pages,
            look.all(),
            RowTree::Packages,
            |this, key, value, _| {
                let Some((session, parsed)) = key.split_at_checked(20).zip(parse_key(key)) else {
                    this.own(corrupt("a package's key is damaged"));
                    return Ok(());
                };
                let session = session.0;
                if !this.counts(&parsed) {
                    return Ok(());
                }
                this.checked.packages += 1;
                if of.as_ref().is_none_or(|(known, _)| known != session) {
                    of = Some((session.to_vec(), look.session(session)?));
                }
                let error = match of.as_ref().map(|(_, looked)| looked) {
                    // It was inspected with its session.
                    Some(SessionLookup::Row(row))
                        if row.has(parsed.package.unwrap_or_default()) =>
                    {
                        None
                    }
                    Some(SessionLookup::Row(_)) => {
                        Some(corrupt("its session does not list the package"))
                    }
                    Some(SessionLookup::Damaged) => {
                        this.unreadable(&parsed, corrupt("the session cannot be read"));
                        PackageRow::decode(key, Bytes::copy_from_slice(value), look.cipher).err()
                    }
                    Some(SessionLookup::Absent) | None => {
                        Some(corrupt("the package's session is lost"))
                    }
                };
                if let Some(error) = error {
                    this.row(&parsed, error);
                }
                Ok(())
            },
        )
    }

    fn owners(&mut self, pages: &mut Pages, look: &mut RowLookup<'_>) -> Result<()> {
        self.each_newest(pages, look.all(), RowTree::Owners, |this, key, _, sound| {
            let session = <&[u8; 36]>::try_from(key)
                .ok()
                .map(|key| (key, session_of(key)));
            let Some((key, Some((container, client)))) = session else {
                this.own(corrupt("a key in the list of owners is damaged"));
                return Ok(());
            };
            let parsed = ParsedKey {
                container,
                client,
                package: None,
            };
            if !this.counts(&parsed) {
                return Ok(());
            }
            let session = key.last_chunk::<20>().copied().unwrap_or([0; 20]);
            let wrong = match look.session(&session)? {
                SessionLookup::Row(row) => row.owner.is_none_or(|owner| {
                    let mut hashes = look.cipher.owner_hashes(&owner).all();
                    hashes.all(|hash| owner_key(hash, session) != *key)
                }),
                SessionLookup::Damaged => {
                    this.unreadable(&parsed, corrupt("the session cannot be read"));
                    false
                }
                SessionLookup::Absent => true,
            };
            if wrong {
                let why = "the list of an owner names the session, which is lost or another's";
                this.row(&parsed, corrupt(why));
            } else if !sound && !look.finds(RowTree::Owners, key, &[])? {
                this.row(&parsed, corrupt("the list of its owner is damaged"));
            }
            Ok(())
        })
    }

    fn tombstones(&mut self, pages: &mut Pages, look: &mut RowLookup<'_>) -> Result<()> {
        self.each_newest(
            pages,
            look.all(),
            RowTree::Tombstones,
            |this, key, value, sound| {
                let Ok(client) = <[u8; 16]>::try_from(key) else {
                    this.own(corrupt("the key of an ended session is damaged"));
                    return Ok(());
                };
                let error = match open_plain::<i64>(RecordKind::Tombstone, key, value) {
                    Err(error) => Some(error),
                    Ok(_) if sound || look.finds(RowTree::Tombstones, key, value)? => None,
                    Ok(_) => Some(corrupt("an ended session is not found")),
                };
                if let Some(error) = error {
                    (this.found)(Finding::Record(Damage {
                        container: None,
                        client: Some(ClientKey::from_bytes(client)),
                        package: None,
                        error,
                    }));
                }
                Ok(())
            },
        )
    }
}

/// How many rows are read, about.
fn number_of_rows(tables: &InspectedTables, newer: &NewerRows) -> u64 {
    let trees = [
        RowTree::Sessions,
        RowTree::Packages,
        RowTree::Owners,
        RowTree::Tombstones,
    ];
    let rows = trees.map(|tree| {
        let in_table = tables.get(tree.name()).map_or(0, |table| table.length);
        in_table.saturating_add(newer.rows(tree).count() as u64)
    });
    rows.into_iter().fold(0, u64::saturating_add)
}

/// The result of a look-up of a session.
enum SessionLookup {
    Row(SessionRow),
    Damaged,
    Absent,
}

/// Looks up rows as the store does.
struct RowLookup<'a> {
    pages: Pages,
    tables: &'a InspectedTables,
    newer: &'a NewerRows,
    cipher: &'a RecordCipher,
}

impl<'a> RowLookup<'a> {
    fn all(&self) -> (&'a InspectedTables, &'a NewerRows) {
        (self.tables, self.newer)
    }

    fn get(&mut self, tree: RowTree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.newer.get(tree, key) {
            return Ok(row.map(<[u8]>::to_vec));
        }
        match self.tables.get(tree.name()) {
            Some(table) => self.pages.get(table, key),
            None => Ok(None),
        }
    }

    /// Whether a look-up of `key` gives `value`.
    fn finds(&mut self, tree: RowTree, key: &[u8], value: &[u8]) -> Result<bool> {
        match self.get(tree, key) {
            Ok(found) => Ok(found.as_deref() == Some(value)),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a session is in the list of its owner.
    fn lists(&mut self, owner: &str, session: [u8; 20]) -> Result<bool> {
        for hash in self.cipher.owner_hashes(owner).all() {
            if self.finds(RowTree::Owners, &owner_key(hash, session), &[])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn session(&mut self, key: &[u8]) -> Result<SessionLookup> {
        Ok(match self.get(RowTree::Sessions, key) {
            Ok(Some(record)) => {
                let row = SessionRow::decode(key, &record, self.cipher);
                row.map_or(SessionLookup::Damaged, SessionLookup::Row)
            }
            Ok(None) => SessionLookup::Absent,
            Err(error) if error.kind() == ErrorKind::Corrupt => SessionLookup::Damaged,
            Err(error) => return Err(error),
        })
    }
}
