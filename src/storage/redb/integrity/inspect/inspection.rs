//! A running inspection: its findings, and the tables of the store's own records.

use crate::client_id::ClientKey;
use crate::error::{Error, Result};
use crate::storage::record::{
    self, ContainerRecord, PlainValue, RecordCipher, RecordKind, open_plain,
};
use crate::storage::redb::format::TableRoot;
use crate::storage::redb::integrity::inspect::damage::{ParsedKey, bad_page, corrupt};
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{BadPage, Pages, Visited};
use crate::storage::redb::journal::{ExpectedJournal, JournalExtent, JournalRef};
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::meta::{self, COPIED, COVERED, JOURNAL, OPENED_AS, REACHED};
use crate::storage::redb::names;
use crate::storage::{Checked, ContainerId, Damage, Finding, RowCounter};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type InspectedTables = BTreeMap<String, TableRoot>;

/// The number of unreadable sessions that are remembered, so that none is reported twice.
const REMEMBERED: usize = 100_000;

pub(crate) struct Inspection<'a> {
    pub(crate) found: &'a mut dyn FnMut(Finding),
    pub(crate) cipher: &'a RecordCipher,
    pub(crate) names: BTreeMap<ContainerId, String>,
    pub(crate) retired: BTreeSet<u32>,
    /// Unreadable sessions that were reported, at most [`REMEMBERED`].
    reported: BTreeSet<(ContainerId, ClientKey)>,
    pub(crate) checked: Checked,
    pub(crate) rows_read: RowCounter<'a>,
}

impl<'a> Inspection<'a> {
    pub(crate) fn new(
        found: &'a mut dyn FnMut(Finding),
        cipher: &'a RecordCipher,
        rows_read: RowCounter<'a>,
    ) -> Self {
        Self {
            found,
            cipher,
            names: BTreeMap::new(),
            retired: BTreeSet::new(),
            reported: BTreeSet::new(),
            checked: Checked::default(),
            rows_read,
        }
    }

    pub(crate) fn structure(&mut self, error: Error) {
        (self.found)(Finding::Structure(Damage {
            container: None,
            client: None,
            package: None,
            error,
        }));
    }

    pub(crate) fn page(&mut self, table: &str, page: &BadPage) {
        (self.found)(Finding::Structure(bad_page(table, page)));
    }

    /// Reports a damaged record of the store's own.
    pub(crate) fn own(&mut self, error: Error) {
        (self.found)(Finding::Record(Damage {
            container: error.container().map(str::to_owned),
            client: None,
            package: None,
            error,
        }));
    }

    pub(crate) fn row(&mut self, parsed: &ParsedKey<'_>, error: Error) {
        let name = self.names.get(&parsed.container);
        let error = match name {
            Some(name) => error.in_container(name.as_str()),
            None => error,
        };
        let error = match parsed.package {
            Some(package) => error.in_package(package),
            None => error,
        };
        (self.found)(Finding::Record(Damage {
            container: name.cloned(),
            client: Some(parsed.client),
            package: parsed.package.map(str::to_owned),
            error,
        }));
    }

    /// Reports an unreadable session once.
    pub(crate) fn unreadable(&mut self, parsed: &ParsedKey<'_>, error: Error) {
        let session = (parsed.container, parsed.client);
        if !self.reported.contains(&session) {
            if self.reported.len() < REMEMBERED {
                self.reported.insert(session);
            }
            let parsed = ParsedKey {
                package: None,
                ..*parsed
            };
            self.row(&parsed, error);
        }
    }

    pub(crate) fn tables(&mut self, pages: &mut Pages) -> Result<InspectedTables> {
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

    /// Visits the rows of a table. Reports damaged pages, and the number of lost rows.
    pub(crate) fn each(
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
                    // The keys of this table are numbers, which redb orders differently.
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

    /// [`each`](Self::each), with newer rows in the place of older ones.
    pub(crate) fn each_newest(
        &mut self,
        pages: &mut Pages,
        (tables, newer): (&InspectedTables, &NewerRows),
        tree: RowTree,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8], bool) -> Result<()>,
    ) -> Result<()> {
        self.each(pages, tables, tree.name(), |this, key, value, sound| {
            this.rows_read.count()?;
            match newer.get(tree, key) {
                Some(_) => Ok(()),
                None => visit(this, key, value, sound),
            }
        })?;
        let mut rows = newer.rows(tree);
        rows.try_for_each(|(key, value)| {
            self.rows_read.count()?;
            visit(self, key, value, true)
        })
    }

    /// Inspects the store's own records. Returns those about its journal, if they exist and can be read.
    pub(crate) fn meta(
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

    pub(crate) fn containers(&mut self, pages: &mut Pages, tables: &InspectedTables) -> Result<()> {
        let mut taken = BTreeSet::new();
        self.each(pages, tables, names::CONTAINERS, |this, key, value, _| {
            let name = String::from_utf8_lossy(key);
            match ContainerRecord::decode(&name, value) {
                Ok(record) => {
                    for name in record
                        .names()
                        .filter(|name| !taken.insert((*name).to_owned()))
                    {
                        let why = corrupt("two containers have this name");
                        this.own(why.in_container(name));
                    }
                    this.names.insert(ContainerId(record.id), record.name);
                }
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
        if !self.names.keys().any(|id| id.is_unnamed()) {
            self.own(corrupt("the unnamed container's record is missing").in_container(""));
        }
        // Its sessions may be in memory, and have been here before.
        self.names.insert(ContainerId::UNNAMED, String::new());
        self.each(pages, tables, names::RETIRED, |this, key, _, _| {
            if let Ok(id) = <[u8; 4]>::try_from(key) {
                this.retired.insert(u32::from_le_bytes(id));
            }
            Ok(())
        })
    }
}

/// The file's records about its journal.
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
