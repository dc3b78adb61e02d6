//! The short form of `flips`: some hundred damages to a small store.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use cloakroom::{ErrorKind, Store, Txn};
use cloakroom_torture::disk::Disk;
use cloakroom_torture::flips::{Arguments, quietly};

// C5.4
#[test]
fn no_damage_gives_a_wrong_value_and_none_is_missed() {
    let seed = std::env::var("CLOAKROOM_SEED").map_or(20_261_124, |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let arguments = Arguments {
        count: 120,
        seed: Some(seed),
        sessions: 200,
        only: None,
        keep: None,
        deadline: 120,
    };
    let tally = quietly(&arguments, seed);
    assert!(tally.is_clean(), "seed {seed}: {:#?}", tally.failures);
    assert!(tally.met > 0 && tally.refused > 0, "seed {seed}: {tally:?}");
}

// C5.4: bits that flip on the disk while nobody has the store open.
#[test]
fn bits_that_flip_on_the_disk_give_no_wrong_value() {
    let mut chance = fastrand::Rng::with_seed(20_261_124);
    let builder = || Store::builder().implicit_sweeps(false).cache_size(1 << 20);
    let (mut right, mut refused) = (0, 0);
    for _ in 0..60 {
        let disk = Disk::default();
        let store = builder().open_in(disk.folder(), "store").unwrap();
        let ids: Vec<_> = (0..40).map(|_| store.client_ids().issue()).collect();
        let put = |txn: &Txn| {
            let mut numbered = (0_u64..).zip(&ids);
            numbered.try_for_each(|(n, id)| txn.session(id)?.pkg("p").insert("n", vec![n; 40]))
        };
        store.transact(put).unwrap();
        store.close().unwrap();
        let bits = 8 * disk.seen("store").len();
        for _ in 0..20 {
            disk.flip("store", chance.usize(..bits));
        }
        let Ok(store) = builder().open_in(disk.folder(), "store") else {
            refused += 1;
            continue;
        };
        for (n, id) in (0_u64..).zip(&ids) {
            let id = store.client_ids().verify(id.as_str()).unwrap();
            let read = || -> cloakroom::Result<Option<Vec<u64>>> {
                store.begin()?.session(&id)?.pkg("p").get("n")
            };
            match read() {
                Ok(Some(value)) => {
                    assert_eq!(value, vec![n; 40]);
                    right += 1;
                }
                // Hidden with its session, where redb's own pages were hit.
                Ok(None) => {}
                Err(_) => refused += 1,
            }
        }
    }
    assert!(right > 0 && refused > 0, "{right} right, {refused} refused");
}

const PAGE: usize = 4096;

/// Where the numbers of other pages are: the first, the last and one more child of each branch page, and
/// the roots of the tables.
fn page_numbers(image: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    for at in (PAGE..image.len()).step_by(PAGE) {
        let page = &image[at..at + PAGE];
        match page[0] {
            2 => {
                let keys = usize::from(u16::from_le_bytes([page[2], page[3]]));
                let first = at + 8 + 16 * (keys + 1);
                found.extend([0, keys / 2, keys].map(|n| first + 8 * n));
            }
            1 if page.windows(10).any(|part| part == b"tombstones") => {
                let is_root = |n: &usize| page[*n] == 3 && page[n + 9] == 1;
                found.extend((4..PAGE - 18).filter(is_root).map(|n| at + n + 10));
            }
            _ => {}
        }
    }
    found
}

// C5.4: a page is allocated as large as its number says before anything of it is read.
#[test]
fn no_flipped_bit_makes_a_page_larger_than_the_file() {
    let builder = || Store::builder().implicit_sweeps(false).cache_size(1 << 20);
    let disk = Disk::default();
    // A checkpoint is several commits of redb where its cache is small. On the damaged lists of freed pages that these
    // leave, redb panics twice if it was built with debug assertions, and ends the process.
    let cache = if cfg!(debug_assertions) {
        16 << 20
    } else {
        1 << 20
    };
    let making = builder().cache_size(cache);
    let store = making.open_in(disk.folder(), "store").unwrap();
    let ids: Vec<_> = (0..800).map(|_| store.client_ids().issue()).collect();
    let numbered: Vec<_> = (0_u64..).zip(&ids).collect();
    for some in numbered.chunks(100) {
        let put = |txn: &Txn| {
            let mut some = some.iter();
            some.try_for_each(|(n, id)| txn.session(id)?.pkg("p").insert("n", vec![*n; 20]))
        };
        store.transact(put).unwrap();
    }
    let killed = disk.seen("store");
    store.close().unwrap();
    let closed = disk.seen("store");
    let (mut right, mut met, mut refused) = (0, 0, 0);
    for (image, whose) in [(&closed, "closed"), (&killed, "killed")] {
        for at in page_numbers(image) {
            // The highest bits of the page's place in its region, and those of its size.
            for bit in [19, 39, 59, 61, 63] {
                let mut image = image.clone();
                image[at + bit / 8] ^= 1 << (bit % 8);
                let disk = Disk::holding("store", image);
                match builder().open_in(disk.folder(), "store") {
                    Err(_) => refused += 1,
                    Ok(store) => {
                        for (n, id) in numbered.iter().step_by(3) {
                            let id = store.client_ids().verify(id.as_str()).unwrap();
                            let read = || -> cloakroom::Result<Option<Vec<u64>>> {
                                store.begin()?.session(&id)?.pkg("p").get("n")
                            };
                            match read() {
                                Ok(Some(value)) => {
                                    assert_eq!(value, vec![*n; 20]);
                                    right += 1;
                                }
                                Ok(None) => met += 1,
                                Err(e) => {
                                    assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                                    met += 1;
                                }
                            }
                        }
                    }
                }
                let (largest, len) = (disk.counts().largest_read, disk.seen("store").len());
                assert!(
                    largest <= len as u64,
                    "{whose}: bit {bit} at {at}: {largest} bytes of {len}"
                );
            }
        }
    }
    // With its debug assertions, redb walks all that is in use when it opens a file, and refuses it.
    assert!(
        right > 0 && met + refused > 0,
        "{right} right, {met} met, {refused} refused"
    );
}
