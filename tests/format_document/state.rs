//! Sections 5.1 and 6: the state of a store.

use super::journal::Journal;
use super::records::{Container, Meta, Payload, Session, record};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use sha2::{Digest as _, Sha256};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The state of a store: section 6.
pub(crate) struct State {
    pub(crate) meta: Meta,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) retired: BTreeSet<u32>,
    /// Sessions, packages, tombstones, owners.
    pub(crate) tables: [Rows; 4],
    /// How many frames were applied.
    pub(crate) frames: u64,
}

/// The rows of a table, as bytes.
pub(crate) fn rows<K: Key + 'static, B: AsRef<[u8]> + ?Sized>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, &[u8]>,
) -> Rows
where
    for<'a> K::SelfType<'a>: Borrow<B>,
{
    let table = txn.open_table(table).unwrap();
    let rows = table.iter().unwrap().map(Result::unwrap);
    rows.map(|(key, value)| {
        let key = key.value().borrow().as_ref().to_vec();
        (key, value.value().to_vec())
    })
    .collect()
}

impl State {
    /// Damage, as the document defines it, is an error.
    pub(crate) fn read(path: &Path) -> Result<Self, &'static str> {
        let header = fs::read(path).unwrap();
        let magic = [0x72, 0x65, 0x64, 0x62, 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];
        assert_eq!(header[..9], magic);
        assert_eq!((header[64], header[192]), (3, 3));
        let database = Database::open(path).unwrap();
        let txn = database.begin_read().unwrap();
        let meta = Meta::read(&rows::<&str, str>(&txn, TableDefinition::new("meta")));
        let containers = rows::<&str, str>(&txn, TableDefinition::new("containers"));
        let retired: TableDefinition<u32, ()> = TableDefinition::new("retired");
        let retired = txn.open_table(retired).unwrap();
        let owners: TableDefinition<&[u8; 36], ()> = TableDefinition::new("owners");
        let owners = txn.open_table(owners).unwrap();
        let owners = owners.iter().unwrap().map(Result::unwrap);
        let sessions = TableDefinition::new("sessions");
        let tombstones = TableDefinition::new("tombstones");
        let mut tables = [
            rows::<&[u8; 20], [u8; 20]>(&txn, sessions),
            rows::<&[u8], [u8]>(&txn, TableDefinition::new("packages")),
            rows::<&[u8; 16], [u8; 16]>(&txn, tombstones),
            owners
                .map(|(key, _)| (key.value().to_vec(), Vec::new()))
                .collect(),
        ];
        let frames = if meta.is_open {
            recover(path, &meta, &mut tables)?
        } else {
            0
        };
        Ok(Self {
            containers: containers.iter().map(container).collect(),
            retired: retired
                .iter()
                .unwrap()
                .map(|row| row.unwrap().0.value())
                .collect(),
            meta,
            tables,
            frames,
        })
    }

    pub(crate) fn session(&self, container: u32, id: &str) -> Option<Session> {
        let key = session_key(container, id);
        let row = self.tables[0].get(&key)?;
        Some(Session::read(&key, row))
    }

    pub(crate) fn package(
        &self,
        container: u32,
        id: &str,
        package: &str,
    ) -> Option<Vec<(String, Vec<u8>)>> {
        let key = [session_key(container, id).as_slice(), package.as_bytes()].concat();
        let row = self.tables[1].get(&key)?;
        Some(record(3, &key, row, |payload| {
            payload.varint();
            payload.list(|payload| (payload.string(), payload.long().to_vec()))
        }))
    }

    pub(crate) fn ended_until(&self, id: &str) -> Option<i64> {
        let key = client_key(id);
        let row = self.tables[2].get(key.as_slice())?;
        Some(record(4, &key, row, Payload::i64))
    }

    /// Section 4.7.
    pub(crate) fn assert_goes_together(&self) {
        let [sessions, packages, _, owners] = &self.tables;
        let mut expected = (BTreeSet::new(), BTreeSet::new());
        for (key, row) in sessions {
            let session = Session::read(key, row);
            assert!(session.packages.is_sorted());
            for id in session.packages {
                expected.0.insert([key, id.as_bytes()].concat());
            }
            if let Some(owner) = session.owner {
                let hash = Sha256::digest(owner.as_bytes());
                expected.1.insert([&hash[..16], key].concat());
            }
            let container = u32::from_be_bytes(key[..4].try_into().unwrap());
            let known = |c: &Container| c.number == u64::from(container);
            assert!(self.containers.values().any(known) || self.retired.contains(&container));
        }
        assert!(packages.keys().eq(expected.0.iter()));
        assert!(owners.keys().eq(expected.1.iter()));
    }

    /// Section 7.
    pub(crate) fn has_signed(&self, id: &str) -> bool {
        let decoder = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let raw = decoder.decode(id).unwrap();
        assert_eq!((id.len(), raw.len()), (68, 51));
        self.meta.secrets.iter().any(|(name, key)| {
            let mut hmac = Hmac::<Sha256>::new_from_slice(key).unwrap();
            hmac.update(b"cloakroom client id v1\0");
            hmac.update(&raw[..19]);
            *name == raw[18] && hmac.finalize().into_bytes()[..] == raw[19..]
        })
    }
}

pub(crate) fn container((key, row): (&Vec<u8>, &Vec<u8>)) -> (String, Container) {
    record(1, key, row, |payload| {
        let name = payload.string();
        assert_eq!(name.as_bytes(), key);
        let container = Container {
            number: payload.varint(),
            timeout: payload.varint(),
            resolution: payload.varint(),
            longest_lifetime: payload.option(Payload::varint),
            implicit_sweeps: payload.is_used_up() || payload.flag(),
            aliases: match payload.is_used_up() {
                true => Vec::new(),
                false => (0..payload.varint()).map(|_| payload.string()).collect(),
            },
        };
        (name, container)
    })
}

fn client_key(id: &str) -> Vec<u8> {
    Sha256::digest(id)[..16].to_vec()
}

fn session_key(container: u32, id: &str) -> Vec<u8> {
    [container.to_be_bytes().to_vec(), client_key(id)].concat()
}

/// Sections 5.1 and 6: completes the tables by the journal; gives the number of frames that did.
fn recover(store: &Path, meta: &Meta, tables: &mut [Rows; 4]) -> Result<u64, &'static str> {
    let files = [1, 2].map(|n| {
        let name = format!("{}.journal-{}", store.to_str().unwrap(), 2 * meta.pair + n);
        Journal::read(&fs::read(name).unwrap(), meta)
    });
    let [first, second] = files;
    let mut files = [first?, second?];
    files.sort_by_key(|file| file.frames.first().map(|frame| frame.number));
    let mut last = meta.covered;
    for frame in files.into_iter().flat_map(|file| file.frames) {
        if frame.number <= meta.covered {
            continue;
        }
        if frame.number != last + 1 {
            return Err("a frame is missing");
        }
        last = frame.number;
        for (key, value) in frame.rows {
            let (table, key) = (usize::from(key[0]), key[1..].to_vec());
            match value {
                Some(value) => drop(tables[table].insert(key, value)),
                None => drop(tables[table].remove(&key)),
            }
        }
    }
    if last < meta.reached {
        return Err("the journal is of an earlier moment");
    }
    Ok(last - meta.covered)
}
