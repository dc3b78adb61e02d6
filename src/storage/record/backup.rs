//! The records of a backup file: its header, the rows that it carries, and its end.

use super::codec::{
    FORMAT, PayloadReader, RecordKind, append, close, config, corrupt, open, whole,
};
use super::frame::FrameRows;
use crate::error::Result;

const HEADER: u8 = 0;
const ROWS: u8 = 1;
const END: u8 = 2;

/// The first record of a backup: what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupHeader {
    /// The identity of the store.
    pub(crate) store: [u8; 16],
    /// The format of the store file.
    pub(crate) format: u32,
    /// The number of the last commit that it shows.
    pub(crate) commit: u64,
    /// The opening in which that commit counts, and how often the store had reopened its files.
    pub(crate) opening: [u8; 16],
    pub(crate) reopened: u64,
    /// When it was taken, in milliseconds since 1970.
    pub(crate) taken: i64,
    /// Of an incremental backup, the one before: its id and its commit.
    pub(crate) previous: Option<([u8; 16], u64)>,
}

/// The last record of a backup: how much it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BackupCounts {
    pub(crate) sessions: u64,
    pub(crate) packages: u64,
    /// Rows of the other tables.
    pub(crate) others: u64,
    /// Rows that it removes from the state of the backup before.
    pub(crate) removed: u64,
}

pub(crate) enum BackupRecord<'a> {
    Header(BackupHeader),
    Rows(FrameRows<'a>),
    End(BackupCounts),
}

type HeaderFields = (
    [u8; 16],
    u32,
    u64,
    [u8; 16],
    u64,
    i64,
    Option<([u8; 16], u64)>,
);

fn seal(key: &[u8], tag: u8, payload: impl bincode::Encode) -> Result<Vec<u8>> {
    let mut out = vec![FORMAT, tag];
    append(&mut out, payload)?;
    close(RecordKind::Backup, key, &mut out);
    Ok(out)
}

pub(crate) fn seal_backup_header(key: &[u8], header: &BackupHeader) -> Result<Vec<u8>> {
    let fields: HeaderFields = (
        header.store,
        header.format,
        header.commit,
        header.opening,
        header.reopened,
        header.taken,
        header.previous,
    );
    seal(key, HEADER, fields)
}

pub(crate) fn seal_backup_rows<'a>(
    key: &[u8],
    rows: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<Vec<u8>> {
    let mut out = vec![FORMAT, ROWS];
    append(&mut out, rows.len() as u64)?;
    for row in rows {
        append(&mut out, row)?;
    }
    close(RecordKind::Backup, key, &mut out);
    Ok(out)
}

pub(crate) fn seal_backup_end(key: &[u8], counts: BackupCounts) -> Result<Vec<u8>> {
    let BackupCounts {
        sessions,
        packages,
        others,
        removed,
    } = counts;
    seal(key, END, (sessions, packages, others, removed))
}

/// Decodes a record of a backup.
pub(crate) fn open_backup<'a>(key: &[u8], record: &'a [u8]) -> Result<BackupRecord<'a>> {
    let kind = RecordKind::Backup;
    let payload = open(kind, key, record)?;
    let Some((tag, payload)) = payload.split_first() else {
        return Err(corrupt(kind, "it is empty"));
    };
    match *tag {
        HEADER => {
            let fields: HeaderFields = whole(kind, payload, |payload| {
                bincode::decode_from_slice(payload, config())
            })?;
            let (store, format, commit, opening, reopened, taken, previous) = fields;
            Ok(BackupRecord::Header(BackupHeader {
                store,
                format,
                commit,
                opening,
                reopened,
                taken,
                previous,
            }))
        }
        ROWS => {
            let mut parts = PayloadReader::new(kind, payload);
            // It reserves nothing for a count that a stranger wrote.
            let mut rows = FrameRows::new();
            for _ in 0..parts.count()? {
                rows.push(parts.next()?);
            }
            parts.end()?;
            Ok(BackupRecord::Rows(rows))
        }
        END => {
            let (sessions, packages, others, removed) = whole(kind, payload, |payload| {
                bincode::decode_from_slice(payload, config())
            })?;
            Ok(BackupRecord::End(BackupCounts {
                sessions,
                packages,
                others,
                removed,
            }))
        }
        other => Err(corrupt(kind, &format!("it is of the unknown kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_of_more_rows_than_there_are_bytes_is_refused_before_any_memory_is_taken() {
        let mut record = vec![FORMAT, ROWS];
        append(&mut record, 20_000_000_u64).unwrap();
        record.extend([0; 60]);
        close(RecordKind::Backup, b"key", &mut record);
        let Err(error) = open_backup(b"key", &record) else {
            panic!("it is read");
        };
        assert!(error.to_string().contains("too short"), "{error}");
    }
}
