//! Enters a store that was identified: reads its journal, creates the next one, and counts the opening (C7.3).

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::storage::record::{RecordCipher, RecordKind, seal_plain};
use crate::storage::redb::backend::disk::Disk;
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::backend::folder::Location;
use crate::storage::redb::failure;
use crate::storage::redb::failure::Contained;
use crate::storage::redb::journal;
use crate::storage::redb::journal::{
    ExpectedJournal, HeldJournals, Journal, JournalRef, Recovered,
};
use crate::storage::redb::meta::{
    self, begin_durable, name_journal, name_store, put_copied, put_last_frame,
};
use crate::storage::redb::open::database::open_overlay;
use crate::storage::redb::open::identify::{OpeningPlan, check_readable};
use crate::storage::redb::open::identity::{
    Identity, begin_read, containers, expected_journal, own_records,
};
use crate::storage::redb::open::options::OpenOptions;
use crate::storage::redb::sealing;
use crate::storage::redb::tables::META;
use redb::Database;
use std::sync::Arc;

/// The result of entering a store.
pub(crate) struct OpenedStore {
    pub(crate) identity: Identity,
    /// `None` for a store without a file.
    pub(crate) journal: Option<(Journal, JournalRef)>,
    /// Commits that redb does not hold.
    pub(crate) recovered: Recovered,
}

/// Reads what [`enter`] reads, for a disk without room for a new journal. The store can be read until there is room.
/// Nothing is written.
pub(crate) fn peek(
    store: &Location,
    disk: &Disk,
    options: OpenOptions,
    why: &Error,
    known: &mut JournalAtOpening,
    cipher: &RecordCipher,
) -> Result<(Database, OpenedStore)> {
    tracing::warn!(
        error = %why, path = %store.path.display(),
        "the disk is full: the store is opened for reading, and for writing once there is room"
    );
    let database = open_overlay(disk.clone(), options)?;
    failure::guarded_on(database, |database| {
        let held = std::mem::take(&mut known.held);
        let OpeningPlan {
            recovered, held, ..
        } = check_readable(store, database, held, cipher)?;
        known.held = held;
        let txn = begin_read(database)?;
        let meta = Contained::new(txn.open_table(META).map_err(failure::table)?);
        let (containers, retired) = containers(database)?;
        let own = own_records(&*meta, cipher)?;
        let identity = Identity {
            containers,
            retired,
            // The number that this opening will get.
            epoch: own.epoch + 1,
            ..own
        };
        Ok(OpenedStore {
            identity,
            journal: None,
            recovered,
        })
    })
}

/// The facts that are known about the journal before [`enter`] reads it.
#[derive(Default)]
pub(crate) struct JournalAtOpening {
    /// The frames that were read when the file was identified.
    pub(crate) read: Option<(ExpectedJournal, Recovered)>,
    /// The journal files that this process holds.
    pub(crate) held: HeldJournals,
    /// Whether the store was open before. Then a file with a journal's name that is not held may belong to another
    /// store.
    pub(crate) is_reopened: bool,
}

impl JournalAtOpening {
    pub(crate) fn of(foreseen: Option<OpeningPlan>) -> Self {
        let Some(foreseen) = foreseen else {
            return Self::default();
        };
        Self {
            read: Some((foreseen.expected, foreseen.recovered)),
            held: foreseen.held,
            is_reopened: false,
        }
    }
}

/// Reads the store's own records and the journal's frames beyond redb, creates a new journal with these frames, and
/// counts this opening.
pub(crate) fn enter(
    store: Option<&Location>,
    largest: u64,
    database: &Database,
    io: &Arc<FileIo>,
    known: &mut JournalAtOpening,
    (cipher, now): (&RecordCipher, Timestamp),
) -> Result<OpenedStore> {
    let expected = expected_journal(database)?;
    let Some(store) = store else {
        let identity = count_opening(database, None, (cipher, now))?;
        return Ok(OpenedStore {
            identity,
            journal: None,
            recovered: Recovered::default(),
        });
    };
    let recovered = match known.read.take() {
        Some((of, recovered)) if of == expected => recovered,
        // A commit of unknown outcome may have named the next journal, which holds all frames of this one.
        _ => journal::read(store, &expected, &mut known.held)?,
    };
    let held = &mut known.held;
    held.keep_only(expected.named.opening)?;
    let last = recovered.last;
    let pair = if known.is_reopened {
        journal::next_free(store, &expected.named)?
    } else {
        journal::make_room(store, &expected, last)?
    };
    let (journal, named) = Journal::make(store, &expected, &recovered, largest, io, pair, held)?;
    let identity = count_opening(database, Some((named, last, store)), (cipher, now))?;
    // The previous files are no longer needed. Closing the store removes those that cannot be removed now.
    if let Err(error) = held.keep_only(named.opening) {
        tracing::warn!(%error, "the files of the journal before are left");
    }
    Ok(OpenedStore {
        identity,
        journal: Some((journal, named)),
        recovered,
    })
}

/// Counts this opening. With a journal, it also records its reference, its last frame and the store's path.
fn count_opening(
    database: &Database,
    journal: Option<(JournalRef, u64, &Location)>,
    (cipher, now): (&RecordCipher, Timestamp),
) -> Result<Identity> {
    let txn = begin_durable(database)?;
    if let Some((named, last, store)) = journal {
        name_journal(&txn, named)?;
        put_last_frame(&txn, last)?;
        put_copied(&txn, last)?;
        name_store(&txn, &store.path.to_string_lossy())?;
    }
    let identity = {
        let mut meta = txn.open_table(META).map_err(failure::table)?;
        sealing::check_keys(cipher, &*meta)?;
        #[cfg(feature = "encryption")]
        sealing::settle(cipher, &mut meta)?;
        let mut identity = own_records(&*meta, cipher)?;
        if identity.epoch == 0 {
            sealing::note_new(&mut meta, &mut identity.secrets, now)?;
        }
        let epoch = identity.epoch + 1;
        let record = seal_plain(RecordKind::Meta, meta::EPOCH.as_bytes(), epoch)?;
        meta.insert(meta::EPOCH, &*record)
            .map_err(failure::storage)?;
        Identity { epoch, ..identity }
    };
    txn.commit().map_err(failure::commit)?;
    let (containers, retired) = containers(database)?;
    Ok(Identity {
        containers,
        retired,
        ..identity
    })
}
