//! The record of a group of commits: a frame of the journal.

use super::codec::{FORMAT, RecordKind, checksum, config, open, whole};
use crate::error::{Error, ErrorKind, Result};

/// The rows of one group of commits: key and value. A row without a value is removed.
pub(crate) type FrameRows<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

/// Appends the record of a group of commits to `out`.
pub(crate) fn seal_frame<'a>(
    out: &mut Vec<u8>,
    key: &[u8],
    rows: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<()> {
    let start = out.len();
    let failed =
        |e| Error::new(ErrorKind::InvalidInput, "a commit cannot be encoded").with_source(e);
    out.push(FORMAT);
    bincode::encode_into_std_write(rows.len() as u64, out, config()).map_err(failed)?;
    for row in rows {
        bincode::encode_into_std_write(row, out, config()).map_err(failed)?;
    }
    let sum = checksum(RecordKind::Frame, key, out.get(start..).unwrap_or_default());
    out.extend_from_slice(&sum);
    Ok(())
}

/// Decodes a record of [`seal_frame`].
pub(crate) fn open_frame<'a>(key: &[u8], record: &'a [u8]) -> Result<FrameRows<'a>> {
    whole(
        RecordKind::Frame,
        open(RecordKind::Frame, key, record)?,
        |payload| bincode::borrow_decode_from_slice(payload, config()),
    )
}
