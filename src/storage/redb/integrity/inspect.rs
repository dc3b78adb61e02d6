//! Looks at every page and every row of a store, and holds what they say of each other against each
//! other (C5.4). Rows that the journal or the memory has newer than the file count as they are there: in the
//! middle of a checkpoint, the file alone says things that do not go together. It changes nothing and needs
//! no working database.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::merge::lost_package;
use crate::storage::record::{
    self, ContainerRecord, PackageRow, PlainValue, RecordKind, SessionRow, client_of, open_plain,
    package_key,
};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure;
use crate::storage::redb::format::{BitRepair, TableRoot, check_header};
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{BadPage, Pages, Visited, header_of};
use crate::storage::redb::journal;
use crate::storage::redb::journal::{
    ExpectedJournal, HeldJournals, JournalExtent, JournalRef, RawFrameRows,
};
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::{DatabaseKind, RowTree};
use crate::storage::redb::meta::{self, COPIED, COVERED, JOURNAL, OPENED_AS, REACHED};
use crate::storage::redb::names;
use crate::storage::redb::tables::{owner_key, session_of};
use crate::storage::{Checked, ContainerId, Damage, Finding};
use bytes::Bytes;
use redb::{Database, ReadTransaction, ReadableDatabase};
use std::collections::{BTreeMap, BTreeSet};

/// A store as of one commit; commits go on meanwhile.
pub(crate) struct Frozen {
    pub(crate) file: InspectedDatabase,
    pub(crate) memory: InspectedDatabase,
    /// How often the store had been reopened by then.
    pub(crate) reopened: u64,
}

/// One database of it.
pub(crate) struct InspectedDatabase {
    pages: Pages,
    newer: NewerRows,
    system: Vec<BadPage>,
    /// Keeps the pages of the rows from being used again. Those of redb's own tables are not kept
    /// by it, but they are few.
    _hold: ReadTransaction,
}

impl InspectedDatabase {
    /// To be made while nobody writes to the database; `newer` are the rows over it.
    pub(crate) fn new(disk: Disk, database: &Database, newer: NewerRows) -> Result<Self> {
        let hold = database.begin_read().map_err(failure::transaction)?;
        let mut pages = Pages::new(disk, BitRepair::Nothing)?;
        let mut system = Vec::new();
        pages.check_system(|_, page| system.push(page))?;
        Ok(Self {
            pages,
            newer,
            system,
            _hold: hold,
        })
    }
}

/// The rows in memory over those in redb, of the file and of the containers in memory. To be taken while
/// nobody commits.
pub(crate) fn over_redb(layers: &ReadView) -> [NewerRows; 2] {
    let [mut file, mut memory] = [NewerRows::default(), NewerRows::default()];
    for memtable in layers.frozen.iter().chain([&layers.active]) {
        for row in memtable.rows(layers.number) {
            match row.key.home() {
                DatabaseKind::File => file.put(row),
                DatabaseKind::Memory => memory.put(row),
            }
        }
    }
    [file, memory]
}

impl Frozen {
    pub(crate) fn inspect(mut self, found: &mut dyn FnMut(Finding)) -> Result<Checked> {
        let mut inspection = Inspection::new(found);
        let system = self.file.system.iter().chain(&self.memory.system);
        system.for_each(|page| inspection.page("system", page));
        let InspectedDatabase { pages, newer, .. } = &mut self.file;
        let tables = inspection.tables(pages)?;
        inspection.meta(pages, &tables)?;
        inspection.containers(pages, &tables)?;
        inspection.rows(pages, &tables, newer)?;
        let InspectedDatabase { pages, newer, .. } = &mut self.memory;
        let tables = inspection.tables(pages)?;
        inspection.rows(pages, &tables, newer)?;
        Ok(inspection.checked)
    }
}

/// Looks at what redb does not verify and yet trusts, whatever a store is opened for: the header, and
/// which pages are in use.
pub(crate) fn examine(disk: &Disk) -> Result<()> {
    check_header(&header_of(disk)?)?;
    let mut bad = 0_u64;
    Pages::new(disk.clone(), BitRepair::Nothing)?.check_system(|_, _| bad += 1)?;
    match bad {
        0 => Ok(()),
        _ => Err(corrupt("the file's own bookkeeping is damaged")),
    }
}

/// The journal of a file that is inspected.
pub(crate) enum InspectedJournal<'a> {
    /// What it holds beyond the file has been read.
    Read(Vec<RawFrameRows>),
    /// It lies beside the store there, and is yet to be read.
    Beside(&'a Location),
}

/// Looks at everything in a file that nobody has open.
pub(crate) fn inspect_file(
    disk: &Disk,
    beyond: InspectedJournal<'_>,
    found: &mut dyn FnMut(Finding),
) -> Result<Checked> {
    let mut inspection = Inspection::new(found);
    if let Err(error) = check_header(&header_of(disk)?) {
        inspection.structure(error);
    }
    let mut pages = match Pages::new(disk.clone(), BitRepair::Nothing) {
        Ok(pages) => pages,
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            inspection.structure(error);
            return Ok(inspection.checked);
        }
        Err(error) => return Err(error),
    };
    let mut system = Vec::new();
    pages.check_system(|_, page| system.push(page))?;
    system
        .iter()
        .for_each(|page| inspection.page("system", page));
    let tables = inspection.tables(&mut pages)?;
    let of_journal = inspection.meta(&mut pages, &tables)?;
    inspection.containers(&mut pages, &tables)?;
    let newer = inspection.newer(beyond, of_journal)?;
    inspection.rows(&mut pages, &tables, &newer)?;
    Ok(inspection.checked)
}

fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

/// A damaged page, and the keys that belong in it or below it. Of no key more is told than its session's.
pub(crate) fn bad_page(table: &str, page: &BadPage) -> Damage {
    let hex = |key: &Option<Vec<u8>>| match key {
        None => "the end".to_owned(),
        Some(key) => key.iter().take(36).map(|b| format!("{b:02x}")).collect(),
    };
    let error = corrupt(format!(
        "a page of the table {table:?} is damaged: {}; it leads to the keys after {} up to {}",
        page.why,
        hex(&page.after),
        hex(&page.up_to),
    ));
    Damage {
        container: None,
        client: None,
        package: None,
        error,
    }
}

type InspectedTables = BTreeMap<String, TableRoot>;

/// So many sessions that cannot be read are kept in mind, not to report one twice.
const REMEMBERED: usize = 100_000;

/// Where a row is, as far as its key tells.
#[derive(Clone, Copy)]
pub(crate) struct RowOwner<'a> {
    pub(crate) container: ContainerId,
    pub(crate) client: ClientKey,
    pub(crate) package: Option<&'a str>,
}

/// What a look-up of a session finds.
enum SessionLookup {
    Row(SessionRow),
    Damaged,
    Absent,
}

/// What a file says of its journal.
fn expected(records: &BTreeMap<String, Vec<u8>>) -> Option<ExpectedJournal> {
    fn record<T: PlainValue>(records: &BTreeMap<String, Vec<u8>>, name: &str) -> Option<T> {
        let record = records.get(name)?;
        open_plain(RecordKind::Meta, name.as_bytes(), record).ok()
    }
    Some(ExpectedJournal {
        store: record(records, meta::IDENTITY)?,
        named: JournalRef::from_wire(record(records, JOURNAL)?),
        extent: JournalExtent {
            covered: record(records, COVERED)?,
            reached: record(records, REACHED).unwrap_or_default(),
            copied: record(records, COPIED).unwrap_or_default(),
        },
        opened_as: record(records, OPENED_AS),
    })
}

struct Inspection<'a> {
    found: &'a mut dyn FnMut(Finding),
    names: BTreeMap<ContainerId, String>,
    retired: BTreeSet<u32>,
    /// Sessions that cannot be read and were reported; no more are remembered than [`REMEMBERED`].
    reported: BTreeSet<(ContainerId, ClientKey)>,
    checked: Checked,
}

impl<'a> Inspection<'a> {
    fn new(found: &'a mut dyn FnMut(Finding)) -> Self {
        Self {
            found,
            names: BTreeMap::new(),
            retired: BTreeSet::new(),
            reported: BTreeSet::new(),
            checked: Checked::default(),
        }
    }

    fn structure(&mut self, error: Error) {
        (self.found)(Finding::Structure(Damage {
            container: None,
            client: None,
            package: None,
            error,
        }));
    }

    fn page(&mut self, table: &str, page: &BadPage) {
        (self.found)(Finding::Structure(bad_page(table, page)));
    }

    /// A row of the store's own.
    fn own(&mut self, error: Error) {
        (self.found)(Finding::Record(Damage {
            container: error.container().map(str::to_owned),
            client: None,
            package: None,
            error,
        }));
    }

    fn row(&mut self, whose: &RowOwner<'_>, error: Error) {
        let name = self.names.get(&whose.container);
        let error = match name {
            Some(name) => error.in_container(name.as_str()),
            None => error,
        };
        let error = match whose.package {
            Some(package) => error.in_package(package),
            None => error,
        };
        (self.found)(Finding::Record(Damage {
            container: name.cloned(),
            client: Some(whose.client),
            package: whose.package.map(str::to_owned),
            error,
        }));
    }

    /// A session that cannot be read, reported once.
    fn unreadable(&mut self, whose: &RowOwner<'_>, error: Error) {
        let session = (whose.container, whose.client);
        if !self.reported.contains(&session) {
            if self.reported.len() < REMEMBERED {
                self.reported.insert(session);
            }
            let whose = RowOwner {
                package: None,
                ..*whose
            };
            self.row(&whose, error);
        }
    }

    /// The rows in the journal. Without all of them, the file is no more to be judged.
    fn newer(
        &mut self,
        beyond: InspectedJournal<'_>,
        of_journal: Option<ExpectedJournal>,
    ) -> Result<NewerRows> {
        let frames = match (beyond, of_journal) {
            (InspectedJournal::Read(frames), _) => frames,
            (InspectedJournal::Beside(_), None) => Vec::new(),
            (InspectedJournal::Beside(store), Some(of)) => {
                let recovered = journal::read(store, &of, &mut HeldJournals::default())?;
                recovered.frames.into_iter().map(|frame| frame.1).collect()
            }
        };
        Ok(NewerRows::new(frames, &mut |error| self.own(error)))
    }

    fn tables(&mut self, pages: &mut Pages) -> Result<InspectedTables> {
        let mut bad = Vec::new();
        let tables = pages.tables(|_, page| bad.push(page))?;
        bad.iter().for_each(|page| self.page("tables", page));
        for name in names::TABLES {
            if !tables.contains_key(name) {
                self.own(corrupt(format!("the table {name:?} is lost")));
            }
        }
        Ok(tables)
    }

    /// Visits the rows of a table, reports its damaged pages, and how many rows are lost.
    fn each(
        &mut self,
        pages: &mut Pages,
        tables: &InspectedTables,
        name: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = tables.get(name) else {
            return Ok(());
        };
        let mut count = 0_u64;
        let mut last: Option<Vec<u8>> = None;
        let mut disorder = 0_u64;
        pages.walk(table, |met| {
            match met {
                Visited::Row { key, value, sound } => {
                    count += 1;
                    // Numbers are in an order of their own.
                    if name != names::RETIRED && last.as_deref().is_some_and(|last| last >= key) {
                        disorder += 1;
                    }
                    let last = last.get_or_insert_default();
                    last.clear();
                    last.extend_from_slice(key);
                    visit(self, key, value, sound)?;
                }
                Visited::Bad(page) => self.page(name, &page),
            }
            Ok(())
        })?;
        if disorder > 0 {
            self.own(corrupt(format!(
                "{disorder} rows of the table {name:?} are out of order"
            )));
        }
        if count != table.length {
            self.own(corrupt(format!(
                "the table {name:?} has {count} rows that can be reached, of {}",
                table.length
            )));
        }
        Ok(())
    }

    /// [`each`](Self::each), as it is newer where it is.
    fn each_newest(
        &mut self,
        pages: &mut Pages,
        (tables, newer): (&InspectedTables, &NewerRows),
        tree: RowTree,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        self.each(
            pages,
            tables,
            tree.name(),
            |this, key, value, sound| match newer.get(tree, key) {
                Some(_) => Ok(()),
                None => visit(this, key, value, sound),
            },
        )?;
        let mut rows = newer.rows(tree);
        rows.try_for_each(|(key, value)| visit(self, key, value, true))
    }

    /// What the store says of itself; gives what it says of its journal, if it can be read and there is one.
    fn meta(
        &mut self,
        pages: &mut Pages,
        tables: &InspectedTables,
    ) -> Result<Option<ExpectedJournal>> {
        let mut records = BTreeMap::new();
        let mut missing = BTreeSet::from([
            meta::FORMAT,
            meta::IDENTITY,
            meta::SECRETS,
            meta::EPOCH,
            meta::NEXT_CONTAINER,
            JOURNAL,
            COVERED,
        ]);
        self.each(pages, tables, names::META, |this, key, value, _| {
            let name = String::from_utf8_lossy(key);
            missing.remove(&*name);
            let sound = match &*name {
                meta::FORMAT => match meta::parse_format(value) {
                    Some(format) => {
                        missing.retain(|name| !meta::came_later(name, format));
                        Ok(())
                    }
                    None => Err(corrupt("damaged")),
                },
                _ => record::verify(RecordKind::Meta, key, value),
            };
            if let Err(error) = sound {
                let why = format!("the store's record {name:?} is damaged");
                this.own(corrupt(why).with_source(error));
            }
            records.insert(name.into_owned(), value.to_vec());
            Ok(())
        })?;
        for name in missing {
            self.own(corrupt(format!("the store's record {name:?} is missing")));
        }
        Ok(expected(&records))
    }

    fn containers(&mut self, pages: &mut Pages, tables: &InspectedTables) -> Result<()> {
        self.each(pages, tables, names::CONTAINERS, |this, key, value, _| {
            let name = String::from_utf8_lossy(key);
            match ContainerRecord::decode(&name, value) {
                Ok(record) => drop(this.names.insert(ContainerId(record.id), record.name)),
                Err(error) => {
                    // Its number is known although its record is not.
                    if name.is_empty() {
                        this.names.insert(ContainerId::UNNAMED, String::new());
                    }
                    this.own(error.in_container(name));
                }
            }
            Ok(())
        })?;
        if !self.names.contains_key(&ContainerId::UNNAMED) {
            self.own(corrupt("the unnamed container's record is missing").in_container(""));
            self.names.insert(ContainerId::UNNAMED, String::new());
        }
        self.each(pages, tables, names::RETIRED, |this, key, _, _| {
            if let Ok(id) = <[u8; 4]>::try_from(key) {
                this.retired.insert(u32::from_le_bytes(id));
            }
            Ok(())
        })
    }

    /// The rows of sessions in one database, and what they say of each other.
    fn rows(
        &mut self,
        pages: &mut Pages,
        tables: &InspectedTables,
        newer: &NewerRows,
    ) -> Result<()> {
        let mut look = RowLookup {
            pages: pages.twin(),
            tables,
            newer,
        };
        self.sessions(pages, &mut look)?;
        self.packages(pages, &mut look)?;
        self.owners(pages, &mut look)?;
        self.tombstones(pages, &mut look)
    }

    /// Whether the rows of this container count; those of an ended one are being removed.
    fn counts(&mut self, whose: &RowOwner<'_>) -> bool {
        if self.retired.contains(&whose.container.0) {
            return false;
        }
        if !self.names.contains_key(&whose.container) {
            self.row(whose, corrupt("its container is not registered"));
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
                let Some(whose) = whose(key) else {
                    this.own(corrupt("a session's key is damaged"));
                    return Ok(());
                };
                if !this.counts(&whose) {
                    return Ok(());
                }
                this.checked.sessions += 1;
                let row = match SessionRow::decode(key, value) {
                    Ok(row) => row,
                    Err(error) => {
                        this.unreadable(&whose, error);
                        return Ok(());
                    }
                };
                if !sound && !look.finds(RowTree::Sessions, key, value)? {
                    this.unreadable(&whose, corrupt("the session is there, but is not found"));
                }
                this.packages_of(&whose, &row, look)?;
                if let Some(owner) = &row.owner
                    && let Some(session) = key.first_chunk()
                    && !look.finds(RowTree::Owners, &owner_key(owner, *session), &[])?
                {
                    this.row(
                        &whose,
                        corrupt("the session is not in the list of its owner"),
                    );
                }
                Ok(())
            },
        )
    }

    fn packages_of(
        &mut self,
        whose: &RowOwner<'_>,
        row: &SessionRow,
        look: &mut RowLookup<'_>,
    ) -> Result<()> {
        for package in row.packages.iter() {
            let key = package_key(whose.container, whose.client, package);
            let error = match look.get(RowTree::Packages, &key) {
                Ok(Some(record)) => PackageRow::decode(&key, Bytes::from(record)).err(),
                Ok(None) => Some(lost_package()),
                Err(error) if error.kind() == ErrorKind::Corrupt => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(error) = error {
                let whose = RowOwner {
                    package: Some(package),
                    ..*whose
                };
                self.row(&whose, error);
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
                let Some((session, whose)) = key.split_at_checked(20).zip(whose(key)) else {
                    this.own(corrupt("a package's key is damaged"));
                    return Ok(());
                };
                let session = session.0;
                if !this.counts(&whose) {
                    return Ok(());
                }
                this.checked.packages += 1;
                if of.as_ref().is_none_or(|(known, _)| known != session) {
                    of = Some((session.to_vec(), look.session(session)?));
                }
                let error = match of.as_ref().map(|(_, looked)| looked) {
                    // It was looked at with its session.
                    Some(SessionLookup::Row(row)) if row.has(whose.package.unwrap_or_default()) => {
                        None
                    }
                    Some(SessionLookup::Row(_)) => {
                        Some(corrupt("its session does not list the package"))
                    }
                    Some(SessionLookup::Damaged) => {
                        this.unreadable(&whose, corrupt("the session cannot be read"));
                        PackageRow::decode(key, Bytes::copy_from_slice(value)).err()
                    }
                    Some(SessionLookup::Absent) | None => {
                        Some(corrupt("the package's session is lost"))
                    }
                };
                if let Some(error) = error {
                    this.row(&whose, error);
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
            let whose = RowOwner {
                container,
                client,
                package: None,
            };
            if !this.counts(&whose) {
                return Ok(());
            }
            let session = key.last_chunk::<20>().copied().unwrap_or([0; 20]);
            let wrong = match look.session(&session)? {
                SessionLookup::Row(row) => row.owner.is_none_or(|o| owner_key(&o, session) != *key),
                SessionLookup::Damaged => {
                    this.unreadable(&whose, corrupt("the session cannot be read"));
                    false
                }
                SessionLookup::Absent => true,
            };
            if wrong {
                let why = "the list of an owner names the session, which is lost or another's";
                this.row(&whose, corrupt(why));
            } else if !sound && !look.finds(RowTree::Owners, key, &[])? {
                this.row(&whose, corrupt("the list of its owner is damaged"));
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

/// The key of a session or of a package, taken apart.
pub(crate) fn whose(key: &[u8]) -> Option<RowOwner<'_>> {
    let (session, package) = key.split_first_chunk::<20>()?;
    let container = session.first_chunk::<4>()?;
    Some(RowOwner {
        container: ContainerId(u32::from_be_bytes(*container)),
        client: client_of(session),
        package: str::from_utf8(package).ok().filter(|p| !p.is_empty()),
    })
}

/// Looks rows up as the store would.
struct RowLookup<'a> {
    pages: Pages,
    tables: &'a InspectedTables,
    newer: &'a NewerRows,
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

    fn session(&mut self, key: &[u8]) -> Result<SessionLookup> {
        Ok(match self.get(RowTree::Sessions, key) {
            Ok(Some(record)) => {
                SessionRow::decode(key, &record).map_or(SessionLookup::Damaged, SessionLookup::Row)
            }
            Ok(None) => SessionLookup::Absent,
            Err(error) if error.kind() == ErrorKind::Corrupt => SessionLookup::Damaged,
            Err(error) => return Err(error),
        })
    }
}
