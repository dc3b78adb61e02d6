//! Format 1: the tables of a new store, its identity and its first secret.

use crate::error::Result;
use crate::storage::record::{ContainerRecord, RecordKind, seal_plain};
use crate::storage::redb::failure::{self, random};
use redb::{TableDefinition, WriteTransaction};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const CONTAINERS: TableDefinition<&str, &[u8]> = TableDefinition::new("containers");
const RETIRED: TableDefinition<u32, ()> = TableDefinition::new("retired");
const SESSIONS: TableDefinition<&[u8; 20], &[u8]> = TableDefinition::new("sessions");
const PACKAGES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packages");
const TOMBSTONES: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("tombstones");
const OWNERS: TableDefinition<&[u8; 36], ()> = TableDefinition::new("owners");

/// Makes a store of an empty database.
pub(crate) fn migrate(txn: &WriteTransaction) -> Result<()> {
    let open = failure::table;
    txn.open_table(SESSIONS).map_err(open)?;
    txn.open_table(PACKAGES).map_err(open)?;
    txn.open_table(TOMBSTONES).map_err(open)?;
    txn.open_table(OWNERS).map_err(open)?;
    txn.open_table(RETIRED).map_err(open)?;

    let mut meta = txn.open_table(META).map_err(open)?;
    let mut put = |key: &str, record: Vec<u8>| {
        meta.insert(key, &*record)
            .map(|_| ())
            .map_err(failure::storage)
    };
    let identity: [u8; 16] = random()?;
    put(
        "identity",
        seal_plain(RecordKind::Meta, b"identity", identity)?,
    )?;
    let secrets: Vec<(u8, [u8; 32])> = vec![(0, random()?)];
    put(
        "secrets",
        seal_plain(RecordKind::Meta, b"secrets", secrets)?,
    )?;
    put("epoch", seal_plain(RecordKind::Meta, b"epoch", 0_u64)?)?;
    put(
        "next-container",
        seal_plain(RecordKind::Meta, b"next-container", 1_u32)?,
    )?;

    let unnamed = ContainerRecord {
        name: String::new(),
        id: 0,
        timeout_ms: 3_600_000,
        resolution_ms: 600_000,
        max_lifetime_ms: None,
        implicit_sweeps: true,
        aliases: Vec::new(),
    };
    let mut containers = txn.open_table(CONTAINERS).map_err(open)?;
    containers
        .insert("", &*unnamed.encode()?)
        .map_err(failure::storage)?;
    Ok(())
}
