//! C2.2, C5.4, C7.2: gaps and damage.

use super::{SECTOR, TempStore, active, builder, frames, journals, killed};
use crate::support::files::Image;
use crate::support::visitors::{get, put};
use crate::support::wait::until;
use cloakroom::{ClientId, ErrorKind, Store, Txn};

const HEADERS: [usize; 2] = [0, 4096];

/// The files after a kill during a checkpoint: groups in both files of the journal, none of them in the store. Each
/// session was set to its number in a group of its own.
fn killed_in_a_checkpoint(place: &TempStore) -> (Image, Image, Vec<ClientId>) {
    let store = place.open();
    let ids: Vec<_> = (0..6).map(|_| store.client_ids().issue()).collect();
    put(&store, &ids[0], 0);
    let early = place.image();
    put(&store, &ids[1], 1);
    put(&store, &ids[2], 2);
    let before = place.image();
    store.checkpoint().unwrap();
    (3..).zip(&ids[3..]).for_each(|(n, id)| put(&store, id, n));
    let mut image = place.image();
    // Before its commit, the checkpoint had changed neither the store nor the file that was full.
    let first = active(&before);
    for name in ["store", &first] {
        image.insert(name.to_owned(), before[name].clone());
    }
    (image, early, ids)
}

// C2.2, C7.3
#[test]
fn a_store_killed_in_a_checkpoint_opens_with_both_files_of_its_journal() {
    let place = TempStore::new();
    let (image, _, ids) = killed_in_a_checkpoint(&place);
    place.restore(&image);
    for _ in 0..2 {
        let store = place.open();
        assert!(store.check().unwrap().is_clean());
        for (n, id) in (0..).zip(&ids) {
            assert_eq!(get(&store, id), Some(n));
        }
        store.close().unwrap();
    }
}

// C7.2: an older copy of one of the files.
#[test]
fn a_gap_between_the_files_of_a_journal_is_refused() {
    let place = TempStore::new();
    let (image, early, _) = killed_in_a_checkpoint(&place);
    let first = active(&early);
    let second = journals(&image).into_iter().find(|name| *name != first);
    let mut gap = image.clone();
    gap.insert(first.clone(), early[&first].clone());
    place.assert_refused(&gap, &second.unwrap());
}

// C7.2
#[test]
fn a_flipped_bit_before_the_end_of_a_journal_is_refused() {
    let place = TempStore::new();
    let (image, _) = killed(&place);
    let name = active(&image);
    let frames = frames(&image[&name]);
    for frame in &frames[..frames.len() - 1] {
        for byte in [0, 5, 9, 17, 24, 30, 60] {
            let mut damaged = image.clone();
            damaged.get_mut(&name).unwrap()[frame + byte] ^= 4;
            place.assert_refused(&damaged, &name);
        }
    }
}

// C2.2: a power loss leaves this of a commit that was not acknowledged.
#[test]
fn a_last_group_that_is_not_whole_is_cut_off_alone() {
    let place = TempStore::new();
    let (image, id) = killed(&place);
    let name = active(&image);
    let last = *frames(&image[&name]).last().unwrap();
    let file = &image[&name];
    let mut flipped = file.clone();
    flipped[last + 40] ^= 1;
    let mut torn = file.clone();
    torn[last..last + SECTOR].fill(0);
    for damaged in [flipped, torn] {
        let mut image = image.clone();
        image.insert(name.clone(), damaged);
        place.restore(&image);
        let store = place.open();
        assert_eq!(get(&store, &id), Some(2));
        put(&store, &id, 7);
        store.close().unwrap();
        assert_eq!(get(&place.open(), &id), Some(7));
    }
}

// C5.4
#[test]
fn one_header_of_a_journal_may_be_damaged_but_not_both() {
    let place = TempStore::new();
    let (image, id) = killed(&place);
    for name in journals(&image) {
        let mut damaged = image.clone();
        for at in HEADERS {
            let mut flipped = image.clone();
            flipped.get_mut(&name).unwrap()[at + 20] ^= 1;
            // A disk that loses a page loses all of it.
            let mut lost = image.clone();
            lost.get_mut(&name).unwrap()[at / PAGE * PAGE..][..PAGE].fill(0);
            for one in [flipped, lost] {
                place.restore(&one);
                assert_eq!(get(&place.open(), &id), Some(3));
            }
            damaged.get_mut(&name).unwrap()[at + 20] ^= 1;
        }
        place.assert_refused(&damaged, &name);
    }
}

const PAGE: usize = 4096;

/// A store of many sessions, closed; and then one page of theirs is damaged, so that all of it but its
/// first row can be read, and none of it be written.
fn with_a_damaged_page(place: &TempStore) -> Vec<ClientId> {
    // All in one commit of redb, which leaves no other page of theirs in the file.
    let store = builder().cache_size(16 << 20).open(place.path()).unwrap();
    let ids: Vec<_> = (0..300).map(|_| store.client_ids().issue()).collect();
    let txn = store.begin().unwrap();
    for id in &ids {
        let pkg = txn.session(id).unwrap().pkg("p");
        pkg.insert("n", 1).unwrap();
        pkg.insert("text", "x".repeat(60)).unwrap();
    }
    txn.commit().unwrap();
    store.close().unwrap();
    let mut image = place.image();
    let file = image.get_mut("store").unwrap();
    let is_leaf = |page: &[u8]| page[0] == 1 && page.windows(60).any(|part| part == [b'x'; 60]);
    let page = file
        .chunks_mut(PAGE)
        .skip(1)
        .find(|page| is_leaf(page))
        .unwrap();
    let pairs = usize::from(u16::from_le_bytes([page[2], page[3]]));
    assert!(pairs > 3);
    // Where the value of the first pair ends.
    page[4 + 4 * pairs + 2] ^= 4;
    place.restore(&image);
    ids
}

// C5.4, C2.13
#[test]
fn a_damaged_page_that_keeps_a_checkpoint_from_being_made_keeps_nobody_from_the_rest() {
    let place = TempStore::new();
    let ids = with_a_damaged_page(&place);
    let store = place.open();
    let is_hit = |id: &ClientId| {
        store
            .begin()
            .unwrap()
            .session(id)
            .unwrap()
            .pkg("p")
            .get::<u64>("n")
            .is_err()
    };
    let ids: Vec<_> = ids
        .iter()
        .map(|id| store.client_ids().verify(id.as_str()).unwrap())
        .collect();
    assert!(ids.iter().any(is_hit));
    // Some of them lie beside those that are hit.
    let ids: Vec<_> = ids.into_iter().filter(|id| !is_hit(id)).collect();
    for id in &ids {
        // Not of the same size, or it would be written in its place.
        let put = |txn: &Txn| {
            let pkg = txn.session(id)?.pkg("p");
            pkg.insert("n", 2)?;
            pkg.insert("text", "y".repeat(61))
        };
        drop(store.transact(put));
    }
    assert!(store.checkpoint().is_err());
    until("the store is open again", || store.begin().is_ok());
    until("it is checked", || {
        let check = store.check();
        assert!(check.as_ref().is_ok_and(|check| !check.is_clean()) || check.is_err());
        check.is_ok()
    });
    // Each attempt at a checkpoint has the store open its file again.
    let value = |store: &Store, id: &ClientId| {
        let mut found = None;
        until("a transaction", || {
            let read = || store.begin()?.session(id)?.pkg("p").get::<u64>("n");
            match read() {
                Ok(n) => found = n,
                Err(e) => {
                    let passing = [ErrorKind::Unavailable, ErrorKind::SnapshotTooOld];
                    assert!(passing.contains(&e.kind()), "{e}");
                    return false;
                }
            }
            true
        });
        found.unwrap()
    };
    let read = |store: &Store| -> Vec<u64> { ids.iter().map(|id| value(store, id)).collect() };
    let values = read(&store);
    let written = values.iter().filter(|n| **n == 2).count();
    assert!(written > ids.len() / 2, "{values:?}");
    drop(store.close());
    assert_eq!(read(&place.open()), values);
}
