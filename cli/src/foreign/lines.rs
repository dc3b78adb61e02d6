//! Writes the rows of a file as the lines of an export, one by one as they are read.

use super::format::SourceReader;
use super::record::{ForeignRow, ForeignSession, Refused, SessionLife};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloakroom::ClientIds;
use rusqlite::Rows;
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};
use std::io::{self, Read};

/// Values that are nested more deeply are written as their stored bytes.
const MAX_NESTING: usize = 32;
/// How many damaged rows are named.
const NAMED: usize = 1000;
/// How much of an id is shown: at most so many characters, and a quarter of it.
const SHOWN: usize = 4;

/// What was left out.
#[derive(Default)]
pub(crate) struct Left {
    pub(crate) expired: u64,
    pub(crate) damaged: u64,
    /// The first of the damaged rows, by the beginnings of their ids, and what is wrong with each.
    pub(crate) named: Vec<(String, Refused)>,
}

/// What a line may be, for the store to take it.
#[derive(Clone, Copy)]
pub(crate) struct LineLimits {
    pub(crate) line: usize,
    pub(crate) name: usize,
}

/// An export with the sessions of a file.
pub(crate) struct ForeignLines<'a> {
    rows: Rows<'a>,
    reader: &'a SourceReader,
    ids: &'a ClientIds,
    container: &'a str,
    limits: LineLimits,
    now: i64,
    /// The line that is being read, and how much of it is.
    line: Vec<u8>,
    taken: usize,
    sessions: u64,
    is_ended: bool,
    pub(crate) left: Left,
}

impl<'a> ForeignLines<'a> {
    pub(crate) fn new(
        rows: Rows<'a>,
        reader: &'a SourceReader,
        (ids, container): (&'a ClientIds, &'a str),
        limits: LineLimits,
        now: i64,
    ) -> Self {
        let header =
            json!({ "header": { "format": "cloakroom-export", "version": 1, "written_ms": now } });
        Self {
            rows,
            reader,
            ids,
            container,
            limits,
            now,
            line: line(&header),
            taken: 0,
            sessions: 0,
            is_ended: false,
            left: Left::default(),
        }
    }

    /// The next line. Empty at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        while let Some(row) = self.rows.next().map_err(unreadable)? {
            let id = match row.get_ref(0).map_err(unreadable)? {
                ValueRef::Text(id) => std::str::from_utf8(id).unwrap_or_default(),
                _ => "",
            };
            let row = ForeignRow {
                id,
                content: row.get_ref(1).map_err(unreadable)?,
                end: row.get_ref(2).map_err(unreadable)?,
            };
            let len = match row.content {
                ValueRef::Text(content) | ValueRef::Blob(content) => content.len(),
                _ => 0,
            };
            let session = match id {
                "" => Err("its id is no text"),
                // To read it would take many times its length in memory.
                _ if len > self.limits.line => Err("it is larger than --max-line"),
                _ => self.reader.read(row),
            };
            let line = match session {
                Ok(session) if session.end.is_over(self.now) => {
                    self.left.expired += 1;
                    continue;
                }
                Ok(session) => written(&session, self.ids, self.container, self.limits, self.now),
                Err(refused) => Err(refused),
            };
            match line {
                Ok(line) => {
                    self.sessions += 1;
                    return Ok(line);
                }
                Err(refused) => {
                    self.left.damaged += 1;
                    if self.left.named.len() < NAMED {
                        self.left.named.push((beginning(id), refused));
                    }
                }
            }
        }
        if self.is_ended {
            return Ok(Vec::new());
        }
        self.is_ended = true;
        let sessions = self.sessions;
        let counts =
            json!({ "containers": 0, "sessions": sessions, "packages": sessions, "damaged": 0 });
        Ok(line(&json!({ "end": counts })))
    }
}

impl Read for ForeignLines<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.line.len() {
            self.line = if self.is_ended {
                Vec::new()
            } else {
                self.next()?
            };
            self.taken = 0;
        }
        let mut rest = self.line.get(self.taken..).unwrap_or_default();
        let read = rest.read(into)?;
        self.taken += read;
        Ok(read)
    }
}

fn unreadable(error: rusqlite::Error) -> io::Error {
    io::Error::other(error)
}

fn line(line: &Value) -> Vec<u8> {
    format!("{line}\n").into_bytes()
}

/// So much of an id that its owner can find it, and nobody can use it.
fn beginning(id: &str) -> String {
    let shown = SHOWN.min(id.chars().count() / 4);
    id.chars().take(shown).chain(['…']).collect()
}

fn written(
    session: &ForeignSession,
    ids: &ClientIds,
    container: &str,
    limits: LineLimits,
    now: i64,
) -> Result<Vec<u8>, Refused> {
    let client = ids.adopt(&session.id).map_err(|_| "its id is too long")?;
    if session.values.keys().any(|key| key.len() > limits.name) {
        return Err("one of its keys is too long");
    }
    let (mut since, mut timeout, mut end) = (now, None, None);
    match session.end {
        SessionLife::Endless => {}
        SessionLife::Until(at) => end = Some(at),
        SessionLife::Idle {
            timeout: after,
            last_use,
        } => (since, timeout) = (last_use.min(now), Some(after)),
    }
    let mut values = Map::new();
    for (key, value) in &session.values {
        values.insert(key.clone(), stored(value)?);
    }
    let line = line(&json!({ "session": {
        "container": container, "client": client.key().to_string(), "created_ms": since, "last_access_ms": since,
        "id_issued_ms": since, "id_confirmed": true, "timeout_ms": timeout, "ends_at_ms": end,
        "packages": { container: values },
    }}));
    match line.len() <= limits.line {
        true => Ok(line),
        false => Err("it is larger than --max-line"),
    }
}

/// A value in the form of an export.
fn stored(value: &Value) -> Result<Value, Refused> {
    match tagged(value, 0) {
        Some(value) => Ok(value),
        None => {
            let bytes = rmp_serde::to_vec(value).map_err(|_| "a value is nested too deeply")?;
            Ok(json!({ "$raw": STANDARD.encode(bytes) }))
        }
    }
}

/// `None` if it is nested too deeply.
fn tagged(value: &Value, depth: usize) -> Option<Value> {
    let is_nested = matches!(value, Value::Array(_) | Value::Object(_));
    if is_nested && depth >= MAX_NESTING {
        return None;
    }
    let inner = |value| tagged(value, depth + 1);
    Some(match value {
        Value::Array(items) => Value::Array(items.iter().map(inner).collect::<Option<_>>()?),
        Value::Object(entries) if entries.keys().any(|key| key.starts_with('$')) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| Some(json!([key, inner(value)?])));
            json!({ "$map": pairs.collect::<Option<Vec<_>>>()? })
        }
        Value::Object(entries) => {
            let pairs = entries
                .iter()
                .map(|(key, value)| Some((key.clone(), inner(value)?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
        plain => plain.clone(),
    })
}
