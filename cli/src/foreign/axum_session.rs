//! The rows of axum_session_sqlx: JSON, in which each value is text of JSON.

use super::record::{ForeignRow, ForeignSession, Refused, SessionLife};
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Content {
    data: BTreeMap<String, String>,
}

pub(super) fn read(row: ForeignRow<'_>) -> Result<ForeignSession, Refused> {
    let content: Content = serde_json::from_str(row.json()?)
        .map_err(|_| "its content is no session of axum_session, or is encrypted")?;
    let end = match row.end {
        ValueRef::Null => SessionLife::Endless,
        ValueRef::Integer(seconds) => SessionLife::Until(seconds.saturating_mul(1000)),
        _ => return Err("its end is no number of seconds"),
    };
    let values = content.data.into_iter().map(|(key, text)| {
        let value = serde_json::from_str(&text).map_err(|_| "one of its values is no JSON")?;
        Ok((key, value))
    });
    let values: Result<BTreeMap<String, Value>, Refused> = values.collect();
    Ok(ForeignSession {
        id: row.id.into(),
        values: values?,
        end,
    })
}
