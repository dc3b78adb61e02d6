//! Changes to the file by somebody who does not have the keys, with checksums that are right.

use crate::{builder, open, place, read, reseal, ring, sessions};
use cloakroom::{ClientId, ErrorKind, Store};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::path::Path;
use twox_hash::XxHash3_64;

const SESSIONS: TableDefinition<'_, &[u8; 20], &[u8]> = TableDefinition::new("sessions");
const PACKAGES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("packages");
const OWNERS: TableDefinition<'_, &[u8; 36], ()> = TableDefinition::new("owners");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The numbers of kinds of records (docs/format.md).
const META_KIND: u64 = 0;
const SESSION: u64 = 2;
const PACKAGE: u64 = 3;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A record with the checksum of its place.
fn summed(kind: u64, key: &[u8], record: &[u8]) -> Vec<u8> {
    let seed = XxHash3_64::oneshot_with_seed(kind, key);
    let sum = XxHash3_64::oneshot_with_seed(seed, record);
    [record, &sum.to_le_bytes()].concat()
}

fn without_sum(record: &[u8]) -> &[u8] {
    &record[..record.len() - 8]
}

fn session_key(id: &ClientId) -> Vec<u8> {
    [&[0; 4][..], id.key().as_bytes()].concat()
}

fn package_key(id: &ClientId, package: &str) -> Vec<u8> {
    [&session_key(id), package.as_bytes()].concat()
}

/// The rows of a closed store.
fn rows(path: &Path) -> (Rows, Rows) {
    let file = Database::open(path).unwrap();
    let txn = file.begin_read().unwrap();
    let sessions = txn.open_table(SESSIONS).unwrap();
    let packages = txn.open_table(PACKAGES).unwrap();
    let of_sessions = sessions.iter().unwrap().map(|row| {
        let (key, value) = row.unwrap();
        (key.value().to_vec(), value.value().to_vec())
    });
    let of_packages = packages.iter().unwrap().map(|row| {
        let (key, value) = row.unwrap();
        (key.value().to_vec(), value.value().to_vec())
    });
    (of_sessions.collect(), of_packages.collect())
}

/// Puts a record into the file, with a right checksum.
fn put(path: &Path, kind: u64, key: &[u8], record: &[u8]) {
    let record = summed(kind, key, record);
    let file = Database::open(path).unwrap();
    let txn = file.begin_write().unwrap();
    if kind == SESSION {
        let key: &[u8; 20] = key.try_into().unwrap();
        txn.open_table(SESSIONS)
            .unwrap()
            .insert(key, &*record)
            .unwrap();
    } else {
        txn.open_table(PACKAGES)
            .unwrap()
            .insert(key, &*record)
            .unwrap();
    }
    txn.commit().unwrap();
}

/// Two sessions in a closed store.
struct Two {
    _folder: tempfile::TempDir,
    path: std::path::PathBuf,
    ann: ClientId,
    ben: ClientId,
}

fn two() -> Two {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let all = sessions(&store, 2);
    store.close().unwrap();
    Two {
        _folder: folder,
        path,
        ann: all["name0"].clone(),
        ben: all["name1"].clone(),
    }
}

fn kind_of<T: std::fmt::Debug>(result: cloakroom::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn assert_damaged(store: &Store, of: &ClientId) {
    assert_eq!(kind_of(read(store, of, "cart", "item")), ErrorKind::Corrupt);
    let report = store.check().unwrap();
    assert!(
        report.findings.iter().any(|it| it.client == Some(of.key())),
        "{report:?}"
    );
}

#[test]
fn packages_that_are_swapped_are_damaged() {
    for (is_of_ben, package) in [(true, "cart"), (false, "page")] {
        let two = two();
        let whose = if is_of_ben { &two.ben } else { &two.ann };
        let (one, other) = (package_key(&two.ann, "cart"), package_key(whose, package));
        let (_, packages) = rows(&two.path);
        put(&two.path, PACKAGE, &one, without_sum(&packages[&other]));
        put(&two.path, PACKAGE, &other, without_sum(&packages[&one]));
        let store = open(&two.path, ring(1)).unwrap();
        assert_damaged(&store, &two.ann);
        let last = read(&store, &two.ben, "page", "last").unwrap();
        assert_eq!(last.as_deref(), Some("name1"));
        store.close().unwrap();
    }
}

#[test]
fn sessions_that_are_swapped_are_damaged() {
    let two = two();
    let (sessions, _) = rows(&two.path);
    let [one, other] = [&two.ann, &two.ben].map(session_key);
    put(&two.path, SESSION, &one, without_sum(&sessions[&other]));
    put(&two.path, SESSION, &other, without_sum(&sessions[&one]));
    let store = open(&two.path, ring(1)).unwrap();
    for id in [&two.ann, &two.ben] {
        assert_damaged(&store, id);
        assert_eq!(kind_of(store.session_info(id.key())), ErrorKind::Corrupt);
    }
    for owner in ["owner-name0", "owner-name1"] {
        let found = store.sessions_of(owner).unwrap();
        assert!(found.iter().all(|info| info.owner.is_none()), "{found:?}");
    }
    store.close().unwrap();
}

#[test]
fn a_row_that_is_put_under_another_client_is_damaged() {
    let two = two();
    let (sessions, packages) = rows(&two.path);
    let (ann, key) = (session_key(&two.ann), [&[0; 4][..], &[9; 16]].concat());
    put(&two.path, SESSION, &key, without_sum(&sessions[&ann]));
    let cart = package_key(&two.ann, "cart");
    let own = [&key, &b"cart"[..]].concat();
    put(&two.path, PACKAGE, &own, without_sum(&packages[&cart]));
    let store = open(&two.path, ring(1)).unwrap();
    let report = store.check().unwrap();
    assert!(!report.is_clean());
    assert_eq!(
        read(&store, &two.ann, "cart", "item").unwrap().as_deref(),
        Some("name0")
    );
    store.close().unwrap();
}

/// An attacker who can write the file can compute checksums, and so write rows that are not encrypted.
#[test]
fn plain_rows_in_an_encrypted_store_are_damaged() {
    for (kind, record) in [
        // A package with no values; a session that has nothing.
        (PACKAGE, vec![1, 1, 0]),
        (SESSION, [&[2][..], &[0; 33], &[0, 0, 0]].concat()),
    ] {
        let two = two();
        let key = match kind {
            PACKAGE => package_key(&two.ann, "cart"),
            _ => session_key(&two.ann),
        };
        put(&two.path, kind, &key, &record);
        let store = open(&two.path, ring(1)).unwrap();
        assert_damaged(&store, &two.ann);
        store.close().unwrap();
    }
}

/// The same holds for the secrets that sign ids: an attacker who replaces them could make ids.
#[test]
fn secrets_that_somebody_else_wrote_do_not_open_the_store() {
    let two = two();
    let secrets = summed(META_KIND, b"secrets", &[&[1, 1, 0][..], &[7; 32]].concat());
    let file = Database::open(&two.path).unwrap();
    let txn = file.begin_write().unwrap();
    txn.open_table(META)
        .unwrap()
        .insert("secrets", &*secrets)
        .unwrap();
    txn.commit().unwrap();
    drop(file);
    assert_eq!(kind_of(open(&two.path, ring(1))), ErrorKind::Corrupt);
}

/// A store that does not say that it is encrypted is taken for a plain one, whose plain rows are accepted, only if nothing
/// else says so.
#[test]
fn a_store_whose_record_of_keys_is_removed_is_damaged() {
    let two = two();
    let file = Database::open(&two.path).unwrap();
    let txn = file.begin_write().unwrap();
    let mut meta = txn.open_table(META).unwrap();
    assert!(meta.remove("sealed-by").unwrap().is_some());
    drop(meta);
    txn.commit().unwrap();
    drop(file);
    assert_eq!(kind_of(open(&two.path, ring(1))), ErrorKind::Corrupt);
}

/// An entry of the index alone makes no session another's.
#[test]
fn an_owner_does_not_get_a_session_by_an_entry_of_the_index() {
    let two = two();
    let file = Database::open(&two.path).unwrap();
    let txn = file.begin_write().unwrap();
    {
        let mut owners = txn.open_table(OWNERS).unwrap();
        let keys: Vec<_> = owners
            .iter()
            .unwrap()
            .map(|row| *row.unwrap().0.value())
            .collect();
        let of = |id: &ClientId| {
            *keys
                .iter()
                .find(|key| key[20..] == *id.key().as_bytes())
                .unwrap()
        };
        let mut forged = of(&two.ann);
        forged[16..].copy_from_slice(&of(&two.ben)[16..]);
        owners.insert(&forged, ()).unwrap();
    }
    txn.commit().unwrap();
    drop(file);
    let store = open(&two.path, ring(1)).unwrap();
    let found = store.sessions_of("owner-name0").unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].client, two.ann.key());
    assert!(!store.check().unwrap().is_clean());
    store.close().unwrap();
}

/// What cannot be read stays damaged; the rest is copied.
#[test]
fn a_damaged_store_is_salvaged_without_what_is_damaged() {
    let two = two();
    let (_, packages) = rows(&two.path);
    let [one, other] = [&two.ann, &two.ben].map(|id| package_key(id, "cart"));
    put(&two.path, PACKAGE, &one, without_sum(&packages[&other]));
    let to = two.path.with_file_name("salvaged.redb");
    let report = builder()
        .encryption(ring(1))
        .salvage(&two.path, &to)
        .unwrap();
    assert_eq!((report.sessions, report.packages), (2, 3), "{report:?}");
    assert_eq!(
        report.lost, 2,
        "the package, and the session that lists it: {report:?}"
    );
    let store = open(&to, ring(1)).unwrap();
    assert_eq!(read(&store, &two.ann, "cart", "item").unwrap(), None);
    let last = read(&store, &two.ann, "page", "last").unwrap();
    assert_eq!(last.as_deref(), Some("name0"));
    assert!(store.check().unwrap().is_clean());
    store.close().unwrap();
}

/// A store that was plain accepts plain rows until it was resealed and opened again.
#[test]
fn plain_rows_are_damaged_once_a_store_was_resealed() {
    let (_folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, 1);
    store.close().unwrap();
    let id = &all["name0"];
    let key = package_key(id, "cart");
    let plain = without_sum(&rows(&path).1[&key]).to_vec();
    assert_eq!(plain[0], 1);
    let store = open(&path, ring(1)).unwrap();
    assert!(reseal(&store).is_complete);
    store.close().unwrap();
    assert_eq!(rows(&path).1[&key][0], 0x81);
    put(&path, PACKAGE, &key, &plain);
    let store = open(&path, ring(1)).unwrap();
    assert_damaged(&store, id);
    // It is not encrypted again as if it were the store's own.
    let done = reseal(&store);
    assert!(!done.is_complete && done.unreadable == 1, "{done:?}");
    store.close().unwrap();
}
