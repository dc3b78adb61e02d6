//! Which keys open a store.

use crate::support::clock::clock;
use crate::support::files::{image, restore};
use crate::{builder, check_all, key, open, place, reseal, ring, sessions, write};
use cloakroom::{ErrorKind, KeyRing, Store};
use std::path::Path;

#[test]
fn without_its_keys_a_store_is_refused_and_unchanged() {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let all = sessions(&store, 3);
    // As a process that is killed leaves it, and as it is closed.
    let killed = image(folder.path());
    store.close().unwrap();
    let closed = image(folder.path());
    for before in [killed, closed] {
        restore(folder.path(), &before);
        let other = KeyRing::new(1, key(9));
        let wrong = [
            None,
            Some(ring(2)),
            Some(other.clone()),
            Some(ring(2).with_older(1, key(9))),
        ];
        for keys in wrong {
            let opened = match keys.clone() {
                Some(keys) => open(&path, keys),
                None => builder().open(&path),
            };
            let error = opened.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongKey, "{error}");
            assert!(error.to_string().contains("store.redb"), "{error}");
            assert_eq!(image(folder.path()), before, "{keys:?}");
            // Nor is the file verified or salvaged with them.
            let verified = match keys.clone() {
                Some(keys) => builder().encryption(keys),
                None => builder(),
            };
            let opened = verified.clone().verify_on_open(true).open(&path);
            assert_eq!(opened.map(drop).unwrap_err().kind(), ErrorKind::WrongKey);
            let to = folder.path().join("salvaged.redb");
            let salvaged = verified.salvage(&path, &to);
            assert_eq!(salvaged.unwrap_err().kind(), ErrorKind::WrongKey);
            assert_eq!(image(folder.path()), before, "{keys:?}");
        }
        let store = open(&path, ring(1)).unwrap();
        check_all(&store, &all);
        store.close().unwrap();
    }
}

#[test]
fn two_keys_with_one_number_are_refused() {
    let (folder, path) = place();
    let error = open(&path, ring(1).with_older(1, key(2)))
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(image(folder.path()).is_empty());
}

#[test]
fn keys_are_never_printed() {
    let ring = KeyRing::new(1, [0xAB; 32]).with_older(7, [0xCD; 32]);
    let printed = format!(
        "{ring:?} {ring:#?} {:?}",
        builder().encryption(ring.clone())
    );
    for byte in ["171, 171", "205, 205", "abab", "ABAB", "cdcd", "CDCD"] {
        assert!(!printed.contains(byte), "{printed}");
    }
    assert_eq!(format!("{ring:?}"), "KeyRing { current: 1, older: [7] }");
    assert_eq!(ring.current(), 1);
}

#[test]
fn a_store_in_memory_takes_keys_and_needs_none() {
    let store = builder().encryption(ring(1)).in_memory().unwrap();
    let all = sessions(&store, 2);
    check_all(&store, &all);
    let error = store.reseal(|_| unreachable!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_healthy_store_is_verified_and_salvaged_with_its_keys() {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let all = sessions(&store, 5);
    store.close().unwrap();
    let store = builder()
        .encryption(ring(1))
        .verify_on_open(true)
        .open(&path)
        .unwrap();
    check_all(&store, &all);
    store.close().unwrap();
    let to = folder.path().join("salvaged.redb");
    let keys = ring(2).with_older(1, key(1));
    let report = builder().encryption(keys).salvage(&path, &to).unwrap();
    assert!(report.is_whole(), "{report:?}");
    // What it wrote needs the current key alone.
    let store = open(&to, ring(2)).unwrap();
    check_all(&store, &all);
    for id in all.values() {
        assert!(store.client_ids().verify(id.as_str()).is_some());
    }
    store.close().unwrap();
}

/// The way to be rid of what a file still shows of the time before it had keys.
#[test]
fn salvaging_a_plain_store_with_keys_encrypts_all_of_it() {
    let (folder, path) = place();
    let store = builder().open(&path).unwrap();
    let all = sessions(&store, 5);
    store.close().unwrap();
    let to = folder.path().join("salvaged.redb");
    let report = builder().encryption(ring(1)).salvage(&path, &to).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let shown = |path| {
        let file = std::fs::read(path).unwrap();
        file.windows(5).any(|part| part == b"name3")
    };
    assert!(shown(&path) && !shown(&to));
    let store = open(&to, ring(1)).unwrap();
    check_all(&store, &all);
    assert_eq!(reseal(&store).records, 0);
    store.close().unwrap();
}

/// A session of a fixture, by its id: its package, key and owner are those that `tests/migrations.rs` wrote.
#[test]
fn stores_of_every_format_are_encrypted_once_they_have_keys() {
    let fixtures = [
        (
            "format-1.redb",
            "qQDlOuPXxMGuvjkbDhNNiEZOAM7jiHyUt47kqtjEg2pWITYREhUgjUTmf5EJsLACjeim",
        ),
        (
            "format-2-killed.redb",
            "sZZJoBD_OTVVmURS16IbXyEzAM9wPaQ0x9nOJhPDMCxNarUwd3Wx49F07gawrz2MU4Tw",
        ),
    ];
    let owner = "ann@example.org";
    for (name, id) in fixtures {
        let (folder, path) = place();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        for suffix in ["", ".journal-3", ".journal-4"] {
            let fixture = from.join(format!("{name}{suffix}"));
            if fixture.exists() {
                std::fs::copy(fixture, folder.path().join(format!("store.redb{suffix}"))).unwrap();
            }
        }
        // The sessions are of long ago.
        let builder = || builder().clock(clock());
        let keys = |store: &Store| {
            let id = store.client_ids().verify(id).expect("the secrets are kept");
            let txn = store.begin().unwrap();
            let session = txn.session(&id).unwrap();
            let value: Option<serde_json::Value> = session.pkg("shop").get("cart").unwrap();
            assert!(value.is_some());
            (session.owner().unwrap(), format!("{value:?}"))
        };
        let copy = image(folder.path());
        let store = builder().open(&path).unwrap();
        let plain = keys(&store);
        assert_eq!(plain.0.as_deref(), Some(owner));
        store.close().unwrap();
        restore(folder.path(), &copy);
        for _ in 0..2 {
            let store = builder().encryption(ring(1)).open(&path).unwrap();
            assert_eq!(keys(&store), plain);
            assert_eq!(store.sessions_of(owner).unwrap().len(), 1);
            assert!(reseal(&store).is_complete);
            assert_eq!(keys(&store), plain);
            assert!(store.check().unwrap().is_clean());
            store.close().unwrap();
        }
    }
}

#[test]
fn a_killed_store_is_salvaged_with_its_journal() {
    let (folder, path) = place();
    let store = open(&path, ring(1)).unwrap();
    let mut all = sessions(&store, 3);
    store.checkpoint().unwrap();
    let id = store.client_ids().issue();
    write(&store, &id, "late");
    all.insert("late".to_owned(), id);
    let killed = image(folder.path());
    store.close().unwrap();
    restore(folder.path(), &killed);
    let to = folder.path().join("salvaged.redb");
    let report = builder().encryption(ring(1)).salvage(&path, &to).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let store = open(&to, ring(1)).unwrap();
    check_all(&store, &all);
    store.close().unwrap();
}
