//! Inspecting an open store as of one commit.

use crate::error::Result;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::failure;
use crate::storage::redb::format::BitRepair;
use crate::storage::redb::integrity::inspect::inspection::Inspection;
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{BadPage, Pages};
use crate::storage::redb::memtable::read_view::ReadView;
use crate::storage::redb::memtable::row_key::DatabaseKind;
use crate::storage::{Checked, Finding};
use redb::{Database, ReadTransaction, ReadableDatabase};

/// A store as of one commit. Commits continue meanwhile.
pub(crate) struct Frozen {
    pub(crate) file: InspectedDatabase,
    pub(crate) memory: InspectedDatabase,
    /// How often the store had been reopened at that time.
    pub(crate) reopened: u64,
}

/// One database of it.
pub(crate) struct InspectedDatabase {
    pages: Pages,
    newer: NewerRows,
    system: Vec<BadPage>,
    /// Prevents that the pages of the rows are reused. It does not protect the pages of redb's own tables, so these
    /// few are read at once.
    _hold: ReadTransaction,
}

impl InspectedDatabase {
    /// `newer` are the rows in memory. No thread may write to the database meanwhile.
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

    pub(crate) fn disk(&self) -> Disk {
        self.pages.disk.clone()
    }
}

/// The rows in memory that are newer than redb's: of the file, and of the containers in memory. No thread may commit
/// meanwhile.
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
