//! C1.6, C4.1, C4.2: which ids verify, and under which secret.

use super::{destroy, in_memory, n, put, rotate};
use crate::support::clock::{clock, secs};
use crate::support::engine::needs_files;
use crate::support::store::{builder, place};
use crate::support::visitors::{again, visitor};
use cloakroom::{ErrorKind, Store};

// C4.1
#[test]
fn an_id_of_another_store_is_no_id() {
    let (ours, _) = in_memory();
    let (theirs, _) = in_memory();
    let id = theirs.client_ids().issue();
    assert!(ours.client_ids().verify(id.as_str()).is_none());
    assert!(
        ours.client_ids()
            .verify_bytes(id.as_str().as_bytes())
            .is_none()
    );
}

// C4.1
#[test]
fn an_id_with_any_character_changed_is_no_id() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    for at in 0..id.as_str().len() {
        for other in [
            b'A', b'B', b'_', b'-', b'=', b' ', b'+', b'/', 0, 0x80, 0xff,
        ] {
            let mut text = id.as_str().as_bytes().to_vec();
            if text[at] != other {
                text[at] = other;
                assert!(store.client_ids().verify_bytes(&text).is_none());
            }
        }
    }
}

// C4.1
#[test]
fn a_truncated_or_over_long_id_is_no_id() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let text = id.as_str();
    for len in 0..text.len() {
        assert!(store.client_ids().verify(&text[..len]).is_none());
        assert!(store.client_ids().verify(&text[len + 1..]).is_none());
    }
    for more in ["A", "=", " ", "\n", "AAAA", "\u{e9}"] {
        assert!(
            store
                .client_ids()
                .verify(&format!("{text}{more}"))
                .is_none()
        );
        assert!(
            store
                .client_ids()
                .verify(&format!("{more}{text}"))
                .is_none()
        );
    }
    assert!(store.client_ids().verify(&"A".repeat(1 << 20)).is_none());
    assert!(store.client_ids().verify(&text.repeat(2)).is_none());
}

// C4.1
#[test]
fn garbage_of_the_right_length_is_no_id() {
    let (store, _) = in_memory();
    let len = store.client_ids().issue().as_str().len();
    for byte in 0..=u8::MAX {
        assert!(store.client_ids().verify_bytes(&vec![byte; len]).is_none());
    }
}

// C4.2
#[test]
fn ids_outlive_a_restart() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let id = visitor(&store);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    let id = again(&store, &id);
    assert_eq!(n(&store, &id), Some(1));
}

// C4.2
#[test]
fn after_rotating_the_secret_old_ids_verify_until_it_is_retired() {
    let (_folder, path) = place();
    let store = builder(&clock()).open(&path).unwrap();
    let old = visitor(&store);
    let name = store.rotate_secret().unwrap();
    let new = visitor(&store);
    let newest = store.rotate_secret().unwrap();
    assert_ne!(name, newest);
    let verify =
        |store: &Store| [&old, &new].map(|id| store.client_ids().verify(id.as_str()).is_some());
    assert_eq!(verify(&store), [true, true]);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    assert_eq!(verify(&store), [true, true]);
    assert_eq!(n(&store, &again(&store, &old)), Some(1));
    store.retire_secret(name).unwrap();
    assert_eq!(verify(&store), [true, false]);
    store.close().unwrap();
    let store = builder(&clock()).open(&path).unwrap();
    assert_eq!(verify(&store), [true, false]);
}

// C4.2
#[test]
fn rotations_at_the_same_time_lose_no_secret() {
    let (store, _) = in_memory();
    let first = store.client_ids().issue();
    let rotate = || store.rotate_secret().unwrap();
    let mut names: Vec<u8> = std::thread::scope(|threads| {
        let rotating: Vec<_> = (0..6).map(|_| threads.spawn(rotate)).collect();
        rotating.into_iter().map(|it| it.join().unwrap()).collect()
    });
    names.sort_unstable();
    assert_eq!(names, [1, 2, 3, 4, 5, 6]);
    assert!(store.client_ids().verify(first.as_str()).is_some());
    for name in 0..6 {
        store.retire_secret(name).unwrap();
    }
    assert!(store.client_ids().verify(first.as_str()).is_none());
}

// C4.2
#[test]
fn the_secret_in_use_and_an_unknown_one_cannot_be_retired() {
    let (store, _) = in_memory();
    let name = store.rotate_secret().unwrap();
    for name in [name, name.wrapping_add(100)] {
        let error = store.retire_secret(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

// C4.2
#[test]
fn a_given_secret_is_used_instead_of_the_stores_own() {
    let (_folder, path) = place();
    let open = |secret: [u8; 32]| builder(&clock()).secret(secret).open(&path).unwrap();
    let store = open([1; 32]);
    let id = visitor(&store);
    store.close().unwrap();
    let own = builder(&clock()).open(&path).unwrap();
    assert!(own.client_ids().verify(id.as_str()).is_none());
    own.close().unwrap();
    let other = open([2; 32]);
    assert!(other.client_ids().verify(id.as_str()).is_none());
    other.close().unwrap();
    let store = open([1; 32]);
    assert_eq!(n(&store, &again(&store, &id)), Some(1));
    assert_eq!(
        store.rotate_secret().unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        store.retire_secret(0).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}

// C4.2
#[test]
fn an_older_given_secret_verifies_and_does_not_issue() {
    let (_folder, path) = place();
    let store = builder(&clock()).secret([1; 32]).open(&path).unwrap();
    let old = visitor(&store);
    store.close().unwrap();
    let both = builder(&clock()).secret([2; 32]).older_secret([1; 32]);
    let store = both.open(&path).unwrap();
    assert_eq!(n(&store, &again(&store, &old)), Some(1));
    let new = visitor(&store);
    store.close().unwrap();
    let store = builder(&clock()).secret([2; 32]).open(&path).unwrap();
    assert!(store.client_ids().verify(old.as_str()).is_none());
    assert_eq!(n(&store, &again(&store, &new)), Some(1));
}

// C1.6
#[test]
fn the_file_never_holds_an_id() {
    needs_files!("the file is read");
    let (_folder, path) = place();
    let clock = clock();
    let store = builder(&clock).open(&path).unwrap();
    let mut ids = vec![visitor(&store), visitor(&store), visitor(&store)];
    ids.push(rotate(&store, &ids[0]));
    destroy(&store, &ids[1]);
    clock.advance(secs(11));
    let txn = store.begin().unwrap();
    ids.push(put(&txn, &again(&store, &ids[1]), 5).client_id().unwrap());
    txn.commit().unwrap();
    let key = ids[2].key();
    store.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    // The session is there, under its key.
    assert!(holds(key.as_bytes()));
    for id in &ids {
        let text = id.as_str().as_bytes();
        assert!(!holds(&text[..16]));
        assert!(!holds(&text[text.len() - 16..]));
    }
}

// C1.6
#[test]
fn an_id_is_not_printed() {
    let (store, _) = in_memory();
    let id = visitor(&store);
    let txn = store.begin().unwrap();
    let session = put(&txn, &id, 2);
    let printed = format!(
        "{id:?} {session:?} {txn:?} {store:?} {:?}",
        store.client_ids()
    );
    assert!(!printed.contains(&id.as_str()[..8]));
    assert!(!printed.contains(&id.key().to_string()));
}
