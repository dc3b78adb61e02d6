//! Changes to the store's own records in redb: its containers and the secrets of the client ids.

use crate::error::Result;
use crate::storage::record::{ContainerRecord, RecordCipher};
use crate::storage::redb::backend::file_io::FileIo;
use crate::storage::redb::checkpoint::task::{StoreDatabase, commit};
use crate::storage::redb::failure::{self, ContainedWrite};
use crate::storage::redb::meta::{self, begin_durable, put_plain};
use crate::storage::redb::sealing;
use crate::storage::redb::tables::{CONTAINERS, META, RETIRED};
use crate::storage::{
    AliasSpec, ContainerId, ContainerSpec, SecretRecord, SettingsChange, StoreSettings,
    no_such_container,
};
use redb::Database;

/// The state that a change replaced. If the outcome of the change is unknown, the process continues with this state, so
/// the file must have it too. Otherwise another container could get a container's number, the container's rows could be
/// reclaimed, or ids could verify only after a restart.
pub(crate) enum SettingsBefore {
    Container(ContainerBefore),
    Secrets(Vec<SecretRecord>),
    UnfinishedCopy,
}

/// A container's row before a change.
pub(crate) struct ContainerBefore {
    name: String,
    row: Option<Vec<u8>>,
    id: ContainerId,
}

impl StoreDatabase {
    /// Makes a change that leads from the settings `old` to `new`. `before` receives the replaced state.
    pub(crate) fn configure(
        &self,
        change: &SettingsChange,
        (old, new): (&StoreSettings, &StoreSettings),
        io: &FileIo,
        before: &mut Option<SettingsBefore>,
    ) -> Result<()> {
        io.begin_commit();
        let txn = begin_durable(&self.file)?;
        *before = Some(match change {
            SettingsChange::PutContainer(ContainerSpec { name, .. })
            | SettingsChange::PutAlias(AliasSpec { name, .. }) => {
                put_plain(&txn, meta::NEXT_CONTAINER, new.next_container)?;
                SettingsBefore::Container(put_container(&txn, new.container(name)?)?)
            }
            SettingsChange::RemoveContainer(name) => {
                let own_name = &old.container(name)?.name;
                SettingsBefore::Container(match new.containers.get(own_name) {
                    // Only an alias goes.
                    Some(record) => put_container(&txn, record)?,
                    None => remove_container(&txn, name)?,
                })
            }
            SettingsChange::ReplaceSecrets { .. } => {
                put_secrets(&txn, &new.secrets, &self.cipher)?;
                SettingsBefore::Secrets(old.secrets.clone())
            }
            SettingsChange::FinishCopy => {
                put_plain(&txn, meta::UNFINISHED, false)?;
                SettingsBefore::UnfinishedCopy
            }
        });
        commit(txn, io)
    }
}

#[cfg(feature = "encryption")]
impl StoreDatabase {
    /// Notes that all rows are encrypted with the current key.
    pub(crate) fn finish_reseal(&self, io: &FileIo) -> Result<()> {
        io.begin_commit();
        let txn = begin_durable(&self.file)?;
        {
            let mut meta = txn.open_table(META).map_err(failure::table)?;
            sealing::finish(&self.cipher, &mut meta)?;
        }
        commit(txn, io)
    }
}

/// Stores a container.
fn put_container(txn: &ContainedWrite, record: &ContainerRecord) -> Result<ContainerBefore> {
    let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
    let row = containers
        .insert(record.name.as_str(), &*record.encode()?)
        .map_err(failure::storage)?
        .map(|row| row.value().to_vec());
    Ok(ContainerBefore {
        name: record.name.clone(),
        row,
        id: ContainerId(record.id),
    })
}

/// Removes a container's row and lists its number in `RETIRED`, so that its rows are reclaimed.
fn remove_container(txn: &ContainedWrite, name: &str) -> Result<ContainerBefore> {
    let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
    let row = containers
        .remove(name)
        .map_err(failure::storage)?
        .map(|row| row.value().to_vec());
    let row = row.ok_or_else(|| no_such_container(name))?;
    let record = ContainerRecord::decode(name, &row)?;
    let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
    retired.insert(record.id, ()).map_err(failure::storage)?;
    Ok(ContainerBefore {
        name: name.to_owned(),
        row: Some(row),
        id: ContainerId(record.id),
    })
}

fn put_secrets(
    txn: &ContainedWrite,
    secrets: &[SecretRecord],
    cipher: &RecordCipher,
) -> Result<()> {
    let mut meta = txn.open_table(META).map_err(failure::table)?;
    sealing::put_secrets(cipher, &mut meta, secrets)
}

impl SettingsBefore {
    /// Restores it in the file.
    pub(crate) fn restore(
        &self,
        file: &Database,
        io: &FileIo,
        cipher: &RecordCipher,
    ) -> Result<()> {
        let txn = begin_durable(file)?;
        match self {
            Self::Container(container) => container.put_back(&txn)?,
            Self::Secrets(secrets) => put_secrets(&txn, secrets, cipher)?,
            Self::UnfinishedCopy => put_plain(&txn, meta::UNFINISHED, true)?,
        }
        commit(txn, io)
    }
}

impl ContainerBefore {
    pub(crate) fn id(&self) -> ContainerId {
        self.id
    }

    fn put_back(&self, txn: &ContainedWrite) -> Result<()> {
        let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
        let name = self.name.as_str();
        match &self.row {
            Some(row) => containers.insert(name, row.as_slice()).map(drop),
            None => containers.remove(name).map(drop),
        }
        .map_err(failure::storage)?;
        let mut retired = txn.open_table(RETIRED).map_err(failure::table)?;
        retired.remove(self.id.0).map_err(failure::storage)?;
        Ok(())
    }
}
