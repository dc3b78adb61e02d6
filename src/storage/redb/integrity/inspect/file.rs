//! Inspecting a file that no process has open.

use crate::error::{ErrorKind, Result};
use crate::storage::record::RecordCipher;
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::format::{BitRepair, check_header};
use crate::storage::redb::integrity::inspect::damage::corrupt;
use crate::storage::redb::integrity::inspect::inspection::Inspection;
use crate::storage::redb::integrity::newer::NewerRows;
use crate::storage::redb::integrity::pages::{Pages, header_of};
use crate::storage::redb::journal::{self, ExpectedJournal, HeldJournals, RawFrameRows};
use crate::storage::{Checked, Finding, RowCounter};
use std::ops::ControlFlow;

/// Checks at every opening what redb trusts without verifying it: the header, and the list of used pages.
pub(crate) fn examine(disk: &Disk) -> Result<()> {
    check_header(&header_of(disk)?)?;
    let mut bad = 0_u64;
    Pages::new(disk.clone(), BitRepair::Nothing)?.check_system(|_, _| bad += 1)?;
    match bad {
        0 => Ok(()),
        _ => Err(corrupt(
            "the file's own bookkeeping is damaged; StoreBuilder::salvage copies what can be read",
        )),
    }
}

/// The journal of a file that is inspected.
pub(crate) enum InspectedJournal<'a> {
    /// The frames that the file does not hold have been read.
    Read(Vec<RawFrameRows>),
    /// The journal is beside this store, and is yet to be read.
    Beside(&'a Location),
}

/// Inspects a file that no process has open.
pub(crate) fn inspect_file(
    disk: &Disk,
    beyond: InspectedJournal<'_>,
    cipher: &RecordCipher,
    found: &mut dyn FnMut(Finding),
) -> Result<Checked> {
    let progress = &mut |_| ControlFlow::Continue(());
    let mut inspection = Inspection::new(found, cipher, RowCounter::new(progress));
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
    // Without the store's own record of its keys, no row can be judged.
    if cipher.knows_file() {
        inspection.rows(&mut pages, &tables, &newer)?;
    }
    Ok(inspection.checked)
}

impl Inspection<'_> {
    /// Reads the rows in the journal. Without all of them, the file cannot be judged.
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
}
