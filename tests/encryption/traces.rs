//! What the files show.

use crate::support::clock::clock;
use crate::support::files::image;
use crate::{builder, check_all, open, place, reseal, ring, sessions, write};
use cloakroom::Store;
use std::path::Path;
use std::time::Duration;

/// Texts that must not be found, also as UTF-16.
const SECRETS: [&str; 4] = [
    "Zwetschgenkuchen",
    "Lieblingsfarbe",
    "frau.holle",
    "Spindel-Telefon",
];

fn fill(store: &Store) {
    let txn = store.begin().unwrap();
    let session = txn.session(&store.client_ids().issue()).unwrap();
    session.set_owner(Some(SECRETS[2])).unwrap();
    session.set_label(SECRETS[3]).unwrap();
    let package = session.pkg("taste");
    package.insert(SECRETS[1], SECRETS[0]).unwrap();
    txn.commit().unwrap();
}

fn contains(content: &[u8], text: &[u8]) -> bool {
    content.windows(text.len()).any(|part| part == text)
}

/// The files that show one of the secrets, with the secret.
fn shown(folder: &Path) -> Vec<(String, &'static str)> {
    let mut shown = Vec::new();
    for (name, content) in image(folder) {
        for secret in SECRETS {
            let wide: Vec<u16> = secret.encode_utf16().collect();
            let little: Vec<u8> = wide.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = wide.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            let forms = [secret.as_bytes(), &little, &big];
            if forms.iter().any(|form| contains(&content, form)) {
                shown.push((name.clone(), secret));
            }
        }
    }
    shown
}

#[test]
fn neither_the_file_nor_its_journals_show_what_is_encrypted() {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    fill(&store);
    // In the journal alone, in both files, and in the closed file.
    assert!(shown(folder.path()).is_empty());
    store.checkpoint().unwrap();
    fill(&store);
    assert!(shown(folder.path()).is_empty());
    let files = image(folder.path()).len();
    assert_eq!(files, 3, "the store and its journals");
    store.close().unwrap();
    assert!(shown(folder.path()).is_empty());
    // The names of packages are shown, as the docs say.
    let file = std::fs::read(&path).unwrap();
    assert!(contains(&file, b"taste"));
}

#[test]
fn without_keys_the_files_show_it() {
    let (folder, path) = place();
    let store = builder().open(&path).unwrap();
    fill(&store);
    store.close().unwrap();
    assert_eq!(shown(folder.path()).len(), SECRETS.len());
}

/// The hash of an owner is not one that anybody can compute.
#[test]
fn the_index_of_owners_does_not_tell_whether_an_owner_is_in_it() {
    use sha2::{Digest, Sha256};
    let hash = &Sha256::digest(SECRETS[2].as_bytes())[..16];
    for (keys, is_shown) in [(None, true), (Some(ring(1)), false)] {
        let (_folder, path) = place();
        let store = match keys {
            Some(keys) => open(&path, keys),
            None => builder().open(&path),
        };
        let store = store.unwrap();
        fill(&store);
        assert_eq!(store.sessions_of(SECRETS[2]).unwrap().len(), 1);
        store.close().unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!(contains(&file, hash), is_shown);
    }
}

/// Ids could be made with them.
#[test]
fn the_secrets_of_client_ids_are_encrypted() {
    let plain = |path: &Path| {
        let file = redb::Database::open(path).unwrap();
        let txn = redb::ReadableDatabase::begin_read(&file).unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let record = txn.open_table(meta).unwrap().get("secrets").unwrap();
        let record = record.unwrap().value().to_vec();
        (record[0], record)
    };
    let (_folder, path) = place();
    builder().open(&path).unwrap().close().unwrap();
    let (format, record) = plain(&path);
    assert_eq!(format, 1);
    // One secret: a count, a name, the key.
    let secret = record[3..35].to_vec();
    let (_other, new) = place();
    let store = open(&new, ring(1)).unwrap();
    let id = store.client_ids().issue();
    store.rotate_secret().unwrap();
    store.close().unwrap();
    assert_eq!(plain(&new).0, 0x81);
    let store = open(&new, ring(1)).unwrap();
    assert!(store.client_ids().verify(id.as_str()).is_some());
    store.close().unwrap();
    // A store that had none before keeps its secret, encrypted.
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    assert!(store.client_ids().verify(id.as_str()).is_some());
    store.close().unwrap();
    let (format, record) = plain(&path);
    assert_eq!(format, 0x81);
    assert!(!contains(&record, &secret));
}

/// What a new file holds before it is opened first.
#[test]
fn a_new_store_shows_no_secret_that_was_ever_used() {
    let (_folder, path) = place();
    // Made, but never opened: a plain secret is in it.
    let store = open(&path, ring(1)).unwrap();
    let id = store.client_ids().issue();
    write(&store, &id, "ann");
    store.close().unwrap();
    let file = std::fs::read(&path).unwrap();
    // A record of one plain secret: its format, a count, its name.
    let found = file.windows(35).filter(|part| part[..3] == [1, 1, 0]);
    let label = b"cloakroom client id v1\0";
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let bytes = engine.decode(id.as_str()).unwrap();
    for part in found {
        use hmac::{KeyInit, Mac};
        let mut hmac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&part[3..]).unwrap();
        hmac.update(label);
        hmac.update(&bytes[..19]);
        assert_ne!(&hmac.finalize().into_bytes()[..], &bytes[19..]);
    }
}

/// A touch reads and writes the part of a row that is not encrypted.
#[test]
fn accesses_of_encrypted_sessions_are_recorded() {
    let (_folder, path) = place();
    let clock = clock();
    let store = builder()
        .clock(clock.clone())
        .encryption(ring(1))
        .open(&path)
        .unwrap();
    let id = store.client_ids().issue();
    write(&store, &id, "ann");
    store.checkpoint().unwrap();
    clock.advance(Duration::from_secs(1200));
    let txn = store.begin().unwrap();
    let item: Option<String> = txn.session(&id).unwrap().pkg("cart").get("item").unwrap();
    assert_eq!(item.as_deref(), Some("ann"));
    txn.commit().unwrap();
    store.close().unwrap();
    let store = builder()
        .clock(clock.clone())
        .encryption(ring(1))
        .open(&path)
        .unwrap();
    let info = store.session_info(id.key()).unwrap().unwrap();
    let since = info.last_access.unwrap() - info.created.unwrap();
    assert_eq!(since.num_seconds(), 1200);
    check_all(&store, &[("ann".to_owned(), id)].into());
    store.close().unwrap();
}

/// Whatever is written later replaces an entry of the index under the right hash.
#[test]
fn owners_change_in_a_store_that_was_plain() {
    let (_folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, 3);
    store.close().unwrap();
    let store = open(&path, ring(1)).unwrap();
    check_all(&store, &all);
    let id = &all["name1"];
    let txn = store.begin().unwrap();
    txn.session(id).unwrap().set_owner(Some("other")).unwrap();
    txn.commit().unwrap();
    assert!(store.sessions_of("owner-name1").unwrap().is_empty());
    assert_eq!(store.sessions_of("other").unwrap().len(), 1);
    assert_eq!(store.end_all_of("owner-name2").unwrap(), 1);
    assert!(reseal(&store).is_complete);
    assert_eq!(store.end_all_of("owner-name0").unwrap(), 1);
    assert_eq!(store.sessions_of("other").unwrap().len(), 1);
    assert!(store.check().unwrap().is_clean());
    store.close().unwrap();
}
