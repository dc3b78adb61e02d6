//! The optional fields at the end of the record of a session.

use super::codec::{PayloadReader, RecordKind, append, corrupt};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::Version;
use bytes::Bytes;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The fields, by their numbers.
const LABEL: u8 = 1;
const AUTHENTICATED_AT: u8 = 2;
const ENDS_AT: u8 = 3;
const MOVED: u8 = 4;

/// The optional fields of a session. Most sessions have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OptionalFields {
    /// The text that the application shows for it in a list of devices.
    pub(crate) label: Option<Arc<str>>,
    /// When its owner last logged in.
    pub(crate) authenticated_at: Option<Timestamp>,
    /// When it ends at the latest, however often it is used.
    pub(crate) ends_at: Option<Timestamp>,
    /// Where the session is now, if this row only leads there: its id was renewed a moment ago (C8.4).
    pub(crate) moved: Option<MovedTo>,
    /// Fields that this version of the crate does not know, as they are stored.
    pub(crate) unknown: Bytes,
}

/// Optional fields that rows share until one is changed. A row, which each request moves and copies several times, is
/// half as large with them apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFields(Option<Arc<OptionalFields>>);

static NO_FIELDS: OptionalFields = OptionalFields {
    label: None,
    authenticated_at: None,
    ends_at: None,
    moved: None,
    unknown: Bytes::new(),
};

impl Deref for SharedFields {
    type Target = OptionalFields;

    fn deref(&self) -> &OptionalFields {
        self.0.as_deref().unwrap_or(&NO_FIELDS)
    }
}

impl DerefMut for SharedFields {
    fn deref_mut(&mut self) -> &mut OptionalFields {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl PartialEq for SharedFields {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            _ => **self == **other,
        }
    }
}

impl Eq for SharedFields {}

#[cfg(test)]
impl From<OptionalFields> for SharedFields {
    fn from(fields: OptionalFields) -> Self {
        Self(Some(Arc::new(fields)))
    }
}

impl SharedFields {
    pub(super) fn append_to(&self, record: &mut Vec<u8>) -> Result<()> {
        match &self.0 {
            Some(fields) => fields.append_to(record),
            None => Ok(()),
        }
    }

    /// Reads the rest of a payload.
    pub(super) fn read(parts: &mut PayloadReader<'_>) -> Result<Self> {
        if parts.is_at_end() {
            return Ok(Self(None));
        }
        let fields = OptionalFields::read(parts)?;
        Ok(Self(Some(Arc::new(fields))))
    }
}

impl OptionalFields {
    fn append_to(&self, record: &mut Vec<u8>) -> Result<()> {
        if let Some(label) = &self.label {
            append(record, (LABEL, label.as_bytes()))?;
        }
        for (number, at) in [
            (AUTHENTICATED_AT, self.authenticated_at),
            (ENDS_AT, self.ends_at),
        ] {
            if let Some(at) = at {
                append(record, (number, &at.0.to_le_bytes()[..]))?;
            }
        }
        if let Some(moved) = self.moved {
            append(record, (MOVED, &moved.encode()[..]))?;
        }
        record.extend_from_slice(&self.unknown);
        Ok(())
    }

    fn read(parts: &mut PayloadReader<'_>) -> Result<Self> {
        let mut fields = Self::default();
        let mut unknown = Vec::new();
        while !parts.is_at_end() {
            let start = parts.at;
            match parts.next()? {
                (LABEL, label) => fields.label = Some(text(label)?.into()),
                (AUTHENTICATED_AT, at) => fields.authenticated_at = Some(time(at)?),
                (ENDS_AT, at) => fields.ends_at = Some(time(at)?),
                (MOVED, to) => fields.moved = Some(MovedTo::decode(to)?),
                (_, _) => unknown.extend_from_slice(parts.since(start)),
            }
        }
        fields.unknown = unknown.into();
        Ok(fields)
    }
}

/// Where a session went when its id was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MovedTo {
    pub(crate) client: ClientKey,
    /// The incarnation that it had in this container; none if it was not there.
    pub(crate) from: Option<Version>,
}

impl MovedTo {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (client, from) = bytes.split_at_mut(16);
        client.copy_from_slice(self.client.as_bytes());
        let version = self.from.map_or(0, |from| from.0);
        from.copy_from_slice(&version.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let parts = bytes.split_first_chunk().and_then(|(client, from)| {
            let from = u64::from_le_bytes(from.try_into().ok()?);
            Some(Self {
                client: ClientKey::from_bytes(*client),
                from: (from != 0).then_some(Version(from)),
            })
        });
        parts.ok_or_else(|| corrupt(RecordKind::Session, "a client key has another length"))
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|e| corrupt(RecordKind::Session, "a text is not UTF-8").with_source(e))
}

fn time(bytes: &[u8]) -> Result<Timestamp> {
    let bytes = bytes.try_into().map(i64::from_le_bytes);
    bytes
        .map(Timestamp)
        .map_err(|_| corrupt(RecordKind::Session, "a time has another length"))
}
