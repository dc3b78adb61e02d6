//! C7.2: a journal that is not the store's, or is not whole, is refused.

use super::{FRAMES, TempStore, active, frames, journals, killed};
use crate::support::clock::clock;
use crate::support::files::Image;
use crate::support::visitors::{get, put};
use cloakroom::{ContainerSettings, Store, Txn};
use std::time::Duration;

// C7.2
#[test]
fn a_missing_journal_is_refused_by_its_name_and_opens_once_it_is_back() {
    let place = TempStore::new();
    let (image, id) = killed(&place);
    for missing in journals(&image) {
        let mut without = image.clone();
        without.remove(&missing);
        place.assert_refused(&without, &missing);
    }
    place.restore(&image);
    assert_eq!(get(&place.open(), &id), Some(3));
}

// C7.2
#[test]
fn the_journal_of_another_store_is_refused() {
    let (place, other) = (TempStore::new(), TempStore::new());
    let (image, _) = killed(&place);
    let (foreign, _) = killed(&other);
    for name in journals(&image) {
        let mut mixed = image.clone();
        mixed.insert(name.clone(), foreign[&name].clone());
        place.assert_refused(&mixed, &name);
    }
}

// C7.2: of the same store, by another opening.
#[test]
fn the_journal_of_another_state_of_the_store_is_refused() {
    let place = TempStore::new();
    let (first, id) = killed(&place);
    place.restore(&first);
    let store = place.open();
    put(&store, &id, 4);
    store.close().unwrap();
    let store = place.open();
    put(&store, &id, 5);
    let image = place.image();
    drop(store);
    for name in journals(&image) {
        let mut mixed = image.clone();
        mixed.insert(name.clone(), first[&name].clone());
        place.assert_refused(&mixed, &name);
    }
}

/// The image, with the journals of another one of the same opening.
fn with_journals_of(image: &Image, other: &Image) -> Image {
    let mut mixed = image.clone();
    for name in journals(image) {
        mixed.insert(name.clone(), other[&name].clone());
    }
    mixed
}

// C7.2: the commits between the two moments are in neither.
#[test]
fn journals_of_an_earlier_moment_than_the_store_are_refused_both_by_name() {
    let (alive, place) = (TempStore::new(), TempStore::new());
    let store = alive.open();
    let id = store.client_ids().issue();
    let commit = |numbers: std::ops::Range<u64>| {
        numbers.for_each(|n| put(&store, &id, n));
        alive.image()
    };
    let mut earlier = vec![commit(0..0), commit(0..20), commit(20..40)];
    for round in 2..5 {
        store.checkpoint().unwrap();
        let now = alive.image();
        let late = commit(20 * round..20 * (round + 1));
        for image in [&now, &late] {
            for earlier in &earlier {
                let mixed = with_journals_of(image, earlier);
                for name in journals(image) {
                    place.assert_refused(&mixed, &name);
                }
            }
        }
        earlier.push(late);
    }
    place.restore(&earlier.pop().unwrap());
    assert_eq!(get(&place.open(), &id), Some(99));
}

// C7.2: each change of the store's file records there how far the journal reaches.
#[test]
fn journals_of_an_earlier_moment_than_a_change_of_settings_are_refused() {
    type Change = fn(&Store);
    let changes: [(&str, Change); 4] = [
        ("registration", |store| {
            store.register("x", ContainerSettings::new()).unwrap();
        }),
        ("settings", |store| {
            let settings = ContainerSettings::new().timeout(Duration::from_secs(60));
            store.register("other", settings).unwrap();
        }),
        ("secret", |store| {
            store.rotate_secret().unwrap();
        }),
        ("removal", |store| {
            store.unregister("other").unwrap();
            store.container("").unwrap().sweep().unwrap();
        }),
    ];
    // With secrets of its own.
    let open = |place: &TempStore| {
        let builder = Store::builder().clock(clock()).implicit_sweeps(false);
        let builder = builder.checkpoint_interval(Duration::from_secs(1 << 30));
        builder.open(place.path()).unwrap()
    };
    for (what, change) in changes {
        let (alive, place) = (TempStore::new(), TempStore::new());
        let store = open(&alive);
        store.register("other", ContainerSettings::new()).unwrap();
        let id = store.client_ids().issue();
        put(&store, &id, 1);
        let earlier = alive.image();
        put(&store, &id, 2);
        change(&store);
        put(&store, &id, 3);
        let late = alive.image();
        let file = place.path();
        let file = file.file_name().unwrap().to_str().unwrap();
        assert!(late[file] != earlier[file], "{what}");
        let mixed = with_journals_of(&late, &earlier);
        for name in journals(&late) {
            place.assert_refused(&mixed, &name);
        }
        place.restore(&late);
        assert_eq!(get(&open(&place), &id), Some(3), "{what}");
    }
}

// C7.2: an opening copies what the journal before held.
#[test]
fn an_opening_says_how_far_its_journal_reaches() {
    let place = TempStore::new();
    let (image, id) = killed(&place);
    place.restore(&image);
    let store = place.open();
    let again = place.image();
    drop(store);
    let name = active(&again);
    let copied = frames(&again[&name]);
    assert_eq!(copied.len(), 3);
    for frame in &copied {
        let mut shortened = again.clone();
        shortened.get_mut(&name).unwrap()[*frame..].fill(0);
        place.assert_refused(&shortened, &name);
    }
    place.restore(&again);
    assert_eq!(get(&place.open(), &id), Some(3));
}

// C7.2: a file grows before a frame is in it, and is never shorter than its header says.
#[test]
fn a_journal_cut_short_is_refused_wherever_it_was_cut() {
    let place = TempStore::new();
    let store = place.open();
    let id = store.client_ids().issue();
    let write = |bytes: usize, n: u64| {
        let put = |txn: &Txn| {
            let pkg = txn.session(&id)?.pkg("p");
            pkg.insert("text", "x".repeat(bytes))?;
            pkg.insert("n", n)
        };
        store.transact(put).unwrap();
    };
    for n in 0..12 {
        write(20 << 10, n);
    }
    let small = place.image();
    // Grows by more than what the header tells of, and then no more.
    write(200 << 10, 12);
    write(10, 13);
    let large = place.image();
    store.checkpoint().unwrap();
    write(10, 14);
    let checkpointed = place.image();
    drop(store);
    for image in [small, large, checkpointed] {
        let name = active(&image);
        let mut ends = frames(&image[&name]);
        ends.extend([0, 100, 4096, FRAMES, image[&name].len() - 1]);
        for end in ends {
            let mut cut = image.clone();
            cut.get_mut(&name).unwrap().truncate(end);
            place.assert_refused(&cut, &name);
            for name in journals(&image) {
                let len = end.min(image[&name].len() - 1);
                cut.get_mut(&name).unwrap().truncate(len);
            }
            place.assert_refused(&cut, "store.journal-");
        }
        place.restore(&image);
        assert!(get(&place.open(), &id).is_some());
    }
}
