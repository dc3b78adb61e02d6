//! docs/format.md: a reader that is written by that document's numbers alone finds all that a store holds. It uses redb
//! for the tables, and nothing else of this crate. The fixture is a store that was killed, with a part of its rows in the
//! journal.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use redb::{Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use sha2::{Digest as _, Sha256};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use twox_hash::XxHash3_64;

/// Section 2: what is inside a record.
struct Payload<'a>(&'a [u8]);

impl<'a> Payload<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

    fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn varint(&mut self) -> u64 {
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

    fn i64(&mut self) -> i64 {
        let zigzag = self.varint();
        let half = (zigzag / 2) as i64;
        if zigzag.is_multiple_of(2) {
            half
        } else {
            -half - 1
        }
    }

    fn flag(&mut self) -> bool {
        match self.u8() {
            0 => false,
            1 => true,
            other => panic!("a bool is {other}"),
        }
    }

    fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| value(self))
    }

    fn long(&mut self) -> &'a [u8] {
        let len = self.varint();
        self.bytes(len as usize)
    }

    fn string(&mut self) -> String {
        String::from_utf8(self.long().to_vec()).unwrap()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.bytes(N).try_into().unwrap()
    }

    fn list<T>(&mut self, mut value: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.varint()).map(|_| value(self)).collect()
    }

    fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }
}

/// Section 3: the payload of a record, if it has its checksum.
fn opened<'a>(kind: u64, key: &[u8], record: &'a [u8]) -> Option<Payload<'a>> {
    let end = record.len().checked_sub(8)?;
    let seed = XxHash3_64::oneshot_with_seed(kind, key);
    let checksum = XxHash3_64::oneshot_with_seed(seed, &record[..end]);
    let format = record[0];
    let is_known = format == 1 || (kind, format) == (2, 2);
    (record[end..] == checksum.to_le_bytes() && is_known).then(|| Payload(&record[1..end]))
}

fn record<'a, T>(
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

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Section 4.3.
#[derive(Debug, PartialEq)]
struct Session {
    created: i64,
    last_access: i64,
    timeout: Option<u64>,
    owner: Option<String>,
    /// The opening of the commit that founded it.
    founded_in: u64,
    packages: Vec<String>,
    id_issued: i64,
    is_id_confirmed: bool,
    label: Option<String>,
    logged_in: Option<i64>,
}

impl Session {
    fn read(key: &[u8], row: &[u8]) -> Self {
        let read = match row[0] {
            1 => Self::read_first_form,
            _ => Self::read_payload,
        };
        record(2, key, row, read)
    }

    /// Section 9.
    fn read_first_form(payload: &mut Payload<'_>) -> Self {
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
        }
    }

    fn read_payload(payload: &mut Payload<'_>) -> Self {
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
        };
        while !payload.is_used_up() {
            match (payload.u8(), payload.long()) {
                (1, label) => session.label = Some(String::from_utf8(label.to_vec()).unwrap()),
                (2, at) => session.logged_in = Some(i64::from_le_bytes(at.try_into().unwrap())),
                (other, _) => panic!("an optional field has the number {other}"),
            }
        }
        session
    }
}

/// Section 4.2.
#[derive(Debug, PartialEq)]
struct Container {
    number: u64,
    timeout: u64,
    resolution: u64,
    longest_lifetime: Option<u64>,
    implicit_sweeps: bool,
}

/// Section 4.1.
#[derive(Debug)]
struct Meta {
    format: u32,
    identity: [u8; 16],
    secrets: Vec<(u8, [u8; 32])>,
    epoch: u64,
    next_container: u64,
    opening: [u8; 16],
    pair: u64,
    is_open: bool,
    covered: u64,
    reached: u64,
}

impl Meta {
    fn read(rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Self {
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

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The state of a store: section 6.
struct State {
    meta: Meta,
    containers: BTreeMap<String, Container>,
    retired: BTreeSet<u32>,
    /// Sessions, packages, tombstones, owners.
    tables: [Rows; 4],
    /// How many frames were applied.
    frames: u64,
}

/// The rows of a table, as bytes.
fn rows<K: Key + 'static, B: AsRef<[u8]> + ?Sized>(
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
    /// What the document calls damaged is an error.
    fn read(path: &Path) -> Result<Self, &'static str> {
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

    fn session(&self, container: u32, id: &str) -> Option<Session> {
        let key = session_key(container, id);
        let row = self.tables[0].get(&key)?;
        Some(Session::read(&key, row))
    }

    fn package(&self, container: u32, id: &str, package: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let key = [session_key(container, id).as_slice(), package.as_bytes()].concat();
        let row = self.tables[1].get(&key)?;
        Some(record(3, &key, row, |payload| {
            payload.varint();
            payload.list(|payload| (payload.string(), payload.long().to_vec()))
        }))
    }

    fn ended_until(&self, id: &str) -> Option<i64> {
        let key = client_key(id);
        let row = self.tables[2].get(key.as_slice())?;
        Some(record(4, &key, row, Payload::i64))
    }

    /// Section 4.7.
    fn assert_goes_together(&self) {
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
            let known = |c: &Container| c.number == container.into();
            assert!(self.containers.values().any(known) || self.retired.contains(&container));
        }
        assert!(packages.keys().eq(expected.0.iter()));
        assert!(owners.keys().eq(expected.1.iter()));
    }

    /// Section 7.
    fn has_signed(&self, id: &str) -> bool {
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

fn container((key, row): (&Vec<u8>, &Vec<u8>)) -> (String, Container) {
    record(1, key, row, |payload| {
        let name = payload.string();
        assert_eq!(name.as_bytes(), key);
        let container = Container {
            number: payload.varint(),
            timeout: payload.varint(),
            resolution: payload.varint(),
            longest_lifetime: payload.option(Payload::varint),
            implicit_sweeps: payload.is_used_up() || payload.flag(),
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

struct Frame {
    number: u64,
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    end: usize,
}

struct Journal {
    frames: Vec<Frame>,
}

impl Journal {
    /// Section 5.4.
    fn read(file: &[u8], meta: &Meta) -> Result<Self, &'static str> {
        let (salt, start) = header(&file[..512], meta)
            .or_else(|| header(&file[4096..4608], meta))
            .ok_or("no header is whole")?;
        let mut frames: Vec<Frame> = Vec::new();
        let mut at = start;
        while let Some(frame) = Frame::at(file, at, salt) {
            if frames
                .last()
                .is_some_and(|before| frame.number != before.number + 1)
            {
                return Err("a frame has another number");
            }
            at = frame.end.next_multiple_of(512);
            frames.push(frame);
        }
        let mut behind = (at..file.len()).step_by(512).skip(1);
        if behind.any(|at| Frame::at(file, at, salt).is_some()) {
            return Err("a frame lies behind one that is not whole");
        }
        Ok(Self { frames })
    }
}

/// Section 5.2: the salt, and where the first frame begins; `None` where the copy is not whole.
fn header(sector: &[u8], meta: &Meta) -> Option<(u64, usize)> {
    let len = usize::from(u16_at(sector, 4));
    let mut payload =
        opened(6, b"header", sector.get(6..6 + len)?).filter(|_| &sector[..4] == b"CLOK")?;
    assert_eq!(payload.array(), meta.identity);
    assert_eq!(payload.array(), meta.opening);
    // Little-endian numbers of a fixed width stand outside records alone.
    let salt = payload.varint();
    payload.varint();
    // Section 9.
    let start = if payload.is_used_up() { 4096 } else { 8192 };
    if start == 8192 {
        payload.varint();
    }
    assert!(payload.is_used_up());
    assert!(sector[6 + len..].iter().all(|byte| *byte == 0));
    Some((salt, start))
}

impl Frame {
    /// Section 5.3: the whole frame at an offset.
    fn at(file: &[u8], at: usize, salt: u64) -> Option<Self> {
        let head = file.get(at..at + 24)?;
        if &head[..4] != b"CLOK" || u64_at(head, 8) != salt {
            return None;
        }
        let end = at + 24 + u32_at(head, 4) as usize;
        let mut payload = opened(5, &head[8..24], file.get(at + 24..end)?)?;
        let rows = payload.list(|payload| {
            let key = payload.long().to_vec();
            (key, payload.option(|payload| payload.long().to_vec()))
        });
        assert!(payload.is_used_up());
        Some(Self {
            number: u64_at(head, 16),
            rows,
            end,
        })
    }
}

/// Copies a store and its journal into a folder, for redb repairs what it opens.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let folder = tempfile::tempdir().unwrap();
    for suffix in ["", ".journal-1", ".journal-2", ".journal-3", ".journal-4"] {
        let file = format!("{name}{suffix}");
        if fixtures.join(&file).exists() {
            fs::copy(fixtures.join(&file), folder.path().join(&file)).unwrap();
        }
    }
    let path = folder.path().join(name);
    (folder, path)
}

/// 2026-01-01 00:00:00 UTC.
const FOUNDED: i64 = 1_767_225_600_000;
/// When it was opened again: 20 minutes later.
const CHANGED: i64 = FOUNDED + 1_200_000;

/// The ids in the fixture.
const ANN: &str = "h8_654bycgZcLGnuB4TDY3sdAN8viw_Sbv5_p76U34WRA4mEqK5KsIfHYKjxW4n4Rlu0";
const BEN: &str = "eYBJtS8DVrZboaR9ZJy0EzBJAFUb3oq3CJ9mn-Q18y-LWwzGDWWrfLC5LbPSvylgAdUs";
const CAT: &str = "1mG4LT2IRhBiaHgovq_IpOH6Ack2372meUSd6kuBLm9AZBC9L9Mgoz4ohM-tknWi07X6";
const DAN: &str = "kg1Lnn7ir55Y0seO0Y7raPjYAKQVfyTFyiIsCxufxkJDhpdfJUSaDAh-p7U0KuNo8ZyF";

/// How the fixture was made. Not a test: it does something only where the environment names a file to write, and prints
/// the ids to be put above:
///
/// ```sh
/// CLOAKROOM_WRITE_FIXTURE=tests/fixtures/document.redb \
///     cargo test --test format_document write_the_fixture -- --nocapture
/// ```
#[test]
fn write_the_fixture() {
    use cloakroom::{Clock, ContainerSettings, Store, Txn};
    use std::time::Duration;

    let Some(target) = std::env::var_os("CLOAKROOM_WRITE_FIXTURE") else {
        return;
    };
    let target = PathBuf::from(target);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(target.file_name().unwrap());
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let open = || {
        let builder = Store::builder().clock(clock.clone()).implicit_sweeps(false);
        builder.open(&path).unwrap()
    };
    let store = open();
    let (ann, ben, dan) = {
        let ids = store.client_ids();
        (ids.issue(), ids.issue(), ids.issue())
    };
    let shop = ContainerSettings::new()
        .timeout(Duration::from_secs(7200))
        .resolution(Duration::from_secs(300))
        .max_lifetime(Some(Duration::from_secs(2_592_000)))
        .implicit_sweeps(false);
    store.register("shop", shop).unwrap();
    store.register("gone", ContainerSettings::new()).unwrap();
    let found = |txn: &Txn| {
        let session = txn.session(&ann)?;
        session.set_owner(Some("ann@example.org"))?;
        session.pkg("greeter").insert("name", "Ann")?;
        session.pkg("greeter").insert("visits", 3_u64)?;
        session.pkg("shop").insert("cart", ["tea", "cake"])?;
        session.pkg("gone").insert("left", true)?;
        txn.session(&ben)?
            .set_timeout(Some(Duration::from_secs(5400)))?;
        txn.session(&ben)?.pkg("greeter").insert("name", "Ben")?;
        txn.session(&dan)?.set_owner(Some("dan@example.org"))?;
        txn.session(&dan)?.pkg("greeter").insert("name", "Dan")
    };
    store.transact(found).unwrap();
    store.unregister("gone").unwrap();
    store.close().unwrap();
    // Nothing but its size changes.
    Database::open(&path).unwrap().compact().unwrap();

    clock.advance(Duration::from_secs(20 * 60));
    let store = open();
    store.rotate_secret().unwrap();
    let cat = store.client_ids().issue();
    let change = |txn: &Txn| {
        let session = txn.session(&ann)?;
        session.pkg("greeter").insert("visits", 4_u64)?;
        session.pkg("shop").remove("cart")?;
        session.pkg("long").insert("text", "long ".repeat(1000))
    };
    store.transact(change).unwrap();
    let change = |txn: &Txn| txn.session(&ben)?.set_owner(Some("ben@example.org"));
    store.transact(change).unwrap();
    let change = |txn: &Txn| txn.session(&dan)?.destroy();
    store.transact(change).unwrap();
    let change = |txn: &Txn| {
        let session = txn.session(&cat)?;
        session.pkg("greeter").insert("name", "Cat")?;
        session.set_label("telephone")?;
        session.log_in("cat@example.org")
    };
    let cat = store.transact(change).unwrap();
    for (name, id) in [("ANN", &ann), ("BEN", &ben), ("CAT", &cat), ("DAN", &dan)] {
        println!("const {name}: &str = {:?};", id.as_str());
    }
    for entry in fs::read_dir(folder.path()).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, target.with_file_name(from.file_name().unwrap())).unwrap();
    }
}

/// What a package holds, with MessagePack written out.
fn values(values: &[(&str, &[u8])]) -> Option<Vec<(String, Vec<u8>)>> {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.to_vec()));
    Some(values.collect())
}

#[test]
fn a_killed_store_is_read_by_the_document_alone() {
    let (_folder, path) = copy("document.redb");
    let state = State::read(&path).unwrap();
    state.assert_goes_together();
    let meta = &state.meta;
    assert_eq!((meta.format, meta.epoch, meta.next_container), (2, 2, 3));
    assert!(meta.is_open && state.frames >= 4, "{meta:?}");
    assert_eq!(meta.secrets.len(), 2);
    assert!([ANN, BEN, CAT, DAN].iter().all(|id| state.has_signed(id)));
    let container = |number, timeout, resolution, longest_lifetime, implicit_sweeps| Container {
        number,
        timeout,
        resolution,
        longest_lifetime,
        implicit_sweeps,
    };
    let unnamed = container(0, 3_600_000, 600_000, None, true);
    let shop = container(1, 7_200_000, 300_000, Some(2_592_000_000), false);
    let containers = BTreeMap::from([(String::new(), unnamed), ("shop".into(), shop)]);
    assert_eq!(state.containers, containers);
    assert_eq!(state.retired, BTreeSet::from([2]));

    let session = |owner: &str, packages: &[&str]| Session {
        created: FOUNDED,
        last_access: CHANGED,
        timeout: None,
        owner: Some(owner.to_owned()),
        founded_in: 1,
        packages: packages.iter().map(|id| (*id).to_owned()).collect(),
        id_issued: FOUNDED,
        is_id_confirmed: true,
        label: None,
        logged_in: None,
    };
    let ann = session("ann@example.org", &["greeter", "long"]);
    assert_eq!(state.session(0, ANN), Some(ann));
    let greeter = values(&[("name", b"\xA3Ann"), ("visits", b"\x04")]);
    assert_eq!(state.package(0, ANN, "greeter"), greeter);
    let long = [&b"\xDA\x13\x88"[..], &b"long ".repeat(1000)].concat();
    assert_eq!(state.package(0, ANN, "long"), values(&[("text", &long)]));
    assert_eq!(state.package(1, ANN, "shop"), None);
    let ben = Session {
        last_access: FOUNDED,
        is_id_confirmed: false,
        timeout: Some(5_400_000),
        ..session("ben@example.org", &["greeter"])
    };
    assert_eq!(state.session(0, BEN), Some(ben));
    let cat = Session {
        created: CHANGED,
        founded_in: 2,
        id_issued: CHANGED,
        is_id_confirmed: false,
        label: Some("telephone".into()),
        logged_in: Some(CHANGED),
        ..session("cat@example.org", &["greeter"])
    };
    assert_eq!(state.session(0, CAT), Some(cat));
    assert_eq!(
        state.package(0, CAT, "greeter"),
        values(&[("name", b"\xA3Cat")])
    );
    assert_eq!(state.session(0, DAN), None);
    assert_eq!(state.package(0, DAN, "greeter"), None);
    assert!(state.ended_until(DAN) > Some(CHANGED));
    assert_eq!(state.ended_until(ANN), None);
}

/// Section 9.
#[test]
fn stores_of_earlier_forms_are_read_by_the_document() {
    for (name, frames) in [("format-2.redb", false), ("format-2-killed.redb", true)] {
        let (_folder, path) = copy(name);
        let state = State::read(&path).unwrap();
        state.assert_goes_together();
        assert_eq!(state.meta.format, 2);
        assert_eq!(state.frames > 0, frames, "{name}");
        assert_eq!(state.tables[0].len(), 5, "{name}");
    }
}

/// Where both are written to: the other tests have all rows in one.
#[test]
fn a_store_that_two_versions_of_redb_wrote_is_read_by_the_document() {
    for name in ["redb-4.5.0-4.6.0.redb", "redb-4.6.0-4.5.0.redb"] {
        let (_folder, path) = copy(name);
        let state = State::read(&path).unwrap();
        state.assert_goes_together();
        assert!(state.frames > 10 && state.tables[0].len() > 80, "{name}");
    }
}

/// Sections 5.2 and 5.4: what is torn is told from what is damaged.
#[test]
fn damage_to_the_journal_is_told_as_the_document_says() {
    // All rows are in the first file, whose four frames begin there.
    let frames = [8192, 13_824, 14_336, 14_848];
    let read = |flipped: &[usize]| {
        let (folder, path) = copy("document.redb");
        let journal = folder.path().join("document.redb.journal-1");
        let mut file = fs::read(&journal).unwrap();
        flipped.iter().for_each(|at| file[*at] ^= 1);
        fs::write(&journal, file).unwrap();
        State::read(&path).map(|state| state.frames)
    };
    assert_eq!(read(&[]), Ok(4));
    assert_eq!(read(&[frames[3] + 40]), Ok(3));
    for frame in &frames[..3] {
        let damaged = read(&[frame + 40]);
        assert_eq!(damaged, Err("a frame lies behind one that is not whole"));
    }
    assert_eq!(read(&[40]), Ok(4));
    assert_eq!(read(&[4096 + 40]), Ok(4));
    assert_eq!(read(&[40, 4096 + 40]), Err("no header is whole"));
}
