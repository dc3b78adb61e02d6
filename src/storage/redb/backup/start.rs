//! The beginning of a backup: its header, which tells what an incremental one is to continue.

use super::verify::FileRows;
use crate::error::Result;
use crate::storage::PreviousBackup;

/// The header of a backup is shorter.
pub(crate) const LONGEST_START: u64 = 4096;

/// Reads the header of a backup, of which more may follow. Returns its length, too.
pub(crate) fn read_start(start: &[u8]) -> Result<(PreviousBackup<'static>, usize)> {
    let rows = FileRows::new(start)?;
    let reader = rows.reader();
    let previous = PreviousBackup {
        id: reader.id,
        header: reader.header.clone(),
        state: None,
    };
    let len = usize::try_from(reader.read()).unwrap_or(start.len());
    Ok((previous, len))
}
