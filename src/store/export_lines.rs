//! The lines of an export, as `docs/export-format.md` describes them.

use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The name of the format, in the first line.
pub(super) const FORMAT: &str = "cloakroom-export";
/// The newest version of the format. Versions below are read too.
pub(super) const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExportLine {
    Header(HeaderLine),
    Container(ContainerLine),
    Session(SessionLine),
    Damaged(DamagedLine),
    End(EndLine),
}

/// The first line. Times are milliseconds since 1970, durations are milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeaderLine {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) written_ms: i64,
}

/// A container's settings.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerLine {
    pub(super) name: String,
    pub(super) timeout_ms: u64,
    pub(super) resolution_ms: u64,
    pub(super) max_lifetime_ms: Option<u64>,
    pub(super) implicit_sweeps: bool,
}

/// A session in one container.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SessionLine {
    pub(super) container: String,
    /// The key of the client, never the id.
    pub(super) client: String,
    pub(super) created_ms: i64,
    pub(super) last_access_ms: i64,
    /// For readers only: it follows from the times and the settings.
    #[serde(default, skip_deserializing)]
    pub(super) expires_ms: Option<i64>,
    /// When its client got its present id.
    pub(super) id_issued_ms: i64,
    /// Whether a request has presented that id.
    pub(super) id_confirmed: bool,
    /// Its own timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authenticated_at_ms: Option<i64>,
    /// When it ends at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ends_at_ms: Option<i64>,
    pub(super) packages: BTreeMap<String, BTreeMap<String, Value>>,
}

/// A session, or a package of one, that could not be read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DamagedLine {
    pub(super) container: String,
    pub(super) client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) package: Option<String>,
    pub(super) error: String,
}

/// The last line: the numbers of the lines before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EndLine {
    pub(super) containers: u64,
    pub(super) sessions: u64,
    pub(super) packages: u64,
    pub(super) damaged: u64,
}
