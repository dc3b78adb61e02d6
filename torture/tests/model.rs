//! The model under random transactions, without faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cloakroom_torture::disk::Disk;
use cloakroom_torture::model::{Cookies, Op, Play, Scene, op, scene};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

const CASES: u32 = 300;

fn play(scene: Scene, ops: &[Op]) {
    let mut play = Play::new(scene, Disk::default(), None);
    play.open().unwrap();
    for op in ops {
        play.run(*op).unwrap();
    }
    for t in 0..3 {
        play.commit(t, Cookies::Taken).unwrap();
    }
    play.expect_all().unwrap();
}

fn number_from(variable: &str) -> Option<u64> {
    let number = std::env::var(variable).ok()?;
    Some(number.parse().expect("a number"))
}

/// The same cases in every run, so that a change is not blamed for what it did not do. `CLOAKROOM_SEED`
/// runs others, `CLOAKROOM_CASES` runs more; a failure prints its seed.
fn seed() -> u64 {
    number_from("CLOAKROOM_SEED").unwrap_or(20_261_122)
}

// C2.1, C2.2, C2.4, C2.5, C2.7 to C2.9, C2.11, C2.12, C3.2 to C3.8, C4.7, C4.8
#[test]
fn every_read_and_every_outcome_is_as_the_contract_says() {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: number_from("CLOAKROOM_CASES").map_or(CASES, |cases| cases as u32),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let cases = (scene(), proptest::collection::vec(op(), 1..80));
    let result = runner.run(&cases, |(scene, ops)| {
        play(scene, &ops);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (scene, ops))) => {
            let ops: String = ops.iter().map(|op| format!("\n    {op:?},")).collect();
            panic!("CLOAKROOM_SEED={seed}: {why}\n{scene:?}{ops}")
        }
        Err(TestError::Abort(why)) => panic!("CLOAKROOM_SEED={seed}: {why}"),
    }
}
