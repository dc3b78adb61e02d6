//! A session of another library, and the row that it is read from.

use rusqlite::types::ValueRef;
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct ForeignSession {
    /// What the visitor presents: the store adopts it.
    pub(crate) id: Vec<u8>,
    pub(crate) values: BTreeMap<String, Value>,
    pub(crate) end: SessionLife,
}

/// How long a session lasts. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionLife {
    Endless,
    Until(i64),
    /// So many milliseconds after its last use.
    Idle {
        timeout: i64,
        last_use: i64,
    },
}

impl SessionLife {
    pub(crate) fn is_over(self, now: i64) -> bool {
        match self {
            Self::Endless => false,
            Self::Until(end) => end <= now,
            Self::Idle { timeout, last_use } => last_use.saturating_add(timeout) <= now,
        }
    }
}

/// Why a row is no session, in words that repeat nothing of it.
pub(crate) type Refused = &'static str;

/// The columns of a row.
#[derive(Clone, Copy)]
pub(crate) struct ForeignRow<'a> {
    pub(crate) id: &'a str,
    pub(crate) content: ValueRef<'a>,
    pub(crate) end: ValueRef<'a>,
}

impl<'a> ForeignRow<'a> {
    /// The content, where it is JSON.
    pub(crate) fn json(&self) -> Result<&'a str, Refused> {
        let bytes = match self.content {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
            _ => return Err("its content is neither text nor bytes"),
        };
        std::str::from_utf8(bytes).map_err(|_| "its content is no UTF-8")
    }
}
