//! The record of a container.

use super::codec::{PayloadReader, RecordKind, open, seal};
use crate::error::Result;
use std::iter;

/// The stored number and settings of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerRecord {
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) timeout_ms: u64,
    pub(crate) resolution_ms: u64,
    pub(crate) max_lifetime_ms: Option<u64>,
    /// Stored only if it is not set, or if there are aliases. The first records end before it.
    pub(crate) implicit_sweeps: bool,
    /// Its other names, sorted. Stored only if there are any.
    pub(crate) aliases: Vec<String>,
}

impl ContainerRecord {
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let head = (
            &self.name,
            self.id,
            self.timeout_ms,
            self.resolution_ms,
            self.max_lifetime_ms,
        );
        let key = self.name.as_bytes();
        let (kind, implicit_sweeps) = (RecordKind::Container, self.implicit_sweeps);
        match (&self.aliases, implicit_sweeps) {
            (aliases, true) if aliases.is_empty() => seal(kind, key, head),
            (aliases, false) if aliases.is_empty() => seal(kind, key, (head, implicit_sweeps)),
            (aliases, _) => seal(kind, key, (head, implicit_sweeps, aliases)),
        }
    }

    /// All its names, its own first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        iter::once(&self.name)
            .chain(&self.aliases)
            .map(String::as_str)
    }

    pub(crate) fn decode(name: &str, record: &[u8]) -> Result<Self> {
        let payload = open(RecordKind::Container, name.as_bytes(), record)?;
        let mut parts = PayloadReader::new(RecordKind::Container, payload);
        let (name, id, timeout_ms, resolution_ms, max_lifetime_ms) = parts.next()?;
        let implicit_sweeps = parts.is_at_end() || parts.next()?;
        let aliases = match parts.is_at_end() {
            true => Vec::new(),
            false => parts.next()?,
        };
        parts.end()?;
        Ok(Self {
            name,
            id,
            timeout_ms,
            resolution_ms,
            max_lifetime_ms,
            implicit_sweeps,
            aliases,
        })
    }
}
