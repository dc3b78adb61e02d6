//! C2.2, C2.13, C7.3: every acknowledged commit is there whole, after any failure of the disk. A short part of `cargo
//! run --release -p cloakroom-torture`, which runs for as long as it is told to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom::torture::InjectedFault;
use cloakroom_torture::simulation::{self, Tally};

fn seed() -> u64 {
    let seed = std::env::var("CLOAKROOM_SEED").ok();
    seed.map_or(20_261_124, |seed| seed.parse().expect("a number"))
}

#[test]
fn the_same_seed_asks_the_same_of_the_disk() {
    for seed in seed()..seed() + 4 {
        assert_eq!(simulation::operations(seed), simulation::operations(seed));
    }
}

/// Each of these seeds found a fault once. `docs/reliability.md` describes it, and a test in `faults` or
/// `power_loss.rs` covers it.
// C2.2, C3.4, C4.8
#[test]
fn what_was_found_once_is_not_found_again() {
    let transactions = [
        20_261_207, 20_261_321, 20_261_566, 20_261_722, 20_261_898, 20_261_952, 20_262_006,
        20_262_250, 20_261_683,
    ];
    let files = [2366, 2767, 2983, 3903, 4337, 4623, 4766, 5461];
    for seed in files.into_iter().chain(transactions) {
        let found = simulation::lives(seed, None);
        assert!(found.is_clean(), "seed {seed}: {found}");
    }
}

// C2.2, C7.3
#[test]
fn a_short_life_may_crash_at_every_single_operation() {
    for seed in seed()..seed() + 2 {
        let operations = simulation::operations(seed);
        assert!(operations > 100, "{operations} operations with seed {seed}");
        for n in 1..=operations {
            let found = simulation::crash_at(seed, n, None);
            assert!(
                found.is_clean(),
                "CLOAKROOM_SEED={seed}, operation {n}: {found}"
            );
        }
    }
}

// C2.2, C2.13, C7.3
#[test]
fn lives_full_of_crashes_and_faults_lose_nothing() {
    let mut all = Tally::default();
    for seed in seed()..seed() + 60 {
        let found = simulation::lives(seed, None);
        assert!(found.is_clean(), "CLOAKROOM_SEED={seed}: {found}");
        all += found;
    }
    assert!(
        all.crashes > 100 && all.faults > 50 && all.commits > 500,
        "{all}"
    );
}

/// How many seeds it takes to find a bug.
fn found_after(bug: InjectedFault, most: u64, run: impl Fn(u64) -> Tally) -> u64 {
    (1..=most)
        .find(|seed| !run(*seed).is_clean())
        .unwrap_or_else(|| panic!("{bug:?} is not found with {most} seeds"))
}

// C2.7, C2.2, C2.13
#[test]
fn bugs_on_purpose_are_found() {
    for bug in [
        InjectedFault::ReadsAreNotValidated,
        InjectedFault::ReadsAreTakenForCurrent,
        InjectedFault::PublishedBeforeTheSync,
        InjectedFault::APackageIsForgotten,
        InjectedFault::OnePhase,
    ] {
        let seeds = found_after(bug, 200, |seed| simulation::lives(seed, Some(bug)));
        println!("{bug:?} is found after {seeds} seeds");
    }
}
