//! Sections 2 to 4: records and their fields.

use std::collections::BTreeMap;
use twox_hash::XxHash3_64;

/// Section 2: the inside of a record.
pub(crate) struct Payload<'a>(pub(crate) &'a [u8]);

impl<'a> Payload<'a> {
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub(crate) fn varint(&mut self) -> u64 {
        let width = match self.u8() {
            small @ 0..=250 => return small.into(),
            251 => 2,
            252 => 4,
            253 => 8,
            other => panic!("a varint begins with {other}"),
        };
        let mut number = [0; 8];
        number[..width].copy_from_slice(self.bytes(width));
        u64::from_le_bytes(number)
    }

    pub(crate) fn i64(&mut self) -> i64 {
        let zigzag = self.varint();
        let half = (zigzag / 2) as i64;
        if zigzag.is_multiple_of(2) {
            half
        } else {
            -half - 1
        }
    }

    pub(crate) fn flag(&mut self) -> bool {
        match self.u8() {
            0 => false,
            1 => true,
            other => panic!("a bool is {other}"),
        }
    }

    pub(crate) fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    pub(crate) fn long(&mut self) -> &'a [u8] {
        let len = self.varint();
        self.bytes(len as usize)
    }

    pub(crate) fn string(&mut self) -> String {
        String::from_utf8(self.long().to_vec()).unwrap()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().unwrap()
    }

    pub(crate) fn list<T>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.varint()).map(|_| value(self)).collect()
    }

    pub(crate) fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }
}

/// Section 3: the payload of a record, if it has its checksum.
pub(crate) fn opened<'a>(kind: u64, key: &[u8], record: &'a [u8]) -> Option<Payload<'a>> {
    let end = record.len().checked_sub(8)?;
    let seed = XxHash3_64::oneshot_with_seed(kind, key);
    let checksum = XxHash3_64::oneshot_with_seed(seed, &record[..end]);
    let format = record[0];
    let is_known = format == 1 || (kind, format) == (2, 2);
    (record[end..] == checksum.to_le_bytes() && is_known).then(|| Payload(&record[1..end]))
}

pub(crate) fn record<'a, T>(
    kind: u64,
    key: &[u8],
    record: &'a [u8],
    read: impl FnOnce(&mut Payload<'a>) -> T,
) -> T {
    let mut payload = opened(kind, key, record).expect("the checksum matches");
    let value = read(&mut payload);
    assert!(payload.is_used_up(), "a record of kind {kind} is too long");
    value
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Section 4.3.
#[derive(Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) created: i64,
    pub(crate) last_access: i64,
    pub(crate) timeout: Option<u64>,
    pub(crate) owner: Option<String>,
    /// The opening of the commit that founded it.
    pub(crate) founded_in: u64,
    pub(crate) packages: Vec<String>,
    pub(crate) id_issued: i64,
    pub(crate) is_id_confirmed: bool,
    pub(crate) label: Option<String>,
    pub(crate) logged_in: Option<i64>,
    pub(crate) ends_at: Option<i64>,
}

impl Session {
    pub(crate) fn read(key: &[u8], row: &[u8]) -> Self {
        let read = match row[0] {
            1 => Self::read_first_form,
            _ => Self::read_payload,
        };
        record(2, key, row, read)
    }

    /// Section 9.
    pub(crate) fn read_first_form(payload: &mut Payload<'_>) -> Self {
        let created = payload.i64();
        Self {
            created,
            last_access: payload.i64(),
            timeout: payload.option(Payload::varint),
            owner: payload.option(Payload::string),
            founded_in: payload.varint() >> 40,
            packages: payload.list(Payload::string),
            id_issued: created,
            is_id_confirmed: true,
            label: None,
            logged_in: None,
            ends_at: None,
        }
    }

    pub(crate) fn read_payload(payload: &mut Payload<'_>) -> Self {
        let last_access = i64::from_le_bytes(payload.array());
        let created = i64::from_le_bytes(payload.array());
        let id_issued = i64::from_le_bytes(payload.array());
        let is_id_confirmed = payload.flag();
        let founded_in = u64::from_le_bytes(payload.array()) >> 40;
        let mut session = Self {
            created,
            last_access,
            timeout: payload.option(Payload::varint),
            owner: payload.option(Payload::string),
            founded_in,
            packages: payload.list(Payload::string),
            id_issued,
            is_id_confirmed,
            label: None,
            logged_in: None,
            ends_at: None,
        };
        while !payload.is_used_up() {
            match (payload.u8(), payload.long()) {
                (1, label) => session.label = Some(String::from_utf8(label.to_vec()).unwrap()),
                (2, at) => session.logged_in = Some(i64::from_le_bytes(at.try_into().unwrap())),
                (3, at) => session.ends_at = Some(i64::from_le_bytes(at.try_into().unwrap())),
                (other, _) => panic!("an optional field has the number {other}"),
            }
        }
        session
    }
}

/// Section 4.2.
#[derive(Debug, PartialEq)]
pub(crate) struct Container {
    pub(crate) number: u64,
    pub(crate) timeout: u64,
    pub(crate) resolution: u64,
    pub(crate) longest_lifetime: Option<u64>,
    pub(crate) implicit_sweeps: bool,
    pub(crate) aliases: Vec<String>,
}

/// Section 4.1.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) format: u32,
    pub(crate) identity: [u8; 16],
    pub(crate) secrets: Vec<(u8, [u8; 32])>,
    pub(crate) secret_times: Vec<(u8, i64)>,
    pub(crate) epoch: u64,
    pub(crate) next_container: u64,
    pub(crate) opening: [u8; 16],
    pub(crate) pair: u64,
    pub(crate) is_open: bool,
    pub(crate) covered: u64,
    pub(crate) reached: u64,
}

impl Meta {
    pub(crate) fn read(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
        let plain = |key: &str| (key.to_owned(), rows.get(key.as_bytes()));
        let number = |key: &str| {
            let (key, row) = plain(key);
            row.map(|row| record(0, key.as_bytes(), row, Payload::varint))
        };
        let journal = record(0, b"journal", &rows[&b"journal"[..]], |payload| {
            let opening = payload.array();
            payload.array::<16>();
            (opening, payload.varint(), payload.flag())
        });
        let format = &rows[&b"format"[..]];
        assert_eq!(&format[..9], b"cloakroom");
        assert_eq!(format.len(), 13);
        Self {
            format: u32_at(format, 9),
            identity: record(0, b"identity", &rows[&b"identity"[..]], Payload::array),
            secrets: record(0, b"secrets", &rows[&b"secrets"[..]], |payload| {
                payload.list(|payload| (payload.u8(), payload.array()))
            }),
            secret_times: rows.get(&b"secret-times"[..]).map_or_else(Vec::new, |row| {
                record(0, b"secret-times", row, |payload| {
                    payload.list(|payload| (payload.u8(), payload.i64()))
                })
            }),
            epoch: number("epoch").unwrap(),
            next_container: number("next-container").unwrap(),
            opening: journal.0,
            pair: journal.1,
            is_open: journal.2,
            covered: number("covered").unwrap(),
            reached: number("reached").unwrap_or(0),
        }
    }
}
