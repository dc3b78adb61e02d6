//! The lines of an export, as `docs/export-format.md` describes them.

use crate::error::{Error, ErrorKind, Result};
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

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

impl ExportLine {
    /// The line's text. What could act on a terminal is escaped as JSON does it, as exports are looked at there.
    pub(super) fn text(&self) -> Result<String> {
        let json = serde_json::to_string(self).map_err(|error| {
            let error = std::io::Error::from(error);
            Error::new(ErrorKind::NotSerializable, "a line of the export").with_source(error)
        })?;
        let mut text = match json.contains(acts_on_a_terminal) {
            true => escaped(&json),
            false => json,
        };
        text.push('\n');
        Ok(text)
    }
}

/// Controls, and marks of direction (UAX #9).
fn acts_on_a_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match acts_on_a_terminal(c) {
            // Writing to a string cannot fail.
            true => drop(write!(text, "\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text
}

/// The first line. Times are milliseconds since 1970, durations are milliseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeaderLine {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) written_ms: i64,
}

/// A container's settings and other names.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ContainerLine {
    pub(super) name: String,
    pub(super) timeout_ms: u64,
    pub(super) resolution_ms: u64,
    pub(super) max_lifetime_ms: Option<u64>,
    pub(super) implicit_sweeps: bool,
    /// Its other names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<String>,
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
