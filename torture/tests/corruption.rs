//! The short form of `flips`: some hundred damages to a small store.

use cloakroom::{Store, Txn};
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
