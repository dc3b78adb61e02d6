//! Reads the store's own records: its identity, its containers, and the journal that belongs to it.

use crate::error::Result;
use crate::storage::record::{ContainerRecord, RecordCipher};
use crate::storage::redb::failure;
use crate::storage::redb::failure::Contained;
use crate::storage::redb::journal::{ExpectedJournal, JournalExtent, JournalRef};
use crate::storage::redb::meta::{
    self, COPIED, COVERED, JOURNAL, OPENED_AS, REACHED, plain, plain_if_there,
};
use crate::storage::redb::sealing;
use crate::storage::redb::tables::{CONTAINERS, META, RETIRED};
use crate::storage::{ContainerId, SecretRecord, StoreSettings, newest_secret};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

/// The store's own records.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: [u8; 16],
    pub(crate) secrets: Vec<SecretRecord>,
    pub(crate) containers: Vec<ContainerRecord>,
    pub(crate) retired: Vec<ContainerId>,
    /// The number that the next new container gets.
    pub(crate) next_container: u32,
    /// Whether the store is an unfinished copy of another one.
    pub(crate) is_unfinished: bool,
    /// How often the file was opened. Together with the commits since, it gives the number of a commit.
    pub(crate) epoch: u64,
}

impl Identity {
    /// The settings of the store. Nobody else changes them while the file is open.
    pub(crate) fn settings(&self) -> StoreSettings {
        let containers = self.containers.iter().cloned();
        StoreSettings {
            identity: self.id,
            version: 0,
            registry: 0,
            containers: containers
                .map(|record| (record.name.clone(), record))
                .collect(),
            next_container: self.next_container,
            secrets: self.secrets.clone(),
            issuing: newest_secret(&self.secrets),
            is_unfinished: self.is_unfinished,
        }
    }
}

/// The store's identity, and the journal that the file names.
pub(crate) fn expected_journal(database: &Database) -> Result<ExpectedJournal> {
    let txn = begin_read(database)?;
    let meta = Contained::new(txn.open_table(META).map_err(failure::table)?);
    Ok(ExpectedJournal {
        store: plain(&*meta, meta::IDENTITY)?,
        named: JournalRef::from_wire(plain(&*meta, JOURNAL)?),
        extent: JournalExtent {
            covered: plain(&*meta, COVERED)?,
            reached: plain_if_there(&*meta, REACHED)?.unwrap_or_default(),
            copied: plain_if_there(&*meta, COPIED)?.unwrap_or_default(),
        },
        opened_as: plain_if_there(&*meta, OPENED_AS)?,
    })
}

pub(crate) fn begin_read(database: &Database) -> Result<Contained<ReadTransaction>> {
    let txn = database.begin_read().map(Contained::new);
    txn.map_err(failure::transaction)
}

/// The store's own records, without its containers.
pub(crate) fn own_records(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
    cipher: &RecordCipher,
) -> Result<Identity> {
    Ok(Identity {
        id: plain(meta, meta::IDENTITY)?,
        secrets: sealing::secrets(cipher, meta)?,
        containers: Vec::new(),
        retired: Vec::new(),
        next_container: plain(meta, meta::NEXT_CONTAINER)?,
        is_unfinished: plain_if_there(meta, meta::UNFINISHED)?.unwrap_or_default(),
        epoch: plain(meta, meta::EPOCH)?,
    })
}

/// The containers, and the numbers of ended ones that still have rows.
pub(crate) fn containers(database: &Database) -> Result<(Vec<ContainerRecord>, Vec<ContainerId>)> {
    let txn = begin_read(database)?;
    let table = Contained::new(txn.open_table(CONTAINERS).map_err(failure::table)?);
    let mut containers = Vec::new();
    for row in table.iter().map_err(failure::storage)? {
        let (name, record) = row.map_err(failure::storage)?;
        containers.push(ContainerRecord::decode(name.value(), record.value())?);
    }
    let table = Contained::new(txn.open_table(RETIRED).map_err(failure::table)?);
    let mut retired = Vec::new();
    for row in table.iter().map_err(failure::storage)? {
        retired.push(ContainerId(row.map_err(failure::storage)?.0.value()));
    }
    Ok((containers, retired))
}
