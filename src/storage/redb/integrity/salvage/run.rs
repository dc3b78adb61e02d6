//! Visits the rows of a damaged store, and reports the losses.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::format::TableRoot;
use crate::storage::redb::integrity::inspect::{self, ParsedKey};
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{BadPage, Pages, Visited};
use crate::storage::redb::memtable::row_key::RowTree;
use crate::storage::redb::open::migrate;
use crate::storage::redb::{meta, names};
use crate::storage::{ContainerId, Damage, Finding, RowCounter, Salvaged};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

pub(super) fn corrupt(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, why)
}

pub(super) struct SalvageRun<'a> {
    pub(super) pages: Pages,
    pub(super) tables: BTreeMap<String, TableRoot>,
    /// Decrypts the rows of the old store, and encrypts those of the new one.
    pub(super) cipher: &'a RecordCipher,
    pub(super) found: &'a mut dyn FnMut(Finding),
    pub(super) salvaged: Salvaged,
    pub(super) rows_read: RowCounter<'a>,
    pub(super) names: BTreeMap<ContainerId, String>,
    pub(super) retired: BTreeSet<u32>,
    pub(super) epoch: u64,
    pub(super) next_container: u32,
    /// `None` if the record is lost.
    pub(super) format: Option<u32>,
    /// The rows of the journal that the file does not hold.
    pub(super) newer: Rc<NewerRows>,
}

impl SalvageRun<'_> {
    pub(super) fn lost(
        &mut self,
        parsed: Option<&ParsedKey<'_>>,
        container: Option<&str>,
        error: Error,
    ) {
        let name = parsed.and_then(|w| self.names.get(&w.container).map(String::as_str));
        let container = name.or(container).map(str::to_owned);
        let package = parsed.and_then(|w| w.package);
        let error = match &container {
            Some(name) => error.in_container(name.as_str()),
            None => error,
        };
        let error = match package {
            Some(package) => error.in_package(package),
            None => error,
        };
        (self.found)(Finding::Record(Damage {
            container,
            client: parsed.map(|w| w.client),
            package: package.map(str::to_owned),
            error,
        }));
    }

    pub(super) fn bad(&mut self, table: &str, page: &BadPage) {
        if page.mended {
            self.salvaged.mended += 1;
        } else {
            (self.found)(Finding::Structure(inspect::bad_page(table, page)));
        }
    }

    /// Finds the tables, and checks that they belong to a store that this version can read.
    pub(super) fn directory(&mut self) -> Result<()> {
        let mut bad = Vec::new();
        self.tables = self.pages.tables(|_, page| bad.push(page))?;
        bad.iter().for_each(|page| self.bad("tables", page));
        let mut format = None;
        self.each(names::META, |_, key, value| {
            if key == meta::FORMAT.as_bytes() {
                format = meta::parse_format(value);
            }
            Ok(())
        })?;
        match format {
            Some(format) if format > migrate::CURRENT => Err(Error::new(
                ErrorKind::TooNew,
                format!("the store has format {format}"),
            )),
            Some(number) => {
                self.format = Some(number);
                Ok(())
            }
            None if [names::SESSIONS, names::PACKAGES, names::CONTAINERS]
                .iter()
                .all(|name| self.tables.contains_key(*name)) =>
            {
                Ok(())
            }
            None => Err(Error::new(
                ErrorKind::NotAStore,
                "it is no store, or nothing is left of one",
            )),
        }
    }

    /// Visits the reachable rows of a table.
    pub(super) fn each(
        &mut self,
        name: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = self.tables.get(name).copied() else {
            return Ok(());
        };
        let mut pages = self.pages.second_reader();
        pages.walk(&table, |met| {
            match met {
                Visited::Row { key, value, .. } => visit(self, key, value)?,
                Visited::Bad(page) => self.bad(name, &page),
            }
            Ok(())
        })
    }

    /// [`each`](Self::each) for tables whose rows are copied: reports the number of unreachable rows.
    pub(super) fn each_counted(
        &mut self,
        name: &str,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let Some(table) = self.tables.get(name).copied() else {
            self.lost(None, None, corrupt(format!("the table {name:?} is lost")));
            return Ok(());
        };
        let mut count = 0_u64;
        self.each(name, |this, key, value| {
            count += 1;
            if count.is_multiple_of(100_000) {
                tracing::info!(table = name, rows = count, of = table.length, "salvaging");
            }
            visit(this, key, value)
        })?;
        if count != table.length {
            let why = format!(
                "the table {name:?} has {count} rows that can be reached, of {}",
                table.length
            );
            self.lost(None, None, corrupt(why));
        }
        Ok(())
    }

    /// [`each_counted`](Self::each_counted), with the rows of the journal in the place of older ones.
    pub(super) fn each_newest(
        &mut self,
        tree: RowTree,
        mut visit: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let newer = self.newer.clone();
        self.each_counted(tree.name(), |this, key, value| {
            this.rows_read.count()?;
            match newer.get(tree, key) {
                Some(_) => Ok(()),
                None => visit(this, key, value),
            }
        })?;
        for (key, value) in newer.rows(tree) {
            self.rows_read.count()?;
            visit(self, key, value)?;
        }
        Ok(())
    }
}
