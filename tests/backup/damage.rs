//! C5.4, C9.1: damage to a backup is found.

use super::support::engine::needs_files;
use super::{Place, go_on, set};
use cloakroom::{Backup, Error, ErrorKind, Store, Txn};
use std::path::PathBuf;

/// A small backup.
fn small() -> (Place, Vec<u8>) {
    let place = Place::new();
    let store = place.store();
    for n in 0..3 {
        let id = store.client_ids().issue();
        set(&store, &id, "n", n);
    }
    let mut bytes = Vec::new();
    store.backup_to(&mut bytes, go_on).unwrap();
    Backup::verify_from(&*bytes).unwrap();
    (place, bytes)
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    needs_files!("backups are of files");
    let (_place, bytes) = small();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = Backup::verify_from(&*flipped).unwrap_err();
            let expected = match at {
                0..16 => ErrorKind::NotAStore,
                16..20 if error.kind() == ErrorKind::TooNew => ErrorKind::TooNew,
                _ => ErrorKind::Corrupt,
            };
            assert_eq!(error.kind(), expected, "byte {at}, bit {bit}: {error}");
        }
        let error = Backup::verify_from(&bytes[..at]).unwrap_err();
        let expected = if at < 16 {
            ErrorKind::NotAStore
        } else {
            ErrorKind::Corrupt
        };
        assert_eq!(error.kind(), expected, "cut to {at}: {error}");
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = Backup::verify_from(&*longer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_damaged_backup_makes_no_store() {
    needs_files!("backups are of files");
    let (place, bytes) = small();
    let (path, to) = (place.at("bad.backup"), place.at("restored"));
    for at in (0..bytes.len()).step_by(37) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        std::fs::write(&path, flipped).unwrap();
        let error = Store::restore([&path], &to, go_on).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("bad.backup"), "{error}");
        assert!(!to.exists(), "{at}");
    }
    std::fs::write(&path, &bytes).unwrap();
    Store::restore([&path], &to, go_on).unwrap();
}

#[test]
fn other_files_are_no_backups() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    store.close().unwrap();
    let cases: [(&str, Vec<u8>); 3] = [
        ("empty", Vec::new()),
        ("text", b"cloakroom backups are fine".to_vec()),
        (
            "rubbish",
            (0..200_u32).map(|n| ((n * 7919) >> 3) as u8).collect(),
        ),
    ];
    for (name, bytes) in cases {
        std::fs::write(place.at(name), bytes).unwrap();
        let error = Backup::verify(place.at(name)).unwrap_err();
        let expected = [ErrorKind::NotAStore, ErrorKind::TooNew];
        assert!(expected.contains(&error.kind()), "{name}: {error}");
    }
    let error = Backup::verify(place.at("store")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStore);
    let error = Backup::verify(place.at("missing")).unwrap_err();
    assert_eq!(
        error.io_error().unwrap().kind(),
        std::io::ErrorKind::NotFound
    );
    // And a backup is no store.
    let store = builder_at(&place);
    let path = place.at("one.backup");
    store.backup(&path, go_on).unwrap();
    let error = super::builder().open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAStore);
}

fn builder_at(place: &Place) -> Store {
    super::builder().open(place.at("other")).unwrap()
}

#[test]
fn a_backup_of_a_later_version_is_too_new() {
    needs_files!("backups are of files");
    let (_place, mut bytes) = small();
    bytes[16] = 2;
    let error = Backup::verify_from(&*bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooNew);
}

/// A closed store with many sessions, which all have an owner.
fn many(place: &Place) -> PathBuf {
    const MANY: usize = 1500;
    let store = place.store();
    for _ in 0..MANY / 250 {
        let put = |txn: &Txn| {
            for _ in 0..250 {
                let session = txn.session(&store.client_ids().issue())?;
                session.pkg("app").insert("n", 1)?;
                session.set_owner(Some("ann"))?;
            }
            Ok::<_, Error>(())
        };
        store.transact(put).unwrap();
    }
    store.close().unwrap();
    place.at("store")
}

/// The places of the separators of each branch page whose keys have this length.
fn separators(file: &[u8], len: usize) -> Vec<Vec<usize>> {
    let number = |at: usize, bytes: usize| {
        let bytes = file[at..at + bytes].iter().rev();
        bytes.fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let mut found = Vec::new();
    for page in (0..file.len()).step_by(4096).filter(|at| file[*at] == 2) {
        let keys = number(page + 2, 2);
        // A checksum and a page number of each child come before the keys.
        let first = page + 8 + 24 * (keys + 1);
        let end = first + keys * len;
        let is_sorted = end <= page + 4096
            && (file[first..end].chunks_exact(len)).is_sorted_by(|one, other| one < other);
        if keys > 3 && is_sorted {
            found.push((0..keys).map(|n| first + n * len).collect());
        }
    }
    found
}

// C9.1: a backup lacks nothing that is in the store.
#[test]
fn a_store_of_which_a_part_cannot_be_reached_makes_no_backup() {
    needs_files!("backups are of files");
    let place = Place::new();
    let path = many(&place);
    let sound = std::fs::read(&path).unwrap();
    // Sessions, entries of owners.
    for (len, why) in [(20, "reached"), (36, "list of owners")] {
        let mut damaged = sound.clone();
        for places in separators(&sound, len) {
            // Nothing between the first child and the last one is found.
            for at in &places[1..] {
                damaged.copy_within(places[0]..places[0] + len, *at);
            }
        }
        assert_ne!(damaged, sound);
        std::fs::write(&path, damaged).unwrap();
        let store = super::builder().open(&path).unwrap();
        let to = place.at("one.backup");
        let error = store.backup(&to, go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!to.exists());
    }
}

// C9.1: entries of owners have no checksum of their own.
#[test]
fn a_damaged_list_of_owners_makes_no_backup() {
    needs_files!("backups are of files");
    let place = Place::new();
    let store = place.store();
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.set_owner(Some("ann"));
    store.transact(put).unwrap();
    store.close().unwrap();
    let path = place.at("store");
    let sound = std::fs::read(&path).unwrap();
    let key = id.key();
    let session = [&[0; 4], &key.as_bytes()[..]].concat();
    let places = (16..sound.len() - 20).filter(|at| sound[*at..].starts_with(&session));
    let mut refused = 0;
    for at in places {
        let mut damaged = sound.clone();
        // Before the session's key: the hash of the owner.
        damaged[at - 3] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let Ok(store) = super::builder().open(&path) else {
            continue;
        };
        let to = place.at("one.backup");
        match store.backup(&to, go_on) {
            Ok(_) => std::fs::remove_file(&to).unwrap(),
            Err(error) => {
                refused += u32::from(error.to_string().contains("list of owners"));
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            }
        }
    }
    assert!(refused > 0);
}
