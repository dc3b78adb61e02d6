//! The statements that write the row of a client.

use super::client_rows::{StoredRow, past_with};
use super::connection::{Connection, Param, SqlKey};
use super::failure::Failure;
use super::pipeline::Request;
use super::row_edit::ClientWrite;
use super::statements::Statement;
use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind};

/// Writes a row by `Found`, `Change`, `Insert` or `Replace`. Returns how many rows came back.
pub(super) async fn write_row(
    connection: &Connection,
    statement: Statement,
    client: ClientKey,
    write: &ClientWrite,
    epoch: u64,
) -> Result<usize, Failure> {
    let row = write.rows.stored.as_ref().ok_or_else(no_row)?;
    let (version, epoch) = (row.version.cast_signed(), epoch.cast_signed());
    let body = row.body.as_deref();
    let spilled = spilled_in(write);
    let key = SqlKey(client);
    let base = write.base.stored.as_ref();
    let rows = match base {
        None => {
            let params: [Param<'_>; 10] = [
                &key,
                &version,
                &row.past,
                &row.seen,
                &body,
                &row.ended,
                &row.owners,
                &row.sweep_at,
                &spilled,
                &epoch,
            ];
            connection.run(statement, &params).await?
        }
        Some(base) => {
            let replaced = base.version.cast_signed();
            let params: [Param<'_>; 12] = [
                &key,
                &version,
                &row.past,
                &row.seen,
                &body,
                &row.ended,
                &row.owners,
                &row.sweep_at,
                &spilled,
                &epoch,
                &replaced,
                &base.seen,
            ];
            connection.run(statement, &params).await?
        }
    };
    Ok(rows.len())
}

fn no_row() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a row that is removed is not written",
    )
}

fn spilled_in(write: &ClientWrite) -> i32 {
    let sessions = write.rows.sessions.iter();
    let packages = sessions.flat_map(|session| &session.record.packages);
    let count = packages.filter(|(_, package)| package.is_spilled).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The statements of a transaction that write a client's row and its large packages.
pub(super) fn requests<'a>(
    connection: &'a Connection,
    client: ClientKey,
    write: &'a ClientWrite,
    epoch: u64,
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
            requests.push(Box::pin(async move {
                write_row(connection, statement, client, write, epoch).await?;
                Ok(())
            }));
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
