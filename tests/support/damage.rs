//! Damage to what a store holds, past the store.

use cloakroom::ClientKey;
use redb::{Database, ReadableTable, TableDefinition};
use std::path::Path;

/// Flips a bit of a session's record. The page that holds it has a checksum that is right. Twice, it is as it was.
pub(crate) fn flip_session(path: &Path, client: ClientKey) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let table: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("sessions");
        let mut table = txn.open_table(table).unwrap();
        let rows = table.iter().unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (*key.value(), value.value().to_vec())
        });
        let rows: Vec<_> = rows.collect();
        let of = |(key, _): &&([u8; 20], Vec<u8>)| key[4..] == *client.as_bytes();
        let (key, mut record) = rows.iter().find(of).unwrap().clone();
        *record.get_mut(40).unwrap() ^= 1;
        table.insert(&key, &*record).unwrap();
    }
    txn.commit().unwrap();
}

/// Flips a bit of the record of each package of a session.
pub(crate) fn flip_packages(path: &Path, client: ClientKey) {
    let database = Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("packages");
        let mut table = txn.open_table(table).unwrap();
        let rows = table.iter().unwrap().map(|row| {
            let (key, value) = row.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        });
        let rows: Vec<_> = rows.collect();
        let of = |(key, _): &&(Vec<u8>, Vec<u8>)| key.get(4..20) == Some(&client.as_bytes()[..]);
        for (key, record) in rows.iter().filter(of) {
            let mut record = record.clone();
            *record.last_mut().unwrap() ^= 1;
            table.insert(&**key, &*record).unwrap();
        }
    }
    txn.commit().unwrap();
}
