//! Values (C5): what is stored comes back or says why not, limits hold after merging, and damage is
//! found.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use cloakroom::{ClientId, Error, ErrorKind, PkgData, Store, StoreBuilder, Transaction};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use support::engine::needs_files;

fn in_memory() -> Store {
    Store::in_memory().unwrap()
}

fn pkg(txn: &Transaction, id: &ClientId, name: &str) -> PkgData {
    txn.session(id).unwrap().pkg(name)
}

fn put(store: &Store, id: &ClientId, name: &str, key: &str, value: impl Serialize) {
    let txn = store.begin().unwrap();
    pkg(&txn, id, name).insert(key, value).unwrap();
    txn.commit().unwrap();
}

/// A session with `app`/`n` = `value`.
fn stored(store: &Store, value: impl Serialize) -> ClientId {
    let id = store.client_ids().issue();
    put(store, &id, "app", "n", value);
    id
}

fn get<T: serde::de::DeserializeOwned>(
    store: &Store,
    id: &ClientId,
    name: &str,
    key: &str,
) -> Result<Option<T>, Error> {
    pkg(&store.begin().unwrap(), id, name).get(key)
}

#[derive(Serialize)]
struct Before {
    name: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct After {
    name: String,
    #[serde(default)]
    points: u32,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "it is never read, for it cannot be")]
struct Stricter {
    name: String,
    points: u32,
}

// C5.1
#[test]
fn a_struct_that_gained_a_defaulted_field_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let id = stored(&store, Before { name: "ann".into() });
    store.close().unwrap();
    let store = Store::open(&path).unwrap();
    let after: After = get(&store, &id, "app", "n").unwrap().unwrap();
    let ann = After {
        name: "ann".into(),
        points: 0,
    };
    assert_eq!(after, ann);
}

// C5.1
#[test]
fn a_struct_that_gained_a_required_field_does_not() {
    let store = in_memory();
    let id = stored(&store, Before { name: "ann".into() });
    let error = get::<Stricter>(&store, &id, "app", "n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
}

// C5.1
#[test]
fn a_struct_that_lost_a_field_still_loads() {
    #[derive(Serialize)]
    struct Wide {
        name: &'static str,
        gone: [u8; 3],
        points: u32,
    }
    let store = in_memory();
    let wide = Wide {
        name: "ann",
        gone: [1, 2, 3],
        points: 4,
    };
    let id = stored(&store, wide);
    let after: After = get(&store, &id, "app", "n").unwrap().unwrap();
    assert_eq!((after.name.as_str(), after.points), ("ann", 4));
}

// C5.1, C1.6
#[test]
fn a_wrong_type_is_a_mismatch_that_names_the_place_and_not_the_value() {
    let store = in_memory();
    let id = stored(&store, "s3cr3t-value");
    let errors = [
        get::<i64>(&store, &id, "app", "n").unwrap_err(),
        get::<Vec<String>>(&store, &id, "app", "n").unwrap_err(),
        get::<BTreeMap<String, i64>>(&store, &id, "app", "n").unwrap_err(),
        get::<After>(&store, &id, "app", "n").unwrap_err(),
        get::<bool>(&store, &id, "app", "n").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::TypeMismatch);
        assert_eq!(error.container(), Some(""));
        assert_eq!(error.package(), Some("app"));
        assert_eq!(error.key(), Some("n"));
        let text = format!("{error} {error:?}");
        assert!(text.contains("a string"), "{text}");
        assert!(!text.contains("s3cr3t"), "{text}");
    }
}

// C5.1: an enum's unknown variant is told without its name, which is a value too.
#[test]
fn an_unknown_variant_is_a_mismatch_without_the_value() {
    #[derive(Debug, Deserialize)]
    enum Colour {
        #[allow(dead_code, reason = "only its absence is read")]
        Red,
    }
    let store = in_memory();
    let id = stored(&store, "s3cr3t");
    let error = get::<Colour>(&store, &id, "app", "n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    assert!(!format!("{error} {error:?}").contains("s3cr3t"));
}

// C5.1: the failed read harms nothing.
#[test]
fn a_value_that_was_read_as_a_wrong_type_is_still_there() {
    let store = in_memory();
    let id = stored(&store, 7);
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &id, "app");
    assert!(app.get::<String>("n").is_err());
    assert!(app.take::<String>("n").is_err());
    assert!(app.update("n", |_: Option<String>| String::new()).is_err());
    assert!(app.contains_key("n").unwrap());
    txn.commit().unwrap();
    assert_eq!(get(&store, &id, "app", "n").unwrap(), Some(7));
}

// C5.2
#[test]
fn absent_is_none_and_unreadable_is_an_error() {
    let store = in_memory();
    let id = stored(&store, 7);
    assert_eq!(get::<String>(&store, &id, "app", "m").unwrap(), None);
    assert_eq!(get::<String>(&store, &id, "other", "n").unwrap(), None);
    let nobody = store.client_ids().issue();
    assert_eq!(get::<String>(&store, &nobody, "app", "n").unwrap(), None);
    assert!(get::<String>(&store, &id, "app", "n").is_err());
}

// C5.2: a stored `None` is there, and reads as nothing only where that is asked for.
#[test]
fn a_stored_none_is_present() {
    let store = in_memory();
    let id = stored(&store, None::<i64>);
    let txn = store.begin().unwrap();
    assert!(pkg(&txn, &id, "app").contains_key("n").unwrap());
    assert_eq!(
        pkg(&txn, &id, "app").get::<Option<i64>>("n").unwrap(),
        Some(None)
    );
    assert!(pkg(&txn, &id, "app").get::<i64>("n").is_err());
}

// C5.3
#[test]
fn names_of_255_bytes_are_allowed_and_of_256_are_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for len in [254, 255] {
        let name = "n".repeat(len);
        pkg(&txn, &id, &name).insert(&name, len).unwrap();
    }
    let long = "n".repeat(256);
    let key = pkg(&txn, &id, "app").insert(&long, 1).unwrap_err();
    let package = pkg(&txn, &id, &long).insert("n", 1).unwrap_err();
    for (error, what) in [(key, "key"), (package, "package id")] {
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let text = error.to_string();
        assert!(text.contains(what), "{text}");
        assert!(
            text.contains("256 bytes") && text.contains("255 bytes"),
            "{text}"
        );
    }
    txn.commit().unwrap();
    let name = "n".repeat(255);
    assert_eq!(get(&store, &id, &name, &name).unwrap(), Some(255));
    assert_eq!(get::<i64>(&store, &id, &long, &long).unwrap(), None);
}

// C5.3
#[test]
fn names_are_measured_in_bytes() {
    let store = Store::builder().max_name_len(4).in_memory().unwrap();
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &store.client_ids().issue(), "app");
    app.insert("\u{e9}\u{e9}", 1).unwrap();
    let refused = [
        app.insert("\u{e9}\u{e9}n", 1),
        app.add("\u{e9}\u{e9}n", 1),
        app.commute("\u{e9}\u{e9}n", |_: Option<i64>| 1),
        app.update("\u{e9}\u{e9}n", |_: Option<i64>| 1).map(drop),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TooLarge);
    }
    txn.commit().unwrap();
}

/// Both sizes in the text of an error: what it would be, and what it may be.
fn sizes(error: &Error) -> (usize, usize) {
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let text = error.to_string();
    let digits = |c: char| !c.is_ascii_digit();
    let mut numbers = text.split(digits).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

const LIMIT: usize = 1000;

fn small() -> Store {
    Store::builder()
        .max_package_size(LIMIT)
        .in_memory()
        .unwrap()
}

/// How many bytes of text fill a package exactly to the limit.
fn fill() -> usize {
    let store = small();
    let txn = store.begin().unwrap();
    let id = store.client_ids().issue();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(LIMIT))
        .unwrap();
    let (size, limit) = sizes(&txn.commit().unwrap_err());
    assert_eq!(limit, LIMIT);
    LIMIT - (size - LIMIT)
}

// C5.3
#[test]
fn a_package_at_its_limit_is_allowed_and_one_byte_more_is_not() {
    let store = small();
    let fill = fill();
    for len in [fill - 1, fill] {
        let id = stored(&store, "x".repeat(len));
        assert_eq!(get(&store, &id, "app", "n").unwrap(), Some("x".repeat(len)));
    }
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(fill + 1))
        .unwrap();
    pkg(&txn, &id, "other").insert("n", 1).unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(sizes(&error), (LIMIT + 1, LIMIT));
    assert_eq!(
        (error.container(), error.package()),
        (Some(""), Some("app"))
    );
    // Nothing of that transaction is there.
    assert_eq!(get::<i64>(&store, &id, "other", "n").unwrap(), None);
}

// C5.3: each of them is small enough alone.
#[test]
fn a_package_that_grows_beyond_its_limit_by_merging_is_refused() {
    let store = small();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app")
        .insert("a", "x".repeat(fill() / 2))
        .unwrap();
    pkg(&two, &id, "app")
        .insert("b", "x".repeat(fill() / 2))
        .unwrap();
    one.commit().unwrap();
    let error = two.commit().unwrap_err();
    assert!(sizes(&error).0 > LIMIT);
    let txn = store.begin().unwrap();
    assert_eq!(pkg(&txn, &id, "app").keys().unwrap(), ["a", "n"]);
}

// C5.3: what is large in the snapshot has shrunk when it is committed.
#[test]
fn a_package_that_fits_after_merging_is_allowed() {
    let store = small();
    let id = stored(&store, "x".repeat(fill()));
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app").insert("n", 0).unwrap();
    pkg(&two, &id, "app")
        .insert("b", "x".repeat(fill() / 2))
        .unwrap();
    one.commit().unwrap();
    two.commit().unwrap();
    assert_eq!(get(&store, &id, "app", "n").unwrap(), Some(0));
}

// C5.3
#[test]
fn a_package_of_a_mebibyte_is_the_default_limit() {
    let store = in_memory();
    let id = stored(&store, "x".repeat((1 << 20) - 100));
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "app")
        .insert("n", "x".repeat(1 << 20))
        .unwrap();
    assert_eq!(sizes(&txn.commit().unwrap_err()).1, 1 << 20);
}

// C5.3
#[test]
fn sixty_four_packages_are_allowed_and_one_more_is_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    for n in 0..64 {
        pkg(&txn, &id, &format!("p{n}")).insert("n", n).unwrap();
    }
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "one-more").insert("n", 64).unwrap();
    let error = txn.commit().unwrap_err();
    assert_eq!(sizes(&error), (65, 64));
    assert_eq!(error.package(), Some("one-more"));
    // In place of another one it may come.
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "p0").clear().unwrap();
    pkg(&txn, &id, "one-more").insert("n", 64).unwrap();
    txn.commit().unwrap();
}

/// A package of keys `0` to `keys - 1` in a store in `folder` that allows as many.
fn with_keys(folder: &Path, keys: usize) -> ClientId {
    let store = Store::builder().max_keys(keys).open(folder.join("store"));
    let store = store.unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let app = pkg(&txn, &id, "app");
    for n in 0..keys {
        app.insert(&n.to_string(), n).unwrap();
    }
    txn.commit().unwrap();
    store.close().unwrap();
    id
}

// C5.3
#[test]
fn a_thousand_and_twenty_four_keys_are_allowed_and_one_more_is_not() {
    let store = in_memory();
    let id = store.client_ids().issue();
    let fill = |from: usize, to: usize| {
        let txn = store.begin().unwrap();
        for n in from..to {
            pkg(&txn, &id, "app").insert(&n.to_string(), n).unwrap();
        }
        txn.commit()
    };
    let error = fill(0, 1025).unwrap_err();
    assert_eq!(sizes(&error), (1025, 1024));
    fill(0, 1024).unwrap();
    let error = fill(1024, 1026).unwrap_err();
    assert_eq!(sizes(&error), (1026, 1024));
    assert_eq!(error.package(), Some("app"));
    assert_eq!(error.container(), Some(""));
    let error = fill(1, 1026).unwrap_err();
    assert_eq!(sizes(&error), (1026, 1024));
    // In place of another one it may come.
    let txn = store.begin().unwrap();
    assert!(pkg(&txn, &id, "app").remove("7").unwrap());
    pkg(&txn, &id, "app").add("one-more", 1).unwrap();
    txn.commit().unwrap();
}

// C5.3
#[test]
fn keys_that_become_too_many_by_merging_are_refused() {
    let store = Store::builder().max_keys(2).in_memory().unwrap();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "app").insert("one", 1).unwrap();
    pkg(&two, &id, "app").insert("two", 2).unwrap();
    one.commit().unwrap();
    assert_eq!(sizes(&two.commit().unwrap_err()), (3, 2));
    assert_eq!(get::<i64>(&store, &id, "app", "two").unwrap(), None);
}

// C5.3
#[test]
fn a_package_with_more_keys_than_allowed_now_may_change_and_shrink_but_not_grow() {
    let folder = tempfile::TempDir::new().unwrap();
    let id = with_keys(folder.path(), 9);
    let store = Store::builder()
        .max_keys(4)
        .open(folder.path().join("store"));
    let store = store.unwrap();
    assert_eq!(get(&store, &id, "app", "8").unwrap(), Some(8));
    let change = |change: &dyn Fn(&PkgData)| {
        let txn = store.begin().unwrap();
        change(&pkg(&txn, &id, "app"));
        txn.commit()
    };
    let all = |app: &PkgData| {
        for n in 0..9 {
            app.insert(&n.to_string(), n + 1).unwrap();
        }
    };
    let more = |app: &PkgData| app.insert("more", 1).unwrap();
    let fewer = |app: &PkgData| assert!(app.remove("0").unwrap());
    change(&all).unwrap();
    assert_eq!(sizes(&change(&more).unwrap_err()), (10, 4));
    let one_for_two = |app: &PkgData| {
        app.remove("1").unwrap();
        app.remove("2").unwrap();
        app.insert("more", 1).unwrap();
    };
    change(&one_for_two).unwrap();
    change(&fewer).unwrap();
    let error = change(&|app| app.insert("0", 0).unwrap()).unwrap_err();
    assert_eq!(sizes(&error), (8, 4));
    // A login carries it over.
    let txn = store.begin().unwrap();
    let new = txn.session(&id).unwrap().rotate().unwrap();
    txn.commit().unwrap();
    let txn = store.begin().unwrap();
    assert_eq!(pkg(&txn, &new, "app").len().unwrap(), 7);
    pkg(&txn, &new, "app").clear().unwrap();
    for n in 0..4 {
        pkg(&txn, &new, "app").insert(&n.to_string(), n).unwrap();
    }
    txn.commit().unwrap();
}

// C5.3: the order in which a transaction made its changes does not matter.
#[test]
fn packages_are_counted_after_all_changes() {
    let store = Store::builder().max_packages(1).in_memory().unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, "old", "n", 1);
    let txn = store.begin().unwrap();
    pkg(&txn, &id, "new").insert("n", 2).unwrap();
    pkg(&txn, &id, "old").remove("n").unwrap();
    txn.commit().unwrap();
    assert_eq!(get(&store, &id, "new", "n").unwrap(), Some(2));
}

// C5.3
#[test]
fn packages_that_become_too_many_by_merging_are_refused() {
    let store = Store::builder().max_packages(2).in_memory().unwrap();
    let id = stored(&store, 0);
    let [one, two] = [store.begin().unwrap(), store.begin().unwrap()];
    pkg(&one, &id, "one").insert("n", 1).unwrap();
    pkg(&two, &id, "two").insert("n", 2).unwrap();
    one.commit().unwrap();
    assert_eq!(sizes(&two.commit().unwrap_err()), (3, 2));
    assert_eq!(get::<i64>(&store, &id, "two", "n").unwrap(), None);
}

/// Text that is nowhere else in the file.
fn value(session: usize, package: &str) -> String {
    format!("<<the value of session {session} in {package}>>").repeat(3)
}

const SESSIONS: usize = 12;
const PACKAGES: [&str; 2] = ["app", "cart"];

/// A small store, closed: its bytes, and the ids of its sessions.
fn image(folder: &Path) -> (Vec<u8>, Vec<ClientId>) {
    let path = folder.join("image");
    let store = builder().open(&path).unwrap();
    let ids: Vec<_> = (0..SESSIONS).map(|_| store.client_ids().issue()).collect();
    for (session, id) in ids.iter().enumerate() {
        for package in PACKAGES {
            put(&store, id, package, "n", value(session, package));
        }
    }
    store.close().unwrap();
    (std::fs::read(path).unwrap(), ids)
}

fn builder() -> StoreBuilder {
    Store::builder().cache_size(1 << 20).implicit_sweeps(false)
}

fn find(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    windows
        .filter(|(_, window)| *window == part)
        .map(|(at, _)| at)
        .collect()
}

/// What a store with damage gave; wrong values fail the test at once.
#[derive(Debug, Default)]
struct Given {
    right: usize,
    corrupt: usize,
    hidden: usize,
}

fn read_all(store: &Store, ids: &[ClientId]) -> Given {
    let mut given = Given::default();
    let txn = store.begin().unwrap();
    for (session, id) in ids.iter().enumerate() {
        for package in PACKAGES {
            match pkg(&txn, id, package).get::<String>("n") {
                Ok(Some(there)) => {
                    assert_eq!(there, value(session, package));
                    given.right += 1;
                }
                // Only a whole session may be hidden, never one of its packages.
                Ok(None) => {
                    let exists = txn.session(id).unwrap().exists();
                    assert!(!exists.as_ref().is_ok_and(|there| *there), "{exists:?}");
                    given.hidden += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
                    given.corrupt += 1;
                }
            }
        }
    }
    given
}

/// Runs `work` on a thread of its own, so that a hang fails the test.
fn bounded<R: Send + 'static>(what: &str, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (reply, answer) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(reply.send(work())));
    match answer.recv_timeout(Duration::from_secs(120)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            let panic = thread.join().unwrap_err();
            eprintln!("{what}");
            std::panic::resume_unwind(panic)
        }
    }
}

struct Random(u64);

impl Random {
    /// `CLOAKROOM_SEED`, or any.
    fn new() -> Self {
        let seed = match std::env::var("CLOAKROOM_SEED") {
            Ok(seed) => seed.parse().expect("a number"),
            Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0),
        };
        println!("CLOAKROOM_SEED={seed}");
        Self(seed)
    }

    /// splitmix64
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

fn write_flipped(path: &Path, image: &[u8], byte: usize, bit: usize) {
    let mut bytes = image.to_vec();
    bytes[byte] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

// C5.4
#[test]
fn a_flipped_bit_in_a_package_is_corrupt_and_the_rest_stays_usable() {
    needs_files!("bits of the file are flipped");
    let folder = tempfile::tempdir().unwrap();
    let (image, ids) = image(folder.path());
    let path = folder.path().join("flipped");
    let mut random = Random::new();
    for _ in 0..100 {
        let (session, package) = (random.below(SESSIONS), PACKAGES[random.below(2)]);
        let text = value(session, package);
        let (byte, bit) = (random.below(text.len()), random.below(8));
        let mut bytes = image.clone();
        // Older versions of the page may still lie about.
        for at in find(&image, text.as_bytes()) {
            bytes[at + byte] ^= 1 << bit;
        }
        std::fs::write(&path, bytes).unwrap();
        let store = builder().open(&path).unwrap();
        let error = get::<String>(&store, &ids[session], package, "n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(
            (error.container(), error.package()),
            (Some(""), Some(package))
        );
        let given = read_all(&store, &ids);
        assert_eq!((given.corrupt, given.hidden), (1, 0));
        put(&store, &ids[(session + 1) % SESSIONS], package, "m", 5);
        let check = store.check().unwrap();
        assert_eq!(check.damaged, 1, "{check:?}");
        assert_eq!(check.errors[0].kind(), ErrorKind::Corrupt);
        assert_eq!(check.errors[0].package(), Some(package));
        store.close().unwrap();
        let error = builder().verify_on_open(true).open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
}

// C5.4
#[test]
fn a_flipped_bit_anywhere_gives_no_wrong_value_and_is_found_by_verifying() {
    needs_files!("bits of the file are flipped");
    let folder = tempfile::tempdir().unwrap();
    let (image, ids) = image(folder.path());
    // Most of a new file is zeros that nobody reads.
    let used: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0).collect();
    let mut random = Random::new();
    let (mut refused, mut sum) = (0, Given::default());
    for _ in 0..200 {
        let byte = match random.below(3) {
            0 => random.below(320),
            _ => used[random.below(used.len())],
        };
        let bit = random.below(8);
        let path = folder.path().join("flipped");
        write_flipped(&path, &image, byte, bit);
        let ids = ids.clone();
        let place = format!("bit {bit} of byte {byte}");
        let (plain, verified) = bounded(&place, move || {
            let copy = path.with_extension("copy");
            std::fs::copy(&path, &copy).unwrap();
            let plain = builder().open(&path).map(|store| {
                let given = read_all(&store, &ids);
                let found = store.check().map_or(true, |check| !check.is_clean());
                assert!(found || given.corrupt == 0, "{given:?}");
                // Writing may fail, too, but what it says is written is there.
                for id in ids.iter().take(2) {
                    // It may be reopening itself after another attempt.
                    let Ok(txn) = store.begin() else { continue };
                    pkg(&txn, id, "app").insert("m", 5).unwrap_or(());
                    if txn.commit().is_ok() && given.hidden == 0 && given.corrupt == 0 {
                        assert_eq!(get(&store, id, "app", "m").unwrap(), Some(5));
                    }
                }
                given
            });
            let verified = builder().verify_on_open(true).open(&copy);
            (plain, verified.map(|store| read_all(&store, &ids)))
        });
        match plain {
            Ok(given) => {
                let whole = given.corrupt + given.hidden == 0;
                assert!(
                    whole || verified.is_err(),
                    "{place}: {given:?} {verified:?}"
                );
                sum.right += given.right;
                sum.corrupt += given.corrupt;
                sum.hidden += given.hidden;
            }
            Err(_) => refused += 1,
        }
        if let Ok(given) = verified {
            assert_eq!(given.right, SESSIONS * PACKAGES.len(), "{place}: {given:?}");
        }
    }
    println!("refused to open: {refused}; {sum:?}");
}

/// The image of a store with one session, that of "ann of the many sessions".
fn owned_image(folder: &Path) -> (Vec<u8>, ClientId) {
    let path = folder.join("image");
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    let txn = store.begin().unwrap();
    let session = txn.session(&id).unwrap();
    session.pkg("app").insert("n", "a text of its own").unwrap();
    session.set_owner(Some(OWNER)).unwrap();
    txn.commit().unwrap();
    store.close().unwrap();
    (std::fs::read(path).unwrap(), id)
}

const OWNER: &str = "ann of the many sessions";

/// Flips a bit wherever a text is.
fn damage(image: &mut [u8], text: &str) {
    let places = find(image, text.as_bytes());
    assert!(!places.is_empty());
    for at in places {
        image[at] ^= 1;
    }
}

// C5.4
#[test]
fn a_damaged_session_is_in_the_list_of_its_owner() {
    needs_files!("bits of the file are flipped");
    let folder = tempfile::tempdir().unwrap();
    let (mut image, id) = owned_image(folder.path());
    damage(&mut image, OWNER);
    let path = folder.path().join("damaged");
    std::fs::write(&path, image).unwrap();
    let store = builder().open(&path).unwrap();
    let other = store.client_ids().issue();
    put(&store, &other, "app", "n", 1);
    let txn = store.begin().unwrap();
    txn.session(&other).unwrap().set_owner(Some(OWNER)).unwrap();
    txn.commit().unwrap();
    let owned = store.sessions_of(OWNER).unwrap().into_iter();
    let mut found: Vec<_> = owned.map(|info| info.client).collect();
    let mut all = [id.key(), other.key()];
    found.sort_unstable();
    all.sort_unstable();
    assert_eq!(found, all);
}

// C5.4
#[test]
fn a_check_finds_the_damaged_package_of_a_damaged_session() {
    needs_files!("bits of the file are flipped");
    let folder = tempfile::tempdir().unwrap();
    let (mut image, _) = owned_image(folder.path());
    damage(&mut image, OWNER);
    damage(&mut image, "a text of its own");
    let path = folder.path().join("damaged");
    std::fs::write(&path, image).unwrap();
    let check = builder().open(&path).unwrap().check().unwrap();
    assert_eq!((check.sessions, check.packages), (1, 1));
    assert_eq!((check.damaged, check.errors.len()), (2, 2), "{check:?}");
    for error in check.errors {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.container(), Some(""));
    }
}

// C5.3
#[test]
fn a_value_that_is_nested_too_deeply_is_too_large_until_it_is_overwritten() {
    let nested =
        |levels| (1..levels).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
    let store = in_memory();
    let id = store.client_ids().issue();
    put(&store, &id, "cart", "deep", nested(128));

    let txn = store.begin().unwrap();
    let cart = pkg(&txn, &id, "cart");
    cart.insert("deeper", nested(129)).unwrap();
    assert!(cart.contains_key("deeper").unwrap());
    let error = txn.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        (error.package(), error.key()),
        (Some("cart"), Some("deeper"))
    );
    assert!(error.to_string().contains("more than 128 lists"), "{error}");

    let txn = store.begin().unwrap();
    let cart = pkg(&txn, &id, "cart");
    cart.insert("deeper", nested(129)).unwrap();
    cart.insert("deeper", nested(1)).unwrap();
    txn.commit().unwrap();
}
