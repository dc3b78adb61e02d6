//! The rows of tower-sessions-sqlx-store: MessagePack of a record of tower-sessions.

use super::record::{ForeignRow, ForeignSession, Refused, SessionLife};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use time::OffsetDateTime;

#[derive(Deserialize)]
struct Record {
    id: i128,
    data: BTreeMap<String, Value>,
    expiry_date: OffsetDateTime,
}

pub(super) fn read(row: ForeignRow<'_>) -> Result<ForeignSession, Refused> {
    let ValueRef::Blob(content) = row.content else {
        return Err("its data is no blob");
    };
    let record: Record =
        rmp_serde::from_slice(content).map_err(|_| "its data is no record of tower-sessions")?;
    // A cookie that holds anything else finds nothing: the library prints the number that it has read.
    if URL_SAFE_NO_PAD.encode(record.id.to_le_bytes()) != row.id {
        return Err("its data is that of another id");
    }
    let millis = record
        .expiry_date
        .unix_timestamp_nanos()
        .div_euclid(1_000_000);
    Ok(ForeignSession {
        id: row.id.into(),
        values: record.data,
        end: SessionLife::Until(i64::try_from(millis).unwrap_or(i64::MAX)),
    })
}
