//! C2.2, C7.3: which files there are, and what a kill leaves.

use super::{TempStore, active, journals, killed};
use crate::support::visitors::{get, put};

// C7.3
#[test]
fn an_open_store_is_three_files_and_a_closed_one_is_one() {
    let place = TempStore::new();
    for _ in 0..3 {
        let store = place.open();
        let names = place.names();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(
            names[1..]
                .iter()
                .all(|name| name.starts_with("store.journal-"))
        );
        put(&store, &store.client_ids().issue(), 1);
        store.close().unwrap();
        assert_eq!(place.names(), ["store"]);
    }
}

// C7.3
#[test]
fn a_killed_store_opens_with_what_is_in_its_journal_also_if_it_is_killed_again() {
    let place = TempStore::new();
    let (mut image, id) = killed(&place);
    for n in 4..8 {
        place.restore(&image);
        let store = place.open();
        assert_eq!(get(&store, &id), Some(n - 1));
        let again = place.image();
        put(&store, &id, n);
        image = place.image();
        drop(store);
        // Killed before it wrote anything of its own.
        place.restore(&again);
        let store = place.open();
        assert_eq!(get(&store, &id), Some(n - 1));
        assert!(store.check().unwrap().is_clean());
        assert_eq!(place.names().len(), 3, "{:?}", place.names());
    }
}

// C2.2: what a checkpoint holds already may lie in the journal once more.
#[test]
fn a_journal_that_is_partly_in_the_file_is_replayed_from_there_on() {
    let place = TempStore::new();
    let store = place.open();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.checkpoint().unwrap();
    put(&store, &id, 2);
    let other = store.client_ids().issue();
    put(&store, &other, 5);
    let full = place.image();
    store.checkpoint().unwrap();
    put(&store, &other, 6);
    // After its commit, the checkpoint had not changed the file that was full.
    let mut image = place.image();
    drop(store);
    let name = active(&full);
    image.insert(name.clone(), full[&name].clone());
    place.restore(&image);
    let store = place.open();
    assert_eq!((get(&store, &id), get(&store, &other)), (Some(2), Some(6)));
}

// C7.3
#[test]
fn a_journal_that_the_store_does_not_name_is_set_aside_and_not_replayed() {
    let place = TempStore::new();
    let store = place.open();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    let older = place.image();
    let store = place.open();
    put(&store, &id, 2);
    let mut image = place.image();
    drop(store);
    let later = journals(&image);
    let files = image.clone();
    image.extend(older);
    place.restore(&image);
    for _ in 0..2 {
        let store = place.open();
        assert_eq!(get(&store, &id), Some(1));
        store.close().unwrap();
        // Both: neither is of use without the other, should the later state come back.
        let asides = later.iter().map(|name| format!("{name}.aside-1"));
        let names = ["store".to_owned()].into_iter().chain(asides);
        assert_eq!(place.names(), names.collect::<Vec<_>>());
    }
    for name in later {
        assert_eq!(place.image()[&format!("{name}.aside-1")], files[&name]);
    }
}

// C7.3: closed, and killed before it removed them.
#[test]
fn the_journal_that_a_store_was_closed_with_is_of_no_use_any_more() {
    let place = TempStore::new();
    let store = place.open();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let mut image = place.image();
    store.close().unwrap();
    image.extend(place.image());
    place.restore(&image);
    let store = place.open();
    assert_eq!(get(&store, &id), Some(1));
    put(&store, &id, 2);
    assert_eq!(place.names().len(), 3);
    store.close().unwrap();
    assert_eq!(place.names(), ["store"]);
    assert_eq!(get(&place.open(), &id), Some(2));
}
