//! Inspecting an open store as of one commit.

use crate::error::Result;
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::failure;
use crate::storage::redb::format::BitRepair;
use crate::storage::redb::integrity::inspect::inspection::Inspection;
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{BadPage, Pages};
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::{Checked, Finding, RowCounter, RowProgressFn};
use redb::{Database, ReadTransaction, ReadableDatabase};

/// A store as of one commit. Commits continue meanwhile.
pub(crate) struct InspectionSnapshot {
    pages: Pages,
    newer: NewerRows,
    system: Vec<BadPage>,
    /// Prevents that the pages of the rows are reused. It does not protect the pages of redb's own tables, so these
    /// few are read at once.
    _hold: ReadTransaction,
    /// How often the store had been reopened at that time.
    pub(crate) reopened: u64,
}

impl InspectionSnapshot {
    /// `newer` are the rows in memory. No thread may write to the database meanwhile.
    pub(crate) fn new(
        disk: Disk,
        database: &Database,
        newer: NewerRows,
        reopened: u64,
    ) -> Result<Self> {
        let hold = database.begin_read().map_err(failure::transaction)?;
        let mut pages = Pages::new(disk, BitRepair::Nothing)?;
        let mut system = Vec::new();
        pages.check_system(|_, page| system.push(page))?;
        Ok(Self {
            pages,
            newer,
            system,
            _hold: hold,
            reopened,
        })
    }

    pub(crate) fn disk(&self) -> Disk {
        self.pages.disk.clone()
    }

    pub(crate) fn inspect(
        mut self,
        cipher: &RecordCipher,
        found: &mut dyn FnMut(Finding),
        progress: &mut RowProgressFn<'_>,
    ) -> Result<Checked> {
        let mut inspection = Inspection::new(found, cipher, RowCounter::new(progress));
        let system = self.system.iter();
        system.for_each(|page| inspection.page("system", page));
        let Self { pages, newer, .. } = &mut self;
        let tables = inspection.tables(pages)?;
        inspection.meta(pages, &tables)?;
        inspection.containers(pages, &tables)?;
        match inspection.rows(pages, &tables, newer) {
            Err(_) if inspection.rows_read.is_broken_off() => {}
            read => {
                read?;
                inspection.checked.is_complete = true;
            }
        }
        inspection.checked.bytes_in_use = pages.walked;
        Ok(inspection.checked)
    }
}

/// The rows in memory that are newer than redb's. No thread may commit meanwhile.
pub(crate) fn over_redb(view: &ReadView) -> NewerRows {
    let mut newer = NewerRows::default();
    for memtable in view.immutable.iter().chain([&view.active]) {
        let rows = memtable.rows(view.number);
        rows.into_iter().for_each(|row| newer.put(row));
    }
    newer
}
