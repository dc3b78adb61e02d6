//! An incremental backup made of a whole one: what differs from the state that a chain shows.

use super::chain::{Chain, NamedBackup};
use super::changes::BackupRun;
use super::current::Pace;
use super::row_order::{CONTAINERS, META};
use super::verify::open;
use crate::error::{ErrorKind, Result};
use crate::storage::record::{BackupHeader, ContainerRecord};
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure;
use crate::storage::{BackupRow, BackupSummary, ContainerId, ProgressFn};
use std::collections::BTreeSet;
use std::io::Write;

/// Writes what a whole backup has changed since a chain. It is to be at the target.
pub(crate) fn write_difference(
    chain: &[NamedBackup],
    (whole, target): (&NamedBackup, &Location),
    out: &mut dyn Write,
    progress: &mut ProgressFn<'_>,
) -> Result<BackupSummary> {
    let location = whole.location()?;
    let refused = |why| failure::refused(ErrorKind::InvalidInput, &location.path, why);
    let file = open(&location)?;
    let newest = file.reader().header.clone();
    let mut current = file.peekable();
    let chain = Chain::open(chain)?;
    if newest.previous.is_some() {
        return Err(refused("it is an incremental backup, not a whole one"));
    }
    if newest.store != chain.last().store {
        return Err(refused("it is a backup of another store than the chain"));
    }
    if newest.commit < chain.last().commit {
        return Err(refused("it is older than the last backup of the chain"));
    }
    let header = BackupHeader {
        previous: Some((chain.last_id(), chain.last().commit)),
        ..newest
    };
    let mut run = BackupRun::begin(out, header, 0, progress)?;
    let mut own: Vec<Result<BackupRow>> = Vec::new();
    let mut known = BTreeSet::new();
    while let Some(row) = current.next_if(is_own) {
        let row = row?;
        if let (Some((&CONTAINERS, name)), Some(record)) = (row.key.split_first(), &row.value) {
            let name = std::str::from_utf8(name).unwrap_or_default();
            known.insert(ContainerId(ContainerRecord::decode(name, record)?.id));
        }
        own.push(Ok(row));
    }
    let earlier = chain.rows(target, &mut |_| run.told())?;
    let current = own.into_iter().chain(current);
    run.differing((Box::new(earlier), &known), current, &mut Pace::unbraked())?;
    run.finish()
}

/// Whether it is a record of the store's own, which come first.
fn is_own(row: &Result<BackupRow>) -> bool {
    let row = row.as_ref().ok();
    let table = row.and_then(|row| row.key.first().copied());
    matches!(table, Some(META | CONTAINERS))
}
