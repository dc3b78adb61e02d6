//! Whether the rows that a transaction has read are those that it has locked.

use super::connection::SqlKey;
use super::failure::Failure;
use super::load::{LoadedClients, column};
use crate::error::{Error, ErrorKind};
use std::collections::HashSet;
use tokio_postgres::Row;

/// Refuses rows that are not locked: they came after the statement that locks, and before the one that reads. Others may
/// change them. The next attempt locks them, too.
pub(super) fn check_locked(locked: &[Row], loaded: &LoadedClients) -> Result<(), Failure> {
    let mut keys = HashSet::with_capacity(locked.len());
    for row in locked {
        let SqlKey(client) = column(row, 0)?;
        keys.insert(client);
    }
    let free = loaded.iter().filter(|(client, _)| !keys.contains(client));
    for (_, rows) in free {
        match rows {
            Ok(rows) if rows.stored.is_none() => {}
            Ok(_) | Err(_) => return Err(came_meanwhile()),
        }
    }
    Ok(())
}

/// Rows are not those that the transaction has locked.
pub(super) fn came_meanwhile() -> Failure {
    let why = "another transaction has changed the rows meanwhile";
    Failure::Again(Error::new(ErrorKind::Conflict, why))
}
