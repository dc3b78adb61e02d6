//! The short form of `flips`: some hundred damages to a small store.

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
