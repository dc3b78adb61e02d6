//! The two small records of a client's row beside its body: the access times, and how a session ended. Knows no server.

use super::event::ServerEvent;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::storage::record::{AccessPart, RecordKind, open_plain, seal_plain};
use crate::storage::{ContainerId, Version};

/// The newest times of a client's session in one container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeenTimes {
    pub(super) container: ContainerId,
    pub(super) incarnation: Version,
    pub(super) access: AccessPart,
    /// The last look that found the session expired. No access of an earlier transaction brings it back (C3.2).
    pub(super) found_expired: Option<ServerEvent>,
}

/// How the last session of a client ended. The row keeps it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndRecord {
    /// Until when the id is refused (C4.8). `None` if the session was swept.
    pub(super) refused_until: Option<Timestamp>,
    pub(super) event: ServerEvent,
    /// From when on the session was over, if it was swept.
    pub(super) swept: Option<Timestamp>,
}

type SeenFields = (u32, u64, [i64; 3], bool, Option<(u64, i64)>);
type EndFields = (Option<i64>, (u64, i64), Option<i64>);

pub(super) fn encode_seen(client: ClientKey, all: &[SeenTimes]) -> Result<Vec<u8>> {
    let fields = |seen: &SeenTimes| -> SeenFields {
        let times = [
            seen.access.last_access.0,
            seen.access.created.0,
            seen.access.id_issued.0,
        ];
        (
            seen.container.0,
            seen.incarnation.0,
            times,
            seen.access.is_id_confirmed,
            seen.found_expired.map(|event| (event.token, event.at)),
        )
    };
    let all: Vec<_> = all.iter().map(fields).collect();
    seal_plain(RecordKind::Meta, &key(client, b"seen"), all)
}

pub(super) fn decode_seen(client: ClientKey, record: &[u8]) -> Result<Vec<SeenTimes>> {
    let all: Vec<SeenFields> = open_plain(RecordKind::Meta, &key(client, b"seen"), record)?;
    let seen = all.into_iter().map(
        |(container, incarnation, [last_access, created, id_issued], is_id_confirmed, expired)| {
            SeenTimes {
                container: ContainerId(container),
                incarnation: Version(incarnation),
                access: AccessPart {
                    last_access: Timestamp(last_access),
                    created: Timestamp(created),
                    id_issued: Timestamp(id_issued),
                    is_id_confirmed,
                },
                found_expired: expired.map(|(token, at)| ServerEvent { token, at }),
            }
        },
    );
    Ok(seen.collect())
}

pub(super) fn encode_end(client: ClientKey, end: &EndRecord) -> Result<Vec<u8>> {
    let fields: EndFields = (
        end.refused_until.map(|it| it.0),
        (end.event.token, end.event.at),
        end.swept.map(|it| it.0),
    );
    seal_plain(RecordKind::Tombstone, &key(client, b"ended"), fields)
}

pub(super) fn decode_end(client: ClientKey, record: &[u8]) -> Result<EndRecord> {
    let key = key(client, b"ended");
    let (refused_until, (token, at), swept): EndFields =
        open_plain(RecordKind::Tombstone, &key, record)?;
    Ok(EndRecord {
        refused_until: refused_until.map(Timestamp),
        event: ServerEvent { token, at },
        swept: swept.map(Timestamp),
    })
}

fn key(client: ClientKey, of: &[u8]) -> Vec<u8> {
    [client.as_bytes(), of].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn client() -> ClientKey {
        ClientKey::from_bytes([7; 16])
    }

    // C3.4, C5.4
    #[test]
    fn times_and_ends_are_read_back_and_damage_is_seen() {
        let times = [SeenTimes {
            container: ContainerId(2),
            incarnation: Version(9),
            access: AccessPart::new(Timestamp(-5)),
            found_expired: Some(ServerEvent { token: 1, at: 2 }),
        }];
        let record = encode_seen(client(), &times).unwrap();
        assert_eq!(decode_seen(client(), &record).unwrap(), times);
        let end = EndRecord {
            refused_until: Some(Timestamp(10)),
            event: ServerEvent { token: 3, at: 4 },
            swept: None,
        };
        let ended = encode_end(client(), &end).unwrap();
        assert_eq!(decode_end(client(), &ended).unwrap(), end);

        let other = ClientKey::from_bytes([8; 16]);
        assert_eq!(
            decode_seen(other, &record).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 4;
            assert!(decode_seen(client(), &damaged).is_err(), "{at}");
        }
    }
}
