//! The records that a store's file keeps about itself, in the table [`META`]: their keys, and how they are read and
//! written.

use crate::error::{Error, ErrorKind, Result};
use crate::storage::record::{PlainValue, RecordKind, open_plain, seal_plain};
use crate::storage::redb::failure;
use crate::storage::redb::failure::{Contained, ContainedWrite};
use crate::storage::redb::journal::JournalRef;
use crate::storage::redb::tables::META;
use redb::{Database, ReadableTable};

/// The store's identity: random bytes that its journal bears as well.
pub(crate) const IDENTITY: &str = "identity";
/// The secrets that sign the ids of clients.
pub(crate) const SECRETS: &str = "secrets";
/// When secrets were made. Stores of an earlier version do not have it.
pub(crate) const SECRET_TIMES: &str = "secret-times";
/// The keys that records of the file may be encrypted with. Missing if none is.
pub(crate) const SEALED_BY: &str = "sealed-by";
/// The key of the hashes in the index of owners, encrypted.
pub(crate) const INDEX_KEY: &str = "index-key";
/// How often the file was opened.
pub(crate) const EPOCH: &str = "epoch";
/// The number that the next new container gets.
pub(crate) const NEXT_CONTAINER: &str = "next-container";
/// The number of the last frame whose rows redb holds.
pub(crate) const COVERED: &str = "covered";
/// The number of the last frame that was durable when this record was written.
pub(crate) const REACHED: &str = "reached";
/// The number of the last frame that this opening copied from the previous journal, or found in redb.
pub(crate) const COPIED: &str = "copied";
/// The journal that belongs to the file.
pub(crate) const JOURNAL: &str = "journal";
/// The path that the store was last opened by.
pub(crate) const OPENED_AS: &str = "opened-as";
/// Whether the store is an unfinished copy of another one. Missing: it is not.
pub(crate) const UNFINISHED: &str = "unfinished-copy";
/// The format of the file: [`MARK`], then the number.
pub(crate) const FORMAT: &str = "format";
/// Precedes the number of the format. It is never sealed or moved, so that every version recognizes the files of all
/// others.
const MARK: &[u8] = b"cloakroom";

/// Encodes a format.
pub(crate) fn format_record(format: u32) -> Vec<u8> {
    [MARK, &format.to_le_bytes()].concat()
}

/// Decodes a format.
pub(crate) fn parse_format(value: &[u8]) -> Option<u32> {
    let number = value.strip_prefix(MARK)?;
    Some(u32::from_le_bytes(number.try_into().ok()?))
}

/// Whether files of this format do not have this record yet.
pub(crate) fn came_later(record: &str, format: u32) -> bool {
    format < 2 && [JOURNAL, COVERED].contains(&record)
}

/// Begins a write transaction whose commit survives power loss. It commits in two phases, so that a failed sync
/// cannot make it half durable, and saves redb's allocator state, so that opening the file does not need to read all
/// of it.
pub(crate) fn begin_durable(database: &Database) -> Result<ContainedWrite> {
    let mut txn = database.begin_write().map_err(failure::transaction)?;
    txn.set_two_phase_commit(true);
    txn.set_quick_repair(true);
    Ok(Contained::new(txn))
}

/// Reads a row of the store's own table.
pub(crate) fn plain<T: PlainValue>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<T> {
    plain_if_there(meta, key)?.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            format!("the store's record {key:?} is missing"),
        )
    })
}

/// [`plain`] for a row that not every store has.
pub(crate) fn plain_if_there<T: PlainValue>(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>> {
    let record = meta.get(key).map_err(failure::storage)?;
    record
        .map(|record| open_plain(RecordKind::Meta, key.as_bytes(), record.value()))
        .transpose()
}

/// Records which journal belongs to the file.
pub(crate) fn name_journal(txn: &ContainedWrite, named: JournalRef) -> Result<()> {
    put_plain(txn, JOURNAL, named.to_wire())
}

/// Records the journal's last durable frame.
pub(crate) fn put_last_frame(txn: &ContainedWrite, frame: u64) -> Result<()> {
    put_plain(txn, REACHED, frame)
}

/// Records up to which frame this journal or the file holds the previous journal.
pub(crate) fn put_copied(txn: &ContainedWrite, frame: u64) -> Result<()> {
    put_plain(txn, COPIED, frame)
}

pub(crate) fn name_store(txn: &ContainedWrite, path: &str) -> Result<()> {
    put_plain(txn, OPENED_AS, path.to_owned())
}

/// Writes a row of the store's own table.
pub(crate) fn put_plain(txn: &ContainedWrite, key: &str, value: impl PlainValue) -> Result<()> {
    let mut meta = txn.open_table(META).map_err(failure::table)?;
    let record = seal_plain(RecordKind::Meta, key.as_bytes(), value)?;
    meta.insert(key, &*record).map_err(failure::storage)?;
    Ok(())
}
