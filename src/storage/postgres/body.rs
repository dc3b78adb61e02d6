//! The body of a client's row: its sessions and their packages, as records that each have a checksum of their own. Knows
//! no server.

use crate::client_id::ClientKey;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::ContainerId;
use bytes::Bytes;

/// The first byte of a body.
const FORMAT: u8 = 1;
/// The bytes of a number: a length, a count, or a container.
const LEN: usize = 4;
/// The length that stands for a package with a row of its own.
const SPILLED: u32 = u32::MAX;
/// The longest record of a package that the body holds. A longer one gets a row of its own.
pub(super) const INLINE: usize = 1024;

/// The stored session of a client in one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRecord {
    pub(super) container: ContainerId,
    pub(super) record: Bytes,
    /// By name, sorted.
    pub(super) packages: Vec<(Box<str>, PackageRecord)>,
}

/// The stored record of a package. `None` if its own row is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PackageRecord {
    pub(super) record: Option<Bytes>,
    pub(super) is_spilled: bool,
}

impl PackageRecord {
    pub(super) fn new(record: Bytes) -> Self {
        Self {
            is_spilled: record.len() > INLINE,
            record: Some(record),
        }
    }
}

/// The key of a package's own row: the number of the container, then the package.
pub(super) fn place(container: ContainerId, package: &str) -> Vec<u8> {
    [&container.0.to_be_bytes(), package.as_bytes()].concat()
}

/// Encodes the sessions of a client. `None` if there is none.
pub(super) fn encode(sessions: &[SessionRecord]) -> Result<Option<Vec<u8>>> {
    if sessions.is_empty() {
        return Ok(None);
    }
    let len = sessions.iter().map(encoded_len).sum::<usize>();
    let mut out = Vec::with_capacity(1 + LEN + len);
    out.push(FORMAT);
    put_len(&mut out, sessions.len())?;
    for session in sessions {
        out.extend_from_slice(&session.container.0.to_be_bytes());
        put_bytes(&mut out, &session.record)?;
        put_len(&mut out, session.packages.len())?;
        for (name, package) in &session.packages {
            put_bytes(&mut out, name.as_bytes())?;
            match &package.record {
                Some(record) if !package.is_spilled => put_bytes(&mut out, record)?,
                _ => out.extend_from_slice(&SPILLED.to_be_bytes()),
            }
        }
    }
    Ok(Some(out))
}

/// Decodes a body. `spilled` are the client's packages with rows of their own, by place. The records are slices of `body`.
pub(super) fn decode(
    client: ClientKey,
    body: Bytes,
    mut spilled: Vec<(Vec<u8>, Bytes)>,
) -> Result<Vec<SessionRecord>> {
    let mut reader = RowBodyReader { body, at: 0 };
    let parts = reader.sessions(&mut spilled);
    parts.ok_or_else(|| {
        let why = format!("the row of the client {client} is damaged");
        Error::new(ErrorKind::Corrupt, why)
    })
}

/// How many bytes a session takes in a body.
fn encoded_len(session: &SessionRecord) -> usize {
    let packages = session.packages.iter().map(|(name, package)| {
        let record = package.record.as_ref().filter(|_| !package.is_spilled);
        2 * LEN + name.len() + record.map_or(0, Bytes::len)
    });
    3 * LEN + session.record.len() + packages.sum::<usize>()
}

fn put_len(out: &mut Vec<u8>, len: usize) -> Result<()> {
    let fits = u32::try_from(len).ok().filter(|len| *len != SPILLED);
    let len =
        fits.ok_or_else(|| Error::new(ErrorKind::TooLarge, "a session is too large to be stored"))?;
    out.extend_from_slice(&len.to_be_bytes());
    Ok(())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    put_len(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads a body. `None` of a method: the body is damaged.
struct RowBodyReader {
    body: Bytes,
    at: usize,
}

impl RowBodyReader {
    fn sessions(&mut self, spilled: &mut Vec<(Vec<u8>, Bytes)>) -> Option<Vec<SessionRecord>> {
        if self.bytes(1)?.as_ref() != [FORMAT] {
            return None;
        }
        let count = self.count()?;
        let mut sessions = Vec::with_capacity(count);
        for _ in 0..count {
            let container = ContainerId(self.number()?);
            let record = self.record()?;
            let count = self.count()?;
            let mut packages = Vec::with_capacity(count);
            for _ in 0..count {
                let name = self.record()?;
                let name: Box<str> = std::str::from_utf8(&name).ok()?.into();
                let package = match self.number()? {
                    SPILLED => {
                        let place = place(container, &name);
                        let at = spilled.iter().position(|(it, _)| *it == place);
                        PackageRecord {
                            record: at.map(|at| spilled.swap_remove(at).1),
                            is_spilled: true,
                        }
                    }
                    len => PackageRecord {
                        record: Some(self.bytes(len as usize)?),
                        is_spilled: false,
                    },
                };
                packages.push((name, package));
            }
            let session = SessionRecord {
                container,
                record,
                packages,
            };
            sessions.push(session);
        }
        let in_order = sessions.is_sorted_by(|a, b| a.container < b.container);
        (self.at == self.body.len() && in_order).then_some(sessions)
    }

    fn bytes(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len)?;
        let within = end <= self.body.len();
        let bytes = within.then(|| self.body.slice(self.at..end))?;
        self.at = end;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.bytes(4)?;
        Some(u32::from_be_bytes(bytes.as_ref().try_into().ok()?))
    }

    fn record(&mut self) -> Option<Bytes> {
        let len = self.number()?;
        self.bytes(len as usize)
    }

    /// A number of parts. Each takes several bytes, so a damaged number reserves no more memory than the body has.
    fn count(&mut self) -> Option<usize> {
        let count = self.number()? as usize;
        (count <= self.body.len() - self.at).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> ClientKey {
        ClientKey::from_bytes([7; 16])
    }

    fn sessions() -> Vec<SessionRecord> {
        let package = |bytes: &[u8]| PackageRecord::new(Bytes::copy_from_slice(bytes));
        vec![
            SessionRecord {
                container: ContainerId(0),
                record: Bytes::from_static(b"one"),
                packages: vec![
                    ("cart".into(), package(b"small")),
                    ("".into(), package(b"")),
                ],
            },
            SessionRecord {
                container: ContainerId(3),
                record: Bytes::from_static(b"two"),
                packages: vec![("large".into(), package(&[9; INLINE + 1]))],
            },
        ]
    }

    fn spilled() -> Vec<(Vec<u8>, Bytes)> {
        let large = Bytes::from(vec![9; INLINE + 1]);
        vec![(place(ContainerId(3), "large"), large)]
    }

    // C5.4
    #[test]
    fn a_body_is_read_back_and_its_large_packages_are_elsewhere() {
        let body = encode(&sessions()).unwrap().unwrap();
        assert!(body.len() < INLINE);
        let len = sessions().iter().map(encoded_len).sum::<usize>();
        assert_eq!(body.len(), 1 + LEN + len);
        let read = decode(client(), body.clone().into(), spilled()).unwrap();
        assert_eq!(read, sessions());
        assert_eq!(encode(&read).unwrap().unwrap(), body);
        assert_eq!(encode(&[]).unwrap(), None);

        let without = decode(client(), body.into(), Vec::new()).unwrap();
        assert_eq!(without[1].packages[0].1.record, None, "its row is lost");
    }

    // C5.4
    #[test]
    fn a_body_that_was_cut_or_prolonged_is_damaged() {
        let body = encode(&sessions()).unwrap().unwrap();
        for len in 0..body.len() {
            let cut = decode(client(), body[..len].to_vec().into(), spilled());
            assert_eq!(cut.unwrap_err().kind(), ErrorKind::Corrupt, "{len}");
        }
        let longer = [&body[..], &[0]].concat();
        assert!(decode(client(), longer.into(), spilled()).is_err());
        let other = [&[FORMAT + 1], &body[1..]].concat();
        assert!(decode(client(), other.into(), spilled()).is_err());
    }
}
