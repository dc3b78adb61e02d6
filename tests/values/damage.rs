//! C5.4: damage is found, and gives no wrong value.

use super::{builder, get, pkg, put, value};
use crate::support::engine::needs_files;
use cloakroom::{ClientId, ErrorKind, Store};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

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
                // A write may fail, too, but an acknowledged write is there.
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
