//! C2.2, C7.2, C7.3: what the journal beside a store's file promises: which files there are, what a kill
//! leaves, what is refused, what bounds it, and that a row reads the same wherever it lies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{
    ClientId, ClientKey, Clock, ContainerSettings, ErrorKind, Store, StoreBuilder, Txn,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::clock::clock;
use support::files::{self, Image};
use support::store::{file_builder, keys_of};
use support::visitors::{get, put};
use support::wait::until;
use tempfile::TempDir;

const FRAMES: usize = 8192;
const SECTOR: usize = 512;
const HEADERS: [usize; 2] = [0, 4096];
const NEVER: Duration = Duration::from_secs(1 << 30);

fn builder() -> StoreBuilder {
    file_builder().checkpoint_interval(NEVER)
}

/// A folder for a store.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn open(&self) -> Store {
        builder().open(self.path()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        files::names(self.0.path())
    }

    /// What is in the folder. Of an open store where nothing is under way, it is what the kernel keeps of a
    /// process that is killed now.
    fn image(&self) -> Image {
        files::image(self.0.path())
    }

    /// Leaves nothing but the image.
    fn restore(&self, image: &Image) {
        files::restore(self.0.path(), image);
    }

    /// Refuses the image as damaged, names the file at fault, and leaves all as it was.
    fn assert_refused(&self, image: &Image, file: &str) {
        self.restore(image);
        for verify in [false, true] {
            let error = builder().verify_on_open(verify).open(self.path());
            let error = error.map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            let path = self.0.path().join(file);
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "{text}");
            assert!(self.image() == *image, "a refusal changed something");
        }
    }
}

/// The file of the journal that is written, in what a kill left.
fn active(image: &Image) -> String {
    let journals = image.keys().filter(|name| name.contains(".journal-"));
    let active = journals.max_by_key(|name| frames(&image[*name]).len());
    active.unwrap().clone()
}

fn journals(image: &Image) -> Vec<String> {
    let names = image.keys().filter(|name| name.contains(".journal-"));
    names.cloned().collect()
}

/// Where the frames of a journal file begin, of its present use.
fn frames(file: &[u8]) -> Vec<usize> {
    let salt = |at: usize| &file[at + 8..at + 16];
    let mut frames = Vec::new();
    let mut at = FRAMES;
    while file[at..].starts_with(b"CLOK") && salt(at) == salt(FRAMES) {
        frames.push(at);
        let len = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap());
        at = (at + 24 + len as usize).next_multiple_of(SECTOR);
    }
    frames
}

/// What a kill leaves of a store with a session that was set to 1, 2 and 3, each in a group of its own.
fn killed(place: &Place) -> (Image, ClientId) {
    let store = place.open();
    let id = store.client_ids().issue();
    (1..=3).for_each(|n| put(&store, &id, n));
    let image = place.image();
    assert_eq!(frames(&image[&active(&image)]).len(), 3);
    (image, id)
}

// C7.3
#[test]
fn an_open_store_is_three_files_and_a_closed_one_is_one() {
    let place = Place::new();
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
    let place = Place::new();
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
    let place = Place::new();
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
    let place = Place::new();
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
    let place = Place::new();
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

// C7.2
#[test]
fn a_missing_journal_is_refused_by_its_name_and_opens_once_it_is_back() {
    let place = Place::new();
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
    let (place, other) = (Place::new(), Place::new());
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
    let place = Place::new();
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

// C7.2: what was acknowledged between the two is in neither.
#[test]
fn journals_of_an_earlier_moment_than_the_store_are_refused_both_by_name() {
    let (alive, place) = (Place::new(), Place::new());
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

// C7.2: whatever changes the store's file says in it how far the journal reaches.
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
    let open = |place: &Place| {
        let builder = Store::builder().clock(clock()).implicit_sweeps(false);
        let builder = builder.checkpoint_interval(Duration::from_secs(1 << 30));
        builder.open(place.path()).unwrap()
    };
    for (what, change) in changes {
        let (alive, place) = (Place::new(), Place::new());
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
    let place = Place::new();
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
    let place = Place::new();
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

/// What a kill leaves while a checkpoint is made: groups in both files of the journal, none of them in the
/// store. Each session was set to its number in a group of its own.
fn killed_in_a_checkpoint(place: &Place) -> (Image, Image, Vec<ClientId>) {
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
    let place = Place::new();
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
    let place = Place::new();
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
    let place = Place::new();
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

// C2.2: that is what a power loss leaves of a commit that nobody was told of.
#[test]
fn a_last_group_that_is_not_whole_is_cut_off_alone() {
    let place = Place::new();
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
    let place = Place::new();
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

/// Sets many sessions to many values; what is to be found then.
fn fill(store: &Store, ids: &[ClientId], mut each: impl FnMut(&Store)) -> Vec<String> {
    let mut values = vec![String::new(); ids.len()];
    for n in 0..400 {
        let at = n * 7 % ids.len();
        values[at] = format!("{n} {}", "x".repeat(n * 13 % 5000));
        let put = |txn: &Txn| txn.session(&ids[at])?.pkg("p").insert("text", &values[at]);
        store.transact(put).unwrap();
        each(store);
    }
    values
}

fn assert_holds(store: &Store, ids: &[ClientId], values: &[String]) {
    for (id, value) in ids.iter().zip(values) {
        let id = store.client_ids().verify(id.as_str()).unwrap();
        let txn = store.begin().unwrap();
        let found: Option<String> = txn.session(&id).unwrap().pkg("p").get("text").unwrap();
        assert!(found.as_ref() == Some(value), "{found:?} for {value:?}");
    }
}

#[test]
fn the_size_of_a_journal_is_bounded() {
    const SIZE: u64 = 256 << 10;
    // The last group may reach beyond the bound, and a file grows by no less than this.
    const BEYOND: u64 = 2 * ((64 << 10) + (8 << 10));
    let place = Place::new();
    let store = builder().journal_size(SIZE).open(place.path()).unwrap();
    let ids: Vec<_> = (0..50).map(|_| store.client_ids().issue()).collect();
    let mut largest = 0;
    let values = fill(&store, &ids, |store| {
        let len = store.statistics().unwrap().journal_len();
        largest = largest.max(len);
        let image = place.image();
        let on_disk: usize = journals(&image).iter().map(|name| image[name].len()).sum();
        assert!(on_disk as u64 <= SIZE + BEYOND, "{on_disk} bytes");
    });
    assert!(largest > SIZE / 2 && largest <= SIZE + BEYOND, "{largest}");
    assert!(store.statistics().unwrap().checkpoints() > 2);
    assert_holds(&store, &ids, &values);
    let image = place.image();
    drop(store);
    place.restore(&image);
    let store = place.open();
    assert_holds(&store, &ids, &values);
    assert!(store.check().unwrap().is_clean());
}

#[test]
fn the_memory_of_what_is_not_in_the_file_yet_is_bounded() {
    let place = Place::new();
    let store = builder()
        .unmerged_memory(256 << 10)
        .open(place.path())
        .unwrap();
    let ids: Vec<_> = (0..50).map(|_| store.client_ids().issue()).collect();
    let values = fill(&store, &ids, |_| {});
    // Each takes in at most half of it, of about a megabyte.
    assert!(store.statistics().unwrap().checkpoints() > 2);
    assert_holds(&store, &ids, &values);
    store.close().unwrap();
    assert_holds(&place.open(), &ids, &values);
}

fn contains(image: &Image, text: &str) -> bool {
    let file = &image["store"];
    file.windows(text.len()).any(|part| part == text.as_bytes())
}

const TEXT: &str = "a text that nothing else in the file contains";

fn put_text(store: &Store) {
    let id = store.client_ids().issue();
    let put = |txn: &Txn| txn.session(&id)?.pkg("p").insert("text", TEXT);
    store.transact(put).unwrap();
}

#[test]
fn after_an_interval_what_was_committed_is_in_the_file() {
    let place = Place::new();
    let interval = Duration::from_millis(50);
    let store = builder()
        .checkpoint_interval(interval)
        .open(place.path())
        .unwrap();
    for round in 1..3 {
        put_text(&store);
        until("a checkpoint", || {
            store.statistics().unwrap().checkpoints() >= round
        });
        assert!(contains(&place.image(), TEXT));
    }
}

#[test]
fn a_checkpoint_brings_what_was_committed_into_the_file() {
    let place = Place::new();
    let store = place.open();
    put_text(&store);
    assert!(!contains(&place.image(), TEXT));
    store.checkpoint().unwrap();
    assert!(contains(&place.image(), TEXT));
    let made = store.statistics().unwrap().checkpoints();
    assert_eq!(made, 1);
    // There is nothing left to bring.
    store.checkpoint().unwrap();
    assert_eq!(store.statistics().unwrap().checkpoints(), made);
}

/// How many bytes a checkpoint of so many sessions writes.
fn checkpoint_with(cache: usize, sessions: usize) -> u64 {
    let place = Place::new();
    let store = builder().cache_size(cache).open(place.path()).unwrap();
    let ids: Vec<_> = (0..sessions).map(|_| store.client_ids().issue()).collect();
    let put = |value: &str| {
        let txn = store.begin().unwrap();
        for id in &ids {
            let package = txn.session(id).unwrap().pkg("p");
            package.insert("k", value.repeat(1000)).unwrap();
        }
        txn.commit().unwrap();
    };
    put("a");
    store.checkpoint().unwrap();
    put("b");
    let before = store.statistics().unwrap().bytes_written();
    store.checkpoint().unwrap();
    store.statistics().unwrap().bytes_written() - before
}

#[test]
fn a_checkpoint_that_is_larger_than_the_cache_writes_its_pages_once() {
    let (roomy, tight) = (
        checkpoint_with(64 << 20, 4000),
        checkpoint_with(4 << 20, 4000),
    );
    assert!(
        tight < roomy * 3 / 2,
        "{tight} bytes, {roomy} with more room"
    );
}

// C2.8
#[test]
fn commits_go_on_during_checkpoints() {
    const WRITERS: usize = 3;
    let place = Place::new();
    let store = place.open();
    let ids: Vec<_> = (0..2 * WRITERS)
        .map(|_| store.client_ids().issue())
        .collect();
    let counter = store.client_ids().issue();
    put(&store, &counter, 0);
    let over = AtomicBool::new(false);
    let counts: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = ids
            .chunks(2)
            .map(|own| {
                let (store, over, counter) = (&store, &over, &counter);
                scope.spawn(move || {
                    let mut n = 0;
                    while !over.load(Ordering::Relaxed) || n < 3 {
                        n += 1;
                        let put = |txn: &Txn| {
                            txn.session(&own[0])?.pkg("p").insert("n", n)?;
                            txn.session(counter)?.pkg("p").add("n", 1)
                        };
                        store.transact(put).unwrap();
                        assert_eq!(get(store, &own[0]), Some(n));
                        // Comes and goes.
                        let end = |txn: &Txn| match n % 2 {
                            0 => txn.session(&own[1])?.pkg("p").clear(),
                            _ => txn.session(&own[1])?.pkg("p").insert("n", n),
                        };
                        store.transact(end).unwrap();
                    }
                    n
                })
            })
            .collect();
        for _ in 0..30 {
            let before = store.statistics().unwrap().commits();
            store.checkpoint().unwrap();
            until("a commit", || {
                store.statistics().unwrap().commits() > before
            });
        }
        over.store(true, Ordering::Relaxed);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    // Now and then there is nothing new.
    assert!(store.statistics().unwrap().checkpoints() >= 15);
    let check = |store: &Store| {
        for (own, n) in ids.chunks(2).zip(&counts) {
            assert_eq!(get(store, &own[0]), Some(*n));
            assert_eq!(get(store, &own[1]), (n % 2 == 1).then_some(*n));
        }
        assert_eq!(get(store, &counter), Some(counts.iter().sum()));
        assert!(store.check().unwrap().is_clean());
    };
    check(&store);
    let image = place.image();
    drop(store);
    place.restore(&image);
    check(&place.open());
}

/// What there is to see of a store.
#[derive(Debug, PartialEq)]
struct Seen {
    values: Vec<(Option<u64>, Vec<String>)>,
    owned: [Vec<usize>; 2],
    statistics: [(u64, u64); 2],
}

const SESSIONS: usize = 12;

/// A store and the ids of its sessions, which differ from store to store.
struct House {
    store: Store,
    clock: Clock,
    ids: Vec<ClientId>,
}

impl House {
    fn new(builder: StoreBuilder, open: impl FnOnce(StoreBuilder) -> Store) -> Self {
        let clock = clock();
        let store = open(builder.clock(clock.clone()));
        let hour = Duration::from_secs(3600);
        let day = ContainerSettings::new().timeout(24 * hour);
        store.register("day", day).unwrap();
        let ids = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
        Self { store, clock, ids }
    }

    /// One of many steps, each of which is a commit or more.
    fn step(&mut self, n: usize) {
        let at = |k: usize| n * 5 % SESSIONS + k;
        let id = self.ids[at(0) % SESSIONS].clone();
        let other = self.ids[at(3) % SESSIONS].clone();
        let mut fresh = None;
        match n % 8 {
            0..=2 => {
                let put = |txn: &Txn| {
                    let session = txn.session(&id)?;
                    session.pkg("p").insert("n", n)?;
                    session.pkg("day").insert(&format!("k{}", n % 5), n)?;
                    session.set_owner(Some(["ann", "ben"][n % 2]))
                };
                if self.lives(&id) || n < 2 * SESSIONS {
                    drop(self.store.transact(put));
                }
            }
            3 => {
                let change = |txn: &Txn| {
                    txn.session(&other)?.pkg("p").remove("n")?;
                    txn.session(&other)?.pkg("day").clear()
                };
                drop(self.store.transact(change));
            }
            4 if self.lives(&other) => {
                let end = |txn: &Txn| txn.session(&other)?.destroy();
                self.store.transact(end).unwrap();
            }
            5 if self.lives(&id) => {
                let rotate = |txn: &Txn| txn.session(&id)?.rotate();
                fresh = Some((at(0) % SESSIONS, self.store.transact(rotate).unwrap()));
            }
            6 if self.lives(&id) => {
                let disown = |txn: &Txn| txn.session(&id)?.set_owner(None);
                self.store.transact(disown).unwrap();
            }
            7 => {
                self.clock.advance(Duration::from_secs(700));
                for name in ["", "day"] {
                    self.store.container(name).unwrap().sweep().unwrap();
                }
                // New ones in the place of those that ended.
                let ids: Vec<_> = (0..SESSIONS)
                    .filter(|n| !self.lives(&self.ids[*n]))
                    .collect();
                if let Some(at) = ids.first() {
                    fresh = Some((*at, self.store.client_ids().issue()));
                    let id = &fresh.as_ref().unwrap().1;
                    let put = |txn: &Txn| txn.session(id)?.pkg("p").insert("n", n);
                    self.store.transact(put).unwrap();
                }
            }
            _ => {}
        }
        if let Some((at, id)) = fresh {
            self.ids[at] = id;
        }
    }

    fn lives(&self, id: &ClientId) -> bool {
        let txn = self.store.begin().unwrap();
        txn.session(id).unwrap().exists().unwrap()
    }

    fn see(&self) -> Seen {
        let values = |id: &ClientId| {
            let txn = self.store.begin().unwrap();
            let session = txn.session(id).unwrap();
            let n = session.pkg("p").get("n").unwrap();
            (n, session.pkg("day").keys().unwrap())
        };
        let keys: Vec<ClientKey> = self.ids.iter().map(ClientId::key).collect();
        let owned = |owner: &str| {
            let owned = keys_of(&self.store, owner);
            let place = |key: &ClientKey| keys.iter().position(|k| k == key).unwrap();
            let mut owned: Vec<usize> = owned.iter().map(place).collect();
            owned.sort_unstable();
            owned
        };
        let statistics = |name: &str| {
            let found = self.store.container(name).unwrap().statistics().unwrap();
            (found.live, found.expired)
        };
        Seen {
            values: self.ids.iter().map(values).collect(),
            owned: ["ann", "ben"].map(owned),
            statistics: ["", "day"].map(statistics),
        }
    }
}

// C1.7, C1.9, C3.7
#[test]
fn sessions_are_seen_the_same_in_whatever_layer_their_rows_are() {
    let place = Place::new();
    let mut file = House::new(builder(), |builder| builder.open(place.path()).unwrap());
    let mut memory = House::new(builder(), |builder| builder.in_memory().unwrap());
    let mut seen = Vec::new();
    for n in 0..300 {
        file.step(n);
        memory.step(n);
        if n % 11 == 0 {
            file.store.checkpoint().unwrap();
        }
        let there = file.see();
        assert_eq!(there, memory.see(), "after step {n}");
        seen.push(there);
    }
    assert!(
        seen.iter()
            .any(|seen| seen.owned.iter().all(|o| o.len() > 1))
    );
    assert!(file.store.check().unwrap().is_clean());
}

// C2.1
#[test]
fn a_snapshot_reads_its_state_across_checkpoints() {
    let place = Place::new();
    let store = place.open();
    let ids: Vec<_> = (0..4).map(|_| store.client_ids().issue()).collect();
    put(&store, &ids[0], 1);
    put(&store, &ids[3], 1);
    store.checkpoint().unwrap();
    put(&store, &ids[1], 1);
    let own = |owner| move |txn: &Txn, id: &ClientId| txn.session(id)?.set_owner(owner);
    store
        .transact(|txn| own(Some("ann"))(txn, &ids[0]))
        .unwrap();
    let held = store.begin().unwrap();
    assert!(held.session(&ids[0]).unwrap().exists().unwrap());
    for n in 2..4 {
        // More than once, so that a row has versions that nobody reads.
        for value in [n + 20, n + 10, n] {
            ids[..3].iter().for_each(|id| put(&store, id, value));
        }
        store.checkpoint().unwrap();
    }
    store.transact(|txn| own(None)(txn, &ids[0])).unwrap();
    store
        .transact(|txn| txn.session(&ids[3])?.destroy())
        .unwrap();
    store.checkpoint().unwrap();
    let session = |n: usize| held.session(&ids[n]).unwrap();
    for (n, expected) in [Some(1), Some(1), None, Some(1)].into_iter().enumerate() {
        let found: Option<u64> = session(n).pkg("p").get("n").unwrap();
        assert_eq!(found, expected, "{n}");
        assert_eq!(session(n).exists().unwrap(), expected.is_some());
    }
    assert_eq!(session(0).pkg("p").keys().unwrap(), ["n"]);
    drop(held);
    assert_eq!(get(&store, &ids[1]), Some(3));
    assert_eq!(get(&store, &ids[3]), None);
}

// C2.14
#[test]
fn a_snapshot_whose_rows_are_in_the_journal_is_too_old_after_its_time() {
    let place = Place::new();
    let clock = clock();
    let age = Duration::from_secs(30);
    let builder = builder().clock(clock.clone()).snapshot_max_age(age);
    let store = builder.open(place.path()).unwrap();
    let [read, unread] = [(); 2].map(|()| store.client_ids().issue());
    put(&store, &read, 1);
    put(&store, &unread, 1);
    let held = store.begin().unwrap();
    let value = |id: &ClientId| held.session(id)?.pkg("p").get::<u64>("n");
    assert_eq!(value(&read).unwrap(), Some(1));
    put(&store, &unread, 2);
    clock.advance(age - Duration::from_secs(1));
    put(&store, &unread, 3);
    assert_eq!(store.statistics().unwrap().held_snapshots(), 1);
    clock.advance(Duration::from_secs(2));
    until("the snapshot is let go", || {
        store.statistics().unwrap().held_snapshots() == 0
    });
    assert_eq!(value(&read).unwrap(), Some(1));
    let error = value(&unread).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SnapshotTooOld, "{error}");
    assert_eq!(get(&store, &unread), Some(3));
}

const PAGE: usize = 4096;

/// A store of many sessions, closed; and then one page of theirs is damaged, so that all of it but its
/// first row can be read, and none of it be written.
fn with_a_damaged_page(place: &Place) -> Vec<ClientId> {
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
    let place = Place::new();
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

// C5.3
#[cfg(feature = "torture")]
#[test]
fn a_commit_too_large_for_a_frame_is_refused_and_leaves_no_trace() {
    let place = Place::new();
    let store = builder().groups_of_at_most(64 << 10);
    let store = store.open(place.path()).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("p").insert("n", 2).unwrap();
    let half = "x".repeat(40 << 10);
    for package in ["a", "b"] {
        session.pkg(package).insert("half", &half).unwrap();
    }
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert_eq!(get(&store, &id), Some(1));
    put(&store, &id, 3);
    assert_eq!(get(&store, &id), Some(3));
    let image = place.image();
    drop(store);
    place.restore(&image);
    assert_eq!(get(&place.open(), &id), Some(3));
}

// C2.2
#[cfg(feature = "torture")]
#[test]
fn commits_that_do_not_fit_in_one_frame_go_into_the_next() {
    const MANY: u64 = 40;
    let place = Place::new();
    let store = builder().groups_of_at_most(64 << 10);
    let store = store.open(place.path()).unwrap();
    let ids: Vec<_> = (0..MANY).map(|_| store.client_ids().issue()).collect();
    let commits = ids.iter().zip(0_u64..).map(|(id, n)| {
        let txn = store.begin().unwrap();
        let package = txn.session(id).unwrap().pkg("p");
        package.insert("n", n).unwrap();
        package.insert("text", "x".repeat(20 << 10)).unwrap();
        txn
    });
    let commits: Vec<_> = commits.collect();
    std::thread::scope(|scope| {
        for txn in commits {
            scope.spawn(|| txn.commit().unwrap());
        }
    });
    let file = &place.image()[&active(&place.image())];
    for at in frames(file) {
        let len = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap());
        assert!(len < 65 << 10, "a frame of {len} bytes");
    }
    let image = place.image();
    drop(store);
    place.restore(&image);
    let store = place.open();
    for (id, n) in ids.iter().zip(0..) {
        assert_eq!(get(&store, id), Some(n));
    }
}
