//! Gives a new file the settings of another store, of which it becomes the copy.

use crate::error::Result;
use crate::storage::StoreSettings;
#[cfg(feature = "encryption")]
use crate::storage::record::FileKeys;
use crate::storage::record::RecordCipher;
use crate::storage::redb::failure;
use crate::storage::redb::meta::{self, begin_durable, put_plain};
use crate::storage::redb::sealing;
use crate::storage::redb::tables::{CONTAINERS, META};
use redb::Database;

/// Puts the settings into a file that nobody has opened yet.
pub(crate) fn put_settings(
    database: &Database,
    settings: &StoreSettings,
    cipher: &RecordCipher,
) -> Result<()> {
    // What it learns of this file, the cipher must not believe of another one that gets the name first.
    #[cfg(feature = "encryption")]
    let cipher = &cipher.afresh();
    let txn = begin_durable(database)?;
    put_plain(&txn, meta::IDENTITY, settings.identity)?;
    put_plain(&txn, meta::NEXT_CONTAINER, settings.next_container)?;
    put_plain(&txn, meta::UNFINISHED, settings.is_unfinished)?;
    {
        let mut meta = txn.open_table(META).map_err(failure::table)?;
        // Opening it replaces the secrets of a file that was never opened and names no keys.
        #[cfg(feature = "encryption")]
        if cipher.keys().is_some() {
            cipher.know(FileKeys {
                index: failure::random()?.into(),
                accepts_plain: false,
                has_former_hashes: false,
            });
            sealing::name_keys(cipher, &mut meta)?;
        }
        sealing::put_secrets(cipher, &mut meta, &settings.secrets)?;
        let mut containers = txn.open_table(CONTAINERS).map_err(failure::table)?;
        for container in settings.containers.values() {
            containers
                .insert(container.name.as_str(), &*container.encode()?)
                .map_err(failure::storage)?;
        }
    }
    txn.commit().map_err(failure::commit)
}
