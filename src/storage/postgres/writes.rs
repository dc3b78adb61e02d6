//! The statements that write the row of a client.

use super::client_rows::{StoredClient, StoredRow, past_with};
use super::connection::{Connection, Param, SqlKey};
use super::failure::Failure;
use super::load::column;
use super::pipeline::Request;
use super::row_edit::ClientWrite;
use super::statements::Statement;
use super::write_terms::WriteTerms;
use crate::client_id::ClientKey;
use crate::error::Result as Checked;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tokio_postgres::Row;

/// How many bytes of large packages go in one message, unless one alone is larger.
const MESSAGE: usize = 16 << 20;

/// A row that is written in place of another, or as a new one.
pub(super) struct ClientRowWrite<'a> {
    pub(super) client: ClientKey,
    pub(super) base: Option<&'a StoredRow>,
    row: &'a StoredRow,
    spilled: i32,
}

impl<'a> ClientRowWrite<'a> {
    /// `None` if the row is removed.
    pub(super) fn new(
        client: ClientKey,
        base: &'a StoredClient,
        rows: &'a StoredClient,
    ) -> Option<Self> {
        let packages = rows.sessions.iter().flat_map(|it| &it.record.packages);
        let spilled = packages.filter(|(_, package)| package.is_spilled).count();
        Some(Self {
            client,
            base: base.stored.as_ref(),
            row: rows.stored.as_ref()?,
            spilled: i32::try_from(spilled).unwrap_or(i32::MAX),
        })
    }
}

/// Writes a row by `Found` or `Change`, or with large packages by `FoundLarge` or `ChangeLarge`.
/// Returns how many rows came back.
pub(super) async fn write_row(
    connection: &Connection,
    statement: Statement,
    (write, spilled): (&ClientRowWrite<'_>, &BTreeMap<Vec<u8>, Bytes>),
    terms: WriteTerms,
) -> Result<usize, Failure> {
    let row = write.row;
    let (version, epoch) = (row.version.cast_signed(), terms.epoch.cast_signed());
    let (key, body) = (SqlKey(write.client), row.body.as_deref());
    let mut params: Vec<Param<'_>> = vec![
        &key,
        &version,
        &row.past,
        &row.seen,
        &body,
        &row.ended,
        &row.owners,
        &row.sweep_at,
        &write.spilled,
        &epoch,
        &terms.until,
    ];
    let replaced = write.base.map_or(0, |base| base.version.cast_signed());
    if let Some(base) = write.base {
        params.push(&replaced);
        params.push(&base.seen);
    }
    let (places, bodies): (Vec<&[u8]>, Vec<&[u8]>) = spilled
        .iter()
        .map(|(place, body)| (&**place, &**body))
        .unzip();
    if !places.is_empty() {
        params.push(&places);
        params.push(&bodies);
    }
    Ok(connection.run(statement, &params).await?.len())
}

/// Writes rows by `FoundMany` or `ChangeMany`. Returns the clients whose rows are written.
pub(super) async fn write_many(
    connection: &Connection,
    statement: Statement,
    writes: &[ClientRowWrite<'_>],
    terms: WriteTerms,
) -> Result<BTreeSet<ClientKey>, Failure> {
    let written = run_many(connection, statement, writes, terms).await?;
    let written = written.iter().map(|row| {
        let SqlKey(client) = column(row, 0)?;
        Ok(client)
    });
    Ok(written.collect::<Checked<_>>()?)
}

/// Writes rows by `FoundMany`, `ChangeMany`, `Insert` or `Replace`.
async fn run_many(
    connection: &Connection,
    statement: Statement,
    writes: &[ClientRowWrite<'_>],
    terms: WriteTerms,
) -> Result<Vec<Row>, Failure> {
    let rows = || writes.iter().map(|write| write.row);
    let clients: Vec<_> = writes.iter().map(|write| SqlKey(write.client)).collect();
    let versions: Vec<_> = rows().map(|row| row.version.cast_signed()).collect();
    let past: Vec<_> = rows().map(|row| &row.past).collect();
    let seen: Vec<_> = rows().map(|row| &row.seen).collect();
    let bodies: Vec<_> = rows().map(|row| row.body.as_deref()).collect();
    let ended: Vec<_> = rows().map(|row| row.ended.as_deref()).collect();
    let owners: Vec<_> = rows()
        .map(|row| row.owners.as_deref().map(array_text))
        .collect();
    let sweep_at: Vec<_> = rows().map(|row| row.sweep_at).collect();
    let spilled: Vec<_> = writes.iter().map(|write| write.spilled).collect();
    let epoch = terms.epoch.cast_signed();
    let mut params: Vec<Param<'_>> = vec![
        &clients,
        &versions,
        &past,
        &seen,
        &bodies,
        &ended,
        &owners,
        &sweep_at,
        &spilled,
        &epoch,
        &terms.until,
    ];
    let base = || writes.iter().filter_map(|write| write.base);
    let replaced: Vec<_> = base().map(|base| base.version.cast_signed()).collect();
    let seen_before: Vec<_> = base().map(|base| &base.seen).collect();
    if !replaced.is_empty() {
        params.push(&replaced);
        params.push(&seen_before);
    }
    connection.run(statement, &params).await
}

/// An array of bytes as the server reads it from a text: arrays of arrays have one dimension too many.
fn array_text(values: &[Vec<u8>]) -> String {
    let mut text = String::from("{");
    for (n, value) in values.iter().enumerate() {
        text.push_str(if n == 0 { "\"\\\\x" } else { ",\"\\\\x" });
        for byte in value {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('"');
    }
    text + "}"
}

/// The statements of a transaction that write the rows of clients, and their large packages.
pub(super) fn requests<'a>(
    connection: &'a Connection,
    writes: impl IntoIterator<Item = (ClientKey, &'a ClientWrite)>,
    terms: WriteTerms,
) -> Vec<Request<'a>> {
    let (mut inserted, mut replaced, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dropped, mut put) = (Vec::new(), Vec::new());
    for (client, write) in writes {
        let row = ClientRowWrite::new(client, &write.base, &write.rows);
        match (&write.base.stored, row) {
            (Some(_), Some(row)) => replaced.push(row),
            (None, Some(row)) => inserted.push(row),
            (Some(base), None) => removed.push((client, base)),
            (None, None) => {}
        }
        for (place, body) in &write.spilled {
            match body {
                Some(body) => put.push((SqlKey(client), &**place, &**body)),
                None => dropped.push((SqlKey(client), &**place)),
            }
        }
    }
    let mut requests: Vec<Request<'a>> = Vec::new();
    for (statement, rows) in [
        (Statement::Insert, inserted),
        (Statement::Replace, replaced),
    ] {
        if !rows.is_empty() {
            requests.push(Box::pin(async move {
                run_many(connection, statement, &rows, terms).await?;
                Ok(())
            }));
        }
    }
    if !removed.is_empty() {
        requests.push(remove(connection, removed));
    }
    if !dropped.is_empty() {
        requests.push(Box::pin(async move {
            let (clients, places): (Vec<_>, Vec<_>) = dropped.into_iter().unzip();
            let params: [Param<'_>; 2] = [&clients, &places];
            connection.run(Statement::DropPackages, &params).await?;
            Ok(())
        }));
    }
    for put in in_messages(put) {
        requests.push(Box::pin(async move {
            let clients: Vec<_> = put.iter().map(|(client, ..)| client).collect();
            let places: Vec<_> = put.iter().map(|(_, place, _)| *place).collect();
            let bodies: Vec<_> = put.iter().map(|(.., body)| *body).collect();
            let params: [Param<'_>; 3] = [&clients, &places, &bodies];
            connection.run(Statement::PutPackages, &params).await?;
            Ok(())
        }));
    }
    requests
}

/// A large package, and its client.
type PutPackage<'a> = (SqlKey, &'a [u8], &'a [u8]);

/// Large packages in groups of bounded size: the server takes no message of more than a gigabyte.
fn in_messages(all: Vec<PutPackage<'_>>) -> Vec<Vec<PutPackage<'_>>> {
    let (mut groups, mut room) = (Vec::new(), 0);
    for put in all {
        let (.., body) = put;
        match groups.last_mut() {
            Some(group) if body.len() <= room => Vec::push(group, put),
            _ => {
                groups.push(vec![put]);
                room = MESSAGE;
            }
        }
        room = room.saturating_sub(body.len());
    }
    groups
}

/// Removes rows.
pub(super) fn remove<'a>(
    connection: &'a Connection,
    rows: Vec<(ClientKey, &'a StoredRow)>,
) -> Request<'a> {
    Box::pin(async move {
        let clients: Vec<_> = rows.iter().map(|(client, _)| SqlKey(*client)).collect();
        let rows = || rows.iter().map(|(_, row)| row);
        let versions: Vec<_> = rows().map(|row| row.version.cast_signed()).collect();
        let seen: Vec<_> = rows().map(|row| &row.seen).collect();
        let params: [Param<'_>; 3] = [&clients, &versions, &seen];
        connection.run(Statement::Remove, &params).await?;
        Ok(())
    })
}

/// Gives a row a new version and other access times, and nothing else.
pub(super) fn renumber<'a>(
    connection: &'a Connection,
    client: ClientKey,
    (row, version): (&'a StoredRow, u64),
    seen: Vec<u8>,
) -> Request<'a> {
    let past = past_with(&row.past, row.version);
    Box::pin(async move {
        let (version, replaced) = (version.cast_signed(), row.version.cast_signed());
        let params: [Param<'_>; 6] = [
            &SqlKey(client),
            &version,
            &past,
            &seen,
            &replaced,
            &row.seen,
        ];
        connection.run(Statement::Note, &params).await?;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    // C5.5
    #[test]
    fn large_packages_go_in_messages_of_bounded_size() {
        let [small, large] = [1 << 20, MESSAGE + 1].map(|len| vec![0; len]);
        fn lens(all: Vec<&[u8]>) -> Vec<usize> {
            let client = ClientKey::from_bytes([0; 16]);
            let all = all.into_iter();
            let all = all.map(|body| (SqlKey(client), &b"place"[..], body));
            in_messages(all.collect()).iter().map(Vec::len).collect()
        }
        assert!(lens(Vec::new()).is_empty());
        assert_eq!(lens(vec![&*small; 33]), [16, 16, 1]);
        assert_eq!(lens(vec![&*small, &*large, &*small]), [1, 1, 1]);
    }

    // C8.2
    #[test]
    fn an_array_of_bytes_is_written_as_the_server_reads_it() {
        assert_eq!(array_text(&[]), "{}");
        let values = [vec![0, 255], vec![]];
        assert_eq!(array_text(&values), r#"{"\\x00ff","\\x"}"#);
    }
}
