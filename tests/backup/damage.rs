//! C5.4, C9.1: damage to a backup is found.

use super::support::engine::needs_files;
use super::{Place, go_on, set};
use cloakroom::{Backup, ErrorKind, Store};

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
