//! C2.7, C10.3: what threads on three stores of one server read and write has a serial order that agrees with real time.

use crate::place::Place;
use cloakroom_torture::history::{Totals, record_together};

const HISTORIES: u64 = 12;

#[test]
fn every_history_of_three_processes_is_strictly_serializable() {
    let seed = match std::env::var("CLOAKROOM_SEED") {
        Ok(seed) => seed.parse().expect("CLOAKROOM_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    let mut totals = Totals::default();
    for n in 0..HISTORIES {
        let seed = seed.wrapping_add(n);
        let Some(place) = Place::new() else { return };
        let anomalies = totals.judge(record_together(seed, 3, || place.store()));
        assert!(
            anomalies.is_empty(),
            "CLOAKROOM_SEED={seed}: {anomalies:#?}"
        );
    }
    // If nothing ever met, nothing was shown.
    assert!(totals.conflicts > 0, "CLOAKROOM_SEED={seed}: {totals:?}");
}
