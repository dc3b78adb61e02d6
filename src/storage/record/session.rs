//! The row of a session, and its key. The times that an access changes are a part of their own. So an access leaves the
//! other bytes of the record unchanged.

use super::cipher::RecordCipher;
use super::codec::{
    ENCRYPTED, FORMAT, PayloadReader, RecordKind, SESSION_FORMAT, append, close, corrupt, gather,
    millis, verified,
};
use super::context::RecordContext;
use super::optional_fields::{MovedTo, SharedFields};
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::expiry::Times;
use crate::storage::{ContainerId, Version};
use std::sync::Arc;
use std::time::Duration;

/// The key of a session row.
pub(crate) fn session_key(container: ContainerId, client: ClientKey) -> [u8; 20] {
    let mut key = [0; 20];
    let (head, tail) = key.split_at_mut(4);
    head.copy_from_slice(&container.0.to_be_bytes());
    tail.copy_from_slice(client.as_bytes());
    key
}

/// The container that a session's key names.
pub(crate) fn container_of(key: &[u8; 20]) -> ContainerId {
    let number = key.first_chunk().copied().unwrap_or_default();
    ContainerId(u32::from_be_bytes(number))
}

/// The client of a session row's key.
pub(crate) fn client_of(key: &[u8; 20]) -> ClientKey {
    let mut client = [0; 16];
    for (to, from) in client.iter_mut().zip(key.iter().skip(4)) {
        *to = *from;
    }
    ClientKey::from_bytes(client)
}

/// The part of a session row that an access may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessPart {
    pub(crate) last_access: Timestamp,
    /// An access lowers it only if the clock was wrong (C3.5).
    pub(crate) created: Timestamp,
    /// The time when the session got its present client id (C8.4). An access lowers it as it lowers `created`.
    pub(crate) id_issued: Timestamp,
    /// Whether a request has presented that id (C8.5).
    pub(crate) is_id_confirmed: bool,
}

impl AccessPart {
    /// The times of a session that is founded now, under a new id.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            last_access: now,
            created: now,
            id_issued: now,
            is_id_confirmed: false,
        }
    }

    fn encode(&self) -> [u8; ACCESS_PART] {
        let mut bytes = [0; ACCESS_PART];
        let times = [self.last_access, self.created, self.id_issued];
        let places = bytes.chunks_exact_mut(8).zip(times);
        places.for_each(|(place, time)| place.copy_from_slice(&time.0.to_le_bytes()));
        if let Some(last) = bytes.last_mut() {
            *last = u8::from(self.is_id_confirmed);
        }
        bytes
    }

    fn decode(bytes: &[u8; ACCESS_PART]) -> Result<Self> {
        let (times, flag) = bytes.as_chunks::<8>();
        let mut times = times
            .iter()
            .map(|time| Timestamp(i64::from_le_bytes(*time)));
        let mut time = || times.next().unwrap_or_default();
        Ok(Self {
            last_access: time(),
            created: time(),
            id_issued: time(),
            is_id_confirmed: match flag {
                [0] => false,
                [1] => true,
                _ => return Err(corrupt(RecordKind::Session, "a flag is unknown")),
            },
        })
    }
}

/// Three times and a flag.
const ACCESS_PART: usize = 25;

/// One client in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow {
    pub(crate) access: AccessPart,
    /// The version of the commit that founded it. A later session of the same client has another one (C2.11).
    pub(crate) incarnation: Version,
    pub(crate) timeout: Option<Duration>,
    pub(crate) owner: Option<Arc<str>>,
    /// The packages that have a row, sorted. A lost row is noticed by this list (C5.4).
    pub(crate) packages: Arc<[Arc<str>]>,
    pub(crate) optional: SharedFields,
}

/// The parts of a record of the current form.
struct SessionParts<'a> {
    access: &'a [u8; ACCESS_PART],
    incarnation: Version,
    /// The fields that no access changes, without the incarnation.
    body: &'a [u8],
}

impl<'a> SessionParts<'a> {
    fn of(payload: &'a [u8]) -> Result<Self> {
        let parts = payload.split_first_chunk().and_then(|(access, rest)| {
            let (incarnation, body) = rest.split_first_chunk()?;
            Some(Self {
                access,
                incarnation: Version(u64::from_le_bytes(*incarnation)),
                body,
            })
        });
        parts.ok_or_else(|| corrupt(RecordKind::Session, "it is too short"))
    }

    /// The record of a session in this format, without its checksum. There is space for as many bytes `more`.
    fn join(&self, format: u8, more: usize) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.body.len() + more + 64);
        record.push(format);
        record.extend_from_slice(self.access);
        record.extend_from_slice(&self.incarnation.0.to_le_bytes());
        record.extend_from_slice(self.body);
        record
    }
}

impl SessionRow {
    /// The row of a session that a commit of this version founds.
    pub(crate) fn new(now: Timestamp, incarnation: Version) -> Self {
        Self {
            access: AccessPart::new(now),
            incarnation,
            timeout: None,
            owner: None,
            packages: Arc::default(),
            optional: SharedFields::default(),
        }
    }

    #[cfg(feature = "export")]
    /// The row of a session that had these times in another store. The commit that puts it in gives it its incarnation.
    pub(crate) fn imported(access: AccessPart) -> Self {
        Self {
            access,
            ..Self::new(access.created, Version(0))
        }
    }

    /// The row as it is in every copy of its store: without the commits that wrote it.
    pub(crate) fn without_history(mut self) -> Self {
        self.incarnation = Version(0);
        if let Some(moved) = self.optional.moved {
            self.optional.moved = Some(MovedTo {
                from: None,
                ..moved
            });
        }
        self
    }

    /// The row under an id that was replaced. It leads to the session for this long.
    pub(crate) fn leading(
        now: Timestamp,
        incarnation: Version,
        to: MovedTo,
        lasts: Duration,
    ) -> Self {
        let mut row = Self::new(now, incarnation);
        row.timeout = Some(lasts);
        row.optional.moved = Some(to);
        row.access.is_id_confirmed = true;
        row
    }

    /// The row after a commit of this version has moved it to another id.
    pub(crate) fn moved(&self, now: Timestamp, incarnation: Version) -> Self {
        let access = AccessPart {
            id_issued: now,
            is_id_confirmed: false,
            ..self.access
        };
        Self {
            access,
            incarnation,
            ..self.clone()
        }
    }

    /// The row of the same session in another container, where a commit of this version begins it.
    pub(crate) fn continued(&self, now: Timestamp, incarnation: Version) -> Self {
        let access = AccessPart {
            last_access: now,
            created: now,
            ..self.access
        };
        Self {
            access,
            incarnation,
            packages: Arc::default(),
            ..self.clone()
        }
    }

    /// The row without what only a store may say of a session (C8.6).
    pub(crate) fn without_owner(mut self) -> Self {
        self.owner = None;
        if self.optional.label.is_some() || self.optional.authenticated_at.is_some() {
            (self.optional.label, self.optional.authenticated_at) = (None, None);
        }
        self
    }

    pub(crate) fn times(&self) -> Times {
        Times {
            created: self.access.created,
            last_access: self.access.last_access,
            timeout: self.timeout,
            ends_at: self.optional.ends_at,
            unconfirmed_since: (!self.access.is_id_confirmed).then_some(self.access.id_issued),
        }
    }

    pub(crate) fn has(&self, package: &str) -> bool {
        self.packages
            .binary_search_by(|p| (**p).cmp(package))
            .is_ok()
    }

    pub(crate) fn encode(&self, key: &[u8], cipher: &RecordCipher) -> Result<Vec<u8>> {
        let texts = self.owner.iter().chain(self.packages.iter());
        let len = texts.map(|text| text.len() + 2).sum::<usize>();
        let parts = SessionParts {
            access: &self.access.encode(),
            incarnation: self.incarnation,
            body: &[],
        };
        let mut record = parts.join(SESSION_FORMAT, len);
        let timeout = self.timeout.map(millis);
        append(
            &mut record,
            (timeout, self.owner.as_deref(), &*self.packages),
        )?;
        self.optional.append_to(&mut record)?;
        let start = RecordContext::start_of(RecordKind::Session);
        cipher.encrypt(context(key, self.incarnation), &mut record, start)?;
        close(RecordKind::Session, key, &mut record);
        Ok(record)
    }

    pub(crate) fn decode(key: &[u8], record: &[u8], cipher: &RecordCipher) -> Result<Self> {
        let (format, payload) = verified(RecordKind::Session, key, record)?;
        if format & ENCRYPTED == 0 {
            cipher.accept_plain(RecordKind::Session)?;
        }
        if format == FORMAT {
            return Self::decode_first_form(payload);
        }
        let parts = SessionParts::of(payload)?;
        let mut row = Self {
            access: AccessPart::decode(parts.access)?,
            ..Self::new(Timestamp::default(), parts.incarnation)
        };
        if format & ENCRYPTED == 0 {
            row.read_body(parts.body)?;
        } else {
            let context = context(key, parts.incarnation);
            row.read_body(&cipher.decrypt(context, format, parts.body, Vec::new())?)?;
        }
        Ok(row)
    }

    fn read_body(&mut self, body: &[u8]) -> Result<()> {
        let mut parts = PayloadReader::new(RecordKind::Session, body);
        let (timeout, owner): (Option<u64>, Option<&str>) = parts.next()?;
        self.timeout = timeout.map(Duration::from_millis);
        self.owner = owner.map(Arc::from);
        let count = parts.count()?;
        self.packages = gather(count, || parts.next().map(<&str>::into))?;
        self.optional = SharedFields::read(&mut parts)?;
        Ok(())
    }

    /// Decodes the first format, which has no part of its own for accesses and ends with the packages. The ids of such
    /// sessions count as confirmed, and as issued when the session was founded.
    fn decode_first_form(payload: &[u8]) -> Result<Self> {
        type Head<'a> = (i64, i64, Option<u64>, Option<&'a str>, u64);
        let mut parts = PayloadReader::new(RecordKind::Session, payload);
        let (created, last_access, timeout, owner, incarnation): Head<'_> = parts.next()?;
        let count = parts.count()?;
        let packages = gather(count, || parts.next().map(<&str>::into))?;
        parts.end()?;
        Ok(Self {
            access: AccessPart {
                last_access: Timestamp(last_access),
                created: Timestamp(created),
                id_issued: Timestamp(created),
                is_id_confirmed: true,
            },
            timeout: timeout.map(Duration::from_millis),
            owner: owner.map(Arc::from),
            packages,
            ..Self::new(Timestamp(created), Version(incarnation))
        })
    }

    /// The record at `key` after an access. `None` if the access changes nothing, or if the session has another
    /// incarnation.
    pub(crate) fn accessed(
        key: &[u8],
        record: &[u8],
        incarnation: Version,
        change: impl FnOnce(&mut AccessPart),
    ) -> Result<Option<Vec<u8>>> {
        let (format, payload) = verified(RecordKind::Session, key, record)?;
        if format == FORMAT {
            let row = Self::decode_first_form(payload)?;
            let mut accessed = row.clone();
            change(&mut accessed.access);
            if row.incarnation != incarnation || accessed == row {
                return Ok(None);
            }
            return accessed.encode(key, &RecordCipher::Plain).map(Some);
        }
        let parts = SessionParts::of(payload)?;
        let before = AccessPart::decode(parts.access)?;
        let mut after = before;
        change(&mut after);
        if parts.incarnation != incarnation || after == before {
            return Ok(None);
        }
        let access = &after.encode();
        let mut record = SessionParts { access, ..parts }.join(format, 0);
        close(RecordKind::Session, key, &mut record);
        Ok(Some(record))
    }
}

fn context(key: &[u8], incarnation: Version) -> RecordContext<'_> {
    RecordContext {
        kind: RecordKind::Session,
        key,
        incarnation: incarnation.0,
    }
}
