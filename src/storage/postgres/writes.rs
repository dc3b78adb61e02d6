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

/// Writes a row by `Found`, `Change`, `Insert` or `Replace`, or with large packages by `FoundLarge` or `ChangeLarge`.
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
    let written = connection.run(statement, &params).await?;
    let written = written.iter().map(|row| {
        let SqlKey(client) = column(row, 0)?;
        Ok(client)
    });
    Ok(written.collect::<Checked<_>>()?)
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

/// The statements of a transaction that write a client's row and its large packages.
pub(super) fn requests<'a>(
    connection: &'a Connection,
    client: ClientKey,
    write: &'a ClientWrite,
    terms: WriteTerms,
) -> Vec<Request<'a>> {
    let mut requests: Vec<Request<'a>> = Vec::new();
    match (&write.base.stored, &write.rows.stored) {
        (Some(base), None) => requests.push(remove(connection, client, base)),
        (None, None) => {}
        (base, Some(_)) => {
            let statement = match base {
                Some(_) => Statement::Replace,
                None => Statement::Insert,
            };
            if let Some(row) = ClientRowWrite::new(client, &write.base, &write.rows) {
                requests.push(Box::pin(async move {
                    let apart = BTreeMap::new();
                    write_row(connection, statement, (&row, &apart), terms).await?;
                    Ok(())
                }));
            }
        }
    }
    let removed = write.spilled.iter().filter(|(_, body)| body.is_none());
    let removed: Vec<&[u8]> = removed.map(|(place, _)| &**place).collect();
    if !removed.is_empty() {
        requests.push(Box::pin(async move {
            let params: [Param<'_>; 2] = [&SqlKey(client), &removed];
            connection.run(Statement::DropPackages, &params).await?;
            Ok(())
        }));
    }
    let put = write.spilled.iter();
    let put = put.filter_map(|(place, body)| Some((&**place, &**body.as_ref()?)));
    let (places, bodies): (Vec<&[u8]>, Vec<&[u8]>) = put.unzip();
    if !places.is_empty() {
        requests.push(Box::pin(async move {
            let params: [Param<'_>; 3] = [&SqlKey(client), &places, &bodies];
            connection.run(Statement::PutPackages, &params).await?;
            Ok(())
        }));
    }
    requests
}

/// Removes a row.
pub(super) fn remove<'a>(
    connection: &'a Connection,
    client: ClientKey,
    row: &'a StoredRow,
) -> Request<'a> {
    Box::pin(async move {
        let version = row.version.cast_signed();
        let params: [Param<'_>; 3] = [&SqlKey(client), &version, &row.seen];
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

    // C8.2
    #[test]
    fn an_array_of_bytes_is_written_as_the_server_reads_it() {
        assert_eq!(array_text(&[]), "{}");
        let values = [vec![0, 255], vec![]];
        assert_eq!(array_text(&values), r#"{"\\x00ff","\\x"}"#);
    }
}
